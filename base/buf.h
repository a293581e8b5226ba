/* SPDX-License-Identifier: Apache-2.0 */
/* base/buf: a byte buffer that grows up to a limit. An overflow or lack of memory is remembered in
 * `error`, so that a writer checks once, at the end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    char *p; /* always ends in NUL once anything was written */
    size_t len, size, max;
    int error; /* 0, -ENOMEM or -EFBIG */
};

/* clang-format off */
#define BUF_INIT(limit) {.max = (limit)}
/* clang-format on */

void buf_free(struct buf *b);
void buf_reset(struct buf *b); /* empties it, keeps the memory */
void buf_put(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_uint(struct buf *b, uint64_t v); /* in decimal */
void buf_utf8(struct buf *b, uint32_t c); /* a code point, as str_utf8_put */
/* n bytes as a string of JSON, with its quotes: what is no UTF-8 is U+FFFD, and what a terminal would obey is
 * escaped. RFC 8259. */
void buf_json(struct buf *b, const char *s, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
