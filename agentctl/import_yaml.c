/* SPDX-License-Identifier: Apache-2.0 */
/* YAML, by libyaml. What an alias names is copied, so that the limits on values hold for it, too. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <yaml.h>

#include "agentctl/import_node.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct anchor {
    const char *name;
    struct import_node *node;
};

struct yaml {
    struct import_tree *t;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct anchor *anchors;
    size_t n_anchors, size_anchors;
};

static struct import_at place(const struct yaml *y, yaml_mark_t mark)
{
    return (struct import_at){y->t->src->path, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static bool next(struct yaml *y)
{
    if (y->has_event)
        yaml_event_delete(&y->event);
    y->has_event = yaml_parser_parse(&y->parser, &y->event);
    if (!y->has_event) {
        yaml_mark_t mark = y->parser.problem_mark.line ? y->parser.problem_mark : y->parser.context_mark;
        import_node_fail(y->t, place(y, mark), "no YAML: %s; put that right",
                         y->parser.problem ? y->parser.problem : "it can't be read");
    }
    return y->has_event;
}

/* ---- scalars ---- */

static bool one_of(const char *s, const char *const *words)
{
    for (; *words; words++)
        if (strcasecmp(s, *words) == 0)
            return true;
    return false;
}

static bool is_number(const char *s)
{
    char *end;

    if (!*s || strspn(s, "0123456789+-.eE") != strlen(s) || !strpbrk(s, "0123456789"))
        return false;
    strtod(s, &end);
    return !*end;
}

static bool is_bool(const struct yaml *y, const char *s)
{
    static const char *const old[] = {"true", "yes", "on", "false", "no", "off", NULL}, *const core[] = {
                                                                                            "true",  "True",
                                                                                            "TRUE",  "false",
                                                                                            "False", "FALSE",
                                                                                            NULL};

    if (!y->t->yaml_1_2)
        return one_of(s, old);
    for (size_t i = 0; core[i]; i++)
        if (str_eq(s, core[i]))
            return true;
    return false;
}

/* The core schema, and yes and no as YAML 1.1 has them, where that is read. */
static struct import_node *scalar(struct yaml *y)
{
    static const char *const nulls[] = {"", "~", "null", NULL};
    const char *s = (const char *)y->event.data.scalar.value;
    enum import_node_kind kind = IMPORT_NODE_STRING;

    if (strlen(s) != y->event.data.scalar.length)
        return import_node_fail(y->t, place(y, y->event.start_mark), "a NUL in a value; take it out");
    if (y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        kind = one_of(s, nulls) ? IMPORT_NODE_NULL
               : is_bool(y, s)  ? IMPORT_NODE_BOOL
               : is_number(s)   ? IMPORT_NODE_NUMBER
                                : IMPORT_NODE_STRING;
        if (kind == IMPORT_NODE_BOOL && y->t->yaml_1_2)
            s = tolower((unsigned char)*s) == 't' ? "true" : "false";
    }
    return import_node_new(y->t, kind, place(y, y->event.start_mark), import_keep(y->t->im, s));
}

/* ---- anchors ---- */

static void anchored(struct yaml *y, const char *name, struct import_node *n)
{
    if (!name || !n)
        return;
    import_room(&y->anchors, y->n_anchors, &y->size_anchors, sizeof(*y->anchors));
    y->anchors[y->n_anchors++] = (struct anchor){name, n};
}

static struct import_node *copy(struct yaml *y, const struct import_node *from)
{
    struct import_node *n = import_node_new(y->t, from->kind, from->at, from->text), *child;

    for (const struct import_node *c = from->first; n && c; c = c->next)
        if (!(child = copy(y, c)) || !import_node_add(y->t, n, c->key, c->key_at, child))
            n = NULL;
    return n;
}

/* An anchor is known once its value has ended: none holds itself. */
static struct import_node *alias(struct yaml *y)
{
    const char *name = (const char *)y->event.data.alias.anchor;

    for (size_t i = y->n_anchors; i-- > 0;)
        if (str_eq(y->anchors[i].name, name))
            return copy(y, y->anchors[i].node);
    return import_node_fail(y->t, place(y, y->event.start_mark), "*%s names nothing before it", name);
}

/* ---- lists and maps ---- */

static struct import_node *value(struct yaml *y, unsigned depth);

static struct import_node *list(struct yaml *y, unsigned depth)
{
    struct import_node *n = import_node_new(y->t, IMPORT_NODE_LIST, place(y, y->event.start_mark), ""),
                       *child;

    while (n && next(y) && y->event.type != YAML_SEQUENCE_END_EVENT)
        if (!(child = value(y, depth)) || !import_node_add(y->t, n, NULL, child->at, child))
            return NULL;
    return y->t->failed ? NULL : n;
}

