/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_drain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/wk.h"
#include "agentd/wk_command.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "drain/drain.h"
#include "proc/caps.h"
#include "proc/snap.h"

static char program[700];

void wk_drain_init(const char *beside)
{
    const char *slash = strrchr(beside, '/');

    snprintf(program, sizeof(program), "%.*s/" DRAIN_PROGRAM, slash ? (int)(slash - beside) : 0, beside);
}

/* --- its pipes ------------------------------------------------------------------------------------------ */

#define LINK 64 /* "pipe:[NUMBER]" */

/* What a descriptor of a process is; false: no pipe. A link of /proc is read without a look at what it names,
 * which may be a file that nobody answers for. */
static bool read_pipe(int dirfd, const char *path, char link[LINK])
{
    ssize_t n = readlinkat(dirfd, path, link, LINK - 1);

    link[n < 0 ? 0 : n] = 0;
    return str_starts(link, "pipe:[");
}

/* 1: the owner has it open as mode says, which is the mode of the link, proc(5); 0: it does not: it is a pipe
 * between the worker's own processes, or between others; -E2BIG: it has too many to tell. */
static int has(pid_t owner, const char *pipe, mode_t mode)
{
    char path[48], link[LINK];
    struct dirent *e;
    struct stat st;
    unsigned n = 0;
    int r = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)owner);
    if (!(dir = opendir(path)))
        return 0;
    while (r == 0 && (e = readdir(dir)))
        if (n++ >= LIMIT_LOOK_FDS)
            r = -E2BIG;
        else if (read_pipe(dirfd(dir), e->d_name, link) && str_eq(link, pipe))
            r = fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mode & mode;
    closedir(dir);
    return r;
}

/* It is still that pipe, and its other end is opened: by another opening, whose flags are ours alone. */
static int open_other(int dirfd, const char *path, const char *pipe, int flags)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_PATH | O_CLOEXEC);
    char self[48], link[LINK];
    enum caps_scope scope;
    int end;

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (fd < 0 || !read_pipe(AT_FDCWD, self, link) || !str_eq(link, pipe))
        return -ENOENT;
    scope = caps_enter(CAPS_FILES); /* it is its maker's */
    end = open(self, flags | O_NONBLOCK | O_CLOEXEC);
    caps_enter(scope);
    return end < 0 ? -errno : end;
}

/* The end that the owner has of what is main's descriptor n. -ENOENT: there is none. pipe: which it is. */
static int open_end(pid_t main, int n, pid_t owner, int flags, char pipe[LINK])
{
    char path[48];
    int r;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)main, n);
    if (!read_pipe(AT_FDCWD, path, pipe))
        return -ENOENT;
    if ((r = has(owner, pipe, flags == O_RDONLY ? S_IRUSR : S_IWUSR)) <= 0)
        return r < 0 ? r : -ENOENT;
    return open_other(AT_FDCWD, path, pipe, flags);
}

struct ends {
    int fds[3];
    unsigned n;
    char words[3][16];
};

/* As 3, 4 ... of the program. */
static void add(struct ends *e, int fd, const char *to)
{
    snprintf(e->words[e->n], sizeof(e->words[0]), "%u:%s", 3 + e->n, to);
    e->fds[e->n++] = fd;
}

/* Of standard output and standard error, which may be the same pipe; and of standard input, at whose end the
 * worker might end too. 0 or -errno. */
static int open_ends(pid_t main, pid_t owner, struct ends *e)
{
    char pipe[LINK], first[LINK] = "";
    int fd;

    for (int n = STDOUT_FILENO; n <= STDERR_FILENO; n++) {
        if ((fd = open_end(main, n, owner, O_RDONLY, pipe)) < 0 && fd != -ENOENT)
            return fd;
        if (fd >= 0 && str_eq(pipe, first))
            fd_close(fd);
        else if (fd >= 0)
            add(e, fd, n == STDOUT_FILENO ? "1" : "2");
        str_copy(first, sizeof(first), pipe);
    }
    if ((fd = open_end(main, STDIN_FILENO, owner, O_WRONLY, pipe)) < 0)
        return fd == -ENOENT ? 0 : fd;
    add(e, fd, "-");
    return 0;
}

/* --- the program ---------------------------------------------------------------------------------------- */

static void on_end(const struct wk_exit *end, const char *why, void *arg)
{
    if (why) /* not the worker's end: it lives on, or has said so itself */
        log_error("wk", DRAIN_PROGRAM " of process %d %s: what that one writes may end it",
                  (int)(intptr_t)arg, why);
}

static int run(struct wk *w, struct ends *e)
{
    char name[] = DRAIN_PROGRAM, *argv[] = {name, NULL, NULL, NULL, NULL};
    struct cfg_command c = {.path = program, .argv = argv};
    int r;

    for (unsigned i = 0; i < e->n; i++)
        argv[1 + i] = e->words[i];

    wk_command_start_with(w, &c, e->fds, e->n, on_end, (void *)(intptr_t)w->main.pid, &r);
    return r;
}

int wk_drain_start(struct wk *w, pid_t owner)
{
    struct ends e = {0};
    enum caps_scope scope = caps_enter(CAPS_LOOK);
    int r = open_ends(w->main.pid, owner, &e);

    caps_enter(scope);
    if (r == 0 && e.n)
        return run(w, &e); /* the descriptors are the command's now */
    for (unsigned i = 0; i < e.n; i++)
        fd_close(e.fds[i]);
    return r;
}

/* --- its end -------------------------------------------------------------------------------------------- */

void wk_drain_find(const struct wk *w, struct snap_tree *ret)
{
    size_t n = 0;

    *ret = (struct snap_tree){0};
    if (w->leaf.fd < 0 || snap_tree_of_leaf(&w->leaf, ret) < 0)
        return;
    for (size_t i = 0; i < ret->n; i++)
        if (drain_is(ret->pids[i]))
            ret->pids[n++] = ret->pids[i];
    ret->n = n;
}

/* By its number: it is our child, or was an earlier agentd's, and has just been looked at. */
void wk_drain_end(struct snap_tree *drains)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    for (size_t i = 0; i < drains->n; i++)
        if (drain_is(drains->pids[i]))
            sigqueue(drains->pids[i], DRAIN_SIGNAL, (union sigval){.sival_int = DRAIN_VALUE});
    caps_enter(scope);
    snap_tree_done(drains);
}
