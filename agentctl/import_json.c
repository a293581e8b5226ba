/* SPDX-License-Identifier: Apache-2.0 */
/* JSON, by the reader that the answers are read with. What it does not take is left to the reader of
 * JavaScript's literals, as pm2 takes that in a .json file too, and which says where something is wrong. */
#include <stdlib.h>

#include "agentctl/import_node.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_dec.h"

static struct import_node *value(struct import_tree *t, const struct json *j, int token);

static const char *text_of(struct import_tree *t, const struct json *j, int token)
{
    char *s = json_text(j, token), *kept;
    size_t len;
    const char *raw;

    if (s) {
        kept = import_keep(t->im, s);
        free(s);
        return kept;
    }
    raw = json_raw(j, token, &len);
    return import_keep_n(t->im, raw, len);
}

static struct import_at place(struct import_tree *t, const struct json *j, int token)
{
    size_t len;
    const char *raw = json_raw(j, token, &len);

    return import_place(t->src, raw - (json_kind(j, token) == JSON_STRING));
}

static bool children(struct import_tree *t, const struct json *j, int token, struct import_node *n)
{
    bool map = n->kind == IMPORT_NODE_MAP;

    for (int i = json_first(j, token); i >= 0; i = json_next(j, i)) {
        struct import_node *child = value(t, j, map ? json_value(j, i) : i);
        if (!child || !import_node_add(t, n, map ? text_of(t, j, i) : NULL, place(t, j, i), child))
            return false;
    }
    return true;
}

static struct import_node *value(struct import_tree *t, const struct json *j, int token)
{
    static const enum import_node_kind kinds[] = {
        [JSON_NONE] = IMPORT_NODE_NULL,     [JSON_OBJECT] = IMPORT_NODE_MAP,
        [JSON_ARRAY] = IMPORT_NODE_LIST,    [JSON_STRING] = IMPORT_NODE_STRING,
        [JSON_NUMBER] = IMPORT_NODE_NUMBER, [JSON_TRUE] = IMPORT_NODE_BOOL,
        [JSON_FALSE] = IMPORT_NODE_BOOL,    [JSON_NULL] = IMPORT_NODE_NULL,
    };
    enum import_node_kind kind = kinds[json_kind(j, token)];
    bool deep = kind == IMPORT_NODE_MAP || kind == IMPORT_NODE_LIST;
    struct import_node *n = import_node_new(t, kind, place(t, j, token), deep ? "" : text_of(t, j, token));

    return n && (!deep || children(t, j, token, n)) ? n : NULL;
}

struct import_node *import_json_parse(struct import_tree *t)
{
    struct json j;
    struct import_node *n = NULL;
    int r = json_parse(&j, t->src->text, t->src->len, LIMIT_JSON_TOKENS);

    if (r == 0)
        n = value(t, &j, 0);
    json_free(&j);
    return r == 0 ? n : import_js_parse(t);
}
