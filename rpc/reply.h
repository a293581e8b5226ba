/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/reply: the envelope around every answer, and its way out. Knows status, headers and envelope, never
 * what is inside. Every function that sends frees the request. */
#ifndef RPC_REPLY_H
#define RPC_REPLY_H

#include <stddef.h>

#include "base/buf.h"
#include "rpc/request.h"

struct evbuffer;
struct listen_conn;

void reply_init(void);

/* The buffer to write data into: one at a time, only until reply_send. */
struct buf *reply_data(struct request *r);
void reply_send(struct request *r, int status);
/* message NULL or "": the sentence that belongs to the error. details: written as subErrors, lines. */
void reply_error(struct request *r, enum wire_error e, const char *message);
void reply_error_details(struct request *r, enum wire_error e, const char *message, const char *lines);
/* The same without an envelope: all that is written into reply_bare is the body, of this type. */
struct buf *reply_bare(void);
void reply_send_bare(struct request *r, const char *type);
void reply_plain(struct request *r, int status, const char *text);
void reply_header(struct request *r, const char *name, const char *value);
void reply_tag(struct request *r, uint32_t generation); /* ETag */

/* Starts a reply without an end of its own, of this type; the body is the stream's. */
void reply_stream(struct request *r, const char *type);
/* The same inside of an envelope: the body is its data; close writes what comes behind it. */
void reply_stream_open(struct request *r);
void reply_stream_close(struct request *r);
void reply_events(struct request *r); /* the same, for server-sent events */
void reply_end(struct request *r);    /* of either; whose caller may have gone */

/* A whole HTTP response for what evhttp must not see: c is its connection. */
void reply_refusal(struct evbuffer *out, const struct listen_conn *c, int status, enum wire_error e,
                   const char *reason);

void reply_trace(char trace[17]); /* a fresh one */

#endif
