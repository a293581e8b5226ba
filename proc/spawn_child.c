/* SPDX-License-Identifier: Apache-2.0 */
/* The child between clone and exec. It may run in the parent's memory on a stack of its own (CLONE_VM) while
 * the parent goes on: so it makes raw system calls only (errno is the parent's), allocates nothing and writes
 * to no memory but its stack. Only where run->copied is set may a library be called (capabilities). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "proc/caps.h"
#include "base/limits.h"
#include "proc/spawn_int.h"
#include "proc/sys.h"

#if defined(__x86_64__)
static inline long raw(long n, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return r;
}
#else
/* Other architectures always copy (sys_clone refuses a stack there), so errno is the child's own. */
static inline long raw(long n, long a, long b, long c, long d)
{
    long r = syscall(n, a, b, c, d);

    return r < 0 ? -errno : r;
}
#endif

#define CALL(n, a, b, c, d) raw(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d))
#define IN_CHILD __attribute__((no_sanitize("address", "undefined")))

IN_CHILD static void tell(const struct spawn_run *run, enum spawn_stage stage, long r, enum spawn_note note)
{
    struct spawn_word w = {(uint16_t)stage, (uint16_t)note, (int32_t)-r, 0, 0};

    CALL(write, run->status_fd, &w, sizeof(w), 0);
}

IN_CHILD static void __attribute__((noreturn))
fail(const struct spawn_run *run, enum spawn_stage stage, long r)
{
    tell(run, stage, r, SPAWN_SAYS_FAILED);
    for (;;)
        CALL(exit_group, 127, 0, 0, 0);
}

/* A refused limit or score is not worth a worker: it is reported and the start goes on. */
IN_CHILD static void check_soft(const struct spawn_run *run, enum spawn_stage stage, long r)
{
    if (r == -EPERM || r == -EACCES)
        tell(run, stage, r, SPAWN_SAYS_TOLERATED);
    else if (r < 0)
        fail(run, stage, r);
}

/* The mask stays full until just before exec: a signal must not end a half-made child. Handlers are gone by
 * CLONE_CLEAR_SIGHAND or here; what was ignored stays ignored over both, so it is reset by hand. */
IN_CHILD static void reset_signals(const struct spawn_run *run)
{
    struct sys_sigaction act = {.handler = SIG_DFL};

    if (run->handlers)
        for (int sig = 1; sig < 65; sig++)
            CALL(rt_sigaction, sig, &act, NULL, SYS_SIGSET_BYTES);
    else
        CALL(rt_sigaction, SIGPIPE, &act, NULL, SYS_SIGSET_BYTES);
    if (run->spec->ignore_sigpipe) {
        act.handler = SIG_IGN;
        CALL(rt_sigaction, SIGPIPE, &act, NULL, SYS_SIGSET_BYTES);
    }
}

/* Whatever the start may wait for (a gate, a file system that hangs): if agentd dies meanwhile, no copy of
 * its descriptors may live on here. Else its listener would not see the end of the wire. */
IN_CHILD static void let_go(const struct spawn_run *run)
{
    int keep[4 + LIMIT_PASS_FDS] = {run->null_fd, run->status_fd, run->gate_fd, run->spec->cgroup_fd};
    unsigned n = 4;
    long low = 3, next, r = 0;

    while (n < 4 + run->spec->n_pass_fds) {
        keep[n] = run->spec->pass_fds[n - 4];
        n++;
    }
    do {
        next = INT32_MAX;
        for (unsigned i = 0; i < n; i++)
            if (keep[i] >= low && keep[i] < next)
                next = keep[i];
        if (next > low)
            r = CALL(close_range, low, next == INT32_MAX ? UINT32_MAX : next - 1, 0, 0);
        low = next + 1;
    } while (r >= 0 && next != INT32_MAX);
    if (r < 0 && run->gate_w >= 0) /* kernels before 5.9 */
        CALL(close, run->gate_w, 0, 0, 0);
}

IN_CHILD static void wait_at_gate(const struct spawn_run *run)
{
    char c;
    long r;

    if (run->gate_fd < 0)
        return;
    do
        r = CALL(read, run->gate_fd, &c, 1, 0);
    while (r == -EINTR);
    if (r != 1) /* agentd died before we were on record; or it lives, and could not open the gate */
        fail(run, SPAWN_CLONE, r < 0 ? r : -EPIPE);
}

IN_CHILD static long write_at(int dirfd, const char *path, const char *text, size_t len)
{
    long fd = CALL(openat, dirfd, path, O_WRONLY | O_CLOEXEC, 0), r;

    if (fd < 0)
        return fd;
    r = CALL(write, fd, text, len, 0);
    CALL(close, fd, 0, 0, 0);
    return r < 0 ? r : 0;
}

