/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/cfg_parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int digit_of(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : 99;
}

/* n digits of base from s. -EINVAL if there are fewer. */
static int take_number(const char *s, unsigned n, unsigned base, uint32_t *ret)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned d = (unsigned)digit_of(s[i]); /* NUL is no digit: never read beyond */
        if (d >= base)
            return -EINVAL;
        v = v * base + d;
    }
    *ret = v;
    return 0;
}

/* The escapes that are a number: \xHH \OOO \uHHHH \UHHHHHHHH. Their length without the backslash, or -EINVAL.
 */
static int numeric_escape(const char *s, struct buf *b)
{
    unsigned n = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 3;
    bool letter = isalpha((unsigned char)*s);
    uint32_t v;

    if (take_number(s + letter, n, letter ? 16 : 8, &v) < 0 || v == 0)
        return -EINVAL;
    if (n == 2 || n == 3) {
        if (v > 255)
            return -EINVAL;
        buf_char(b, (char)v);
    } else {
        if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
            return -EINVAL;
        buf_utf8(b, v);
    }
    return (int)(n + letter);
}

/* What follows a backslash; the bytes taken, or -EINVAL. */
static int escape(const char *s, struct buf *b)
{
    static const char from[] = "abfnrtv\\\"'s", to[] = "\a\b\f\n\r\t\v\\\"' ";
    const char *at = *s ? strchr(from, *s) : NULL;

    if (at) {
        buf_char(b, to[at - from]);
        return 1;
    }
    if (*s == 'x' || *s == 'u' || *s == 'U' || (*s >= '0' && *s <= '7'))
        return numeric_escape(s, b);
    return -EINVAL;
}

static int wrong(struct cfg_words *w, size_t at, const char *why)
{
    w->start = at;
    w->why = why;
    return -EINVAL;
}

/* The word that starts at w->at into b. */
static int take_word(struct cfg_words *w, struct buf *b)
{
    char quote = 0;
    size_t opened = 0;

    for (; w->s[w->at] && (quote || w->flags & CFG_WORD_LINE || !is_blank(w->s[w->at])); w->at++) {
        char c = w->s[w->at];
        if (c == '\\' && (w->flags & CFG_WORD_ESCAPES)) {
            int n = escape(w->s + w->at + 1, b);
            if (n < 0)
                return wrong(w, w->at, "an unknown escape; write \\\\ for a backslash");
            w->at += (size_t)n;
        } else if (quote && c == quote) {
            quote = 0;
        } else if (!quote && (c == '"' || c == '\'') && (w->flags & CFG_WORD_QUOTES)) {
            quote = c;
            opened = w->at;
        } else {
            buf_char(b, c);
        }
    }
    return quote && !(w->flags & CFG_WORD_RELAX) ? wrong(w, opened, "a quote that is not closed") : 0;
}

int cfg_word(struct cfg_words *w, char **ret)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
    int r;

    while (is_blank(w->s[w->at]))
        w->at++;
    w->start = w->at;
    if (!w->s[w->at])
        return 0;
    r = take_word(w, &b);
    if (r == 0 && !b.p)
        buf_str(&b, ""); /* "" is a word */
    if (r == 0 && b.error)
        r = -ENOMEM;
    if (r < 0) {
        buf_free(&b);
        return r;
    }
    *ret = b.p;
    return 1;
}

int cfg_list_add(struct cfg_list *l, char *s)
{
    if (!s || array_room(&l->v, l->n + 1, &l->size, sizeof(*l->v)) < 0) { /* and for the NULL at its end */
        free(s);
        return -ENOMEM;
    }
    l->v[l->n++] = s;
    l->v[l->n] = NULL;
    return 0;
}

void cfg_list_clear(struct cfg_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct cfg_list){0};
}

char **cfg_list_pack(char *const *v, size_t n)
{
    size_t bytes = (n + 1) * sizeof(char *);
    char **block, *at;

    for (size_t i = 0; i < n; i++)
        bytes += strlen(v[i]) + 1;
    if (!(block = malloc(bytes)))
        return NULL;
    at = (char *)(block + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(v[i]) + 1;
        block[i] = memcpy(at, v[i], len);
        at += len;
    }
    block[n] = NULL;
    return block;
}
