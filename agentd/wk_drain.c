/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_drain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
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

#define PIPEFS_MAGIC 0x50495045 /* statfs(2) */

static char program[700];

void wk_drain_init(const char *beside)
{
    const char *slash = strrchr(beside, '/');

    snprintf(program, sizeof(program), "%.*s/" DRAIN_PROGRAM, slash ? (int)(slash - beside) : 0, beside);
}

/* --- its pipes ------------------------------------------------------------------------------------------ */

/* A descriptor of that process, which can't be used but to tell what it is; -1: it is no pipe. */
static int look_at(pid_t pid, int n, struct stat *ret)
{
    char path[48];
    struct statfs fs;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, n);
    if ((fd = open(path, O_PATH | O_CLOEXEC)) < 0)
        return -1;
    if (fstat(fd, ret) == 0 && S_ISFIFO(ret->st_mode) && fstatfs(fd, &fs) == 0 && fs.f_type == PIPEFS_MAGIC)
        return fd;
    return fd_close(fd);
}

/* The owner has it too: it is no pipe between the worker's own processes. */
static bool has(pid_t owner, const struct stat *pipe)
{
    char path[48];
    struct dirent *e;
    struct stat st;
    unsigned n = 0;
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)owner);
    if (!(dir = opendir(path)))
        return false;
    while (!found && n++ < LIMIT_LOOK_FDS && (e = readdir(dir)))
        found = fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_ino == pipe->st_ino &&
                st.st_dev == pipe->st_dev;
    closedir(dir);
    return found;
}

/* The end of it that the owner has, by another opening: its flags are ours alone. -ENOENT: there is no such
 * pipe. */
static int open_end(pid_t main, int n, pid_t owner, int flags, struct stat *ret)
{
    _cleanup_close_ int fd = look_at(main, n, ret);
    enum caps_scope scope;
    char path[48];
    int end;

    if (fd < 0 || !has(owner, ret))
        return -ENOENT;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    scope = caps_enter(CAPS_FILES); /* it is its maker's */
    end = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    caps_enter(scope);
    return end < 0 ? -errno : end;
}

struct ends {
    int fds[3];
    unsigned n, n_words;
    char words[2][16];
};

/* Of standard output and standard error; the latter may be the same pipe. */
static int open_outputs(pid_t main, pid_t owner, struct ends *e)
{
    struct stat st, first = {0};

    for (int n = STDOUT_FILENO; n <= STDERR_FILENO; n++) {
        int fd = open_end(main, n, owner, O_RDONLY, &st);
        if (fd == -ENOENT)
            continue;
        if (fd < 0)
            return fd;
        if (e->n && st.st_ino == first.st_ino) {
            fd_close(fd);
            continue;
        }
        first = st;
        e->fds[e->n] = fd; /* as 3, 4 of the program */
        snprintf(e->words[e->n_words++], sizeof(e->words[0]), "%u:%d", 3 + e->n++, n);
    }
    return 0;
}

/* The other end of standard input: without it the worker would find the end of what it reads. */
static void hold_input(pid_t main, pid_t owner, struct ends *e)
{
    struct stat st;
    int fd = open_end(main, STDIN_FILENO, owner, O_WRONLY, &st);

    if (fd >= 0)
        e->fds[e->n++] = fd;
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
    char name[] = DRAIN_PROGRAM, *argv[] = {name, e->words[0], e->n_words > 1 ? e->words[1] : NULL, NULL};
    struct cfg_command c = {.path = program, .argv = argv};
    int r;

    wk_command_start_with(w, &c, e->fds, e->n, on_end, (void *)(intptr_t)w->main.pid, &r);
    return r;
}

int wk_drain_start(struct wk *w, pid_t owner)
{
    struct ends e = {0};
    enum caps_scope scope = caps_enter(CAPS_LOOK);
    int r = open_outputs(w->main.pid, owner, &e);

    if (r == 0 && e.n_words)
        hold_input(w->main.pid, owner, &e);
    caps_enter(scope);
    if (r == 0 && e.n_words)
        return run(w, &e); /* the descriptors are the command's now */
    for (unsigned i = 0; i < e.n; i++)
        fd_close(e.fds[i]);
    return r;
}

/* --- its end -------------------------------------------------------------------------------------------- */

static bool is_drain(pid_t pid)
{
    char path[32], name[20];

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    return fd_read_file(AT_FDCWD, path, name, sizeof(name)) > 0 && str_eq(name, DRAIN_PROGRAM "\n");
}

void wk_drain_end(const struct wk *w)
{
    enum caps_scope scope;
    struct snap_tree tree;

    if (w->leaf.fd < 0 || snap_tree_of_leaf(&w->leaf, &tree) < 0)
        return;
    scope = caps_enter(CAPS_SIGNAL);
    for (size_t i = 0; i < tree.n; i++)
        if (is_drain(tree.pids[i]))
            sigqueue(tree.pids[i], DRAIN_SIGNAL, (union sigval){.sival_int = DRAIN_VALUE});
    caps_enter(scope);
    snap_tree_done(&tree);
}
