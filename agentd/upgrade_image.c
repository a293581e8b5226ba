/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/upgrade_image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/state.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/pidref.h"
#include "proc/spawn.h"
#include "proc/sys.h"

#define STORED "agentd.previous"
#define MARKER "upgrade"

static char **argv;
static char path[600], rpc[600], runtime_dir[512], state_dir[512];
static unsigned deadline_ms = 20000;

/* The name that it was started by, if it is absolute and still means this program: it may be a link that is
 * changed for an upgrade. */
static bool is_own_name(const char *name)
{
    struct stat own, st;

    return name && name[0] == '/' && stat("/proc/self/exe", &own) == 0 && stat(name, &st) == 0 &&
           st.st_ino == own.st_ino && st.st_dev == own.st_dev;
}

static void read_own_path(void)
{
    static const char deleted[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    size_t tail = strlen(deleted);

    path[n > 0 ? n : 0] = 0;
    if (n > (ssize_t)tail && str_eq(path + (size_t)n - tail, deleted))
        path[(size_t)n - tail] = 0; /* replaced on disk: its name is what counts */
    if (is_own_name(argv[0]))
        str_copy(path, sizeof(path), argv[0]);
}

void upgrade_image_init(char **av)
{
    argv = av;
    prctl(PR_SET_NAME, "agentd"); /* after fexecve it is a descriptor's number */
    read_own_path();
}

void upgrade_image_set_path(const char *installed)
{
    str_copy(path, sizeof(path), installed);
}

const char *upgrade_image_path(void)
{
    return path;
}

void upgrade_image_set_deadline(unsigned ms)
{
    deadline_ms = ms;
}

void upgrade_image_dirs(const char *rdir, const char *sdir, const char *rpc_path, unsigned ms)
{
    str_copy(runtime_dir, sizeof(runtime_dir), rdir);
    str_copy(state_dir, sizeof(state_dir), sdir);
    str_copy(rpc, sizeof(rpc), rpc_path);
    deadline_ms = ms;
}

uint64_t upgrade_image_deadline_us(void)
{
    return deadline_ms * 1000ull;
}

void upgrade_image_save(struct buf *b, const char *operation)
{
    struct rlimit l = spawn_first_nofile();

    state_begin(b, "upgrade");
    state_put_text(b, "operation", operation);
    state_put_text(b, "version", PACKAGE_VERSION);
    state_put_text(b, "path", path);
    state_put_u64(b, "nofile_cur", l.rlim_cur);
    state_put_u64(b, "nofile_max", l.rlim_max);
    state_end(b);
}

/* --- what is kept for a return ---------------------------------------------------------------------- */

static int copy_all(int from, int to)
{
    ssize_t n;

    while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
        ;
    return n < 0 || fsync(to) < 0 ? -errno : 0;
}

int upgrade_image_keep(void)
{
    _cleanup_close_ int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = -1,
                        dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (from < 0 || dir < 0)
        return -errno;
    unlinkat(dir, STORED ".new", 0);
    if ((to = openat(dir, STORED ".new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700)) < 0)
        return -errno;
    if ((r = copy_all(from, to)) < 0) {
        unlinkat(dir, STORED ".new", 0);
        return r;
    }
    return renameat(dir, STORED ".new", dir, STORED) < 0 ? -errno : 0;
}

static int write_marker(const char *operation, int fd, const char *reason)
{
    char name[700], fresh[700], text[3000];
    _cleanup_close_ int to = -1;
    struct stat st;
    int r;

    if (fstat(fd, &st) < 0)
        return -errno;
    snprintf(name, sizeof(name), "%s/" MARKER, runtime_dir);
    snprintf(fresh, sizeof(fresh), "%s/" MARKER ".new", runtime_dir);
    snprintf(text, sizeof(text),
             "operation=%s\nnew=%llu:%llu\nstored=%s/" STORED "\npath=%s\nrpc=%s\nreason=%s\n", operation,
             (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, state_dir, path, rpc, reason);
    if ((to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return -errno;
    if ((r = fd_write_all(to, text, strlen(text))) < 0)
        return r;
    return rename(fresh, name) < 0 ? -errno : 0;
}

int upgrade_image_marker(const char *rdir, struct upgrade_marker *ret)
{
    char name[700], text[4000];
    ssize_t n;

    memset(ret, 0, sizeof(*ret));
    snprintf(name, sizeof(name), "%s/" MARKER, rdir);
    if ((n = fd_read_file(AT_FDCWD, name, text, sizeof(text))) < 0)
        return (int)n;
    n = sscanf(text,
               "operation=%31[^\n]\nnew=%llu:%llu\nstored=%599[^\n]\npath=%599[^\n]\nrpc=%599[^\n]\nreason=%"
               "599[^\n]",
               ret->operation, &ret->dev, &ret->ino, ret->stored, ret->path, ret->rpc, ret->reason);
    return n >= 6 ? 0 : -EBADMSG;
}

void upgrade_image_unmark(const char *rdir)
{
    char name[700];

    snprintf(name, sizeof(name), "%s/" MARKER, rdir);
    /* One that stays would have the earlier program run after the next crash: an empty one says nothing. */
    if (unlink(name) == 0 || errno == ENOENT || truncate(name, 0) < 0)
        return;
    if (unlink(name) < 0)
        log_error("upgrade", "%s can't be removed: %s", name, strerror(errno));
}

/* --- the guardian ------------------------------------------------------------------------------------- */

/* A service manager that runs us would take the guardian's agentd for a stranger: its own restart is what
 * comes then. */
static bool is_managed(void)
{
    const char *pid = getenv("SYSTEMD_EXEC_PID");

    if (!getenv("INVOCATION_ID") || !getenv("NOTIFY_SOCKET"))
        return false;
    return !pid || atoi(pid) == (int)getpid();
}

struct guard {
    pid_t agentd;
    int pidfd, confirm, state, old, new;
    bool managed;
    char operation[32];
    struct state named; /* what is in the memfd: which descriptors count */
};

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* What the program that it may have to run needs: the sockets, so that no connection is refused, and the
 * workers' pidfds, by which their exit status can still be learned. The wire must not stay: its end tells the
 * listener to go. */
static void keep_only(const struct guard *g)
{
    static const char *const kinds[] = {"listener", "private", "worker"};
    static int keep[LIMIT_WORKERS + 64];
    size_t n = 0;
    int from = 3;

    keep[n++] = g->confirm;
    keep[n++] = g->pidfd;
    keep[n++] = g->state;
    keep[n++] = g->old;
    keep[n++] = g->new;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (const char *l = state_next(&g->named, kinds[k], NULL); l && n < ARRAY_LEN(keep);
             l = state_next(&g->named, kinds[k], l))
            keep[n++] = state_get_fd(&g->named, l, k == 2 ? "main_fd" : "fd");
    qsort(keep, n, sizeof(keep[0]), by_number);
    for (size_t i = 0; i <= n; i++) {
        int next = i < n ? keep[i] : INT_MAX;
        if (next > from)
            sys_close_range((unsigned)from, i < n ? (unsigned)next - 1 : ~0u);
        from = next >= from && next < INT_MAX ? next + 1 : from;
    }
}

/* NULL: confirmed or called off. */
static const char *wait_for_word(const struct guard *g)
{
    uint64_t end = clock_mono_us() + deadline_ms * 1000ull, now;
    struct pollfd p[2] = {{.fd = g->confirm, .events = POLLIN}, {.fd = g->pidfd, .events = POLLIN}};
    char c;

    while ((now = clock_mono_us()) < end) {
        int n = poll(p, 2, (int)((end - now) / 1000) + 1);
        if (n > 0 && p[0].revents & POLLIN && read(g->confirm, &c, 1) == 1)
            return NULL;
        if (n > 0 && (p[1].revents || p[0].revents))
            return "the new program ended before it confirmed that it had taken over";
    }
    return "the new program did not confirm in time that it had taken over";
}

static void signal_new_image(const struct guard *g, int sig)
{
    if (g->pidfd >= 0)
        sys_pidfd_send_signal(g->pidfd, sig);
    else
        kill(g->agentd, sig); /* our parent: until it is dead nobody else has its pid */
}

/* It may confirm in the very moment in which its time is over: it is stopped before it is judged. */
static bool has_confirmed_after_all(const struct guard *g)
{
    struct pollfd p = {.fd = g->confirm, .events = POLLIN};
    char c;

    signal_new_image(g, SIGSTOP);
    poll(NULL, 0, 20); /* until it has stopped wherever it was */
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLIN) || read(g->confirm, &c, 1) != 1)
        return false;
    signal_new_image(g, SIGCONT);
    return true;
}

static void end_new_image(const struct guard *g)
{
    struct pollfd p = {.fd = g->pidfd, .events = POLLIN};

    signal_new_image(g, SIGKILL);
    while (g->pidfd >= 0 ? poll(&p, 1, 1000) == 0 : getppid() == g->agentd)
        ;
}

static void __attribute__((noreturn)) guard(const struct guard *g)
{
    const char *why;

    keep_only(g);
    why = wait_for_word(g);
    if (!why || has_confirmed_after_all(g))
        _exit(0);
    end_new_image(g);
    if (g->managed) {
        write_marker(g->operation, g->new, why);
        _exit(0);
    }
    upgrade_image_run(g->old, 'r', g->state, -1, -1, why);
    _exit(1);
}

/* Without pidfds it goes by its parent's pid. */
static pid_t fork_guard(struct guard *g)
{
    pid_t pid;

    g->agentd = getpid();
    g->pidfd = sys_pidfd_open(g->agentd);
    g->managed = is_managed();
    pid = fork();
    if (pid == 0)
        guard(g);
    fd_close(g->pidfd);
    return pid < 0 ? -errno : pid;
}

/* --- exec ---------------------------------------------------------------------------------------------- */

static void pass(int fd, bool on)
{
    if (fd >= 0)
        fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
}

int upgrade_image_run(int fd, char mode, int state, int old, int confirm, const char *reason)
{
    char text[900];
    int r;

    snprintf(text, sizeof(text), "%c:%d:%d:%d:%s", mode, state, old, confirm, reason);
    pass(fd, false); /* the program itself needs it no more */
    pass(state, true);
    pass(old, true);
    pass(confirm, true);
    setenv(UPGRADE_ENV, text, 1);
    fexecve(fd, argv, environ);
    r = -errno;
    unsetenv(UPGRADE_ENV);
    pass(state, false);
    pass(old, false);
    pass(confirm, false);
    return r;
}

int upgrade_image_exec(int fd, int state, const char *operation)
{
    int confirm[2], old = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), r;
    struct guard g = {.state = state, .old = old, .new = fd};
    struct err err;
    pid_t pid;

    str_copy(g.operation, sizeof(g.operation), operation);
    if (old < 0 || pipe2(confirm, O_CLOEXEC) < 0) {
        r = -errno;
        fd_close(old);
        return r;
    }
    g.confirm = confirm[0];
    if ((r = state_read(state, &g.named, &err)) < 0)
        goto failed;
    if ((r = write_marker(operation, fd,
                          "the new program ended before it confirmed that it had taken over")) < 0)
        goto failed;
    state_each_fd(&g.named, true); /* they go over the exec */
    if ((pid = fork_guard(&g)) < 0) {
        r = pid;
        goto failed;
    }
    r = upgrade_image_run(fd, 'n', state, old, confirm[1], "");
    if (write(confirm[1], "X", 1) == 1)
        waitpid(pid, NULL, 0);
failed:
    state_each_fd(&g.named, false);
    state_done(&g.named);
    upgrade_image_unmark(runtime_dir);
    fd_close(confirm[0]);
    fd_close(confirm[1]);
    fd_close(old);
    return r;
}
