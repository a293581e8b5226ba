/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_keep: pidfds of the main processes in the hands of the service manager, for the next agentd: one
 * that was opened while its process lived still tells how that has ended, after nobody has watched (Linux
 * 6.15). Each has the name of its incarnation. Never knows who is adopted. */
#ifndef AGENTD_WK_KEEP_H
#define AGENTD_WK_KEEP_H

#include "agentd/facts.h"
#include "agentd/wk.h"

/* Brings what the manager has in line with what runs, some at a time: it may be slow. True: there is more to
 * do. */
bool wk_keep_some(void);
void wk_keep_forget(struct wk *w); /* the worker is removed */

/* The one of this incarnation that an earlier agentd gave away, now the caller's, and with last the manager's
 * no more; -ENOENT: there is none. */
int wk_keep_take(const struct wk *w, const struct facts *f, bool last);
void wk_keep_has(struct wk *w, pid_t pid, uint64_t start); /* the manager has it, from before */

#endif
