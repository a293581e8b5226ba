/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/auth: who asks, and what role that is: on the unix socket by the peer's uid and all its groups, on TCP
 * by credentials. Password hashes are computed in children, a bounded number at once; the loop never waits.
 * Knows nothing of paths. Passwords are wiped as soon as they are judged. */
#ifndef RPC_AUTH_H
#define RPC_AUTH_H

#include "rpc/request.h"

enum auth_verdict {
    AUTH_GRANTED,   /* r->role and r->actor are set */
    AUTH_DENIED,    /* 401 */
    AUTH_FORBIDDEN, /* 403: known, but no role; or a way in that is not allowed */
    AUTH_BUSY,      /* 429 */
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
void auth_cancel_all(void); /* agentd has gone: whoever waits gets AUTH_FAILED */

/* Inside: rpc/auth_cache */
#define AUTH_KEY 32
void auth_cache_init(void);
void auth_cache_key(uint8_t key[AUTH_KEY], const char *line, const char *user, const char *password);
bool auth_cache_has(const uint8_t key[AUTH_KEY]);
void auth_cache_put(const uint8_t key[AUTH_KEY]);
void auth_cache_clear(void);

/* Inside: rpc/auth_basic. NAME ROLE HASH out of a line of the credentials file. */
#define AUTH_WORD 128
struct auth_basic {
    char name[AUTH_WORD], hash[384];
    enum method_role role;
};
int auth_basic_line(const char *line, struct auth_basic *ret);
/* "Basic BASE64" into user and password (size LIMIT_HTTP_PASSWORD each); -EINVAL. */
int auth_basic_header(const char *value, char *user, char *password);

#endif
