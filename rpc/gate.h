/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/gate: judges the bytes of one connection before evhttp sees them, because evhttp takes much that RFC
 * 9112 does not: bare line feeds, folded headers, two lengths, unknown transfer codings. Pure: knows bytes
 * and limits, no socket, no clock, no memory of its own. It also tells where requests end, so that pipelined
 * ones are judged too and the listener knows what is whole. */
#ifndef RPC_GATE_H
#define RPC_GATE_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

struct gate_limits {
    uint32_t target, head, headers; /* bytes of the target, bytes of line and headers, header lines */
    uint64_t body;
};

enum gate_verdict {
    GATE_FINE,
    GATE_REFUSED, /* error and reason are set; nothing after it is looked at */
};

#define GATE_NAME 20
#define GATE_VALUE 24

struct gate {
    const struct gate_limits *limits;
    /* what the caller reads */
    uint32_t requests;     /* that have come in whole */
    uint64_t fed, whole;   /* bytes looked at; bytes up to the end of the last whole request */
    uint8_t inside;        /* in the middle of a request */
    uint8_t wants_go;      /* the head is done, the body is announced by Expect: 100-continue */
    enum wire_error error; /* of a refusal, with the sentence for the caller */
    const char *reason;
    /* its own */
    uint8_t state, method, minor, hosts, has_length, has_coding, has_expect, has_auth, has_type;
    uint8_t known, value_gap, percent, percent_value, in_query;
    uint8_t name_len, value_len, word_len;
    uint32_t head_bytes, headers, target_len, segment_len, segment_dots;
    uint64_t body_left;
    char word[12], name[GATE_NAME], value[GATE_VALUE];
};

void gate_init(struct gate *g, const struct gate_limits *limits);

/* Looks at the next n bytes of the connection. After GATE_REFUSED `whole` says how many of all bytes may
 * still be served. */
enum gate_verdict gate_feed(struct gate *g, const uint8_t *p, size_t n);

#endif
