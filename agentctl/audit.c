/* SPDX-License-Identifier: Apache-2.0 */
/* audit verify, audit show: on the files themselves; agentd need not run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/audit_trail.h"
#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/str.h"
#include "rpc/json_dec.h"

#define TRIES 5
#define TOKENS 256

struct finding {
    struct finding *next;
    char *file, *message;
    const char *what;
    unsigned line;
};

struct findings {
    struct finding *first, **end;
    unsigned n;
};

/* --- verify ------------------------------------------------------------------------------------------- */

static void keep(const char *file, unsigned line, const char *what, const char *message, void *arg)
{
    struct findings *all = arg;
    struct finding *f = calloc(1, sizeof(*f));

    all->n++;
    if (!f)
        return;
    f->file = strdup(file);
    f->message = strdup(message);
    f->what = what;
    f->line = line;
    *all->end = f;
    all->end = &f->next;
}

static void forget(struct findings *all)
{
    while (all->first) {
        struct finding *f = all->first;
        all->first = f->next;
        free(f->file);
        free(f->message);
        free(f);
    }
    *all = (struct findings){.end = &all->first};
}

/* What agentd itself found when it came up, and wrote down: the chain that follows is whole. No word from
 * outside can look so: its quotes are escaped. */
static void keep_told(const struct audit_trail *t, struct findings *all)
{
    static const struct {
        const char *text, *what, *message;
    } told[] = {
        {",\"what\":\"missing\"", "truncated", "agentd found that records before it were missing"},
        {",\"what\":\"unknown\"", "inserted", "agentd found that audit.head did not know records before it"},
        {",\"what\":\"altered\"", "altered", "agentd found that the record before it was altered"},
        {",\"what\":\"headless\"", "removed", "agentd found that audit.head was missing"},
    };

    for (size_t i = 0; i < t->n_lines; i++) {
        const struct audit_line *l = &t->lines[i];
        if (!l->good || !memmem(l->text, l->n, ",\"event\":\"trail\"", 16))
            continue;
        for (size_t k = 0; k < sizeof(told) / sizeof(told[0]); k++)
            if (memmem(l->text, l->n, told[k].text, strlen(told[k].text)))
                keep(t->names[l->file], l->number, told[k].what, told[k].message, all);
    }
}

static void print_json(const struct audit_trail *t, const struct findings *all)
{
    const struct audit_line *last = t->n_lines ? &t->lines[t->n_lines - 1] : NULL;

    printf("{\"whole\":%s,\"records\":%zu,\"files\":%u,\"last\":%" PRIu64 ",\"hash\":\"%s\",\"findings\":[",
           all->n ? "false" : "true", t->n_lines, t->n_files, last ? last->seq : 0, last ? last->hash : "");
    for (const struct finding *f = all->first; f; f = f->next) {
        printf("%s{\"file\":", f == all->first ? "" : ",");
        out_string(f->file, strlen(f->file));
        printf(",\"line\":%u,\"what\":\"%s\",\"message\":", f->line, f->what);
        out_string(f->message, strlen(f->message));
        putchar('}');
    }
    printf("]}\n");
}

static void print_text(const struct audit_trail *t, const struct findings *all)
{
    const struct audit_line *last = t->n_lines ? &t->lines[t->n_lines - 1] : NULL;

    for (const struct finding *f = all->first; f; f = f->next)
        if (f->line)
            printf("%s:%u: %s: %s\n", f->file, f->line, f->what, f->message);
        else
            printf("%s: %s: %s\n", f->file, f->what, f->message);
    if (all->n)
        printf("not whole: %u findings in %zu records of %u files\n", all->n, t->n_lines, t->n_files);
    else if (last)
        printf("whole: %zu records in %u files, %" PRIu64 " to %" PRIu64 "; the last is %s\n", t->n_lines,
               t->n_files, t->lines[0].seq, last->seq, last->hash);
    else
        printf("whole: no records\n");
}

/* Again, if agentd has written meanwhile, and may have rotated. */
static int verify(const struct options *o)
{
    struct findings all = {.end = &all.first};
    struct audit_trail t;
    int code = EXIT_DONE;
    bool again = true;

    for (int i = 0; i < TRIES && again; i++) {
        forget(&all);
        if ((code = audit_read(o, o->words + 2, &t)) == EXIT_DONE) {
            audit_check(&t, keep, &all);
            keep_told(&t, &all);
        }
        again = code == EXIT_DONE && all.n && audit_read_head_moved(&t) && i + 1 < TRIES;
        if (again)
            audit_read_free(&t);
    }
    if (code == EXIT_DONE && o->json)
        print_json(&t, &all);
    else if (code == EXIT_DONE)
        print_text(&t, &all);
    code = code == EXIT_DONE && all.n ? EXIT_REFUSED : code;
    forget(&all);
    audit_read_free(&t);
    return code;
}

/* --- show --------------------------------------------------------------------------------------------- */

static void print_record(const struct json *j)
{
    out_word(j, 0, "", "time", "");
    out_figure(j, 0, " ", "seq", "");
    out_word(j, 0, " ", "event", "");
    out_word(j, 0, " ", "actor", "");
    out_word(j, 0, "@", "source", "");
    out_word(j, 0, " ", "what", "");
    out_word(j, 0, " ", "verb", "");
    out_word(j, 0, " ", "signal", "");
    out_word(j, 0, " ", "alias", "");
    out_figure(j, 0, " pid ", "pid", "");
    out_word(j, 0, ": ", "result", "");
    out_figure(j, 0, " ", "status", "");
    out_figure(j, 0, " ", "count", "");
    out_word(j, 0, " ", "operation", "");
    out_word(j, 0, ": ", "message", "");
    out_word(j, 0, " (", "reason", ")");
    putchar('\n');
}

/* True: it is a record, and stands there. */
static bool show_line(const struct options *o, const struct audit_line *l, bool first)
{
    struct json j;
    bool good = json_parse(&j, l->text, l->n, TOKENS) == 0;

    if (!good)
        options_complain("audit: line %u is no record", l->number);
    else if (o->json)
        printf("%s%.*s", first ? "" : ",\n", (int)l->n, l->text);
    else
        print_record(&j);
    json_free(&j);
    return good;
}

static int show(const struct options *o)
{
    struct audit_trail t;
    uint64_t n = UINT64_MAX;
    int code;

    if (o->lines && str_to_u64(o->lines, UINT64_MAX, &n) < 0) {
        options_complain("audit: -n takes a number");
        return EXIT_USAGE;
    }
    if ((code = audit_read(o, o->words + 2, &t)) == EXIT_DONE) {
        size_t from = t.n_lines > n ? t.n_lines - (size_t)n : 0;
        bool none = true;
        printf("%s", o->json ? "[" : "");
        for (size_t i = from; i < t.n_lines; i++)
            none &= !show_line(o, &t.lines[i], none);
        printf("%s", o->json ? "]\n" : "");
    }
    audit_read_free(&t);
    return code;
}

int audit_run(const struct options *o)
{
    const char *what = o->count > 1 ? o->words[1] : "";

    if (str_eq(what, "verify"))
        return verify(o);
    if (str_eq(what, "show"))
        return show(o);
    options_complain("audit what? verify or show, and a folder or files");
    return EXIT_USAGE;
}