IN_CHILD static void set_limits(const struct spawn_run *run)
{
    const struct spawn_spec *s = run->spec;

    if (!(s->limits_set >> RLIMIT_NOFILE & 1)) /* agentd raised its own */
        check_soft(run, SPAWN_LIMITS, CALL(prlimit64, 0, RLIMIT_NOFILE, &run->nofile, NULL));
    for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
        struct rlimit hard, want;
        long r;
        if (!(s->limits_set >> i & 1))
            continue;
        want = s->limits[i];
        r = CALL(prlimit64, 0, i, &want, NULL);
        if (r == -EPERM && CALL(prlimit64, 0, i, NULL, &hard) == 0) {
            tell(run, SPAWN_LIMITS, r, SPAWN_SAYS_TOLERATED);
            if (want.rlim_cur > hard.rlim_max)
                want.rlim_cur = hard.rlim_max;
            want.rlim_max = hard.rlim_max;
            r = CALL(prlimit64, 0, i, &want, NULL);
        }
        check_soft(run, SPAWN_LIMITS, r);
    }
}

IN_CHILD static void set_oom_score(const struct spawn_run *run)
{
    char text[8];
    int v = run->spec->oom_score_adj, at = sizeof(text);
    unsigned u = v < 0 ? (unsigned)-v : (unsigned)v;

    do
        text[--at] = (char)('0' + u % 10);
    while ((u /= 10) && at > 1);
    if (v < 0)
        text[--at] = '-';
    check_soft(run, SPAWN_OOM,
               write_at(AT_FDCWD, "/proc/self/oom_score_adj", text + at, sizeof(text) - (size_t)at));
}

/* Connects to the journal as systemd does for a service: identifier, unit, priority, level prefix,
 * forwarding. */
IN_CHILD static long open_journal(const struct spawn_run *run)
{
    static const char path[] = "/run/systemd/journal/stdout", rest[] = "\n\n6\n1\n0\n0\n0\n";
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    long fd = CALL(socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0), r;
    size_t n = 0;

    if (fd < 0)
        return fd;
    for (size_t i = 0; i < sizeof(path); i++)
        sa.sun_path[i] = path[i];
    while (run->spec->identifier[n])
        n++;
    if ((r = CALL(connect, fd, &sa, offsetof(struct sockaddr_un, sun_path) + sizeof(path), 0)) < 0 ||
        (r = CALL(write, fd, run->spec->identifier, n, 0)) < 0 ||
        (r = CALL(write, fd, rest, sizeof(rest) - 1, 0)) < 0)
        return r;
    return fd;
}

/* The file may lie where the worker's user plants links, FIFOs and hard links: opened as that user (unless
 * the folder is root's own), never through a link, never waiting for a FIFO's reader; only a regular file
 * with one name will do. */
IN_CHILD static long open_append(const struct spawn_output *o)
{
    struct stat st;
    long fd = CALL(openat, AT_FDCWD, o->path,
                   O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0640);
    long r;

    if (fd < 0)
        return fd;
    if ((r = CALL(fstat, fd, &st, 0, 0)) < 0)
        return r;
    if (!S_ISREG(st.st_mode))
        return S_ISCHR(st.st_mode) && st.st_rdev == 0x103 /* /dev/null */ ? fd : -EBADF;
    if (st.st_nlink > 1)
        return -EMLINK;
    r = CALL(fcntl, fd, F_SETFL, O_APPEND, 0);
    return r < 0 ? r : fd;
}

IN_CHILD static void place(const struct spawn_run *run, enum spawn_stage stage, long fd, int target)
{
    long r = fd;

    if (fd >= 0)
        r = CALL(dup3, fd, target, 0, 0);
    if (r < 0)
        fail(run, stage, r);
}

/* early: before the user changes (root's own folders, the journal, null), else the rest. */
IN_CHILD static void open_output(const struct spawn_run *run, const struct spawn_output *o, int target,
                                 bool early)
{
    enum spawn_stage stage = target == 1 ? SPAWN_OUTPUT : SPAWN_ERROR_OUTPUT;
    bool late = o->kind == SPAWN_OUT_APPEND && !o->as_root;
    long fd;

    if (o->kind == SPAWN_OUT_SAME) {
        late = run->spec->out.kind == SPAWN_OUT_APPEND && !run->spec->out.as_root;
        if (late != early)
            place(run, stage, 1, target);
        return;
    }
    if (late == early || o->kind == SPAWN_OUT_INHERIT)
        return;
    fd = o->kind == SPAWN_OUT_NULL      ? run->null_fd
         : o->kind == SPAWN_OUT_JOURNAL ? open_journal(run)
                                        : open_append(o);
    if (fd >= 0 && o->kind == SPAWN_OUT_APPEND && o->as_root && run->spec->change_ids)
        CALL(fchown, fd, -1, run->spec->gid, 0); /* so that the worker's group can read its own log */
    place(run, stage, fd, target);
}

IN_CHILD static void change_user(const struct spawn_run *run)
{
    const struct spawn_spec *s = run->spec;
    long r;

    if (!s->change_ids)
        return;
    if ((r = CALL(setgroups, s->n_groups, s->groups, 0, 0)) < 0 ||
        (r = CALL(setresgid, s->gid, s->gid, s->gid, 0)) < 0)
        fail(run, SPAWN_GROUP, r);
    if ((r = CALL(setresuid, s->uid, s->uid, s->uid, 0)) < 0)
        fail(run, SPAWN_USER, r);
}

