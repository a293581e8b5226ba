/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "agentd/reap.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "proc/caps.h"
#include "proc/sys.h"

struct helper {
    LIST_ENTRY(helper) link;
    pid_t pid; /* a child of ours: nobody else's before we hear that it has exited */
    int fd;
    struct loop_watch *io, *timer;
    struct buf answer;
    helper_done_fn done;
    void *arg;
    int status;
    unsigned exited : 1, eof : 1;
};

static unsigned n_helpers;
static pid_t parent;                                                 /* as the last fork knew it */
static LIST_HEAD(, helper) helpers = LIST_HEAD_INITIALIZER(helpers); /* those with an answer */

/* Out of the way first, so that none is overwritten before it was moved. */
static int place(int *fds, int n, int out)
{
    for (int i = 0; i < n; i++)
        if ((fds[i] = fcntl(fds[i], F_DUPFD, HELPER_KEPT + n + 1)) < 0)
            return -errno;
    if (out != 3 && dup2(out, 3) < 0)
        return -errno;
    for (int i = 0; i < n; i++)
        if (dup2(fds[i], HELPER_KEPT + i) < 0)
            return -errno;
    return 0;
}

/* It ends with agentd, whatever it is doing: a successor shall not meet it. prctl(2). */
static void end_with(pid_t agentd)
{
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL);
    if (agentd && getppid() != agentd)
        _exit(125); /* it died before the kernel knew */
}

static void __attribute__((noreturn)) child(helper_run_fn run, void *arg, int out, const int *keep, int n)
{
    int fds[HELPER_KEEP_MAX];
    sigset_t none;

    end_with(parent);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    for (int i = 0; i < n; i++)
        fds[i] = keep[i];
    if (place(fds, n, out) < 0)
        _exit(125);
    sys_close_range((unsigned)(HELPER_KEPT + n), ~0u);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(run(3, arg));
}

static pid_t start(helper_run_fn run, void *arg, int out, const int *keep, int n)
{
    sigset_t all, before;
    pid_t pid;

    if (n_helpers >= LIMIT_HELPERS)
        return -EAGAIN;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    parent = getpid();
    pid = fork();
    if (pid == 0)
        child(run, arg, out, keep, n);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return -errno;
    n_helpers++;
    return pid;
}

bool helper_spare(void)
{
    return n_helpers + LIMIT_HELPERS_OWN < LIMIT_HELPERS;
}

static void free_helper(struct helper *h)
{
    LIST_REMOVE(h, link);
    loop_free(&h->io);
    loop_free(&h->timer);
    fd_close(h->fd);
    buf_free(&h->answer);
    free(h);
}

static void finish_if_over(struct helper *h)
{
    if (!h->exited || !h->eof)
        return;
    if (h->done)
        h->done(h->answer.error ? -1 : h->status, h->answer.p ? h->answer.p : "", h->answer.len, h->arg);
    free_helper(h);
}

static void on_exit_status(pid_t pid, int code, int status, void *arg)
{
    struct helper *h = arg;

    n_helpers--;
    h->exited = 1;
    h->status = code == CLD_EXITED ? status : -1;
    finish_if_over(h);
}

struct detached {
    LIST_ENTRY(detached) link;
    void (*gone)(void *arg);
    void *arg;
    pid_t pid;
};
static LIST_HEAD(, detached) detached = LIST_HEAD_INITIALIZER(detached);

static void on_detached_exit(pid_t pid, int code, int status, void *arg)
{
    struct detached *d = arg;

    n_helpers--;
    d->gone(d->arg);
    LIST_REMOVE(d, link);
    free(d);
}

