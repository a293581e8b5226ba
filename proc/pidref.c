/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/pidref.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "proc/sys.h"

#define BOOT_ID_TRIES 3

int pidref_parse_stat(const char *text, struct pidref_stat *ret)
{
    unsigned long utime, stime;
    unsigned long long start;
    long rss;
    int ppid, session;
    /* The name may hold anything, blanks and parentheses too: only the last ')' ends it. */
    const char *at = strrchr(text, ')');

    if (!at ||
        sscanf(at + 1,
               " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu %*u %ld",
               &ret->state, &ppid, &session, &utime, &stime, &start, &rss) != 7)
        return -EBADMSG;
    ret->ppid = ppid;
    ret->session = session;
    ret->start = start;
    ret->cpu_ticks = utime + stime;
    ret->rss_bytes = (uint64_t)(rss > 0 ? rss : 0) * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int pidref_read_stat(pid_t pid, struct pidref_stat *ret)
{
    char path[32], text[1024];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    n = fd_read_file(AT_FDCWD, path, text, sizeof(text));
    if (n == -ENOENT || n == -ESRCH || n == 0)
        return -ESRCH;
    return n < 0 ? (int)n : pidref_parse_stat(text, ret);
}

static bool is_dead(char state)
{
    return state == 'Z' || state == 'X' || state == 'x';
}

int pidref_open(struct pidref *ret, pid_t pid)
{
    struct pidref p = {.pid = pid, .fd = sys_pidfd_open(pid)};
    struct pidref_stat st;
    int r;

    if (p.fd < 0 && p.fd != -ENOSYS && p.fd != -EPERM)
        return p.fd;
    if (p.fd < 0)
        p.fd = -1;
    if ((r = pidref_read_stat(pid, &st)) < 0 || (is_dead(st.state) && (r = -ESRCH))) {
        pidref_done(&p);
        return r;
    }
    p.start = st.start;
    *ret = p;
    return 0;
}

int pidref_hold(struct pidref *ret, pid_t pid)
{
    struct pidref p = {.pid = pid, .fd = sys_pidfd_open(pid)};

    if (p.fd == -ENOSYS || p.fd == -EPERM)
        return pidref_open(ret, pid);
    if (p.fd < 0)
        return p.fd;
    *ret = p;
    return 0;
}

int pidref_reopen(struct pidref *ret, pid_t pid, uint64_t start)
{
    struct pidref p;
    int r = pidref_open(&p, pid);

    if (r < 0)
        return r;
    if (p.start != start) {
        pidref_done(&p);
        return -ESRCH;
    }
    *ret = p;
    return 0;
}

/* /proc can't be read now. A pid is given to nobody else before its process is reaped, and a pidfd tells that
 * it has ended even before. */
static enum pidref_check check_by_fd(const struct pidref *p)
{
    struct pollfd pfd = {.fd = p->fd, .events = POLLIN};

    if (p->fd < 0 || poll(&pfd, 1, 0) < 0 || pfd.revents & POLLNVAL)
        return PIDREF_UNKNOWN;
    return pfd.revents ? PIDREF_GONE : PIDREF_SAME;
}

enum pidref_check pidref_check(const struct pidref *p)
{
    struct pidref_stat st;
    int r = pidref_read_stat(p->pid, &st);

    if (r == -ESRCH)
        return PIDREF_GONE;
    if (r < 0)
        return check_by_fd(p);
    return st.start != p->start || is_dead(st.state) ? PIDREF_GONE : PIDREF_SAME;
}

int pidref_signal(const struct pidref *p, int sig)
{
    int r;

    if (!pidref_is_set(p))
        return -ESRCH;
    if (p->fd >= 0 && (r = sys_pidfd_send_signal(p->fd, sig)) != -ENOSYS)
        return r;
    switch (pidref_check(p)) {
    case PIDREF_SAME:
        return sys_kill(p->pid, sig);
    case PIDREF_GONE:
        return -ESRCH;
    default:
        return -EIO; /* cannot tell: refuse */
    }
}

void pidref_done(struct pidref *p)
{
    p->fd = fd_close(p->fd);
    p->pid = 0;
    p->start = 0;
}

const char *pidref_boot_id(void)
{
    static char id[40];

    /* What can't be told to be of this boot is void: one failure is not believed. */
    for (int i = 0; !id[0] && i < BOOT_ID_TRIES; i++)
        if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", id, 37) < 36)
            id[0] = 0;
    return id;
}

static uint64_t ticks_per_second(void)
{
    static long hz;

    if (!hz)
        hz = sysconf(_SC_CLK_TCK);
    return (uint64_t)hz;
}

uint64_t pidref_start_us(uint64_t start_ticks)
{
    return start_ticks * 1000000u / ticks_per_second();
}

uint64_t pidref_ticks(uint64_t boot_us)
{
    return boot_us / (1000000u / ticks_per_second());
}
