/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of the manual, from the tables that the programs are made of, in mdoc(7): `man/tables NAME`.
 * `./dev manual` puts them into the pages, and the check tells one that is not as it would put it. Knows
 * rows; never knows what they mean. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/credential_file.h"
#include "agentctl/options.h"

/* --- text ----------------------------------------------------------------------------------------------- */

/* What roff would take for a request or an escape, it takes for text. */
static void put_text(const char *s)
{
    if (*s == '.' || *s == '\'')
        fputs("\\&", stdout);
    for (; *s; s++)
        if (*s == '\\')
            fputs("\\e", stdout);
        else
            putchar(*s);
}

/* agentd is a name, and never begins in a capital. */
static int first_letter(const char *s)
{
    return strncmp(s, "agentd", 6) == 0 ? *s : toupper((unsigned char)*s);
}

/* A phrase as a sentence of its own line. */
static void put_sentence(const char *s)
{
    size_t n = strlen(s);
    char *text = strdup(s);

    if (!text)
        exit(1);
    text[0] = (char)first_letter(s);
    put_text(text);
    puts(n && text[n - 1] == '.' ? "" : ".");
    free(text);
}

/* --- calls ---------------------------------------------------------------------------------------------- */

static void put_calls(void)
{
    static const struct {
        const char *verb, *path, *role, *help;
    } rows[] = {
#define METHOD(name, verb, path, role, handler, flags, reply, help) {verb, path, #role, help},
#include "rpc/method.def"
#undef METHOD
    };

    puts(".Bl -tag -width Ds");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        printf(".It Cm %s Pa %s\n", rows[i].verb, rows[i].path);
        put_sentence(rows[i].help);
        if (strcmp(rows[i].role, "NONE") == 0)
            puts("Needs no role.");
        else
            printf("Role: HOST_%s.\n", rows[i].role);
    }
    puts(".El");
}

/* --- error codes ---------------------------------------------------------------------------------------- */

struct code {
    int code, http;
    const char *text;
};

static int compare_codes(const void *a, const void *b)
{
    return ((const struct code *)a)->code - ((const struct code *)b)->code;
}

static void put_codes(void)
{
    struct code rows[] = {
#define ERRCODE(name, code, http, text) {code, http, text},
#include "wire/errcode.def"
#undef ERRCODE
    };

    qsort(rows, sizeof(rows) / sizeof(rows[0]), sizeof(rows[0]), compare_codes);
    puts(".Bl -column -compact \"1000\" \"HTTP\" \"what it means what it means\"");
    puts(".It Em code Ta Em HTTP Ta Em meaning");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!rows[i].code)
            continue;
        printf(".It %d Ta %d Ta ", rows[i].code, rows[i].http);
        putchar(first_letter(rows[i].text));
        put_text(rows[i].text + 1);
        putchar('\n');
    }
    puts(".El");
}

/* --- metrics -------------------------------------------------------------------------------------------- */

static void put_metric(const char *name, const char *type, const char *help)
{
    printf(".It Li agentd_%s Pq %s\n", name, type);
    put_sentence(help);
}

static void put_metrics(void)
{
    puts(".Bl -tag -width Ds -compact");
#define WORKER(name, type, unit, condition, value, help) put_metric("worker_" #name, type, help);
#define SELF(name, type, unit, value, help) put_metric(#name, type, help);
#include "rpc/metrics.def"
#undef WORKER
#undef SELF
    puts(".El");
}

/* --- the journal ---------------------------------------------------------------------------------------- */

