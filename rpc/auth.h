/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/auth: who asks, and what role that is: on the unix socket by the peer's uid and all its groups, on TCP
 * by credentials: passwords, tokens, signatures. Password hashes are computed in children, a bounded number
 * at once; the loop never waits. Knows nothing of paths. Passwords are wiped as soon as they are judged. */
#ifndef RPC_AUTH_H
#define RPC_AUTH_H

#include "rpc/request.h"

enum auth_verdict {
    AUTH_GRANTED,   /* r->role and r->actor are set */
    AUTH_DENIED,    /* 401 */
    AUTH_FORBIDDEN, /* 403: known, but no role; or a way in that is not allowed */
    AUTH_BUSY,      /* 429 */
    AUTH_SLOWED,    /* 429 after r->retry_sec: too many wrong ones from there */
    AUTH_EARLY,     /* 503: signed before this listener began, so it may have been served already */
    AUTH_FAILED,    /* 500 */
    AUTH_WAITING,   /* the function given will be called */
};

struct event_base;
typedef void (*auth_fn)(struct request *r, enum auth_verdict v);

int auth_init(struct event_base *base);

/* A set of credentials: begun by HELLO, valid whole from SYNCED on. */
void auth_begin(void);
int auth_add(const char *line);
void auth_commit(void);

enum auth_verdict auth_check(struct request *r, auth_fn done);
/* The i-th way in that is open to who asked, as WWW-Authenticate names it; NULL behind the last. */
const char *auth_challenge(const struct request *r, unsigned i);
void auth_cancel_all(void); /* agentd has gone: whoever waits gets AUTH_FAILED */

#endif
