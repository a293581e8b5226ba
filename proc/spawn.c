/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "proc/caps.h"
#include "proc/spawn_int.h"
#include "proc/sys.h"

#define STACK_SIZE (64 * 1024) /* the child's frames need under 2 KB; untouched pages cost nothing */

#if defined(__has_feature)
#define SPAWN_CLANG_ASAN __has_feature(address_sanitizer)
#else
#define SPAWN_CLANG_ASAN 0
#endif

static void *spare_stacks[LIMIT_SPAWN_STACKS];
static unsigned n_spare;
static int null_fd = -1;
static struct rlimit first_nofile;
static bool fork_only;

static const char *const stage_names[] = {
    [SPAWN_CLONE] = "creating the process",
    [SPAWN_CGROUP] = "entering the cgroup",
    [SPAWN_SOCKETS] = "opening ListenStream=",
    [SPAWN_SESSION] = "starting a session",
    [SPAWN_LIMITS] = "setting resource limits",
    [SPAWN_NICE] = "setting the nice level",
    [SPAWN_OOM] = "setting the OOM score",
    [SPAWN_STDIN] = "opening standard input",
    [SPAWN_OUTPUT] = "opening standard output",
    [SPAWN_ERROR_OUTPUT] = "opening standard error",
    [SPAWN_CAPABILITIES] = "setting capabilities",
    [SPAWN_GROUP] = "changing groups",
    [SPAWN_USER] = "changing the user",
    [SPAWN_DIRECTORY] = "changing to the working directory",
    [SPAWN_PRIVILEGES] = "setting no-new-privileges",
    [SPAWN_EXEC] = "executing the program",
};
_Static_assert(ARRAY_LEN(stage_names) == SPAWN_STAGE_MAX, "each stage has a name");

const char *spawn_stage_name(enum spawn_stage stage)
{
    return stage < SPAWN_STAGE_MAX ? stage_names[stage] : "an unknown stage";
}

/* 0 or -errno. What failed at first (ENFILE, say) must not keep everything from starting for ever. */
static int open_null(void)
{
    if (null_fd < 0)
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
    return null_fd < 0 ? -errno : 0;
}

/* Also the two that glibc keeps to itself: its posix_spawn(3) leaves just these ignored in what it starts. */
static void unignore(int sig)
{
    struct sys_sigaction act;

    if (sys_sigaction(sig, NULL, &act) < 0 || act.handler != SIG_IGN)
        return;
    act.handler = SIG_DFL;
    sys_sigaction(sig, &act, NULL);
}

void spawn_init(void)
{
    /* What agentd was started with as ignored (by nohup, by a shell) goes over exec. SIGPIPE: the child. */
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGPIPE)
            unignore(sig);
    getrlimit(RLIMIT_NOFILE, &first_nofile);
    open_null();
#if defined(__SANITIZE_ADDRESS__) || SPAWN_CLANG_ASAN
    fork_only = true; /* ASan's bookkeeping knows one stack a thread */
#endif
}

struct rlimit spawn_first_nofile(void)
{
    return first_nofile;
}

void spawn_set_first_nofile(struct rlimit l)
{
    first_nofile = l;
}

int spawn_default_limit(int resource, struct rlimit *ret)
{
    if (resource == RLIMIT_NOFILE && first_nofile.rlim_max > 0) {
        *ret = first_nofile;
        return 0;
    }
    return getrlimit(resource, ret) < 0 ? -errno : 0;
}

void spawn_use_fork(bool on)
{
    fork_only = on;
}

