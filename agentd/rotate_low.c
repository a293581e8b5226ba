/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_low.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ioprio_set(2) */
#define WHO_PROCESS 1
#define LOWEST (2 << 13 | 7) /* best effort */
#define IDLE (3 << 13)

static void set_io(int value)
{
    syscall(SYS_ioprio_set, WHO_PROCESS, 0, value);
}

/* Who cuts holds the file's lock for a moment, on which the worker's next write waits: so it does not stand
 * back so far that it is left there. */
void rotate_low_begin(enum rotate_low how)
{
    setpriority(PRIO_PROCESS, 0, how == ROTATE_LOW_CUT ? 10 : 19);
    set_io(how == ROTATE_LOW_CUT ? LOWEST : IDLE);
}

/* The journal of a file system waits for the data of a new file, and all who write wait for the journal: what
 * is to be on disk is not written in the idle class, which may never have its turn. */
void rotate_low_write(void)
{
    set_io(LOWEST);
}
