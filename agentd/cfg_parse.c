/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/cfg_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define BLANKS " \t\r"

struct parser {
    const char *file;
    const char *p, *end; /* what is left of the text */
    unsigned line;       /* number of the last line taken */
    struct buf joined;   /* the logical line */
    struct cfg_piece *pieces;
    unsigned n_pieces;
    size_t size_pieces;
    char *section; /* NULL before the first heading; "" after a bad one, whose lines are left out */
    struct cfg_lines *out;
    cfg_complain_fn complain;
    void *ctx;
};

static void complain(struct parser *p, unsigned line, unsigned col, const char *message)
{
    p->complain(p->ctx, p->file, line, col, message);
}

static int add_piece(struct parser *p, unsigned at, unsigned col)
{
    int r = array_room(&p->pieces, p->n_pieces, &p->size_pieces, sizeof(*p->pieces));

    if (r == 0)
        p->pieces[p->n_pieces++] = (struct cfg_piece){at, p->line, col};
    return r;
}

/* The next physical line without its end. */
static bool take_line(struct parser *p, const char **line, size_t *len)
{
    const char *nl;

    if (p->p >= p->end)
        return false;
    nl = memchr(p->p, '\n', (size_t)(p->end - p->p));
    *line = p->p;
    *len = (size_t)((nl ? nl : p->end) - p->p);
    p->p = nl ? nl + 1 : p->end;
    p->line++;
    return true;
}

static bool goes_on(const char *line, size_t len)
{
    size_t n = 0;

    while (n < len && line[len - 1 - n] == '\\')
        n++;
    return n % 2;
}

/* Joins physical lines to a logical one; 1, or 0 at the end of the text. A comment inside is left out, an
 * empty line ends it, as in systemd. */
static int take_logical(struct parser *p)
{
    const char *line;
    size_t len;
    bool more = true, any = false;

    buf_reset(&p->joined);
    p->n_pieces = 0;
    while (more && take_line(p, &line, &len)) {
        size_t skip = 0;
        any = true;
        while (skip < len && strchr(BLANKS, line[skip]) && line[skip])
            skip++;
        if (skip < len && (line[skip] == '#' || line[skip] == ';')) {
            more = p->n_pieces > 0;
            continue;
        }
        if (len && line[len - 1] == '\r')
            len--;
        more = goes_on(line, len);
        if (skip > len)
            skip = len;
        if (add_piece(p, (unsigned)p->joined.len, (unsigned)skip + 1) < 0)
            return -ENOMEM;
        buf_put(&p->joined, line + skip, len - skip - more);
        if (more)
            buf_char(&p->joined, ' ');
    }
    return any;
}

static int add_line(struct parser *p, const struct cfg_line *l)
{
    struct cfg_lines *out = p->out;
    int r = array_room(&out->v, out->n, &out->size, sizeof(*out->v));

    if (r == 0)
        out->v[out->n++] = *l;
    return r;
}

/* Section, key and value in one block, so that a line costs one allocation. */
static int add_copy(struct parser *p, const char *key, size_t n_key, const char *value, size_t n_value)
{
    size_t n_section = strlen(p->section);
    struct cfg_line l = {.file = p->file, .line = p->pieces[0].line, .col = p->pieces[0].col};
    char *at = malloc(n_section + n_key + n_value + 3);

    if (!at)
        return -ENOMEM;
    l.section = at;
    memcpy(at, p->section, n_section + 1);
    if (key) {
        l.key = at + n_section + 1;
        l.value = l.key + n_key + 1;
        memcpy(l.key, key, n_key);
        l.key[n_key] = 0;
        memcpy(l.value, value, n_value);
        l.value[n_value] = 0;
        l.n_pieces = p->n_pieces;
        l.pieces = calloc(p->n_pieces, sizeof(*l.pieces));
    }
    if ((key && !l.pieces) || add_line(p, &l) < 0) {
        free(l.pieces);
        free(at);
        return -ENOMEM;
    }
    return 0;
}

/* The pieces of the logical line, moved so that they count from the value. */
static void map_value(struct parser *p, size_t offset)
{
    struct cfg_line *l = &p->out->v[p->out->n - 1];
    unsigned n = 0;

    for (unsigned i = 0; i < p->n_pieces; i++) {
        const struct cfg_piece *from = &p->pieces[i];
        if (from->at >= offset)
            l->pieces[n++] = (struct cfg_piece){from->at - (unsigned)offset, from->line, from->col};
        else if (i + 1 == p->n_pieces || p->pieces[i + 1].at > offset)
            l->pieces[n++] = (struct cfg_piece){0, from->line, from->col + (unsigned)(offset - from->at)};
    }
    l->n_pieces = n;
}

