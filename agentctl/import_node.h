/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import_node: values in values, as YAML, JSON and JavaScript's literals have them, each with its
 * place in the source. Knows no format's keys. */
#ifndef AGENTCTL_IMPORT_NODE_H
#define AGENTCTL_IMPORT_NODE_H

#include "agentctl/import.h"

enum import_node_kind {
    IMPORT_NODE_NULL,
    IMPORT_NODE_BOOL,
    IMPORT_NODE_NUMBER,
    IMPORT_NODE_STRING,
    IMPORT_NODE_LIST,
    IMPORT_NODE_MAP,
};

struct import_node {
    enum import_node_kind kind;
    struct import_at at;
    const char *text; /* of what is no list or map, as it is written: a bool of YAML's may say yes or on */
    const char *key;  /* of a map's member; else NULL */
    struct import_at key_at;
    struct import_node *first, *last, *next; /* of a list or map; beside it */
    unsigned n;                              /* its children */
    bool seen;                               /* for who reads the keys of a map */
};

/* What is made while one file is read. */
struct import_tree {
    bool yaml_1_2; /* of YAML: yes, no, on and off are words, and a bool is spelled as JavaScript has it */
    struct import *im;
    struct import_source *src;
    struct import_node **nodes;
    size_t n, size;
    bool failed;
};

/* A new one; NULL after an error: there are too many. */
struct import_node *import_node_new(struct import_tree *t, enum import_node_kind kind, struct import_at at,
                                    const char *text);
/* child becomes the last one of a list or map; key is NULL in a list. False after an error: the key is there.
 */
bool import_node_add(struct import_tree *t, struct import_node *parent, const char *key,
                     struct import_at key_at, struct import_node *child);
void import_node_free(struct import_tree *t);
/* The first error of a tree is the one that is told. Returns NULL. */
void *import_node_fail(struct import_tree *t, struct import_at at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct import_node *import_node_get(const struct import_node *map, const char *key);
/* The value for the account: of a list its elements with blanks between; of what is deeper {...} and [...].
 */
const char *import_node_show(struct import *im, const struct import_node *n);
/* It says yes: true, yes or on; or it is not false, null, 0 or "". */
bool import_node_true(const struct import_node *n);

/* The root, or NULL after an error. */
struct import_node *import_yaml_parse(struct import_tree *t);
/* Literals, as module.exports = {...} or export default {...}; and JSON. */
struct import_node *import_js_parse(struct import_tree *t);
bool import_js_fits(const char *text); /* it exports something, as JavaScript does */
struct import_node *import_json_parse(struct import_tree *t);

#endif
