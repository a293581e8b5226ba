/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_sock: the sockets of ListenStream=: agentd opens and holds them from a worker's start until it is
 * at rest, so that connections wait in the backlog while it restarts. Never knows what is spoken over them.
 * sd_listen_fds(3). */
#ifndef AGENTD_WK_SOCK_H
#define AGENTD_WK_SOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "agentd/wk.h"

/* Those of the definition that are not open yet; others are closed. 0 or -errno: wk_sock_failed says which.
 */
int wk_sock_open(struct wk *w);
const char *wk_sock_failed(const struct wk *w); /* as it is written in the file; NULL */
void wk_sock_close(struct wk *w);
void wk_sock_clear(const struct wk *w); /* files that one who is dead has left, and nobody listens on */
void wk_sock_let_go(struct wk *w);      /* the files of unix sockets stay: agentd goes, the worker does not */
/* In the order of the definition. */
unsigned wk_sock_fds(const struct wk *w, const int **ret);
/* An earlier agentd has opened them and died: taken back from the main process, as far as it has them still.
 */
void wk_sock_take_back(struct wk *w);
/* Only those that the service manager has kept, for one that is to start. False: that is not all of them. */
bool wk_sock_take_kept(struct wk *w);
void wk_sock_keep(const struct wk *w); /* has it keep what is open */
/* Over an exec of agentd, inside the worker's line. */
void wk_sock_save(const struct wk *w, struct buf *b);
void wk_sock_restore(struct wk *w, const struct state *s, const char *line);

#endif
