/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>

#include "agentctl/verbs.h"

int main(int argc, char **argv)
{
    struct options o;

    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "");
    argv = obagent_words(&argc, argv);
    return options_parse(&o, argc, argv) < 0 ? EXIT_USAGE : verbs_run(&o);
}
