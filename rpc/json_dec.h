/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/json_dec: reads JSON (RFC 8259, nothing else) into a tree of tokens over the text. jsmn cuts the
 * tokens; it is no validator and gets quadratic on deep input, so the whole text is first held against the
 * grammar, with bounded depth. Knows text only. A name twice in one object is refused. */
#ifndef RPC_JSON_DEC_H
#define RPC_JSON_DEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    const char *text; /* the caller's; must stay */
    void *tokens;
    int count;
};

enum json_kind {
    JSON_NONE,
    JSON_OBJECT,
    JSON_ARRAY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

/* 0, -EINVAL (no JSON, or too deep), -E2BIG (more than max_tokens) or -ENOMEM. json_free in any case. */
int json_parse(struct json *j, const char *text, size_t len, int max_tokens);
void json_free(struct json *j);

/* Tokens are numbers: 0 is the document, -1 none; each function takes -1 and says "none". */
enum json_kind json_kind(const struct json *j, int t);
int json_count(const struct json *j, int t);                    /* members or elements */
int json_first(const struct json *j, int t);                    /* first element, or first member's name */
int json_next(const struct json *j, int t);                     /* the next one of the same parent */
int json_value(const struct json *j, int t);                    /* of a member's name */
int json_member(const struct json *j, int t, const char *name); /* an object's value by name */
const char *json_raw(const struct json *j, int t, size_t *len); /* the text; of a string without its quotes */

/* The string, unescaped. NULL: it is none, or no memory. The caller frees. */
char *json_text(const struct json *j, int t);
/* The same into buf, cut at size; "" if it is no string. Returns buf. */
const char *json_copy(const struct json *j, int t, char *buf, size_t size);
bool json_to_int(const struct json *j, int t,
                 int64_t *ret); /* false: no number or not a whole one in range */

#endif
