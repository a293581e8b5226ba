/* SPDX-License-Identifier: Apache-2.0 */
/* wire/codec: numbers and strings in frames. Only for wire/. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct codec_in {
    const uint8_t *at;
    size_t left;
    int bad;
};

void codec_put(struct buf *b, uint64_t v, unsigned bytes);
void codec_put_str(struct buf *b, const char *s);
uint64_t codec_get(struct codec_in *in, unsigned bytes);
const char *codec_get_str(struct codec_in *in);

#endif
