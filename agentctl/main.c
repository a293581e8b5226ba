/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/str.h"

static const struct {
    const char *name;
    int (*run)(const struct options *o);
} verbs[] = {
    {"status", status_run},
    {"start", change_run},
    {"stop", change_run},
    {"restart", change_run},
    {"reload", reload_run},
    {"logs", logs_run},
    {"help", help_run},
    {"version", help_version},
    {"doctor", doctor_run},
    {"adopt", takeover_adopt},
    {"upgrade", takeover_upgrade},
    {"signal", change_signal},
    {"credential", credential_run},
    {"audit", audit_run},
    {"why", past_why},
    {"history", past_history},
};

static void suggest(const char *word)
{
    const char *near = NULL;
    unsigned best = 3;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        unsigned d = str_starts(verbs[i].name, word) ? 0 : str_distance(word, verbs[i].name);
        if (d < best) {
            best = d;
            near = verbs[i].name;
        }
    }
    options_complain("no verb %s%s%s; see agentctl help", word, near ? ", did you mean " : "",
                     near ? near : "");
}

int main(int argc, char **argv)
{
    struct options o;

    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "");
    if (options_parse(&o, argc, argv) < 0)
        return EXIT_USAGE;
    if (o.count == 0) {
        options_complain("what? See agentctl help");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (str_eq(verbs[i].name, o.words[0]))
            return verbs[i].run(&o);
    suggest(o.words[0]);
    return EXIT_USAGE;
}
