/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdio.h>
#include <string.h>

#include "agentctl/verbs.h"
#include "base/str.h"
#include "rpc/method.h"

#ifndef PACKAGE_VERSION /* built by hand */
#define PACKAGE_VERSION "unknown"
#endif
#define HELP_AT 28 /* where the second column begins */
#define WIDTH 118

static void print_calls(void)
{
    for (int i = 0; i < METHOD_COUNT; i++) {
        const struct method_info *m = &method_table[i];
        printf("%-5s %-57s %-12s %s\n", m->verb, m->path, method_role_name(m->role), m->help);
    }
    printf("Every path is also known behind " METHOD_PREFIX
           ". HEAD is as GET, OPTIONS tells what a path knows.\n");
}

/* Two columns; the second is broken at blanks. */
static void print_pair(const char *left, const char *right)
{
    int at = printf("  %s", left);
    size_t room = WIDTH - HELP_AT, n;

    if (at > HELP_AT) {
        putchar('\n');
        at = 0;
    }
    for (;; at = 0, right += n + 1) {
        for (n = strlen(right); n > room;)
            n = (size_t)((const char *)memrchr(right, ' ', n) - right);
        printf("%*s%.*s\n", HELP_AT + 2 - at, "", (int)n, right);
        if (!right[n])
            return;
    }
}

static void print_verbs(void)
{
    const char *name = "";
    char left[128];

    for (unsigned i = 0; i < verbs_count; i++) {
        const struct verbs_row *v = &verbs_table[i];
        name = v->name ? v->name : name;
        snprintf(left, sizeof(left), "%s%s%s", name, *v->usage ? " " : "", v->usage);
        print_pair(left, v->help);
    }
}

static void print_options(bool any)
{
    char left[128];

    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *x = &options_table[i];
        if (x->any != any)
            continue;
        snprintf(left, sizeof(left), "%c%c%s--%s%s%s", x->letter ? '-' : ' ', x->letter ? x->letter : ' ',
                 x->letter ? ", " : "  ", x->name, x->argument ? " " : "", x->argument ? x->argument : "");
        print_pair(left, x->help);
    }
}

/* Which options are a verb's own. */
static int print_verb(const char *name)
{
    for (unsigned i = 0; i < verbs_count; i++) {
        const struct verbs_row *v = &verbs_table[i];
        if (!v->name || !str_eq(v->name, name))
            continue;
        do
            printf("agentctl %s%s%s\n    %s\n", name, *v->usage ? " " : "", v->usage, v->help);
        while (++v < verbs_table + verbs_count && !v->name);
        for (unsigned k = 0; k < options_count; k++)
            if (options_listed(verbs_table[i].options, options_table[k].name))
                printf("    --%s %s\n        %s\n", options_table[k].name,
                       options_table[k].argument ? options_table[k].argument : "", options_table[k].help);
        return EXIT_DONE;
    }
    options_complain("no verb %s; see agentctl help", name);
    return EXIT_USAGE;
}

int help_run(const struct options *o)
{
    if (o->count > 1 && str_eq(o->words[1], "calls")) {
        print_calls();
        return EXIT_DONE;
    }
    if (o->count > 1)
        return print_verb(o->words[1]);
    printf("agentctl [OPTION...] VERB\n\n");
    print_verbs();
    printf("\nFor every verb:\n");
    print_options(true);
    printf("\nFor some, as agentctl help VERB tells:\n");
    print_options(false);
    printf("\nALIAS may be a worker's id. Ends with 0 done, 1 refused or failed, 2 usage, 3 could not ask,\n"
           "4 timed out and still going on.\n");
    return EXIT_DONE;
}

int help_version(const struct options *o)
{
    printf("agentctl %s\n", PACKAGE_VERSION);
    return EXIT_DONE;
}
