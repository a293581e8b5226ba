/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>

#include "agentctl/verbs.h"

int main(int argc, char **argv)
{
    char **words = obagent_words(&argc, argv);
    struct options o;
    int code;

    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "");
    code = options_parse(&o, argc, words) < 0 ? EXIT_USAGE : verbs_run(&o);
    if (words != argv)
        free(words);
    return code;
}
