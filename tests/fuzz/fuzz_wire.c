/* SPDX-License-Identifier: Apache-2.0 */
/* wire: what decodes is put back as the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int ok)
{
    if (!ok)
        abort();
}

/* The bytes of v as the body of a frame, in the way of the one that it came from. */
static void same_body(struct buf *b, const struct wire_frame *f)
{
    const uint8_t *at = (const uint8_t *)b->p;
    size_t left = b->len;
    struct wire_frame again;

    must(b->error == 0 && wire_next(&at, &left, &again) == 1 && left == 0);
    must(again.len <= f->len && memcmp(again.body, f->body, again.len) == 0); /* a later version may add */
    buf_free(b);
}

#define TRY(what, type_of)                              \
    do {                                                \
        struct type_of v;                               \
        struct buf b = BUF_INIT(4 * LIMIT_WIRE_PACKET); \
        if (wire_get_##what(&f, &v) == 0) {             \
            wire_put_##what(&b, &v);                    \
            same_body(&b, &f);                          \
        }                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const uint8_t *at = p;
    size_t left = n;
    struct wire_frame f;

    while (wire_next(&at, &left, &f) == 1) {
        must(f.body >= p && f.body + f.len <= p + n && at == f.body + f.len && left == (size_t)(p + n - at));
        TRY(hello, wire_hello);
        TRY(listener, wire_listener_frame);
        TRY(credential, wire_credential);
        TRY(record, wire_record);
        TRY(forget, wire_forget);
        TRY(synced, wire_synced);
        TRY(call, wire_call);
        TRY(reply, wire_reply);
        TRY(stream, wire_stream);
    }
    return 0;
}
