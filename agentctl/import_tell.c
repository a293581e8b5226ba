/* SPDX-License-Identifier: Apache-2.0 */
/* What comes of an import, for people and as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import.h"
#include "agentctl/out.h"
#include "base/limits.h"
#include "base/str.h"

/* ---- for people ---- */

static void put_safe(const char *s)
{
    size_t size = 4 * strlen(s) + 1;
    char *safe = malloc(size);

    fputs(safe ? str_escape(safe, size, s) : "", stdout);
    free(safe);
}

static void put_to(const struct import_entry *e)
{
    char *line, *rest = NULL, *copy = strdup(e->to.p ? e->to.p : "");

    fputs(" -> ", stdout);
    for (line = copy ? strtok_r(copy, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        put_safe(line);
        if (rest && *rest)
            fputs(", ", stdout);
    }
    free(copy);
}

static void put_entry(const struct import_entry *e)
{
    put_safe(e->at.file);
    if (e->is_default)
        fputs(": not set: ", stdout);
    else
        printf(":%u:%u: ", e->at.line, e->at.col);
    put_safe(e->key);
    if (*e->value) {
        putchar(e->is_phrase ? ' ' : '=');
        put_safe(e->value);
    }
    if (e->verdict == IMPORT_TAKEN)
        put_to(e);
    else
        fputs(e->verdict == IMPORT_SAME ? ": needs no line" : ": no counterpart", stdout);
    if (e->why) {
        fputs(": ", stdout);
        put_safe(e->why);
    }
    putchar('\n');
}

static void put_account(const struct import *im, const struct import_worker *w)
{
    for (size_t i = 0; i < im->n_entries; i++)
        if (im->entries[i]->worker == w)
            put_entry(im->entries[i]);
}

static void put_worker(const struct import *im, const struct import_worker *w, const char *written)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);

    if (written)
        printf("%s/%s.conf is written\n", written, w->alias);
    else
        printf("==> %s.conf <==\n", w->alias);
    if (!written) {
        import_text(w, &b);
        out_body(b.p ? b.p : "", b.len);
        putchar('\n');
    }
    buf_free(&b);
    put_account(im, w);
    putchar('\n');
}

static void count(const struct import *im, size_t n[3])
{
    for (size_t i = 0; i < im->n_entries; i++)
        n[im->entries[i]->verdict]++;
}

static void tell_text(const struct import *im, const char *written)
{
    size_t n[3] = {0};

    for (size_t i = 0; i < im->n_workers; i++)
        put_worker(im, im->workers[i], written);
    put_account(im, NULL);
    count(im, n);
    printf("%zu workers; of the keys %zu are taken over, %zu are as agentd has it, %zu have no counterpart\n",
           im->n_workers, n[IMPORT_TAKEN], n[IMPORT_SAME], n[IMPORT_NONE]);
}

/* ---- as JSON ---- */

static void put_string(const char *name, const char *s)
{
    printf("\"%s\":", name);
    out_string(s, strlen(s));
}

static void put_list(const char *text)
{
    const char *before = "";

    for (size_t n; *text; text += n, text += *text == '\n') {
        n = strcspn(text, "\n");
        fputs(before, stdout);
        out_string(text, n);
        before = ",";
    }
}

static void put_json_entry(const struct import_entry *e, const char *before)
{
    static const char *const verdicts[] = {"none", "same", "taken"};

    printf("%s{", before);
    put_string("file", e->at.file);
    printf(",\"line\":%u,\"column\":%u,\"default\":%s,", e->at.line, e->at.col,
           e->is_default ? "true" : "false");
    put_string("key", e->key);
    putchar(',');
    put_string("value", e->value);
    printf(",\"verdict\":\"%s\",\"to\":[", verdicts[e->verdict]);
    put_list(e->to.p ? e->to.p : "");
    fputs("],", stdout);
    put_string("why", e->why ? e->why : "");
    putchar('}');
}

static void put_json_entries(const struct import *im, const struct import_worker *w)
{
    const char *before = "";

    for (size_t i = 0; i < im->n_entries; i++)
        if (im->entries[i]->worker == w) {
            put_json_entry(im->entries[i], before);
            before = ",";
        }
}

static void put_json_worker(const struct import *im, const struct import_worker *w)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);

    import_text(w, &b);
    putchar('{');
    put_string("alias", w->alias);
    putchar(',');
    put_string("origin", w->origin);
    putchar(',');
    put_string("file", w->at.file);
    printf(",\"line\":%u,", w->at.line);
    put_string("text", b.p ? b.p : "");
    fputs(",\"keys\":[", stdout);
    put_json_entries(im, w);
    fputs("]}", stdout);
    buf_free(&b);
}

static void tell_json(const struct import *im, const char *written)
{
    fputs("{\"workers\":[", stdout);
    for (size_t i = 0; i < im->n_workers; i++) {
        if (i)
            putchar(',');
        put_json_worker(im, im->workers[i]);
    }
    fputs("],\"keys\":[", stdout);
    put_json_entries(im, NULL);
    fputs("],", stdout);
    if (written)
        put_string("written", written);
    else
        fputs("\"written\":null", stdout);
    puts("}");
}

void import_tell(const struct import *im, bool json, const char *written)
{
    if (json)
        tell_json(im, written);
    else
        tell_text(im, written);
}
