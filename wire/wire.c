/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/wire.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "wire/codec.h"

static const struct {
    int code, status;
    const char *text;
} errors[] = {
#define ERRCODE(name, code, status, text) [WIRE_E_##name] = {code, status, text},
#include "wire/errcode.def"
#undef ERRCODE
};

int wire_error_code(enum wire_error e)
{
    return errors[e < WIRE_E_MAX ? e : WIRE_E_INTERNAL].code;
}

int wire_error_status(enum wire_error e)
{
    return errors[e < WIRE_E_MAX ? e : WIRE_E_INTERNAL].status;
}

const char *wire_error_text(enum wire_error e)
{
    return errors[e < WIRE_E_MAX ? e : WIRE_E_INTERNAL].text;
}

/* A frame's head, with its length left open; returns where it starts. */
static size_t open_frame(struct buf *b, unsigned type)
{
    size_t at = b->len;

    codec_put(b, type, 2);
    codec_put(b, 0, 2);
    codec_put(b, 0, 4);
    return at;
}

static void close_frame(struct buf *b, size_t at)
{
    uint32_t len = (uint32_t)(b->len - at - 8);

    for (unsigned i = 0; !b->error && i < 4; i++)
        b->p[at + 4 + i] = (char)(len >> (8 * i));
}

int wire_next(const uint8_t **at, size_t *n, struct wire_frame *ret)
{
    struct codec_in in = {*at, *n, 0};
    size_t len;

    if (*n == 0)
        return 0;
    ret->type = (unsigned)codec_get(&in, 2);
    codec_get(&in, 2);
    len = (size_t)codec_get(&in, 4);
    if (in.bad || len > in.left)
        return -EBADMSG;
    ret->body = in.at;
    ret->len = len;
    *at = in.at + len;
    *n = in.left - len;
    return 1;
}

#define put_u8(b, v) codec_put(b, (uint64_t)(v), 1)
#define put_u16(b, v) codec_put(b, (uint64_t)(v), 2)
#define put_u32(b, v) codec_put(b, (uint64_t)(v), 4)
#define put_u64(b, v) codec_put(b, (uint64_t)(v), 8)
#define put_i64(b, v) codec_put(b, (uint64_t)(v), 8)
#define put_str(b, v) codec_put_str(b, v)
#define get_u8(in) (uint8_t) codec_get(in, 1)
#define get_u16(in) (uint16_t) codec_get(in, 2)
#define get_u32(in) (uint32_t) codec_get(in, 4)
#define get_u64(in) codec_get(in, 8)
#define get_i64(in) (int64_t) codec_get(in, 8)
#define get_str(in) codec_get_str(in)
#define none_u8 0
#define none_u16 0
#define none_u32 0
#define none_u64 0
#define none_i64 0
#define none_str ""

/* Both halves of a frame's codec; the including lines between them fill in the fields. */
#define PUT_HEAD(name, type_of, type)                            \
    void wire_put_##name(struct buf *b, const struct type_of *v) \
    {                                                            \
        size_t at = open_frame(b, type);
#define PUT_TAIL        \
    close_frame(b, at); \
    }
#define GET_HEAD(name, type_of)                                          \
    int wire_get_##name(const struct wire_frame *f, struct type_of *ret) \
    {                                                                    \
        struct codec_in in = {f->body, f->len, 0};
#define GET_TAIL                  \
    return in.bad ? -EBADMSG : 0; \
    }

