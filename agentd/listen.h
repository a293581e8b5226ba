/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/listen: the listening sockets. agentd opens and keeps them, so that the listener's death refuses no
 * connection. Knows addresses; never accepts. */
#ifndef AGENTD_LISTEN_H
#define AGENTD_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "agentd/cfg.h"
#include "base/err.h"

struct listen_socket {
    int fd;
    bool tcp, loopback, tls;
    bool foreign;      /* a socket unit's: its path stays */
    char *text, *path; /* path: of a unix socket */
    dev_t dev;
    ino_t ino; /* of the path: another inode there means that it was replaced */
};

struct buf;
struct state;
/* Over an exec of agentd, or from its guardian: the same sockets. true: they were there. */
void listen_save(struct buf *b);
bool listen_restore(const struct state *s);

/* Opens all; a path where somebody still answers is refused. 0 or -errno with err filled. */
int listen_open(const struct cfg_rpc *rpc, struct err *err);
const struct listen_socket *listen_get(unsigned i);  /* NULL behind the last */
bool listen_is_there(const struct listen_socket *s); /* of a unix socket: its path still leads to it */
/* Opens those unix sockets anew whose path was removed or replaced: how many. */
int listen_repair(void);
/* Has the service manager keep them for the next agentd. */
void listen_keep(void);
void listen_close(bool for_good); /* then it also removes the paths that are still ours */

#endif
