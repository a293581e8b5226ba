/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tests/fake/sys_fake.h"

/* The real ones, under other names. */
#define sys_clone real_clone
#define sys_pidfd_open real_pidfd_open
#define sys_pidfd_send_signal real_pidfd_send_signal
#define sys_kill real_kill
#define sys_wait_any real_wait_any
#define sys_pidfd_exit_status real_pidfd_exit_status
#define sys_cloexec_from real_cloexec_from
#define sys_sigaction real_sigaction
#include "proc/sys.c"
#undef sys_clone
#undef sys_pidfd_open
#undef sys_pidfd_send_signal
#undef sys_kill
#undef sys_wait_any
#undef sys_pidfd_exit_status
#undef sys_cloexec_from
#undef sys_sigaction
#undef PROC_SYS_H
#include "proc/sys.h"

static struct {
    long queue[16], always;
    unsigned n_queue, n_taken, n_records;
    bool has_always;
    struct sys_fake_record records[SYS_FAKE_RECORDS];
} calls[FAKE_CALL_MAX];

void sys_fake_reset(void)
{
    memset(calls, 0, sizeof(calls));
}

void sys_fake_push(enum sys_fake_call call, long result)
{
    if (calls[call].n_queue == 16)
        abort();
    calls[call].queue[calls[call].n_queue++] = result;
}

void sys_fake_always(enum sys_fake_call call, long result)
{
    calls[call].always = result;
    calls[call].has_always = true;
}

unsigned sys_fake_count(enum sys_fake_call call)
{
    return calls[call].n_records;
}

const struct sys_fake_record *sys_fake_record(enum sys_fake_call call, unsigned i)
{
    if (i >= calls[call].n_records || i >= SYS_FAKE_RECORDS)
        abort();
    return &calls[call].records[i];
}

static bool scripted(enum sys_fake_call call, long *ret)
{
    if (calls[call].n_taken < calls[call].n_queue)
        *ret = calls[call].queue[calls[call].n_taken++];
    else if (calls[call].has_always)
        *ret = calls[call].always;
    else
        return false;
    return true;
}

static long record(enum sys_fake_call call, long a, long b, long result)
{
    if (calls[call].n_records < SYS_FAKE_RECORDS)
        calls[call].records[calls[call].n_records] = (struct sys_fake_record){a, b, result};
    calls[call].n_records++;
    return result;
}

pid_t sys_clone(void *stack, size_t stack_size, int cgroup_fd, void (*fn)(void *), void *arg, int *ret_pidfd)
{
    long r;

    *ret_pidfd = -1;
    if (!scripted(FAKE_CLONE, &r))
        r = real_clone(stack, stack_size, cgroup_fd, fn, arg, ret_pidfd);
    return (pid_t)record(FAKE_CLONE, stack != NULL, cgroup_fd, r);
}

int sys_pidfd_open(pid_t pid)
{
    long r;

    if (!scripted(FAKE_PIDFD_OPEN, &r))
        r = real_pidfd_open(pid);
    return (int)record(FAKE_PIDFD_OPEN, pid, 0, r);
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
    long r;

    if (!scripted(FAKE_PIDFD_SEND_SIGNAL, &r))
        r = real_pidfd_send_signal(pidfd, sig);
    return (int)record(FAKE_PIDFD_SEND_SIGNAL, pidfd, sig, r);
}

int sys_kill(pid_t pid, int sig)
{
    long r;

    if (!scripted(FAKE_KILL, &r))
        r = real_kill(pid, sig);
    return (int)record(FAKE_KILL, pid, sig, r);
}

pid_t sys_wait_any(siginfo_t *si)
{
    long r;

    if (!scripted(FAKE_WAIT_ANY, &r))
        r = real_wait_any(si);
    return (pid_t)record(FAKE_WAIT_ANY, 0, 0, r);
}

int sys_pidfd_exit_status(int pidfd, int *ret_wstatus)
{
    long r;

    if (!scripted(FAKE_PIDFD_EXIT_STATUS, &r))
        r = real_pidfd_exit_status(pidfd, ret_wstatus);
    return (int)record(FAKE_PIDFD_EXIT_STATUS, pidfd, 0, r);
}

int sys_cloexec_from(int fd)
{
    long r;

    if (!scripted(FAKE_CLOEXEC_FROM, &r))
        r = real_cloexec_from(fd);
    return (int)record(FAKE_CLOEXEC_FROM, fd, 0, r);
}

int sys_sigaction(int sig, const struct sys_sigaction *act, struct sys_sigaction *old)
{
    return real_sigaction(sig, (const struct real_sigaction *)act, (struct real_sigaction *)old);
}
