/* SPDX-License-Identifier: Apache-2.0 */
/* wire: every frame there and back, cut at every length, and garbage. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/limits.h"
#include "wire/wire.h"

/* One struct of each kind with a value of its own in every field. */
static unsigned counter;
static char texts[256][16];

static const char *next_text(void)
{
    char *s = texts[counter % 256];

    for (unsigned n = counter++ % 14; n > 0; n--)
        *s++ = (char)('a' + n);
    *s = 0;
    return texts[(counter - 1) % 256];
}

#define SET_u8(f) f = (uint8_t)(++counter)
#define SET_u16(f) f = (uint16_t)(++counter * 257)
#define SET_u32(f) f = ++counter * 0x01010101u
#define SET_u64(f) f = ++counter * 0x0101010101010101ull
#define SET_i64(f) f = -(int64_t)(++counter)
#define SET_str(f) f = next_text()
#define CMP_u8(a, b) assert_int_equal(a, b)
#define CMP_u16(a, b) assert_int_equal(a, b)
#define CMP_u32(a, b) assert_int_equal(a, b)
#define CMP_u64(a, b) assert_int_equal(a, b)
#define CMP_i64(a, b) assert_int_equal(a, b)
#define CMP_str(a, b) assert_string_equal(a, b)

/* clang-format off */
#define HEAD(what, type_of)                                                   \
    static void test_##what(void **state)                                     \
    {                                                                         \
        struct type_of v, got;                                                \
        struct buf b = BUF_INIT(LIMIT_WIRE_PACKET);                           \
        struct wire_frame f, cut;                                             \
        const uint8_t *at;                                                    \
        size_t n;                                                             \
        unsigned later = 0, taken = 0;                                        \
        memset(&v, 0, sizeof(v));
#define MIDDLE(what)                                                          \
        wire_put_##what(&b, &v);                                              \
        assert_int_equal(b.error, 0);                                         \
        at = (const uint8_t *)b.p;                                            \
        n = b.len;                                                            \
        assert_int_equal(wire_next(&at, &n, &f), 1);                          \
        assert_int_equal(n, 0);                                               \
        assert_int_equal(wire_get_##what(&f, &got), 0);                       \
        for (size_t len = 0; len < f.len; len++) {                            \
            void *copy = malloc(len ? len : 1);                               \
            memcpy(copy, f.body, len);                                        \
            cut = (struct wire_frame){f.type, copy, len};                     \
            /* only what an earlier peer would have sent is whole without its end */ \
            if (wire_get_##what(&cut, &got) == 0)                             \
                taken++;                                                      \
            free(copy);                                                       \
        }                                                                     \
        assert_int_equal(taken, later);                                       \
        for (size_t len = 1; len < b.len; len++) {                            \
            at = (const uint8_t *)b.p;                                        \
            n = len;                                                          \
            assert_int_equal(wire_next(&at, &n, &cut), -EBADMSG);             \
        }                                                                     \
        assert_int_equal(wire_get_##what(&f, &got), 0);
#define TAIL                                                                  \
        buf_free(&b);                                                         \
    }

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_HELLO_FIELDS
HEAD(hello, wire_hello)
#include "wire/fields.def"
MIDDLE(hello)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_HELLO_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_LISTENER_FIELDS
HEAD(listener, wire_listener_frame)
#include "wire/fields.def"
MIDDLE(listener)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_LISTENER_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_CREDENTIAL_FIELDS
HEAD(credential, wire_credential)
#include "wire/fields.def"
MIDDLE(credential)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_CREDENTIAL_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_RECORD_FIELDS
HEAD(record, wire_record)
#include "wire/fields.def"
MIDDLE(record)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_RECORD_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_FORGET_FIELDS
HEAD(forget, wire_forget)
#include "wire/fields.def"
MIDDLE(forget)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_FORGET_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_SYNCED_FIELDS
HEAD(synced, wire_synced)
#include "wire/fields.def"
MIDDLE(synced)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_SYNCED_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_CALL_FIELDS
HEAD(call, wire_call)
#include "wire/fields.def"
MIDDLE(call)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_CALL_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_REPLY_FIELDS
HEAD(reply, wire_reply)
#include "wire/fields.def"
MIDDLE(reply)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_REPLY_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_STREAM_FIELDS
HEAD(stream, wire_stream)
#include "wire/fields.def"
MIDDLE(stream)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_STREAM_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_DRAIN_FIELDS
HEAD(drain, wire_drain)
#include "wire/fields.def"
MIDDLE(drain)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_DRAIN_FIELDS

#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_EVENT_FIELDS
HEAD(event, wire_event)
#include "wire/fields.def"
MIDDLE(event)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_EVENT_FIELDS
#define LATER(type, name) SET_##type(v.name); later++;
#define FIELD(type, name) SET_##type(v.name);
#define WIRE_TLS_FIELDS
HEAD(tls, wire_tls)
#include "wire/fields.def"
MIDDLE(tls)
#undef FIELD
#undef LATER
#define LATER(type, name) CMP_##type(v.name, got.name);
#define FIELD(type, name) CMP_##type(v.name, got.name);
#include "wire/fields.def"
TAIL
#undef FIELD
#undef LATER
#undef WIRE_TLS_FIELDS
/* clang-format on */

static void decode_any(const struct wire_frame *f)
{
    union {
        struct wire_hello hello;
        struct wire_listener_frame listener;
        struct wire_credential credential;
        struct wire_record record;
        struct wire_forget forget;
        struct wire_synced synced;
        struct wire_call call;
        struct wire_reply reply;
        struct wire_stream stream;
        struct wire_tls tls;
    } v;

    wire_get_hello(f, &v.hello);
    wire_get_listener(f, &v.listener);
    wire_get_credential(f, &v.credential);
    wire_get_forget(f, &v.forget);
    wire_get_synced(f, &v.synced);
    wire_get_call(f, &v.call);
    wire_get_stream(f, &v.stream);
    wire_get_tls(f, &v.tls);
    if (wire_get_reply(f, &v.reply) == 0)
        assert_true(strlen(v.reply.leftovers) <= LIMIT_WIRE_STRING);
    if (wire_get_record(f, &v.record) == 0)
        assert_true(strlen(v.record.stale) <= LIMIT_WIRE_STRING);
}

static void test_garbage(void **state)
{
    struct wire_record r;
    struct buf b = BUF_INIT(LIMIT_WIRE_PACKET);
    struct wire_frame f;

    srand(4714);
    memset(&r, 0, sizeof(r));
    r.alias = "web";
    wire_put_record(&b, &r);
    wire_put_record(&b, &r);
    for (int round = 0; round < 100000; round++) {
        size_t n = b.len;
        uint8_t *raw = malloc(n);
        const uint8_t *at = raw;
        memcpy(raw, b.p, n);
        for (int k = rand() % 6; k >= 0; k--)
            raw[(size_t)rand() % n] = (uint8_t)rand();
        while (wire_next(&at, &n, &f) > 0)
            decode_any(&f);
        free(raw);
    }
    buf_free(&b);
}

static void test_long_string_is_cut(void **state)
{
    char text[LIMIT_WIRE_STRING + 100];
    struct wire_credential v = {text}, got;
    struct buf b = BUF_INIT(LIMIT_WIRE_PACKET);
    struct wire_frame f;
    const uint8_t *at;
    size_t n;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    wire_put_credential(&b, &v);
    at = (const uint8_t *)b.p;
    n = b.len;
    assert_int_equal(wire_next(&at, &n, &f), 1);
    assert_int_equal(wire_get_credential(&f, &got), 0);
    assert_int_equal(strlen(got.line), LIMIT_WIRE_STRING);
    buf_free(&b);
}

static void test_errors(void **state)
{
    for (int e = 0; e < WIRE_E_MAX; e++) {
        assert_true(wire_error_status((enum wire_error)e) >= 200);
        assert_true(*wire_error_text((enum wire_error)e));
        for (int o = 0; o < e; o++)
            assert_int_not_equal(wire_error_code((enum wire_error)e), wire_error_code((enum wire_error)o));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_listener),
        cmocka_unit_test(test_credential),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_synced),
        cmocka_unit_test(test_call),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_long_string_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
