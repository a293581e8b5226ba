/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "base/fd.h"
#include "base/feature.h"
#include "base/log.h"

int sandbox_early(void)
{
    struct rlimit none = {0, 0};

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* its leak check opens files and traces */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
int sandbox_files(void)
{
    return 0;
}

int sandbox_close(void)
{
    return 0;
}
#else

/* ---- landlock: a second lock on what the filter refuses too. The headers may be older than the kernel. ----
 */

#define LANDLOCK_CREATE 444
#define LANDLOCK_RESTRICT 446
#define LANDLOCK_VERSION 1u

struct landlock_attr {
    uint64_t fs, net, scoped;
};

/* What each version of it knows, as bits from 0 on: all of it is refused, since no rule allows any. */
static struct landlock_attr all_of(long abi)
{
    int fs = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;

    return (struct landlock_attr){(1ull << fs) - 1, abi >= 4 ? 3 : 0, abi >= 6 ? 3 : 0};
}

int sandbox_files(void)
{
    long abi = syscall(LANDLOCK_CREATE, NULL, 0, LANDLOCK_VERSION);
    struct landlock_attr attr = all_of(abi);
    size_t size = abi >= 6   ? sizeof(attr)
                  : abi >= 4 ? offsetof(struct landlock_attr, scoped)
                             : sizeof(attr.fs);
    int fd, r;

    feature_note(FEATURE_LANDLOCK, abi >= 1);
    if (abi < 1) {
        log_info("sandbox",
                 "the kernel has no landlock: files are out of reach by the system call filter alone");
        return 0;
    }
    if ((fd = (int)syscall(LANDLOCK_CREATE, &attr, size, 0)) < 0)
        return -errno;
    r = syscall(LANDLOCK_RESTRICT, fd, 0) < 0 ? -errno : 0;
    fd_close(fd);
    log_info("sandbox", "landlock, version %ld, and the system call filter", abi);
    return r;
}

/* ---- the filter: what a loop over open descriptors needs, and nothing else ---- */

static const char *const allowed[] = {
    /* descriptors that are held */
    "accept",
    "accept4",
    "close",
    "close_range",
    "dup2",
    "dup3",
    "getpeername",
    "getsockname",
    "getsockopt",
    "setsockopt",
    "shutdown",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "pipe",
    "pipe2",
    "eventfd2",
    /* waiting */
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "poll",
    "ppoll",
    "timerfd_create",
    "timerfd_settime",
    "clock_gettime",
    "clock_nanosleep",
    "gettimeofday",
    "nanosleep",
    "time",
    "restart_syscall",
    /* memory */
    "brk",
    "madvise",
    "mremap",
    "munmap",
    "futex",
    "getrandom",
    /* itself, and the children that compute password hashes */
    "exit",
    "exit_group",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrusage",
    "gettid",
    "getuid",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
    "times",
    "wait4",
    "waitid",
};

/* Those that are allowed with some arguments only: value is what the argument has to be, under the mask. */
static const struct {
    const char *call;
    unsigned argument;
    uint64_t mask, value;
} narrow[] = {
    /* no code that was not there from the beginning */
    {"mmap", 2, PROT_EXEC, 0},
    {"mprotect", 2, PROT_EXEC, 0},
    /* a connected socket whose end has gone could be sent elsewhere */
    {"sendto", 3, MSG_FASTOPEN, 0},
    {"sendmsg", 2, MSG_FASTOPEN, 0},
    /* F_SETOWN and its like send signals */
    {"fcntl", 1, UINT32_MAX, F_GETFL},
    {"fcntl", 1, UINT32_MAX, F_SETFL},
    {"fcntl", 1, UINT32_MAX, F_GETFD},
    {"fcntl", 1, UINT32_MAX, F_SETFD},
    {"fcntl", 1, UINT32_MAX, F_DUPFD_CLOEXEC},
    {"ioctl", 1, UINT32_MAX, FIONREAD},
    /* a copy of itself, in the same namespaces and with its own memory: fork(2) */
    {"clone", 0,
     CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_PTRACE | CLONE_PARENT | CLONE_NEWNS | CLONE_NEWCGROUP |
         CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
     0},
    {"prctl", 0, UINT32_MAX, PR_SET_PDEATHSIG},
    /* its own limits */
    {"prlimit64", 0, UINT32_MAX, 0},
    {"setrlimit", 0, 0, 0},
    {"getrlimit", 0, 0, 0},
};

static int allow_all(scmp_filter_ctx ctx)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++) {
        int nr = seccomp_syscall_resolve_name(allowed[i]);
        if (nr != __NR_SCMP_ERROR) /* the library is older than the call */
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, nr, 0);
        if (r == -EDOM || r == -EINVAL) /* not on this architecture */
            r = 0;
    }
    return r;
}

static int allow_narrow(scmp_filter_ctx ctx)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(narrow); i++) {
        int nr = seccomp_syscall_resolve_name(narrow[i].call);
        if (nr != __NR_SCMP_ERROR)
            r = seccomp_rule_add(
                ctx, SCMP_ACT_ALLOW, nr, 1,
                SCMP_CMP(narrow[i].argument, SCMP_CMP_MASKED_EQ, narrow[i].mask, narrow[i].value));
        if (r == -EDOM)
            r = 0;
    }
    return r;
}

static int close_calls(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = ctx ? 0 : -ENOMEM;

    if (r == 0 && (r = allow_all(ctx)) == 0 && (r = allow_narrow(ctx)) == 0)
        r = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return r;
}

int sandbox_close(void)
{
    int r = sandbox_files();

    return r < 0 ? r : close_calls();
}
#endif
