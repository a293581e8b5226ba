/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/import_node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/limits.h"
#include "base/str.h"

void *import_node_fail(struct import_tree *t, struct import_at at, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!t->failed)
        import_error(t->im, at, "%s", text);
    t->failed = true;
    return NULL;
}

struct import_node *import_node_new(struct import_tree *t, enum import_node_kind kind, struct import_at at,
                                    const char *text)
{
    struct import_node *n;

    if (t->n == LIMIT_IMPORT_NODES)
        return import_node_fail(t, at, "more than %u values; split the file", LIMIT_IMPORT_NODES);
    if (!(n = calloc(1, sizeof(*n))))
        return import_node_fail(t, at, "no memory");
    *n = (struct import_node){.kind = kind, .at = at, .text = text};
    import_room(&t->nodes, t->n, &t->size, sizeof(*t->nodes));
    t->nodes[t->n++] = n;
    return n;
}

bool import_node_add(struct import_tree *t, struct import_node *parent, const char *key,
                     struct import_at key_at, struct import_node *child)
{
    if (key && import_node_get(parent, key))
        return import_node_fail(t, key_at, "%s is there twice; take one of them out", key) != NULL;
    if (key && parent->n == LIMIT_IMPORT_MEMBERS)
        return import_node_fail(t, key_at, "more than %u members", LIMIT_IMPORT_MEMBERS) != NULL;
    parent->n++;
    child->key = key;
    child->key_at = key_at;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    return true;
}

void import_node_free(struct import_tree *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->nodes[i]);
    free(t->nodes);
    t->nodes = NULL;
    t->n = 0;
}

struct import_node *import_node_get(const struct import_node *map, const char *key)
{
    if (!map || map->kind != IMPORT_NODE_MAP)
        return NULL;
    for (struct import_node *n = map->first; n; n = n->next)
        if (str_eq(n->key, key))
            return n;
    return NULL;
}

static const char *word_of(const struct import_node *n)
{
    return n->kind == IMPORT_NODE_MAP ? "{...}" : n->kind == IMPORT_NODE_LIST ? "[...]" : n->text;
}

const char *import_node_show(struct import *im, const struct import_node *n)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE * 2);

    if (n->kind != IMPORT_NODE_LIST)
        return word_of(n);
    for (const struct import_node *c = n->first; c; c = c->next)
        buf_printf(&b, "%s%s", c == n->first ? "" : " ", word_of(c));
    return import_take(im, &b);
}

bool import_node_true(const struct import_node *n)
{
    switch (n->kind) {
    case IMPORT_NODE_NULL:
        return false;
    case IMPORT_NODE_BOOL:
        return strcasecmp(n->text, "true") == 0 || strcasecmp(n->text, "yes") == 0 ||
               strcasecmp(n->text, "on") == 0;
    case IMPORT_NODE_NUMBER:
        return strtod(n->text, NULL) != 0;
    case IMPORT_NODE_STRING:
        return *n->text;
    default:
        return true;
    }
}
