/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/json_dec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

/* ---- the grammar: true if text is one JSON value, blanks around it allowed ---- */

struct reader {
    const char *at, *end;
};

static void skip_blanks(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

static bool take(struct reader *r, char c)
{
    if (r->at >= r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static bool take_digits(struct reader *r)
{
    const char *from = r->at;

    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > from;
}

static bool take_number(struct reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !take_digits(r))
        return false;
    if (take(r, '.') && !take_digits(r))
        return false;
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+'))
            take(r, '-');
        return take_digits(r);
    }
    return true;
}

/* Four hex digits at s, or -1. */
static int hex4(const char *s, const char *end)
{
    int v = 0;

    if (end - s < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* Behind "\u": one code point, surrogates only as a pair, and no NUL, which a C string can't hold. */
static int take_code_point(struct reader *r)
{
    int hi = hex4(r->at, r->end), lo;

    if (hi <= 0 || (hi >= 0xdc00 && hi < 0xe000))
        return -1;
    r->at += 4;
    if (hi < 0xd800 || hi >= 0xe000)
        return hi;
    if (!take(r, '\\') || !take(r, 'u') || (lo = hex4(r->at, r->end)) < 0xdc00 || lo >= 0xe000)
        return -1;
    r->at += 4;
    return 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00);
}

static bool take_escape(struct reader *r)
{
    if (take(r, 'u'))
        return take_code_point(r) >= 0;
    return r->at < r->end && *r->at && strchr("\"\\/bfnrt", *r->at) && r->at++;
}

static bool take_string(struct reader *r)
{
    const char *from;

    if (!take(r, '"'))
        return false;
    for (from = r->at; r->at < r->end;) {
        unsigned char c = (unsigned char)*r->at++;
        if (c == '"')
            return str_is_utf8(from, (size_t)(r->at - 1 - from));
        if (c < 0x20 || (c == '\\' && !take_escape(r)))
            return false;
    }
    return false;
}

static bool take_scalar(struct reader *r)
{
    if (r->at >= r->end)
        return false;
    switch (*r->at) {
    case '"':
        return take_string(r);
    case 't':
        return take_word(r, "true");
    case 'f':
        return take_word(r, "false");
    case 'n':
        return take_word(r, "null");
    default:
        return take_number(r);
    }
}

static bool take_name(struct reader *r)
{
    skip_blanks(r);
    if (!take_string(r))
        return false;
    skip_blanks(r);
    return take(r, ':');
}

/* Walks without recursion: the stack of open brackets is as deep as documents may be. */
static bool is_json(const char *text, size_t len)
{
    struct reader r = {text, text + len};
    char open[LIMIT_JSON_DEPTH];
    int depth = 0;

    for (;;) {
        skip_blanks(&r);
        if (r.at < r.end && (*r.at == '{' || *r.at == '[')) {
            if (depth == LIMIT_JSON_DEPTH)
                return false;
            char closer = *r.at++ == '{' ? '}' : ']';
            open[depth++] = closer;
            skip_blanks(&r);
            if (!take(&r, closer)) {
                if (closer == '}' && !take_name(&r))
                    return false;
                continue;
            }
            depth--;
        } else if (!take_scalar(&r)) {
            return false;
        }
        /* a value is over: closers, then a comma or the end */
        skip_blanks(&r);
        while (depth && take(&r, open[depth - 1])) {
            depth--;
            skip_blanks(&r);
        }
        if (!depth)
            return r.at == r.end;
        if (!take(&r, ',') || (open[depth - 1] == '}' && !take_name(&r)))
            return false;
    }
}

/* ---- tokens ---- */

static const jsmntok_t *token(const struct json *j, int t)
{
    return t >= 0 && t < j->count ? (const jsmntok_t *)j->tokens + t : NULL;
}

static bool has_twins(const struct json *j)
{
    const jsmntok_t *all = j->tokens;

    for (int o = 0; o < j->count; o++) {
        if (all[o].type != JSMN_OBJECT || all[o].size < 2)
            continue;
        for (int a = json_first(j, o); a >= 0; a = json_next(j, a)) {
            size_t n = (size_t)(all[a].end - all[a].start);
            for (int b = json_next(j, a); b >= 0; b = json_next(j, b))
                if ((size_t)(all[b].end - all[b].start) == n &&
                    memcmp(j->text + all[a].start, j->text + all[b].start, n) == 0)
                    return true;
        }
    }
    return false;
}

/* A document that is a number or a literal: jsmn in strict mode takes none. */
static int parse_scalar(struct json *j, const char *text, size_t len)
{
    jsmntok_t *t = j->tokens;
    size_t from = strspn(text, " \t\r\n"), to = len;

    while (to > from && strchr(" \t\r\n", text[to - 1]))
        to--;
    *t = (jsmntok_t){.type = JSMN_PRIMITIVE, .start = (int)from, .end = (int)to, .parent = -1};
    j->count = 1;
    return 0;
}

int json_parse(struct json *j, const char *text, size_t len, int max_tokens)
{
    jsmn_parser p;
    int n;

    *j = (struct json){.text = text};
    if (len > INT32_MAX || !is_json(text, len))
        return -EINVAL;
    jsmn_init(&p);
    n = jsmn_parse(&p, text, len, NULL, 0);
    if (n > max_tokens)
        return -E2BIG;
    if (!(j->tokens = calloc(n > 0 ? (size_t)n : 1, sizeof(jsmntok_t))))
        return -ENOMEM;
    if (n <= 0)
        return parse_scalar(j, text, len);
    jsmn_init(&p);
    if (jsmn_parse(&p, text, len, j->tokens, (unsigned)n) != n)
        return -EINVAL;
    j->count = n;
    return has_twins(j) ? -EINVAL : 0;
}

void json_free(struct json *j)
{
    free(j->tokens);
    *j = (struct json){0};
}

enum json_kind json_kind(const struct json *j, int t)
{
    const jsmntok_t *k = token(j, t);

    if (!k)
        return JSON_NONE;
    if (k->type == JSMN_OBJECT)
        return JSON_OBJECT;
    if (k->type == JSMN_ARRAY)
        return JSON_ARRAY;
    if (k->type == JSMN_STRING)
        return JSON_STRING;
    switch (j->text[k->start]) {
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

int json_count(const struct json *j, int t)
{
    enum json_kind kind = json_kind(j, t);

    return kind == JSON_OBJECT || kind == JSON_ARRAY ? token(j, t)->size : 0;
}

int json_first(const struct json *j, int t)
{
    return json_count(j, t) ? t + 1 : -1;
}

int json_next(const struct json *j, int t)
{
    const jsmntok_t *k = token(j, t), *n;

    if (!k || k->parent < 0)
        return -1;
    /* what follows and starts behind our end (and, for a name, behind its value) is the next or an uncle */
    for (int i = t + 1; (n = token(j, i)); i++) {
        if (n->parent == k->parent)
            return i;
        if (n->start > token(j, k->parent)->end)
            return -1;
    }
    return -1;
}

int json_value(const struct json *j, int t)
{
    const jsmntok_t *k = token(j, t + 1);

    return t >= 0 && k && k->parent == t ? t + 1 : -1;
}

int json_member(const struct json *j, int t, const char *name)
{
    size_t n = strlen(name), len;

    if (json_kind(j, t) != JSON_OBJECT)
        return -1;
    for (int m = json_first(j, t); m >= 0; m = json_next(j, m)) {
        const char *s = json_raw(j, m, &len);
        if (len == n && memcmp(s, name, n) == 0)
            return json_value(j, m);
    }
    return -1;
}

const char *json_raw(const struct json *j, int t, size_t *len)
{
    const jsmntok_t *k = token(j, t);

    *len = k ? (size_t)(k->end - k->start) : 0;
    return k ? j->text + k->start : "";
}

char *json_text(const struct json *j, int t)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    size_t len, at = 0;
    const char *s = json_raw(j, t, &len), *c;
    struct reader r = {s, s + len};
    char *out;

    if (json_kind(j, t) != JSON_STRING || !(out = malloc(len + 1)))
        return NULL;
    /* an escape is never shorter than what it stands for */
    while (r.at < r.end) {
        if (*r.at != '\\') {
            out[at++] = *r.at++;
            continue;
        }
        r.at++;
        if (*r.at == 'u') {
            r.at++;
            at += str_utf8_put(out + at, (uint32_t)take_code_point(&r));
            continue;
        }
        c = strchr(from, *r.at);
        out[at++] = c ? to[c - from] : *r.at;
        r.at++;
    }
    out[at] = 0;
    return out;
}

const char *json_copy(const struct json *j, int t, char *buf, size_t size)
{
    _cleanup_free_ char *s = json_text(j, t);

    return str_copy(buf, size, s ? s : "");
}

bool json_to_int(const struct json *j, int t, int64_t *ret)
{
    size_t len;
    const char *s = json_raw(j, t, &len);
    char text[24], *end;

    if (json_kind(j, t) != JSON_NUMBER || len >= sizeof(text))
        return false;
    memcpy(text, s, len);
    text[len] = 0;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    return *end == 0 && errno == 0;
}
