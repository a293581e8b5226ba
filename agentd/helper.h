/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/helper: what may block runs in a short-lived child: a copy of agentd without its descriptors. Its
 * answer comes back as bytes. It ends with agentd: writing into a pipe that nobody reads kills it, and one
 * that waits polls the pipe. Never knows what is asked. */
#ifndef AGENTD_HELPER_H
#define AGENTD_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agentd/cfg.h"

struct helper;

/* In the child: does the work, writes the answer to out, returns the exit status. Signals are default, all
 * other descriptors from 3 on are closed. */
typedef int (*helper_run_fn)(int out, void *arg);

/* In agentd: status is the exit status, or -1 if it was killed or timed out; p (n bytes) is what it wrote. */
typedef void (*helper_done_fn)(int status, const char *p, size_t n, void *arg);

/* NULL if none can be started: then done is never called. timeout 0: none. At most max bytes are taken. */
struct helper *helper_start(helper_run_fn run, void *run_arg, helper_done_fn done, void *done_arg,
                            uint64_t timeout_us, size_t max);

/* The same; the child has those descriptors from HELPER_KEPT on, in order, n at most HELPER_KEEP_MAX. */
#define HELPER_KEPT 4
#define HELPER_KEEP_MAX 4
struct helper *helper_start_keeping(const int *keep, int n, helper_run_fn run, void *run_arg,
                                    helper_done_fn done, void *done_arg, uint64_t timeout_us, size_t max);
bool helper_spare(void);     /* more are free than agentd keeps for itself */
unsigned helper_count(void); /* those whose answer somebody waits for */

/* Kills it; done is not called any more. *h becomes NULL; NULL-safe. */
void helper_cancel(struct helper **h);

/* At agentd's own end: kills all that are at work; nobody hears of them any more. */
void helper_end_all(void);

/* A child whose answer goes elsewhere: out is the descriptor it writes to (kept open in the child only by
 * it). gone is called when it has ended. 0 or -errno: then gone is never called. */
int helper_detach(helper_run_fn run, void *run_arg, int out, void (*gone)(void *arg), void *gone_arg);

/* Closes descriptors that a worker has made: close(2) may wait for whoever serves the file (FUSE asks at each
 * close, not only at the last), and that may be the worker's user. They are gone from agentd's own table when
 * the child has begun. False: they stay open. */
bool helper_close(const int *fds, unsigned n);

/* In a helper: a child of it, as fork(2), that ends with it. */
pid_t helper_fork(void);

/* In a helper: becomes the worker's user with its groups, for good. 0 or -errno. */
int helper_become(const struct cfg_ids *ids);

#endif