/* << takes in what another map has, unless it is there. */
static bool merge(struct yaml *y, struct import_node *n, const struct import_node *from)
{
    if (from->kind == IMPORT_NODE_LIST) {
        for (const struct import_node *c = from->first; c; c = c->next)
            if (!merge(y, n, c))
                return false;
        return true;
    }
    if (from->kind != IMPORT_NODE_MAP)
        return import_node_fail(y->t, from->at, "<< takes a map, or a list of maps") != NULL;
    for (const struct import_node *c = from->first; c; c = c->next) {
        struct import_node *child;
        if (import_node_get(n, c->key))
            continue;
        if (!(child = copy(y, c)) || !import_node_add(y->t, n, c->key, c->key_at, child))
            return false;
    }
    return true;
}

static bool member(struct yaml *y, struct import_node *n, struct import_node **ret_merged, unsigned depth)
{
    struct import_at at = place(y, y->event.start_mark);
    struct import_node *child;
    char *key;

    if (y->event.type != YAML_SCALAR_EVENT ||
        strlen((const char *)y->event.data.scalar.value) != y->event.data.scalar.length)
        return import_node_fail(y->t, at, "a key that is no word") != NULL;
    key = import_keep(y->t->im, (const char *)y->event.data.scalar.value);
    if (!next(y) || !(child = value(y, depth)))
        return false;
    if (!str_eq(key, "<<"))
        return import_node_add(y->t, n, key, at, child);
    *ret_merged = child;
    return true;
}

static struct import_node *map(struct yaml *y, unsigned depth)
{
    struct import_node *n = import_node_new(y->t, IMPORT_NODE_MAP, place(y, y->event.start_mark), ""),
                       *merged = NULL;

    while (n && next(y) && y->event.type != YAML_MAPPING_END_EVENT)
        if (!member(y, n, &merged, depth))
            return NULL;
    if (y->t->failed || (n && merged && !merge(y, n, merged)))
        return NULL;
    return n;
}

static struct import_node *unnamed(struct yaml *y, unsigned depth)
{
    switch (y->event.type) {
    case YAML_SCALAR_EVENT:
        return scalar(y);
    case YAML_ALIAS_EVENT:
        return alias(y);
    case YAML_SEQUENCE_START_EVENT:
        return list(y, depth + 1);
    case YAML_MAPPING_START_EVENT:
        return map(y, depth + 1);
    default:
        return import_node_fail(y->t, place(y, y->event.start_mark), "a value is missing");
    }
}

/* The anchor of the value that the event begins, or NULL. */
static const char *anchor_of(struct yaml *y)
{
    const yaml_char_t *name = y->event.type == YAML_SCALAR_EVENT ? y->event.data.scalar.anchor
                              : y->event.type == YAML_SEQUENCE_START_EVENT
                                  ? y->event.data.sequence_start.anchor
                              : y->event.type == YAML_MAPPING_START_EVENT ? y->event.data.mapping_start.anchor
                                                                          : NULL;

    return name ? import_keep(y->t->im, (const char *)name) : NULL;
}

static struct import_node *value(struct yaml *y, unsigned depth)
{
    const char *anchor;
    struct import_node *n;

    if (depth == LIMIT_IMPORT_DEPTH)
        return import_node_fail(y->t, place(y, y->event.start_mark), "values in values deeper than %u",
                                LIMIT_IMPORT_DEPTH);
    anchor = anchor_of(y); /* the event is gone by then */
    n = unnamed(y, depth);
    anchored(y, anchor, n);
    return n;
}

static struct import_node *document(struct yaml *y)
{
    struct import_node *n = NULL;

    while (!n && next(y)) {
        if (y->event.type == YAML_STREAM_END_EVENT)
            return import_node_fail(y->t, place(y, y->event.start_mark), "the file is empty");
        if (y->event.type == YAML_STREAM_START_EVENT || y->event.type == YAML_DOCUMENT_START_EVENT)
            continue;
        if (!(n = value(y, 0)))
            return NULL;
    }
    if (!n || !next(y) || !next(y)) /* the document's end, and what follows */
        return NULL;
    if (y->event.type != YAML_STREAM_END_EVENT)
        return import_node_fail(y->t, place(y, y->event.start_mark), "a second document; split the file");
    return n;
}

struct import_node *import_yaml_parse(struct import_tree *t)
{
    struct yaml y = {.t = t};
    struct import_node *n = NULL;

    if (!yaml_parser_initialize(&y.parser))
        return import_node_fail(t, (struct import_at){t->src->path, 1, 1}, "no memory");
    yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)t->src->text, t->src->len);
    n = document(&y);
    if (y.has_event)
        yaml_event_delete(&y.event);
    yaml_parser_delete(&y.parser);
    free(y.anchors);
    return n;
}
