/* SPDX-License-Identifier: Apache-2.0 */
/* A monitrc's words, and the statements that they make. monit's grammar ends a statement where the next one
 * begins; that is where a line begins with the first word of one. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agentctl/import_monit.h"
#include "base/limits.h"
#include "base/str.h"

#define BLANKS " \t\r\n"

const char *import_monit_text(const struct import_monit_statement *s, size_t i)
{
    return i < s->n ? s->v[i].text : "";
}

bool import_monit_is(const struct import_monit_statement *s, size_t i, const char *word)
{
    return i < s->n && !s->v[i].quoted && strcasecmp(s->v[i].text, word) == 0;
}

size_t import_monit_find(const struct import_monit_statement *s, size_t from, const char *word)
{
    while (from < s->n && !import_monit_is(s, from, word))
        from++;
    return from;
}

/* ---- words ---- */

struct scan {
    struct import_monit *m;
    const char *p;
    unsigned line;
    const char *start; /* of the line */
    bool first;
};

static void take(struct scan *s, size_t n)
{
    for (; n; n--, s->p++)
        if (*s->p == '\n') {
            s->line++;
            s->start = s->p + 1;
            s->first = true;
        }
}

static void skip(struct scan *s)
{
    for (;;) {
        take(s, strspn(s->p, BLANKS));
        if (*s->p != '#')
            return;
        take(s, strcspn(s->p, "\n"));
    }
}

/* The length of a quoted word with its quotes; 0: it has no end. */
static size_t quoted(const char *s)
{
    size_t n = 1;

    while (s[n] && s[n] != *s)
        n += s[n] == '\\' && s[n + 1] ? 2 : 1;
    return s[n] ? n + 1 : 0;
}

static size_t bare(const char *s)
{
    size_t n = 0;

    if (strchr("={},", *s))
        return 1;
    while (s[n] && !strchr(BLANKS "\"'{},", s[n]) &&
           !(s[n] == '=' && (!s[n + 1] || strchr(BLANKS "\"'", s[n + 1]))))
        n++;
    return n;
}

static const char *unquoted(struct import *im, const char *s, size_t n)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE + 1);

    for (size_t i = 1; i + 1 < n; i++) {
        if (s[i] == '\\' && s[i + 1] == *s)
            i++;
        buf_char(&b, s[i]);
    }
    return import_take(im, &b);
}

static bool take_word(struct scan *s)
{
    struct import_monit *m = s->m;
    bool quote = *s->p == '"' || *s->p == '\'';
    size_t n = quote ? quoted(s->p) : bare(s->p);
    struct import_at at = {m->src->path, s->line, (unsigned)(s->p - s->start) + 1};

    if (n == 0 || m->n_words == LIMIT_IMPORT_NODES) {
        import_error(m->im, at, n ? "more than %u words; split the file" : "a quote that is not closed",
                     LIMIT_IMPORT_NODES);
        return false;
    }
    import_room(&m->words, m->n_words, &m->size_words, sizeof(*m->words));
    m->words[m->n_words++] = (struct import_monit_word){
        .text = quote ? unquoted(m->im, s->p, n) : import_keep_n(m->im, s->p, n),
        .from = s->p,
        .end = s->p + n,
        .line = at.line,
        .col = at.col,
        .quoted = quote,
        .first = s->first,
    };
    s->first = false;
    take(s, n);
    return true;
}

/* ---- statements ---- */

static bool word_is(const struct import_monit *m, size_t i, const char *word)
{
    return i < m->n_words && !m->words[i].quoted && strcasecmp(m->words[i].text, word) == 0;
}

static bool one_of(const struct import_monit *m, size_t i, const char *const *words)
{
    for (; *words; words++)
        if (word_is(m, i, *words))
            return true;
    return false;
}

/* A statement begins with this word. */
static bool begins(const struct import_monit *m, size_t i)
{
    static const char *const behind[] = {"then", "else", "and", "or", "=", NULL},
                             *const actions[] = {"start", "stop", "restart", NULL},
                             *const on_line[] = {"set",  "include",  "depends", "depend",  "every", "group",
                                                 "mode", "onreboot", "alert",   "noalert", NULL},
                             *const types[] = {"process", "file",    "directory", "filesystem",
                                               "device",  "fifo",    "host",      "system",
                                               "program", "network", NULL};

    if (i == 0)
        return true;
    if (one_of(m, i - 1, behind))
        return false;
    if (word_is(m, i, "check"))
        return one_of(m, i + 1, types);
    if (word_is(m, i, "if"))
        return true;
    if (one_of(m, i, actions))
        return word_is(m, i + 1, "program") || word_is(m, i + 1, "=") || word_is(m, i + 2, "=");
    return m->words[i].first && one_of(m, i, on_line);
}

static const char *on_one_line(struct import *im, const char *from, const char *end)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE + 1);
    bool comment = false;

    for (; from < end; from++) {
        bool blank = strchr(BLANKS, *from) != NULL;
        if (*from == '#' && b.len && b.p[b.len - 1] == ' ')
            comment = true;
        if (*from == '\n')
            comment = false;
        if (comment || (blank && (!b.len || b.p[b.len - 1] == ' ')))
            continue;
        buf_char(&b, blank ? ' ' : *from);
    }
    return import_take(im, &b);
}

static void add_statement(struct import_monit *m, size_t from, size_t to)
{
    const struct import_monit_word *w = &m->words[from];

    import_room(&m->statements, m->n, &m->size, sizeof(*m->statements));
    m->statements[m->n++] = (struct import_monit_statement){
        .v = w,
        .n = to - from,
        .at = {m->src->path, w->line, w->col},
        .text = on_one_line(m->im, w->from, m->words[to - 1].end),
    };
}

bool import_monit_parse(struct import_monit *m)
{
    struct scan s = {.m = m, .p = m->src->text, .line = 1, .start = m->src->text, .first = true};
    size_t from = 0;

    for (skip(&s); *s.p; skip(&s))
        if (!take_word(&s))
            return false;
    for (size_t i = 1; i <= m->n_words; i++)
        if (i == m->n_words || begins(m, i)) {
            add_statement(m, from, i);
            from = i;
        }
    return true;
}

void import_monit_free(struct import_monit *m)
{
    free(m->words);
    free(m->statements);
}
