/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/codec.h"

#include <string.h>

#include "base/limits.h"

void codec_put(struct buf *b, uint64_t v, unsigned bytes)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < bytes; i++)
        raw[i] = (uint8_t)(v >> (8 * i));
    buf_put(b, raw, bytes);
}

void codec_put_str(struct buf *b, const char *s)
{
    size_t n = s ? strnlen(s, LIMIT_WIRE_STRING) : 0;

    codec_put(b, n, 2);
    buf_put(b, s, n);
    buf_char(b, 0);
}

uint64_t codec_get(struct codec_in *in, unsigned bytes)
{
    uint64_t v = 0;

    if (in->bad || in->left < bytes) {
        in->bad = 1;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)in->at[i] << (8 * i);
    in->at += bytes;
    in->left -= bytes;
    return v;
}

const char *codec_get_str(struct codec_in *in)
{
    size_t n = (size_t)codec_get(in, 2);
    const char *s = (const char *)in->at;

    if (in->bad || n > LIMIT_WIRE_STRING || in->left < n + 1 || s[n] != 0 || memchr(s, 0, n)) {
        in->bad = 1;
        return "";
    }
    in->at += n + 1;
    in->left -= n + 1;
    return s;
}
