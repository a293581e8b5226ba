/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_drain: what an adopted worker writes may go into pipes that whoever had it reads; with that one's
 * end the next write would end the worker (SIGPIPE, pipe(7)). agentd-drain reads them on, to where
 * StandardOutput= and StandardError= say, as a member of the worker's tree. Never reads a byte itself. */
#ifndef AGENTD_WK_DRAIN_H
#define AGENTD_WK_DRAIN_H

#include <sys/types.h>

struct wk;
struct snap_tree;

/* The program's path: it lies where the given program of agentd's does. */
void wk_drain_init(const char *beside);

/* Reads on what `owner` reads of w's main process now, which is in w's leaf; two are never at it. 0: also if
 * there is nothing of that kind; or -errno. That one should not read any more by then. */
int wk_drain_start(struct wk *w, pid_t owner);

/* Those of w, to be told to end: they write what they have read; that is not waited for. Frees the list. */
void wk_drain_find(const struct wk *w, struct snap_tree *ret);
void wk_drain_end(struct snap_tree *drains);

#endif
