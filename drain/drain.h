/* SPDX-License-Identifier: Apache-2.0 */
/* drain: the program agentd-drain, which reads on what an adopted worker writes into pipes of whoever had it.
 * It runs in the worker's cgroup, as the worker's user, until nobody writes any more. Knows descriptors only:
 * neither workers nor agentd, whose death it does not notice. */
#ifndef DRAIN_DRAIN_H
#define DRAIN_DRAIN_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/fd.h"
#include "base/str.h"

#define DRAIN_PROGRAM "agentd-drain" /* at most 15 bytes: it is told by its name in /proc/PID/stat */

/* "agentd-drain IN:OUT ... [HELD:-]": descriptors that it is started with. IN is read until nobody writes
 * into it; HELD, the end of a pipe that is written into, is held open until nobody reads it. It hears no
 * signal, as the worker's are not for it, but this one with this value (sigqueue(3)): it writes what it has
 * read, reads no more, and ends. */
#define DRAIN_SIGNAL SIGRTMIN
#define DRAIN_VALUE 0x44524149

/* By its name: a process of a worker may have it too, and must not gain by it. */
static inline bool drain_is(pid_t pid)
{
    char path[32], name[20];

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    return fd_read_file(AT_FDCWD, path, name, sizeof(name)) > 0 && str_eq(name, DRAIN_PROGRAM "\n");
}

#endif
