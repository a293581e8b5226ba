/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/reap: every child that ends is met here, once: workers, helpers, the listener, and orphans that the
 * kernel gave us as their subreaper. Signals coalesce, so one look reaps all. Never knows what a child was
 * for. */
#ifndef AGENTD_REAP_H
#define AGENTD_REAP_H

#include <stdbool.h>
#include <sys/types.h>

/* code and status as waitid(2)'s si_code and si_status. The entry is gone before the call. */
typedef void (*reap_fn)(pid_t pid, int code, int status, void *arg);

int reap_init(void); /* blocks SIGCHLD, becomes subreaper; 0 or -errno */
void reap_done(void);
int reap_add(pid_t pid, reap_fn fn, void *arg); /* 0 or -ENOMEM */
void reap_remove(pid_t pid, const void *arg);   /* only that one's: the number may be another's by now */
bool reap_knows(pid_t pid);                     /* it is a child that somebody waits for */
void reap_sweep(void);

#endif
