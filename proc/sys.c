/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers and layouts newer than the oldest headers that we build with; the same on all architectures. */
#ifndef __NR_pidfd_send_signal
#define __NR_pidfd_send_signal 424
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_clone3
#define __NR_clone3 435
#endif
#ifndef __NR_close_range
#define __NR_close_range 436
#endif
#define SYS_CLONE_VM 0x00000100ull
#define SYS_CLONE_PIDFD 0x00001000ull
#define SYS_CLONE_CLEAR_SIGHAND 0x100000000ull
#define SYS_CLONE_INTO_CGROUP 0x200000000ull

struct sys_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
        cgroup;
};

#if defined(__x86_64__)
/* The child comes back from the system call on another stack, where no C frame exists: so it is sent into fn
 * before the compiler has a say. Registers survive the call, rcx and r11 apart. */
static long clone3_on_stack(struct sys_clone_args *args, void (*fn)(void *), void *arg)
{
    register long rax __asm__("rax") = __NR_clone3;
    register void (*r8)(void *) __asm__("r8") = fn;
    register void *r9 __asm__("r9") = arg;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r9, %%rdi\n\t"
                     "call *%%r8\n\t"
                     "mov $60, %%eax\n\t"
                     "mov $127, %%edi\n\t"
                     "syscall\n\t"
                     "1:"
                     : "+r"(rax)
                     : "D"(args), "S"(sizeof(*args)), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return rax;
}
#else
static long clone3_on_stack(struct sys_clone_args *args, void (*fn)(void *), void *arg)
{
    return -ENOSYS;
}
#endif

pid_t sys_clone(void *stack, size_t stack_size, int cgroup_fd, void (*fn)(void *), void *arg, int *ret_pidfd)
{
    int pidfd = -1;
    struct sys_clone_args args = {
        .flags = SYS_CLONE_PIDFD | SYS_CLONE_CLEAR_SIGHAND,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    long r;

    if (cgroup_fd >= 0) {
        args.flags |= SYS_CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    if (stack) {
        args.flags |= SYS_CLONE_VM;
        args.stack = (uint64_t)(uintptr_t)stack;
        args.stack_size = stack_size;
        r = clone3_on_stack(&args, fn, arg);
    } else {
        r = syscall(__NR_clone3, &args, sizeof(args));
        if (r < 0)
            r = -errno;
    }
    *ret_pidfd = r > 0 ? pidfd : -1;
    return (pid_t)r;
}

int sys_pidfd_open(pid_t pid)
{
    long r = syscall(__NR_pidfd_open, pid, 0);

    return r < 0 ? -errno : (int)r;
}

int sys_pidfd_getfd(int pidfd, int fd)
{
    long r = syscall(__NR_pidfd_getfd, pidfd, fd, 0);

    return r < 0 ? -errno : (int)r;
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
    return syscall(__NR_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int sys_kill(pid_t pid, int sig)
{
    return kill(pid, sig) < 0 ? -errno : 0;
}

pid_t sys_wait_any(siginfo_t *si)
{
    memset(si, 0, sizeof(*si));
    while (waitid(P_ALL, 0, si, WEXITED | WNOHANG) < 0)
        if (errno != EINTR)
            return -errno;
    return si->si_pid;
}

/* struct pidfd_info of Linux 6.15, <linux/pidfd.h>. */
struct sys_pidfd_info {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};

int sys_pidfd_exit_status(int pidfd, int *ret_wstatus)
{
    enum { INFO_EXIT = 1 << 3 };
    struct sys_pidfd_info info = {.mask = INFO_EXIT};

    if (ioctl(pidfd, _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, sizeof(info)), &info) < 0)
        return 0;
    if (!(info.mask & INFO_EXIT))
        return -EAGAIN;
    *ret_wstatus = info.exit_code;
    return 1;
}

static int cloexec_by_proc(int from)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;

    if (!d)
        return -errno;
    while ((e = readdir(d))) {
        int fd = atoi(e->d_name);
        if (fd >= from && fd != dirfd(d))
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    closedir(d);
    return 0;
}

int sys_cloexec_from(int fd)
{
    enum { RANGE_CLOEXEC = 1 << 2 };

    if (syscall(__NR_close_range, fd, ~0u, RANGE_CLOEXEC) == 0)
        return 0;
    return cloexec_by_proc(fd);
}

void sys_close_range(unsigned first, unsigned last)
{
    if (syscall(__NR_close_range, first, last, 0) == 0)
        return;
    if (last == ~0u)
        last = (unsigned)sysconf(_SC_OPEN_MAX);
    for (unsigned fd = first; fd <= last; fd++)
        close((int)fd);
}
