/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* Room for n more bytes and a NUL; false if there is none to be had. */
static int reserve(struct buf *b, size_t n)
{
    size_t want = b->size ? b->size : 256;
    char *bigger;

    if (b->error)
        return 0;
    if (n >= b->max || b->len > b->max - n - 1) {
        b->error = -EFBIG;
        return 0;
    }
    if (b->len + n + 1 <= b->size)
        return 1;
    while (want < b->len + n + 1)
        want *= 2;
    if (!(bigger = realloc(b->p, want))) {
        b->error = -ENOMEM;
        return 0;
    }
    b->p = bigger;
    b->size = want;
    return 1;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf)BUF_INIT(b->max);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->error = 0;
    if (b->p)
        b->p[0] = 0;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->len, p, n);
    b->len += n;
    b->p[b->len] = 0;
}

void buf_str(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_utf8(struct buf *b, uint32_t c)
{
    char text[4];

    buf_put(b, text, str_utf8_put(text, c));
}

void buf_uint(struct buf *b, uint64_t v)
{
    char text[24], *at = text + sizeof(text);

    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    buf_put(b, at, (size_t)(text + sizeof(text) - at));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}