static void *take_stack(void)
{
    void *p;

    if (n_spare)
        return spare_stacks[--n_spare];
    p = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void give_stack(void *p)
{
    if (p && n_spare < LIMIT_SPAWN_STACKS)
        spare_stacks[n_spare++] = p;
    else if (p)
        munmap(p, STACK_SIZE);
}

static void free_run(struct spawn_run *run)
{
    if (!run)
        return;
    give_stack(run->stack);
    free(run);
}

/* A copy of agentd as the child: for kernels without clone3, for capabilities, which need a library, and for
 * a score of the OOM killer, which is of all that share the memory: agentd would have it, too, and whoever is
 * started after (fs/proc/base.c, __set_oom_adj). */
static pid_t start_copy(struct spawn_run *run, int *ret_pidfd)
{
    bool into = run->spec->cgroup_fd >= 0;
    pid_t pid;

    run->copied = true;
    pid = sys_clone(NULL, 0, run->spec->cgroup_fd, NULL, NULL, ret_pidfd);
    if (pid < 0 && pid != -EAGAIN && pid != -ENOMEM) {
        run->join = into;
        run->handlers = true;
        pid = fork();
        if (pid < 0)
            return -errno;
    }
    if (pid == 0)
        spawn_child(run);
    return pid;
}

static pid_t start_shared(struct spawn_run *run, int *ret_pidfd)
{
    pid_t pid;

    run->stack = take_stack();
    if (!run->stack)
        return start_copy(run, ret_pidfd);
    pid = sys_clone(run->stack, STACK_SIZE, run->spec->cgroup_fd, spawn_child, run, ret_pidfd);
    if (pid > 0 || pid == -EAGAIN || pid == -ENOMEM)
        return pid;
    give_stack(TAKE_PTR(run->stack)); /* ENOSYS, EINVAL: no clone3, or none with these flags */
    return start_copy(run, ret_pidfd);
}

static pid_t start_child(struct spawn_run *run, int *ret_pidfd)
{
    enum caps_scope scope = caps_enter(CAPS_SPAWN);
    bool own_memory = run->spec->has_bounding || run->spec->ambient || run->spec->has_oom;
    sigset_t all, before;
    pid_t pid;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid = fork_only || own_memory ? start_copy(run, ret_pidfd) : start_shared(run, ret_pidfd);
    sigprocmask(SIG_SETMASK, &before, NULL);
    caps_enter(scope);
    return pid;
}

/* pid and start ticks of our own new child; a pidfd that clone3 did not give is opened now: the child can't
 * be reaped, and its pid not reused, before we do it. The kernel stamps a process with CLOCK_BOOTTIME while
 * it makes it: if that clock stood in the same tick before and after, this is the tick, and /proc need not be
 * asked while the child wants to run. */
static void name_child(struct pidref *ref, pid_t pid, int pidfd, uint64_t before_us, uint64_t after_us)
{
    struct pidref_stat st;
    uint64_t first = pidref_ticks(before_us);

    ref->pid = pid;
    ref->fd = pidfd;
    if (pidfd < 0) {
        int fd = sys_pidfd_open(pid);
        ref->fd = fd < 0 ? -1 : fd;
    }
    if (first == pidref_ticks(after_us))
        ref->start = first;
    else if (pidref_read_stat(pid, &st) == 0)
        ref->start = st.start;
    else
        sys_kill(pid,
                 SIGKILL); /* no signal could be given to it later: nobody could say that it is the same */
}

/* For the pidfd and for a look at its start: without them the child could not be told from another. */
static int check_room(void)
{
    _cleanup_close_ int a = fcntl(null_fd, F_DUPFD_CLOEXEC, 0), b = fcntl(null_fd, F_DUPFD_CLOEXEC, 0);

    return a < 0 || b < 0 ? -EMFILE : 0;
}

int spawn_start(const struct spawn_spec *spec, struct spawn_job *ret, struct spawn_failure *failure)
{
    _cleanup_close_ int status_r = -1, status_w = -1, gate_r = -1, gate_w = -1;
    struct spawn_run *run = calloc(1, sizeof(*run));
    int status[2], gate[2], pidfd = -1;
    uint64_t before;
    pid_t pid = -ENOMEM;

    *ret = (struct spawn_job)SPAWN_JOB_NULL;
    *failure = (struct spawn_failure){SPAWN_CLONE, ENOMEM};
    if (!run)
        return -ENOMEM;
    if ((pid = open_null()) < 0) {
        failure->stage = SPAWN_STDIN;
        goto out;
    }
    if (pipe2(status, O_CLOEXEC | O_NONBLOCK) < 0) /* the child's few words always fit */
        goto out_errno;
    status_r = status[0];
    status_w = status[1];
    if (spec->cgroup_fd < 0) {
        if (pipe2(gate, O_CLOEXEC) < 0)
            goto out_errno;
        gate_r = gate[0];
        gate_w = gate[1];
    }
    *run = (struct spawn_run){spec,   NULL,  STACK_SIZE, null_fd, status_w,    gate_r,
                              gate_w, false, false,      false,   first_nofile};
    if ((pid = check_room()) < 0)
        goto out;
    before = clock_boot_us();
    pid = start_child(run, &pidfd);
    if (pid < 0)
        goto out;
    name_child(&ret->ref, pid, pidfd, before, clock_boot_us());
    ret->status_fd = TAKE_FD(status_r);
    ret->gate_fd = TAKE_FD(gate_w);
    ret->run = run;
    return 0;
out_errno:
    pid = -errno;
out:
    failure->error = -pid;
    free_run(run);
    return pid;
}

int spawn_release(struct spawn_job *job)
{
    int r = 0;

    if (job->gate_fd >= 0) {
        r = fd_write_all(job->gate_fd, "g", 1);
        job->gate_fd = fd_close(job->gate_fd);
    }
    return r;
}

int spawn_poll(struct spawn_job *job, struct spawn_failure *failure)
{
    struct spawn_word w;
    ssize_t n;

    for (;;) {
        n = read(job->status_fd, &w, sizeof(w));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
            return 1;
        if (n != sizeof(w) || w.stage >= SPAWN_STAGE_MAX)
            return -EPROTO; /* can't be: a pipe keeps small writes whole */
        if (w.note == SPAWN_SAYS_FAILED)
            break;
        if (w.note == SPAWN_SAYS_SIZE) {
            job->error_size = w.size;
            job->error_at_us = w.at_us;
        } else {
            job->clamped |= 1u << w.stage;
        }
    }
    *failure = (struct spawn_failure){w.stage, w.error};
    return w.error ? -w.error : -EPROTO;
}

void spawn_done(struct spawn_job *job)
{
    job->status_fd = fd_close(job->status_fd);
    job->gate_fd = fd_close(job->gate_fd);
    pidref_done(&job->ref);
    free_run(TAKE_PTR(job->run));
}
