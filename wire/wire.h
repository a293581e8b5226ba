/* SPDX-License-Identifier: Apache-2.0 */
/* wire: the frames between agentd and agentd-rpc, as pure encoding and decoding: no socket, no clock.
 * A packet of the SOCK_SEQPACKET pair holds one or more frames, each
 *     u16 type, u16 reserved (0), u32 length of the body, body
 * in little-endian. A string travels as u16 length, its bytes, a NUL, so that a decoded string is a C string
 * that points into the packet. A body longer than its known fields is taken (a newer peer), a shorter one is
 * not. Descriptors travel from agentd only: LISTENER and STREAM each come alone in their packet with one.
 * Both directions are decoded as hostile. */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* 2: keys of calls, DRAIN. 3: generations of calls. 4: HOST and the verbs behind it. A listener and an agentd
 * whose versions differ by one understand each other. */
#define WIRE_VERSION 4
#define WIRE_WITH_GENERATIONS 3
#define WIRE_WITH_HOST 4

/* What both programs know without asking: this file in StateDirectory= is there while agentctl migrate has
 * something under way. */
#define WIRE_MIGRATION_FILE "migration"

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_LISTENER,
    WIRE_CREDENTIAL,
    WIRE_RECORD,
    WIRE_FORGET,
    WIRE_SYNCED, /* the table is whole: serve */
    WIRE_CALL,   /* the only one that the listener sends */
    WIRE_REPLY,
    WIRE_STREAM,
    WIRE_DRAIN,
    WIRE_EVENT,
    WIRE_TLS, /* between HELLO and SYNCED: what TLS is made of, in pieces */
};

enum wire_listener { WIRE_LISTEN_UNIX, WIRE_LISTEN_TCP, WIRE_LISTEN_TLS, WIRE_LISTEN_MAX };

enum wire_tls_part { WIRE_TLS_CERTIFICATE, WIRE_TLS_KEY, WIRE_TLS_CLIENT_CA, WIRE_TLS_MAX };

enum wire_verb {
    WIRE_VERB_START = 1,
    WIRE_VERB_STOP,
    WIRE_VERB_RESTART,
    WIRE_VERB_SAMPLE,    /* worker 0: all. New records are sent before the reply */
    WIRE_VERB_LOG_LIST,  /* answered by REPLY with items */
    WIRE_VERB_LOG_OPEN,  /* answered by STREAM, or by REPLY with an error */
    WIRE_VERB_RELOAD,    /* apply what the files say now */
    WIRE_VERB_OPERATION, /* one operation as it stands */
    WIRE_VERB_RELOAD_PLAN,
    WIRE_VERB_OPERATIONS, /* all that are remembered: items with lines "id\tverb\talias\tresult\tcreated_us"
                           */
    WIRE_VERB_DOCTOR,     /* what is not as it should be: lines "severity\twhat\tadvice", and features */
    WIRE_VERB_ADOPT,      /* private socket only */
    WIRE_VERB_UPGRADE,    /* private socket only */
    WIRE_VERB_SIGNAL,     /* name: of the signal, for the main process */
    WIRE_VERB_RELOAD_WORKER,
    WIRE_VERB_CANCEL,      /* name: the operation's id; answered by REPLY with its end, WIRE_E_CANCELLED */
    WIRE_VERB_AGENT_START, /* all workers, as a task: name: hosts that are not this one, from: this one is not
                              asked for, follow: one of several hosts; answered by what WIRE_VERB_TASK says */
    WIRE_VERB_AGENT_STOP,
    WIRE_VERB_AGENT_RESTART,
    WIRE_VERB_TASK,    /* from: its number. Lines, the task first:
                          "number\tverb\tstatus\tcreated_us\tactor\tbatch\n", then
                          "kind\tname\tstatus\ttimeout_s\tmessage\tbefore,before\n" for each step; before: the
                          places of those that are done first, counted from 0. With a name it is the key that
                          the task was asked for with: "number\tverb\tstatus\tcreated_us\tended_us\n", then
                          "kind\tname\tstatus\tbegan_us\tended_us\tmessage\n" */
    WIRE_VERB_WHY,     /* of worker. Lines, the newest first:
                          "at_us\tkind\tworker\twhat\tby\tsource\treason\toperation\n" */
    WIRE_VERB_HISTORY, /* of worker, without the `from` newest. Lines: "generation\tearlier
                          boot\tpid\tbegun_us\t ready_us\tended_us\thow\tactor\toperation\tend\tstatus\twhy\n"
                        */
    WIRE_VERB_REFUSED, /* nothing is asked, and not answered: the listener has refused something. from: the
                          status, name: why, limit: so many more were refused and not told one by one */
    WIRE_VERB_HOST,    /* what the host is. One line: "name\tboot time, s\tup time, s\tdistribution\tfamily\t
                          version\tkernel\tmachine\tprocessor\thow many\tmemory\n" */
    WIRE_VERB_REAL_PATH, /* name: a log's path. Items: the path without symbolic links */
    WIRE_VERB_RELEASE,   /* private socket only. pid: whose cgroup its processes go into */
    WIRE_VERB_LOG_QUERY, /* query: agentd/logs_match.h; answered by STREAM, or by REPLY with an error */
    WIRE_VERB_MAX,
};

