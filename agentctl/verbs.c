/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/verbs.h"

#include "agentctl/credential_file.h"
#include "base/fd.h"
#include "base/str.h"

/* clang-format off */
#define VERB(name, run, words, options, calls, usage, help) {#name, run, words, options, calls, usage, help},
#define USAGE(usage, help) {NULL, NULL, "", "", "", usage, help},
/* clang-format on */
const struct verbs_row verbs_table[] = {
#include "agentctl/verbs.def"
};
const unsigned verbs_count = ARRAY_LEN(verbs_table);

static void suggest(const char *word)
{
    const char *near = NULL;
    unsigned best = 3;

    for (unsigned i = 0; i < verbs_count; i++) {
        const char *name = verbs_table[i].name;
        unsigned d = !name ? best : str_starts(name, word) ? 0 : str_distance(word, name);
        if (d < best) {
            best = d;
            near = name;
        }
    }
    options_complain("no verb %s%s%s; see agentctl help", word, near ? ", did you mean " : "",
                     near ? near : "");
}

int verbs_run(const struct options *o)
{
    if (o->count == 0) {
        options_complain("what? See agentctl help");
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < verbs_count; i++) {
        const struct verbs_row *v = &verbs_table[i];
        if (v->name && str_eq(v->name, o->words[0]))
            return options_allow(o, v->options) < 0 ? EXIT_USAGE : v->run(o);
    }
    suggest(o->words[0]);
    return EXIT_USAGE;
}
