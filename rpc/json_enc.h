/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/json_enc: writes JSON onto a struct buf. Knows the grammar (commas, escapes, valid UTF-8 whatever comes
 * in), never what the values mean. A comma is written before anything that does not follow an opener. */
#ifndef RPC_JSON_ENC_H
#define RPC_JSON_ENC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

void json_open(struct buf *b, char bracket); /* '{' or '[' as an array's element or a document */
void json_close(struct buf *b, char bracket);
void json_key(struct buf *b, const char *name); /* a plain ASCII name, written as it is */
void json_put_str(struct buf *b, const char *s);
void json_put_int(struct buf *b, int64_t v);
void json_put_uint(struct buf *b, uint64_t v);

void json_str(struct buf *b, const char *name, const char *s);
void json_int(struct buf *b, const char *name, int64_t v);
void json_uint(struct buf *b, const char *name, uint64_t v);
void json_bool(struct buf *b, const char *name, bool v);
void json_null(struct buf *b, const char *name);
/* A wall clock time; 0 is written as null. */
void json_time(struct buf *b, const char *name, int64_t wall_us, bool with_ms);
/* "1,2,3" as an array of numbers; what is no number is left out. */
void json_numbers(struct buf *b, const char *name, const char *list);
/* "a,b" as an array of strings. */
void json_words(struct buf *b, const char *name, const char *list);

#endif
