/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/tls: TLS 1.2 and 1.3 of the listener: makes what agentd sends of certificates and keys into
 * connections, and tells by which names a client's certificate knows it. Knows OpenSSL and libevent's end of
 * it; never knows HTTP or whom a name lets in. What is new counts for connections that come; those that are
 * there go on. RFC 8446, RFC 5246, RFC 5280. */
#ifndef RPC_TLS_H
#define RPC_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

struct bufferevent;
struct event_base;

/* A set of files: begun by HELLO, in pieces, whole at SYNCED. */
void tls_begin(void);
int tls_take(const struct wire_tls *v); /* 0, -EBADMSG, -E2BIG or -ENOMEM */
/* What has come is in force. 0; -EINVAL: it is wrong, logged, and what was in force stays. */
int tls_commit(void);
bool tls_is_ready(void); /* connections can be made */

/* What is wrong with what has come, each once, and what soon will be; nothing comes into force. */
typedef void (*tls_tell_fn)(bool error, enum wire_tls_part part, const char *why);
void tls_judge(tls_tell_fn tell);

/* When the certificate in force ends, in seconds since 1970; 0: there is none. */
int64_t tls_expires(void);

/* A connection that evhttp will give its descriptor; it owns all that belongs to it. NULL: no memory. */
struct bufferevent *tls_bufferevent(struct event_base *base);
bool tls_is_shaking(struct bufferevent *bev); /* its handshake is not over */
void tls_goodbye(struct bufferevent *bev);    /* close_notify, at once or never */

/* Is `name` the subject's common name or a DNS or URI name of the certificate that this client has proven to
 * be its own, under the authorities that are in force? */
bool tls_client_is(struct bufferevent *bev, const char *name);
bool tls_client_came_with(struct bufferevent *bev); /* any such certificate */

#endif
