/* SPDX-License-Identifier: Apache-2.0 */
/* The literals of JavaScript, for pm2's ecosystem.config.js: `module.exports = {...}` or `export
 * default {...}`, or the name of a constant before it, of objects, lists, strings, numbers, true, false,
 * null. Nothing is ever run: whatever would have to be is an error that says where it is. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import_node.h"
#include "base/limits.h"
#include "base/str.h"

struct js {
    struct import_tree *t;
    const char *p;
    struct import_at at; /* of p */
};

/* `const NAME = VALUE`, before what is exported. */
#define DECLARATIONS 16
struct named {
    const char *name;
    size_t len;
    struct import_node *value;
};

static struct import_node *value(struct js *j, unsigned depth);

static void step(struct js *j)
{
    if (*j->p == '\n') {
        j->at.line++;
        j->at.col = 0;
    }
    j->at.col++;
    j->p++;
}

static void step_by(struct js *j, size_t n)
{
    while (n--)
        step(j);
}

/* Blanks and comments. False after an error. */
static bool skip(struct js *j)
{
    for (;;) {
        step_by(j, strspn(j->p, " \t\r\n\f"));
        if (j->p[0] == '/' && j->p[1] == '/') {
            step_by(j, strcspn(j->p, "\n"));
        } else if (j->p[0] == '/' && j->p[1] == '*') {
            const char *end = strstr(j->p + 2, "*/");
            if (!end)
                return import_node_fail(j->t, j->at, "a comment that has no end; close it with */") != NULL;
            step_by(j, (size_t)(end + 2 - j->p));
        } else {
            return true;
        }
    }
}

static void *expression(struct js *j)
{
    return import_node_fail(j->t, j->at,
                            "an expression, which would have to be run; write the value itself: a string, "
                            "number, true, false, null, list or object");
}

/* ---- words ---- */

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static size_t name_length(const char *s)
{
    size_t n = 0;

    while (in_name(s[n]))
        n++;
    return n;
}

