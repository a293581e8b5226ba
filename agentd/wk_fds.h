/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_fds: descriptors that a worker hands over by FDSTORE=1 of sd_notify(3), and gets back at its next
 * start. They are a worker's own: hostile. Closing the last one of a socket may take as long as its maker
 * likes (SO_LINGER, socket(7)), so that is a helper's. sd_pid_notify_with_fds(3). */
#ifndef AGENTD_WK_FDS_H
#define AGENTD_WK_FDS_H

#include <stdbool.h>

#include "agentd/wk.h"

/* The message that waits in the socket, with descriptors: those that are to be kept are taken, and its text
 * (NUL at its end) is filled in; the message stays. False: there is none, or it can't be read. */
bool wk_fds_peek(struct wk *w, int socket, char *text, size_t size);
void wk_fds_remove(struct wk *w, const char *name); /* FDSTOREREMOVE=1 */
/* Descriptors that a worker has made: see helper_close; those that it can't take now go later. */
void wk_fds_close_elsewhere(const int *fds, unsigned n);
void wk_fds_close(struct wk *w); /* it is at rest */
unsigned wk_fds_get(const struct wk *w, int fds[LIMIT_FDSTORE]);
const char *wk_fds_name(const struct wk *w, unsigned i);
/* Over an exec of agentd, inside the worker's line. */
void wk_fds_save(const struct wk *w, struct buf *b);
void wk_fds_restore(struct wk *w, const struct state *s, const char *line);

#endif
