/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/feature.h"

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
#define HAS_STACK true
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
#define HAS_STACK false
static long clone3_on_stack(struct sys_clone_args *args, void (*fn)(void *), void *arg)
{
    return -ENOSYS;
}
#endif

/* Other errors are of the moment, or of this cgroup. E2BIG: a kernel whose clone_args has no cgroup yet. */
static void note_clone(long r, bool into)
{
    bool refused = r == -ENOSYS || r == -EPERM || r == -EINVAL || r == -E2BIG;

    if (r > 0 || r == -ENOSYS || (refused && !into))
        feature_note(FEATURE_CLONE3, r > 0);
    if (into && (r > 0 || refused))
        feature_note(FEATURE_CLONE_INTO_CGROUP, r > 0);
}

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
    if (!stack || HAS_STACK)
        note_clone(r, cgroup_fd >= 0);
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

bool sys_is_same_file(int a, int b)
{
    pid_t self = getpid();

    return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

/* Where nothing can be refused for a reason, EPERM is the word of a container's filter. */
static bool is_there(long r)
{
    return r != -ENOSYS && r != -EPERM;
}

/* Of a living process the kernel tells no exit, and no more whether it ever would: 6.13 and 6.14 don't. */
static void find_exit(void)
{
    _cleanup_close_ int fd = -1;
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    if (pid < 0)
        return;
    fd = sys_pidfd_open(pid);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (fd >= 0)
        feature_note(FEATURE_PIDFD_EXIT, sys_pidfd_exit_status(fd, &status) == 1);
}

void sys_find_features(void)
{
    _cleanup_close_ int fd = sys_pidfd_open(getpid()), copy = sys_pidfd_getfd(fd, STDIN_FILENO);

    feature_note(FEATURE_PIDFD_OPEN, is_there(fd));
    feature_note(FEATURE_PIDFD_GETFD, is_there(copy));
    feature_note(FEATURE_PIDFD_SEND_SIGNAL, is_there(sys_pidfd_send_signal(fd, 0)));
    feature_note(FEATURE_KCMP, sys_is_same_file(STDIN_FILENO, STDIN_FILENO));
    find_exit();
}

int sys_sigaction(int sig, const struct sys_sigaction *act, struct sys_sigaction *old)
{
    return syscall(__NR_rt_sigaction, sig, act, old, SYS_SIGSET_BYTES) < 0 ? -errno : 0;
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

    bool done = syscall(__NR_close_range, fd, ~0u, RANGE_CLOEXEC) == 0;

    feature_note(FEATURE_CLOSE_RANGE, done);
    return done ? 0 : cloexec_by_proc(fd);
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