static bool hex(struct js *j, unsigned digits, unsigned *ret)
{
    *ret = 0;
    for (unsigned i = 0; i < digits; i++, step(j)) {
        unsigned char c = (unsigned char)*j->p;
        if (!isxdigit(c))
            return false;
        *ret = *ret * 16 + (unsigned)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return true;
}

/* Behind \u; two of them may be one character. */
static bool unicode(struct js *j, struct buf *b)
{
    unsigned c, low;

    if (!hex(j, 4, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00 && j->p[0] == '\\' && j->p[1] == 'u') {
        step_by(j, 2);
        if (!hex(j, 4, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c == 0 || (c >= 0xd800 && c < 0xe000))
        return false;
    buf_utf8(b, c);
    return true;
}

static bool escape(struct js *j, struct buf *b)
{
    static const char from[] = "bfnrtv", to[] = "\b\f\n\r\t\v";
    const char *at;
    unsigned c;

    step(j);
    if (*j->p == 'u' || *j->p == 'x') {
        bool is_byte = *j->p == 'x';
        step(j);
        if (!is_byte)
            return unicode(j, b);
        if (!hex(j, 2, &c) || c == 0)
            return false;
        buf_utf8(b, c);
        return true;
    }
    if (!*j->p || isdigit((unsigned char)*j->p))
        return false;
    at = strchr(from, *j->p);
    if (*j->p != '\n') /* a line that goes on */
        buf_char(b, at ? to[at - from] : *j->p);
    step(j);
    return true;
}

/* A quoted word, its quote being *j->p. NULL after an error. */
static const char *string(struct js *j)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE + 1);
    struct import_at start = j->at;
    char quote = *j->p;
    bool fine = true;

    step(j);
    while (fine && *j->p && *j->p != quote && (quote == '`' || *j->p != '\n')) {
        if (quote == '`' && j->p[0] == '$' && j->p[1] == '{') {
            buf_free(&b);
            return expression(j);
        }
        if (*j->p == '\\') {
            fine = escape(j, &b);
        } else {
            buf_char(&b, *j->p);
            step(j);
        }
    }
    if (fine && *j->p == quote) {
        step(j);
        return import_take(j->t->im, &b);
    }
    buf_free(&b);
    if (!fine)
        return import_node_fail(j->t, j->at, "an escape that is none; write \\\\ for a backslash");
    return import_node_fail(j->t, start, "a string that has no end; close it with %c", quote);
}

/* ---- values ---- */

static struct import_node *scalar(struct js *j, enum import_node_kind kind, const char *text, size_t n)
{
    struct import_node *node = import_node_new(j->t, kind, j->at, import_keep_n(j->t->im, text, n));

    step_by(j, n);
    return node;
}

static struct import_node *number(struct js *j)
{
    size_t n = strspn(j->p, "+-.0123456789eE_xXabcdefABCDEF");
    char *end, *text = import_keep_n(j->t->im, j->p, n);

    if (strpbrk(text, "_xX") || strspn(text, "+-.0123456789eE") != n)
        return import_node_fail(j->t, j->at, "a number that is not written in plain digits");
    strtod(text, &end);
    if (*end) /* 60 * 1000 is told at the *, this is 1-1 */
        return expression(j);
    return scalar(j, IMPORT_NODE_NUMBER, text, n);
}

static struct import_node *word(struct js *j)
{
    static const struct {
        const char *name;
        enum import_node_kind kind;
    } words[] = {{"true", IMPORT_NODE_BOOL},
                 {"false", IMPORT_NODE_BOOL},
                 {"null", IMPORT_NODE_NULL},
                 {"undefined", IMPORT_NODE_NULL}};
    size_t n = name_length(j->p);

    for (size_t i = 0; n && i < sizeof(words) / sizeof(*words); i++)
        if (strlen(words[i].name) == n && strncmp(words[i].name, j->p, n) == 0)
            return scalar(j, words[i].kind, words[i].name, n);
    return expression(j);
}

/* A member's name, and the colon behind it. */
static const char *key(struct js *j)
{
    const char *s;
    size_t n;

    if (*j->p == '"' || *j->p == '\'') {
        s = string(j);
    } else if ((n = name_length(j->p))) {
        s = import_keep_n(j->t->im, j->p, n);
        step_by(j, n);
    } else {
        return *j->p ? expression(j)
                     : import_node_fail(j->t, j->at, "the file ends in an object; close it with }");
    }
    if (!s || !skip(j))
        return NULL;
    if (*j->p != ':')
        return *j->p ? expression(j)
                     : import_node_fail(j->t, j->at, "the file ends in an object; close it with }");
    step(j);
    return skip(j) ? s : NULL;
}

/* What stands behind a value: a comma, or the end. False after an error. */
static bool between(struct js *j, char end)
{
    if (!skip(j))
        return false;
    if (*j->p == ',') {
        step(j);
        return skip(j);
    }
    if (*j->p == end)
        return true;
    if (!*j->p)
        return import_node_fail(j->t, j->at, "the file ends too early; close it with %c", end) != NULL;
    return expression(j) != NULL;
}

static struct import_node *collection(struct js *j, bool map, unsigned depth)
{
    struct import_node *n = import_node_new(j->t, map ? IMPORT_NODE_MAP : IMPORT_NODE_LIST, j->at, ""),
                       *child;
    char end = map ? '}' : ']';
    const char *name = NULL;

    step(j);
    if (!n || !skip(j))
        return NULL;
    while (*j->p != end) {
        struct import_at at = j->at;
        if (map && !(name = key(j)))
            return NULL;
        if (!(child = value(j, depth)) || !import_node_add(j->t, n, name, at, child) || !between(j, end))
            return NULL;
    }
    step(j);
    return n;
}

static struct import_node *value(struct js *j, unsigned depth)
{
    struct import_at at = j->at;
    const char *s;

    if (depth == LIMIT_IMPORT_DEPTH)
        return import_node_fail(j->t, j->at, "values in values deeper than %u", LIMIT_IMPORT_DEPTH);
    if (!*j->p)
        return import_node_fail(j->t, j->at, "the file ends where a value should be");
    if (*j->p == '{' || *j->p == '[')
        return collection(j, *j->p == '{', depth + 1);
    if (*j->p == '"' || *j->p == '\'' || *j->p == '`')
        return (s = string(j)) ? import_node_new(j->t, IMPORT_NODE_STRING, at, s) : NULL;
    if (isdigit((unsigned char)*j->p) || (*j->p && strchr("+-.", *j->p)))
        return number(j);
    return word(j);
}

/* ---- the file ---- */

static bool take_word(struct js *j, const char *s)
{
    size_t n = strlen(s);

    if (strncmp(j->p, s, n) != 0 || in_name(j->p[n]))
        return false;
    step_by(j, n);
    return true;
}

/* "use strict" and the like: words that stand alone. False after an error. */
static bool skip_directive(struct js *j)
{
    if (!skip(j))
        return false;
    if (*j->p != '"' && *j->p != '\'')
        return true;
    if (!string(j) || !skip(j))
        return false;
    step_by(j, *j->p == ';');
    return skip(j);
}

static bool take_declaration(struct js *j)
{
    return take_word(j, "const") || take_word(j, "let") || take_word(j, "var");
}

/* `NAME = {...};`: it may be what is exported. False after an error. */
static bool declaration(struct js *j, struct named *ret)
{
    struct import_node *n = NULL;

    if (!skip(j))
        return false;
    ret->name = j->p;
    ret->len = name_length(j->p);
    step_by(j, ret->len);
    if (!ret->len || !skip(j) || *j->p != '=' || j->p[1] == '=')
        return expression(j);
    step(j);
    if (!skip(j) || !(n = value(j, 0)) || !skip(j))
        return false;
    ret->value = n;
    step_by(j, *j->p == ';');
    return skip(j);
}

/* `module.exports =`, `export default`, or nothing, as JSON has it. */
static bool heading(struct js *j)
{
    bool found = false;

    if (*j->p == '{' || *j->p == '[')
        return true;
    if (take_word(j, "module.exports"))
        found = skip(j) && *j->p == '=' && j->p[1] != '=';
    else if (take_word(j, "export"))
        return skip(j) && take_word(j, "default") && skip(j);
    if (!found)
        return import_node_fail(j->t, j->at,
                                "not `module.exports = {...}`: what would have to be run is not read; write "
                                "the values themselves") != NULL;
    step(j);
    return skip(j);
}

static struct import_node *exported(struct js *j, const struct named *names, size_t n)
{
    size_t len = name_length(j->p);

    for (size_t i = 0; i < n; i++)
        if (len == names[i].len && strncmp(j->p, names[i].name, len) == 0) {
            step_by(j, len);
            return names[i].value;
        }
    return value(j, 0);
}

static struct import_node *file(struct js *j)
{
    struct named names[DECLARATIONS];
    size_t n = 0;

    if (!skip_directive(j))
        return NULL;
    while (n < DECLARATIONS && take_declaration(j))
        if (!declaration(j, &names[n++]))
            return NULL;
    return heading(j) ? exported(j, names, n) : NULL;
}

bool import_js_fits(const char *text)
{
    return strstr(text, "module.exports") || strstr(text, "export default");
}

struct import_node *import_js_parse(struct import_tree *t)
{
    struct js j = {.t = t, .p = t->src->text, .at = {t->src->path, 1, 1}};
    struct import_node *n = file(&j);

    if (!n || !skip(&j)) {
        if (!t->failed)
            expression(&j);
        return NULL;
    }
    step_by(&j, *j.p == ';');
    if (!skip(&j))
        return NULL;
    return *j.p ? import_node_fail(t, j.at,
                                   "more behind what is exported, which would have to be run; take it out")
                : n;
}