/* clang-format off */
#define FIELD(type, name) put_##type(b, v->name);
#define LATER(type, name) put_##type(b, v->name);
#define WIRE_HELLO_FIELDS
PUT_HEAD(hello, wire_hello, WIRE_HELLO)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_HELLO_FIELDS
#define WIRE_LISTENER_FIELDS
PUT_HEAD(listener, wire_listener_frame, WIRE_LISTENER)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_LISTENER_FIELDS
#define WIRE_CREDENTIAL_FIELDS
PUT_HEAD(credential, wire_credential, WIRE_CREDENTIAL)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_CREDENTIAL_FIELDS
#define WIRE_RECORD_FIELDS
PUT_HEAD(record, wire_record, WIRE_RECORD)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_RECORD_FIELDS
#define WIRE_FORGET_FIELDS
PUT_HEAD(forget, wire_forget, WIRE_FORGET)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_FORGET_FIELDS
#define WIRE_SYNCED_FIELDS
PUT_HEAD(synced, wire_synced, WIRE_SYNCED)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_SYNCED_FIELDS
#define WIRE_CALL_FIELDS
PUT_HEAD(call, wire_call, WIRE_CALL)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_CALL_FIELDS
#define WIRE_REPLY_FIELDS
PUT_HEAD(reply, wire_reply, WIRE_REPLY)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_REPLY_FIELDS
#define WIRE_STREAM_FIELDS
PUT_HEAD(stream, wire_stream, WIRE_STREAM)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_STREAM_FIELDS
#define WIRE_DRAIN_FIELDS
PUT_HEAD(drain, wire_drain, WIRE_DRAIN)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_DRAIN_FIELDS
#define WIRE_EVENT_FIELDS
PUT_HEAD(event, wire_event, WIRE_EVENT)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_EVENT_FIELDS
#define WIRE_TLS_FIELDS
PUT_HEAD(tls, wire_tls, WIRE_TLS)
#include "wire/fields.def"
PUT_TAIL
#undef WIRE_TLS_FIELDS
#undef FIELD
#undef LATER

#define FIELD(type, name) ret->name = get_##type(&in);
#define LATER(type, name) ret->name = in.left || in.bad ? get_##type(&in) : none_##type;
#define WIRE_HELLO_FIELDS
GET_HEAD(hello, wire_hello)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_HELLO_FIELDS
#define WIRE_LISTENER_FIELDS
GET_HEAD(listener, wire_listener_frame)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_LISTENER_FIELDS
#define WIRE_CREDENTIAL_FIELDS
GET_HEAD(credential, wire_credential)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_CREDENTIAL_FIELDS
#define WIRE_RECORD_FIELDS
GET_HEAD(record, wire_record)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_RECORD_FIELDS
#define WIRE_FORGET_FIELDS
GET_HEAD(forget, wire_forget)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_FORGET_FIELDS
#define WIRE_SYNCED_FIELDS
GET_HEAD(synced, wire_synced)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_SYNCED_FIELDS
#define WIRE_CALL_FIELDS
GET_HEAD(call, wire_call)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_CALL_FIELDS
#define WIRE_REPLY_FIELDS
GET_HEAD(reply, wire_reply)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_REPLY_FIELDS
#define WIRE_STREAM_FIELDS
GET_HEAD(stream, wire_stream)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_STREAM_FIELDS
#define WIRE_DRAIN_FIELDS
GET_HEAD(drain, wire_drain)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_DRAIN_FIELDS
#define WIRE_EVENT_FIELDS
GET_HEAD(event, wire_event)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_EVENT_FIELDS
#define WIRE_TLS_FIELDS
GET_HEAD(tls, wire_tls)
#include "wire/fields.def"
GET_TAIL
#undef WIRE_TLS_FIELDS
#undef FIELD
#undef LATER

static bool is_text(const char *s, size_t max, bool tabs)
{
    size_t n = 0;

    for (; s && *s && n <= max; s++, n++)
        if (((unsigned char)*s < 0x20 && !(tabs && *s == '\t')) || *s == 0x7f)
            return false;
    return n <= max;
}

bool wire_call_is_sound(const struct wire_call *c)
{
    return is_text(c->actor, LIMIT_WIRE_ACTOR, false) && is_text(c->source, LIMIT_WIRE_ACTOR, false) &&
           is_text(c->reason, LIMIT_HTTP_REASON, true) && is_text(c->name, LIMIT_WIRE_NAME, false) &&
           is_text(c->key, LIMIT_KEY, false) && is_text(c->request, LIMIT_WIRE_ACTOR, false) &&
           is_text(c->generations, LIMIT_HTTP_WISH, false) && is_text(c->what, LIMIT_WIRE_WHAT, false) &&
           (!c->query || strlen(c->query) <= LIMIT_LOG_QUERY_TEXT);
}
