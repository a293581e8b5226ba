/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/listen: the connections: accepts on the sockets that agentd handed over, puts the gate before evhttp,
 * keeps caps and deadlines, and refuses in JSON what evhttp would answer in HTML or not at all. Knows bytes
 * and time, never what a request means: whole requests go to the function given to listen_init. */
#ifndef RPC_LISTEN_H
#define RPC_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bufferevent;
struct event_base;
struct evhttp_request;
struct listen_conn;
struct request;

typedef void (*listen_request_fn)(struct listen_conn *c, struct evhttp_request *http);

int listen_init(struct event_base *base, listen_request_fn fn);
int listen_add(int fd, int kind, bool loopback, const char *address); /* takes fd; does not accept yet */
void listen_serve(void);  /* limits are known, the table is whole: accept */
bool listen_serves(void); /* it has begun to, and has not stopped */
void listen_stop(void);
/* Accepts no more; each reply from now on is the last of its connection. empty runs when none is left. */
void listen_drain(void (*empty)(void)); /* close the listening sockets; connections stay */
unsigned listen_count(void);            /* connections */
bool listen_idle(void);                 /* no request is held and nothing is left to send, streams apart */

/* Of a connection */
bool listen_is_unix(const struct listen_conn *c);
bool listen_is_loopback(const struct listen_conn *c);
struct bufferevent *listen_tls(const struct listen_conn *c); /* for rpc/tls; NULL: there is no TLS */
unsigned
listen_over_rate(struct listen_conn *c); /* one more request: 0, or after how many seconds it may come */
const char *listen_unix_path(void);      /* of a unix socket; "": there is none */
int listen_fd(const struct listen_conn *c);
uid_t listen_uid(const struct listen_conn *c);
const char *listen_source(const struct listen_conn *c); /* "unix" or the peer's address */
const char *listen_server(const struct listen_conn *c); /* our end */
bool listen_last(const struct listen_conn *c);          /* it is to be closed after this reply */
int *listen_role_cache(struct listen_conn *c);          /* auth's: -1 at first */
void listen_grant(struct listen_conn *c);               /* who asks on it may: it keeps its place */

/* The request that waits or streams on it: told when the connection goes away. */
void listen_attach(struct listen_conn *c, struct request *r);
void listen_streams(struct listen_conn *c); /* its reply is a stream: no deadline, little input taken */
size_t listen_unsent(const struct listen_conn *c);
/* Writes what evhttp has put out at once, instead of one turn of the loop later. */
void listen_flush(struct listen_conn *c);

#endif
