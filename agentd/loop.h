/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/loop: the one event loop, and the only file of agentd that knows libevent. Every timer is monotonic.
 * Never knows what it waits for. */
#ifndef AGENTD_LOOP_H
#define AGENTD_LOOP_H

#include <stdint.h>

struct loop_watch; /* one descriptor or timer; freeing it inside its own callback is allowed */

#define LOOP_READ 0x02
#define LOOP_WRITE 0x04
#define LOOP_EDGE 0x20 /* with READ: only changes, for cgroup.events, which is always readable */

/* what: LOOP_READ or LOOP_WRITE as it fired; 0x01 for a timer. arg comes back as given. */
typedef void (*loop_fn)(int fd, short what, void *arg);

int loop_init(void); /* 0 or -errno */
void loop_done(void);
/* Runs until loop_stop; after each round of events calls after_round (may be NULL). 0 or -errno. */
int loop_run(void (*after_round)(void));
void loop_stop(void);

/* NULL if there is no memory. The watch is active until it is freed. Where the kernel refuses to watch the
 * descriptor (ENOMEM, ENOSPC: epoll_ctl(2)) it is looked at every 20 ms. */
struct loop_watch *loop_io(int fd, short what, loop_fn fn, void *arg);
struct loop_watch *loop_timer(uint64_t us, loop_fn fn, void *arg); /* fires once */
void loop_rearm(struct loop_watch *timer, uint64_t us);            /* again, or at another time */
void loop_free(struct loop_watch **w);                             /* NULL-safe; sets *w to NULL */

#endif
