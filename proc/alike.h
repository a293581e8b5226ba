/* SPDX-License-Identifier: Apache-2.0 */
/* proc/alike: is a running process what a start would have made? Compared are user and group ids, the
 * program's file, its arguments; a process with set-id rights or a tracer is none that anybody should rely
 * on. Reads /proc/PID/cmdline, which can hang on the process's memory lock: in a helper only. proc(5). */
#ifndef PROC_ALIKE_H
#define PROC_ALIKE_H

#include <stddef.h>
#include <sys/types.h>

struct alike_want {
    uid_t uid;
    gid_t gid;
    const char *path; /* of the program; a script's interpreter is found by its first line, execve(2) */
    char *const *argv;
};

/* 0: it is. -EPERM: it is not, and why says what differs; another -errno: it can't be told, why says what. */
int alike_judge(pid_t pid, const struct alike_want *want, char *why, size_t size);

#endif