static void put_messages(void)
{
    puts(".Bl -tag -width Ds -compact");
#define MESSAGE(name, id, subject, text) \
    puts(".It Li " #id);                 \
    put_sentence(subject);
#include "systemd/messages.def"
#undef MESSAGE
    puts(".El");
}

/* --- keys ----------------------------------------------------------------------------------------------- */

struct key {
    const char *section, *name, *parser, *cost;
};

static const struct key keys[] = {
#define CFG_KEY(section, name, parser, target, flags, min, max, cost, mixer) {#section, name, #parser, #cost},
#include "agentd/cfg_keys.def"
#undef CFG_KEY
};

static bool is_of_worker(const struct key *k)
{
    return strcmp(k->section, "CFG_AGENT") != 0 && strcmp(k->section, "CFG_RPC") != 0;
}

/* What a change of them costs: those of one cost, 8 to a line. */
static void put_keys(bool of_worker, const char *cost)
{
    unsigned n = 0;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct key *k = &keys[i];
        if (is_of_worker(k) != of_worker || strcmp(k->cost, cost) != 0 || strcmp(k->parser, "NULL") == 0)
            continue;
        printf("%s%s=", n == 0 ? ".Ic " : n % 8 ? " , " : " ,\n.Ic ", k->name);
        n++;
    }
    puts(" .");
}

static void put_costs(bool of_worker)
{
    static const struct {
        const char *cost, *text;
        bool of_agentd;
    } costs[] = {{"CFG_COST_LIVE", "live", true},
                 {"CFG_COST_NEXT", "next start", false},
                 {"CFG_COST_RESTART", "restart", false},
                 {"CFG_COST_AGENTD", "restart of agentd", true}};

    puts(".Bl -tag -width \"restart of agentd\"");
    for (size_t i = 0; i < sizeof(costs) / sizeof(costs[0]); i++) {
        if (!of_worker && !costs[i].of_agentd)
            continue;
        printf(".It %s\n", costs[i].text);
        put_keys(of_worker, costs[i].cost);
    }
    puts(".El");
}

static void put_agent_costs(void)
{
    put_costs(false);
}

static void put_worker_costs(void)
{
    put_costs(true);
}

/* --- agentctl ------------------------------------------------------------------------------------------- */

static void put_verb(const char *name, const char *usage, const char *help)
{
    printf(".It Cm %s", name);
    if (*usage) {
        fputs(" Li ", stdout);
        putchar('"');
        put_text(usage);
        putchar('"');
    }
    putchar('\n');
    put_sentence(help);
}

static void put_verbs(void)
{
    const char *last = "";

    puts(".Bl -tag -width Ds -compact");
#define VERB(name, function, words, options, calls, usage, help) put_verb(last = #name, usage, help);
#define USAGE(usage, help) put_verb(last, usage, help);
#include "agentctl/verbs.def"
#undef VERB
#undef USAGE
    puts(".El");
}

static void put_option(const char *name, int letter, const char *argument, const char *help)
{
    printf(".It Fl -%s", name);
    if (argument)
        printf(" Ar %s", argument);
    if (letter)
        printf(" , Fl %c%s%s", letter, argument ? " Ar " : "", argument ? argument : "");
    putchar('\n');
    put_sentence(help);
}

static void put_options(void)
{
    puts(".Bl -tag -width Ds -compact");
#define OPTION(who, name, letter, argument, kind, field, help) put_option(name, letter, argument, help);
#include "agentctl/options.def"
#undef OPTION
    puts(".El");
}

/* -------------------------------------------------------------------------------------------------------- */

int main(int argc, char *argv[])
{
    static const struct {
        const char *name;
        void (*put)(void);
    } tables[] = {{"calls", put_calls},
                  {"codes", put_codes},
                  {"metrics", put_metrics},
                  {"messages", put_messages},
                  {"agent-costs", put_agent_costs},
                  {"worker-costs", put_worker_costs},
                  {"verbs", put_verbs},
                  {"options", put_options}};

    for (size_t i = 0; argc == 2 && i < sizeof(tables) / sizeof(tables[0]); i++)
        if (strcmp(argv[1], tables[i].name) == 0) {
            tables[i].put();
            return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
        }
    fprintf(stderr, "man/tables: one of");
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        fprintf(stderr, " %s", tables[i].name);
    fputc('\n', stderr);
    return 2;
}