enum wire_error {
#define ERRCODE(name, code, status, text) WIRE_E_##name,
#include "wire/errcode.def"
#undef ERRCODE
    WIRE_E_MAX,
};
#define WIRE_OK WIRE_E_NONE

/* For every enum wire_error ; wire_error_text is a short English sentence without a full stop. */
int wire_error_code(enum wire_error e);
int wire_error_status(enum wire_error e);
const char *wire_error_text(enum wire_error e);

/* The structs hold borrowed strings: in a decoded one they point into the packet. NULL encodes as "". */
#define FIELD(type, name) wire_##type name;
#define LATER(type, name) wire_##type name;
typedef uint8_t wire_u8;
typedef uint16_t wire_u16;
typedef uint32_t wire_u32;
typedef uint64_t wire_u64;
typedef int64_t wire_i64;
typedef const char *wire_str;

#define WIRE_HELLO_FIELDS
struct wire_hello {
#include "wire/fields.def"
};
#undef WIRE_HELLO_FIELDS
#define WIRE_LISTENER_FIELDS
struct wire_listener_frame {
#include "wire/fields.def"
};
#undef WIRE_LISTENER_FIELDS
#define WIRE_CREDENTIAL_FIELDS
struct wire_credential {
#include "wire/fields.def"
};
#undef WIRE_CREDENTIAL_FIELDS
#define WIRE_RECORD_FIELDS
struct wire_record {
#include "wire/fields.def"
};
#undef WIRE_RECORD_FIELDS
#define WIRE_FORGET_FIELDS
struct wire_forget {
#include "wire/fields.def"
};
#undef WIRE_FORGET_FIELDS
#define WIRE_SYNCED_FIELDS
struct wire_synced {
#include "wire/fields.def"
};
#undef WIRE_SYNCED_FIELDS
#define WIRE_CALL_FIELDS
struct wire_call {
#include "wire/fields.def"
};
#undef WIRE_CALL_FIELDS
#define WIRE_REPLY_FIELDS
struct wire_reply {
#include "wire/fields.def"
};
#undef WIRE_REPLY_FIELDS
#define WIRE_STREAM_FIELDS
struct wire_stream {
#include "wire/fields.def"
};
#undef WIRE_STREAM_FIELDS
#define WIRE_DRAIN_FIELDS
struct wire_drain {
#include "wire/fields.def"
};
#undef WIRE_DRAIN_FIELDS
#define WIRE_EVENT_FIELDS
struct wire_event {
#include "wire/fields.def"
};
#undef WIRE_EVENT_FIELDS
#define WIRE_TLS_FIELDS
struct wire_tls {
#include "wire/fields.def"
};
#undef WIRE_TLS_FIELDS
#undef FIELD
#undef LATER

/* Appends one frame to b; b->error tells of lack of room, and a string over LIMIT_WIRE_STRING is cut. */
void wire_put_hello(struct buf *b, const struct wire_hello *v);
void wire_put_listener(struct buf *b, const struct wire_listener_frame *v);
void wire_put_credential(struct buf *b, const struct wire_credential *v);
void wire_put_record(struct buf *b, const struct wire_record *v);
void wire_put_forget(struct buf *b, const struct wire_forget *v);
void wire_put_synced(struct buf *b, const struct wire_synced *v);
void wire_put_call(struct buf *b, const struct wire_call *v);
void wire_put_reply(struct buf *b, const struct wire_reply *v);
void wire_put_stream(struct buf *b, const struct wire_stream *v);
void wire_put_drain(struct buf *b, const struct wire_drain *v);
void wire_put_event(struct buf *b, const struct wire_event *v);
void wire_put_tls(struct buf *b, const struct wire_tls *v);

/* A call's texts are no longer than what is kept of them (LIMIT_WIRE_ and others, base/limits.h), so that no
 * record outgrows the wire, and have no control character that could end the line in which they are told or
 * kept; a reason may have tabs. agentd ends a listener whose call is not sound. */
bool wire_call_is_sound(const struct wire_call *c);

/* A frame cut out of a packet: its body, not yet decoded. */
struct wire_frame {
    unsigned type;
    const uint8_t *body;
    size_t len;
};

/* Cuts the next frame off *at (n bytes left), moving both on. 1 a frame, 0 the end, -EBADMSG. */
int wire_next(const uint8_t **at, size_t *n, struct wire_frame *ret);

/* Decode a body. 0 or -EBADMSG (too short, a string that is too long, not ended or has a NUL inside). */
int wire_get_hello(const struct wire_frame *f, struct wire_hello *ret);
int wire_get_listener(const struct wire_frame *f, struct wire_listener_frame *ret);
int wire_get_credential(const struct wire_frame *f, struct wire_credential *ret);
int wire_get_record(const struct wire_frame *f, struct wire_record *ret);
int wire_get_forget(const struct wire_frame *f, struct wire_forget *ret);
int wire_get_synced(const struct wire_frame *f, struct wire_synced *ret);
int wire_get_call(const struct wire_frame *f, struct wire_call *ret);
int wire_get_reply(const struct wire_frame *f, struct wire_reply *ret);
int wire_get_stream(const struct wire_frame *f, struct wire_stream *ret);
int wire_get_drain(const struct wire_frame *f, struct wire_drain *ret);
int wire_get_event(const struct wire_frame *f, struct wire_event *ret);
int wire_get_tls(const struct wire_frame *f, struct wire_tls *ret);

#endif
