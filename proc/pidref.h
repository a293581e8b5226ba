/* SPDX-License-Identifier: Apache-2.0 */
/* proc/pidref: which process. A pid alone names nobody: it is reused. A pidref is {pid, pidfd, start ticks},
 * valid in one boot. A process is signalled only through its pidfd; where the kernel has none (before 5.3),
 * after its start ticks were compared, with the race that this leaves. Never knows workers or policy.
 * pidfd_open(2), proc(5). */
#ifndef PROC_PIDREF_H
#define PROC_PIDREF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pidref {
    pid_t pid;      /* 0: nobody */
    int fd;         /* pidfd, or -1: none could be had */
    uint64_t start; /* clock ticks after boot, field 22 of /proc/PID/stat */
};

#define PIDREF_NULL \
    {               \
        .fd = -1    \
    }

/* The part of /proc/PID/stat that agentd reads. */
struct pidref_stat {
    char state; /* Z and X are gone: a zombie runs nothing, whoever reaps it */
    pid_t ppid, session;
    uint64_t start;     /* ticks */
    uint64_t cpu_ticks; /* user + system */
    uint64_t rss_bytes;
};

enum pidref_check { PIDREF_SAME, PIDREF_GONE, PIDREF_UNKNOWN };

/* /proc/PID/stat; never blocks on the process. 0, -ESRCH, or another -errno when it can't be read. */
int pidref_read_stat(pid_t pid, struct pidref_stat *ret);
int pidref_parse_stat(const char *text, struct pidref_stat *ret); /* 0 or -EBADMSG */

/* Takes hold of a process that runs now: the pidfd first, then its start ticks. 0, -ESRCH or -errno. */
int pidref_open(struct pidref *ret, pid_t pid);

/* The same without the ticks (0), for one that is only signalled and waited for: half the cost. It is on the
 * caller to look again, after, whether that pid is still who he took it for. Where the kernel has no pidfd:
 * pidref_open. */
int pidref_hold(struct pidref *ret, pid_t pid);

/* The same for a pid and start ticks that were written down: -ESRCH if that process is gone (or the pid is
 * somebody else's now), another -errno if it can't be told: then do not touch it. */
int pidref_reopen(struct pidref *ret, pid_t pid, uint64_t start);

enum pidref_check pidref_check(const struct pidref *p);
int pidref_signal(const struct pidref *p, int sig); /* 0, -ESRCH if it is gone, -errno */
void pidref_done(struct pidref *p);                 /* closes the pidfd; idempotent */
static inline bool pidref_is_set(const struct pidref *p)
{
    return p->pid > 0;
}

/* This boot's id, 36 characters; "" if the kernel does not tell. */
const char *pidref_boot_id(void);

/* Microseconds of CLOCK_BOOTTIME at which a process with these start ticks started, rounded down to a tick.
 */
uint64_t pidref_start_us(uint64_t start_ticks);
uint64_t pidref_ticks(uint64_t boot_us); /* the tick that a moment lies in */

#endif