/* run->copied: spawn.c copies whenever a capability setting is there. */
IN_CHILD static void capabilities(const struct spawn_run *run, bool before)
{
    const struct spawn_spec *s = run->spec;
    int r = 0;

    if (!run->copied)
        return;
    if (before && s->has_bounding)
        r = caps_drop_bounding(s->bounding);
    if (before && r == 0 && s->ambient && s->change_ids)
        r = caps_keep_over_uid_change();
    if (!before && s->ambient)
        r = caps_set_ambient(s->ambient);
    if (r < 0)
        fail(run, SPAWN_CAPABILITIES, r);
}

IN_CHILD static void enter_directory(const struct spawn_run *run)
{
    const char *dir = run->spec->directory;
    long r = CALL(chdir, dir && dir[0] ? dir : "/", 0, 0, 0);

    if (r < 0 && run->spec->directory_optional)
        r = CALL(chdir, "/", 0, 0, 0);
    if (r < 0)
        fail(run, SPAWN_DIRECTORY, r);
}

/* So that the last lines of this incarnation, and of no earlier one, can be shown when the start fails. */
IN_CHILD static void tell_error_size(const struct spawn_run *run)
{
    struct stat st;
    struct spawn_word w = {SPAWN_ERROR_OUTPUT, SPAWN_SAYS_SIZE, 0, 0, 0};
    struct timespec now;

    CALL(clock_gettime, CLOCK_MONOTONIC, &now, 0, 0);
    w.at_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    if (CALL(fstat, 2, &st, 0, 0) == 0 && S_ISREG(st.st_mode)) {
        w.size = st.st_size;
        CALL(write, run->status_fd, &w, sizeof(w), 0);
    }
}

/* The passed descriptors become 3 and on; what stands there moves away first, the passed ones included. */
IN_CHILD static void pass_descriptors(struct spawn_run *run)
{
    unsigned n = run->spec->n_pass_fds;
    int away[LIMIT_PASS_FDS];
    long r;

    if (n == 0)
        return;
    r = CALL(fcntl, run->status_fd, F_DUPFD_CLOEXEC, 3 + n, 0);
    if (r < 0)
        fail(run, SPAWN_STDIN, r);
    run->status_fd = (int)r;
    for (unsigned i = 0; i < n; i++) {
        if ((r = CALL(fcntl, run->spec->pass_fds[i], F_DUPFD_CLOEXEC, 3 + n, 0)) < 0)
            fail(run, SPAWN_STDIN, r);
        away[i] = (int)r;
    }
    for (unsigned i = 0; i < n; i++)
        place(run, SPAWN_STDIN, away[i], 3 + (int)i);
}

/* $LISTEN_PID is known to nobody before. The text is this start's own: nobody else reads it. */
IN_CHILD static void write_pid(const struct spawn_spec *s)
{
    long pid = CALL(getpid, 0, 0, 0, 0);
    int at = SPAWN_PID_TEXT - 1, n = 0;
    char digits[SPAWN_PID_TEXT];

    if (!s->pid_text)
        return;
    do
        digits[--at] = (char)('0' + pid % 10);
    while ((pid /= 10) && at > 0);
    for (; at < SPAWN_PID_TEXT - 1; at++)
        s->pid_text[n++] = digits[at];
    s->pid_text[n] = 0;
}

IN_CHILD void spawn_child(void *arg)
{
    struct spawn_run *run = arg;
    const struct spawn_spec *s = run->spec;
    unsigned long none = 0;
    long r;

    let_go(run);
    wait_at_gate(run);
    reset_signals(run);
    if (run->join && (r = write_at(s->cgroup_fd, "cgroup.procs", "0", 1)) < 0)
        fail(run, SPAWN_CGROUP, r);
    if ((r = CALL(setsid, 0, 0, 0, 0)) < 0)
        fail(run, SPAWN_SESSION, r);
    set_limits(run);
    if (s->has_nice)
        check_soft(run, SPAWN_NICE, CALL(setpriority, PRIO_PROCESS, 0, s->nice, 0));
    if (s->has_oom)
        set_oom_score(run);
    CALL(umask, s->umask, 0, 0, 0);
    place(run, SPAWN_STDIN, run->null_fd, 0);
    open_output(run, &s->out, 1, true);
    open_output(run, &s->err, 2, true);
    capabilities(run, true);
    change_user(run);
    capabilities(run, false);
    open_output(run, &s->out, 1, false);
    open_output(run, &s->err, 2, false);
    tell_error_size(run);
    enter_directory(run);
    if (s->no_new_privileges && (r = CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0)) < 0)
        fail(run, SPAWN_PRIVILEGES, r);
    pass_descriptors(run);
    write_pid(s);
    CALL(rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
    r = CALL(execve, s->path, s->argv, s->envp, 0);
    fail(run, SPAWN_EXEC, r);
}