static void on_answer(int fd, short what, void *arg)
{
    struct helper *h = arg;
    char chunk[4096];
    ssize_t n = read(fd, chunk, sizeof(chunk));

    if (n > 0) {
        buf_put(&h->answer, chunk, (size_t)n);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    loop_free(&h->io);
    h->eof = 1;
    finish_if_over(h);
}

static void on_timeout(int fd, short what, void *arg)
{
    struct helper *h = arg;

    enum caps_scope scope;

    if (h->exited)
        return;
    scope = caps_enter(CAPS_SIGNAL); /* it may have become a worker's user */
    sys_kill(h->pid, SIGKILL);
    caps_enter(scope);
}

struct helper *helper_start(helper_run_fn run, void *run_arg, helper_done_fn done, void *done_arg,
                            uint64_t timeout_us, size_t max)
{
    return helper_start_keeping(NULL, 0, run, run_arg, done, done_arg, timeout_us, max);
}

unsigned helper_count(void)
{
    const struct helper *h;
    unsigned n = 0;

    LIST_FOREACH (h, &helpers, link)
        n += h->done != NULL;
    return n;
}

struct helper *helper_start_keeping(const int *keep, int n, helper_run_fn run, void *run_arg,
                                    helper_done_fn done, void *done_arg, uint64_t timeout_us, size_t max)
{
    struct helper *h = calloc(1, sizeof(*h));
    int pipe_fds[2];
    pid_t pid;

    if (!h || pipe2(pipe_fds, O_CLOEXEC) < 0) {
        free(h);
        return NULL;
    }
    pid = start(run, run_arg, pipe_fds[1], keep, n);
    fd_close(pipe_fds[1]);
    fd_nonblock(pipe_fds[0], 1);
    *h = (struct helper){
        .pid = pid, .fd = pipe_fds[0], .answer = BUF_INIT(max), .done = done, .arg = done_arg};
    LIST_INSERT_HEAD(&helpers, h, link);
    if (pid < 0 || reap_add(pid, on_exit_status, h) < 0) {
        log_write(pid == -EAGAIN ? LOG_DEBUG : LOG_WARNING, "helper", NULL, "no helper can be started: %s",
                  pid < 0 ? strerror(-pid) : "no memory");
        free_helper(h);
        return NULL;
    }
    h->io = loop_io(h->fd, LOOP_READ, on_answer, h);
    if (timeout_us)
        h->timer = loop_timer(timeout_us, on_timeout, h);
    return h;
}

void helper_cancel(struct helper **hp)
{
    struct helper *h = TAKE_PTR(*hp);

    if (!h)
        return;
    h->done = NULL;
    on_timeout(-1, 0, h);
}

void helper_end_all(void)
{
    while (!LIST_EMPTY(&helpers)) {
        struct helper *h = LIST_FIRST(&helpers);
        reap_remove(h->pid, h);
        on_timeout(-1, 0, h);
        free_helper(h);
    }
    while (!LIST_EMPTY(&detached)) { /* they end with their readers, or with us */
        struct detached *d = LIST_FIRST(&detached);
        reap_remove(d->pid, d);
        LIST_REMOVE(d, link);
        free(d);
    }
}

int helper_detach(helper_run_fn run, void *run_arg, int out, void (*gone)(void *arg), void *gone_arg)
{
    struct detached *d = malloc(sizeof(*d));
    pid_t pid = d ? start(run, run_arg, out, NULL, 0) : -ENOMEM;
    int r = pid < 0 ? (int)pid : 0;

    if (r == 0)
        r = reap_add(pid, on_detached_exit, d);
    if (r < 0) {
        free(d);
        return r;
    }
    *d = (struct detached){.pid = pid, .gone = gone, .arg = gone_arg};
    LIST_INSERT_HEAD(&detached, d, link);
    return 0;
}

/* Not among the helpers: those that never end must not be in the way of the others. */
static pid_t closers[LIMIT_CLOSERS];

static void on_closed(pid_t pid, int code, int status, void *arg)
{
    *(pid_t *)arg = 0;
}

/* Room for one more; NULL: none. Many are asked for in one go, before the loop hears of any end. */
static pid_t *free_closer(void)
{
    for (size_t i = 0; i < ARRAY_LEN(closers); i++)
        if (!closers[i])
            return &closers[i];
    for (size_t i = 0; i < ARRAY_LEN(closers); i++) {
        siginfo_t si = {0};
        if (waitid(P_PID, (id_t)closers[i], &si, WEXITED | WNOHANG) < 0 || !si.si_pid)
            continue;
        reap_remove(closers[i], &closers[i]);
        closers[i] = 0;
        return &closers[i];
    }
    return NULL;
}

/* The child has the same table of descriptors: what it closes is closed here, and it alone waits. */
bool helper_close(const int *fds, unsigned n)
{
    sigset_t all, before;
    pid_t pid, *slot = n ? free_closer() : NULL;

    if (!slot)
        return n == 0;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    parent = getpid();
    pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0L, 0L, 0L, 0L);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL);
        for (unsigned i = 0; i < n; i++)
            syscall(SYS_close, fds[i]);
        syscall(SYS_exit_group, 0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return false;
    if (reap_add(pid, on_closed, slot) == 0)
        *slot = pid;
    return true;
}

pid_t helper_fork(void)
{
    pid_t self = getpid(), pid = fork();

    if (pid == 0) {
        parent = self;
        end_with(parent);
    }
    return pid < 0 ? -errno : pid;
}

int helper_become(const struct cfg_ids *ids)
{
    if (!ids->set || geteuid() != 0)
        return 0;
    caps_enter(CAPS_SPAWN);
    if (setgroups(ids->n_groups, ids->groups) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0 ||
        setresuid(ids->uid, ids->uid, ids->uid) < 0)
        return -errno;
    end_with(parent); /* the kernel forgets it with the user */
    return 0;
}
