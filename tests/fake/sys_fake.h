/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fake/sys: stands for proc/sys.c at link time. Each call gives the next scripted result, or, when none
 * is left, does what the real one does; and is recorded. */
#ifndef FAKE_SYS_FAKE_H
#define FAKE_SYS_FAKE_H

#include <stdbool.h>
#include <sys/types.h>

enum sys_fake_call {
    FAKE_CLONE,
    FAKE_PIDFD_OPEN,
    FAKE_PIDFD_SEND_SIGNAL,
    FAKE_KILL,
    FAKE_WAIT_ANY,
    FAKE_PIDFD_EXIT_STATUS,
    FAKE_CLOEXEC_FROM,
    FAKE_CALL_MAX,
};

struct sys_fake_record {
    long a, b; /* the first two numbers among the arguments */
    long result;
};

#define SYS_FAKE_RECORDS 64

void sys_fake_reset(void); /* forgets scripts and records */
/* The next call gives result; more calls queue up. */
void sys_fake_push(enum sys_fake_call call, long result);
/* Every call gives result, until the reset. */
void sys_fake_always(enum sys_fake_call call, long result);

unsigned sys_fake_count(enum sys_fake_call call);
const struct sys_fake_record *sys_fake_record(enum sys_fake_call call,
                                              unsigned i); /* fails the test if none */

#endif