static int heading(struct parser *p, const char *s, size_t len)
{
    unsigned line = p->pieces[0].line, col = p->pieces[0].col;

    free(p->section);
    if (len < 3 || s[len - 1] != ']' || memchr(s + 1, '[', len - 1) || memchr(s + 1, ']', len - 2)) {
        complain(p, line, col, "a section's heading is written [Name]");
        p->section = strdup("");
        return p->section ? 0 : -ENOMEM;
    }
    if (!(p->section = strndup(s + 1, len - 2)))
        return -ENOMEM;
    return add_copy(p, NULL, 0, NULL, 0);
}

static int assignment(struct parser *p, const char *s, size_t len)
{
    const char *eq = memchr(s, '=', len), *value;
    unsigned line = p->pieces[0].line, col = p->pieces[0].col;
    size_t n_key, n_value;
    int r;

    if (!eq || eq == s) {
        complain(p, line, col, "neither a [Section] nor Key=value");
        return 0;
    }
    if (!p->section) {
        complain(p, line, col, "an assignment before the first [Section]");
        return 0;
    }
    if (!*p->section)
        return 0;
    for (n_key = (size_t)(eq - s); n_key && strchr(BLANKS, s[n_key - 1]); n_key--)
        ;
    for (value = eq + 1; value < s + len && strchr(BLANKS, *value); value++)
        ;
    n_value = (size_t)(s + len - value);
    if ((r = add_copy(p, s, n_key, value, n_value)) == 0)
        map_value(p, (size_t)(value - s));
    return r;
}

static int logical_line(struct parser *p)
{
    const char *s = p->joined.p;
    size_t len = p->joined.len;

    if (p->joined.error == -ENOMEM)
        return -ENOMEM;
    if (p->joined.error) {
        complain(p, p->pieces[0].line, p->pieces[0].col, "a line is too long, with those that continue it");
        return 0;
    }
    while (len && strchr(BLANKS, s[len - 1]))
        len--;
    if (len == 0)
        return 0;
    return *s == '[' ? heading(p, s, len) : assignment(p, s, len);
}

/* Binary garbage is refused once, not line by line. */
static bool is_text(struct parser *p)
{
    const char *line;
    size_t len;
    struct parser scan = *p;

    while (take_line(&scan, &line, &len))
        for (size_t i = 0; i < len; i++)
            if ((unsigned char)line[i] < ' ' && !strchr(BLANKS, line[i] ? line[i] : 1)) {
                complain(p, scan.line, (unsigned)i + 1, "a control character");
                return false;
            } else if (i == 0 && !str_is_utf8(line, len)) {
                complain(p, scan.line, 1, "not UTF-8");
                return false;
            }
    return true;
}

static const char *keep_name(struct cfg_lines *out, const char *file)
{
    char **bigger = realloc(out->files, (out->n_files + 1) * sizeof(*bigger));

    if (!bigger)
        return NULL;
    out->files = bigger;
    if (!(bigger[out->n_files] = strdup(file)))
        return NULL;
    return bigger[out->n_files++];
}

int cfg_parse(const char *file, const char *text, size_t len, struct cfg_lines *out,
              cfg_complain_fn complain_fn, void *ctx)
{
    struct parser p = {.file = keep_name(out, file),
                       .p = text,
                       .end = text + len,
                       .joined = BUF_INIT(LIMIT_CONFIG_LINE),
                       .out = out,
                       .complain = complain_fn,
                       .ctx = ctx};
    int r = p.file ? 0 : -ENOMEM;

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        p.p += 3;
    if (r == 0 && is_text(&p))
        while (r == 0 && (r = take_logical(&p)) > 0)
            r = p.n_pieces ? logical_line(&p) : 0;
    buf_free(&p.joined);
    free(p.pieces);
    free(p.section);
    return r;
}

void cfg_lines_free(struct cfg_lines *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].section);
        free(l->v[i].pieces);
    }
    for (size_t i = 0; i < l->n_files; i++)
        free(l->files[i]);
    free(l->v);
    free(l->files);
    *l = (struct cfg_lines){0};
}

void cfg_line_at(const struct cfg_line *l, size_t at, unsigned *line, unsigned *col)
{
    *line = l->line;
    *col = l->col;
    for (unsigned i = 0; at != CFG_AT_KEY && i < l->n_pieces && l->pieces[i].at <= at; i++) {
        *line = l->pieces[i].line;
        *col = l->pieces[i].col + (unsigned)(at - l->pieces[i].at);
    }
}
