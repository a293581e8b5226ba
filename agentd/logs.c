/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/logs_name.h"
#include "agentd/logs_older.h"
#include "agentd/rotate_read.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/logstream.h"

#define LIST_TIMEOUT_US 10000000
#define OPEN_TIMEOUT_SEC 10
#define OPENING_MAX 4 /* streams of one worker that wait for its folder at once */
#define LIST_MAX 500  /* files named in one answer: a wire string holds no more */

static int refuse(char *why, size_t size, const char *path, const char *what, int error)
{
    snprintf(why, size, "%.80s: %s", path, what);
    return -error;
}

int logs_open_at(int dir, const char *path, int access, const struct cfg_ids *ids, char *why, size_t size)
{
    int fd = openat(dir, path, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    uid_t own = ids->set ? ids->uid : geteuid();
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return refuse(why, size, path, "a symbolic link", ELOOP);
    if (fd < 0)
        return refuse(why, size, path, strerror(errno), errno);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
        (st.st_uid == 0 || st.st_uid == own))
        return fd;
    fd_close(fd);
    return refuse(why, size, path, "not a regular file of the worker's user with one name", EPERM);
}

int logs_open_file(const char *path, const struct cfg_ids *ids, char *why, size_t size)
{
    return logs_open_at(AT_FDCWD, path, O_RDONLY, ids, why, size);
}

/* LogFilePattern split: its folder and its last component. */
static const char *pattern_of(const struct wk_def *d, char *dir, size_t size)
{
    return logs_name_split(d->log_pattern, dir, size);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static void put_row(int out, const char *name, const struct stat *st)
{
    char row[512];
    int n = snprintf(row, sizeof(row), "%s\t%lld\t%lld\n", name, (long long)st->st_size,
                     (long long)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000);

    if (n > 0 && n < (int)sizeof(row) && !strpbrk(name, "\t\n"))
        fd_write_all(out, row, (size_t)n);
}

static int run_list(int out, void *arg)
{
    const struct wk_def *d = arg;
    char folder[4096];
    const char *pattern = pattern_of(d, folder, sizeof(folder));
    struct dirent *e;
    struct stat st;
    int n = 0;
    DIR *dir;

    if (helper_become(&d->ids) < 0)
        return 1;
    if (d->out.kind == CFG_OUT_APPEND && lstat(d->out.path, &st) == 0 && S_ISREG(st.st_mode))
        put_row(out, base_name(d->out.path), &st);
    if (d->err.kind == CFG_OUT_APPEND && d->out.kind == CFG_OUT_APPEND && !str_eq(d->err.path, d->out.path) &&
        lstat(d->err.path, &st) == 0 && S_ISREG(st.st_mode))
        put_row(out, base_name(d->err.path), &st);
    if (!pattern || !(dir = opendir(folder)))
        return 0;
    while ((e = readdir(dir)) && n < LIST_MAX)
        if (fnmatch(pattern, e->d_name, FNM_PERIOD) == 0 &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            put_row(out, e->d_name, &st);
            n++;
        }
    closedir(dir);
    return 0;
}

struct helper *logs_list(const struct wk_def *def, helper_done_fn done, void *arg)
{
    return helper_start(run_list, (void *)(uintptr_t)def, done, arg, LIST_TIMEOUT_US, LIMIT_WIRE_STRING - 1);
}

/* The path that a name stands for: captured output by its own name, else a file that the pattern matches. */
static int resolve(const struct wk_def *d, const char *name, char *path, size_t size)
{
    char folder[4096];
    const char *pattern;

    if (!name[0] || strchr(name, '/') || name[0] == '.')
        return -EINVAL;
    if (d->out.kind == CFG_OUT_APPEND && str_eq(base_name(d->out.path), name))
        str_copy(path, size, d->out.path);
    else if (d->err.kind == CFG_OUT_APPEND && str_eq(base_name(d->err.path), name))
        str_copy(path, size, d->err.path);
    else if ((pattern = pattern_of(d, folder, sizeof(folder))) && fnmatch(pattern, name, FNM_PERIOD) == 0)
        snprintf(path, size, "%s%s", folder, name);
    else
        return -ENOENT;
    return 0;
}

bool logs_is_log(const struct wk_def *d, const char *path)
{
    char folder[4096];
    const char *pattern = pattern_of(d, folder, sizeof(folder)), *name = base_name(path);
    size_t n = pattern ? strlen(folder) : 0;

    if ((d->out.kind == CFG_OUT_APPEND && str_eq(d->out.path, path)) ||
        (d->err.kind == CFG_OUT_APPEND && str_eq(d->err.path, path)))
        return true;
    return pattern && (size_t)(name - path) == n && strncmp(path, folder, n) == 0 &&
           fnmatch(pattern, name, FNM_PERIOD) == 0;
}

struct stream_args {
    const struct wk_def *def;
    const char *name;
    struct logs_range range;
    volatile bool *opened;
};

/* What is read: first, for a reader who was behind, what the log's name stood for earlier. */
struct log {
    struct logs_older older;
    struct rotate_read file;
};

/* The helpers of streams. One that hangs in its worker's folder must not take all of them, so those that have
 * not opened their file yet are counted by worker; what the helper tells of that is in memory shared with it,
 * since nothing comes back from it otherwise. */
static struct opening {
    int64_t worker;
    bool used;
} openings[LIMIT_HELPERS];
static volatile bool *opened; /* of the same index */

/* A free place for one more stream of this worker; NULL: there are enough. */
static struct opening *take_opening(int64_t worker)
{
    struct opening *free_one = NULL;
    unsigned n = 0;

    if (!opened) {
        void *p = mmap(NULL, LIMIT_HELPERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        opened = p;
    }
    for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
        if (!openings[i].used)
            free_one = &openings[i];
        else if (openings[i].worker == worker && !opened[i])
            n++;
    }
    if (!free_one || n >= OPENING_MAX)
        return NULL;
    *free_one = (struct opening){worker, true};
    opened[free_one - openings] = false;
    return free_one;
}

static void free_opening(void *arg)
{
    struct opening *o = arg;

    o->used = false;
}

/* At the reader's place: in the open file, in one that it was renamed from, or, if its file is gone, or was
 * cut by somebody else, at the beginning, and the head says that there is a gap. */
static int find_place(const struct stream_args *a, const struct stat *st, struct log *log,
                      struct wire_log_head *head)
{
    const struct logs_range *range = &a->range;
    char folder[4096];
    const char *pattern = pattern_of(a->def, folder, sizeof(folder));
    bool named = range->device || range->inode,
         same = range->inode == st->st_ino && range->device == st->st_dev;
    uint64_t from = range->from;
    int r;

    if (named && !same &&
        !logs_older_find(&log->older, log->file.path, pattern, st, range->device, range->inode, &from)) {
        head->gap = 1;
        from = 0;
    }
    if ((r = rotate_read_begin(&log->file, from, range->limit, &head->size)) < 0)
        return r;
    head->gap |= named && (log->file.at > head->size || log->file.at > from);
    if (named && log->file.at > head->size)
        return rotate_read_begin(&log->file, 0, 0, &head->size);
    return 0;
}

static void describe(const struct log *log, const struct stat *st, struct wire_log_head *head)
{
    const struct logs_older *o = &log->older;
    bool is_older = o->next < o->n;

    head->device = is_older ? o->v[o->next].dev : st->st_dev;
    head->inode = is_older ? o->v[o->next].ino : st->st_ino;
    head->from = is_older ? o->at : log->file.at;
}

static int open_for_stream(const struct stream_args *a, char *path, size_t size, struct wire_log_head *head,
                           struct log *ret)
{
    char folder[4096];
    struct stat st;
    int fd = resolve(a->def, a->name, path, size), r;

    if (fd < 0) {
        snprintf(head->message, sizeof(head->message), "%.80s: not a log file of this worker", a->name);
        head->error = ENOENT;
        return -1;
    }
    if (helper_become(&a->def->ids) < 0) {
        head->error = EPERM;
        return -1;
    }
    fd = logs_open_file(path, &a->def->ids, head->message, sizeof(head->message));
    if (fd == -ENOENT && a->range.inode)
        fd = logs_older_newest(&ret->older, path, pattern_of(a->def, folder, sizeof(folder)), &a->def->ids);
    if (fd < 0 || fstat(fd, &st) < 0) {
        head->error = fd < 0 ? -fd : errno;
        return -1;
    }
    ret->file = (struct rotate_read){path, &a->def->ids, fd, a->range.follow, 0};
    if ((r = find_place(a, &st, ret, head)) < 0)
        head->error = -r;
    describe(ret, &st, head);
    return fd;
}

/* Waits until the file may have grown or moved away, or nobody reads any more (-1). */
static int wait_for_more(int out, int notify_fd)
{
    struct pollfd fds[2] = {{.fd = out}, {.fd = notify_fd, .events = POLLIN}};
    char events[4096];

    if (poll(fds, 2, -1) < 0)
        return errno == EINTR ? 0 : -1;
    if (fds[0].revents)
        return -1;
    return read(notify_fd, events, sizeof(events)) < 0 && errno != EAGAIN ? -1 : 0;
}

/* After a rotation the path names another file. The writer may go on with the earlier one until it opens
 * anew: that is read to its end, and the other begun, once there is something in the other. */
static int reopen_if_moved(const struct stream_args *a, const char *path, int fd)
{
    struct stat now, old;
    char why[128];

    if (stat(path, &now) < 0 || fstat(fd, &old) < 0 ||
        (now.st_ino == old.st_ino && now.st_dev == old.st_dev) || now.st_size == 0)
        return -1;
    return logs_open_file(path, &a->def->ids, why, sizeof(why));
}

static int watch(const char *path)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char folder[4096];

    inotify_add_watch(fd, path, IN_MODIFY | IN_MOVE_SELF);
    if (logs_name_split(path, folder, sizeof(folder)))
        inotify_add_watch(fd, folder, IN_CREATE | IN_MOVED_TO);
    return fd;
}

/* What was written between the last look at the old file and the other's first byte is the old file's. */
static ssize_t read_next(const struct stream_args *a, struct log *log, char *chunk, size_t size)
{
    ssize_t n = logs_older_read(&log->older, log->file.ids, chunk, size);
    uint64_t first;
    int next;

    if (n == 0)
        n = rotate_read(&log->file, chunk, size);
    if (n != 0 || !a->range.follow || (next = reopen_if_moved(a, log->file.path, log->file.fd)) < 0)
        return n;
    if ((n = rotate_read(&log->file, chunk, size)) != 0) {
        fd_close(next);
        return n;
    }
    fd_close(log->file.fd);
    log->file.fd = next;
    rotate_read_begin(&log->file, UINT64_MAX, UINT64_MAX, &first);
    return rotate_read(&log->file, chunk, size);
}

static void pump(int out, const struct stream_args *a, struct log *log)
{
    uint64_t left = a->range.limit && !a->range.follow ? a->range.limit : UINT64_MAX;
    _cleanup_close_ int notify_fd = a->range.follow ? watch(log->file.path) : -1;
    bool watched = false; /* what the path names by now */
    char chunk[65536];

    while (left) {
        ssize_t n = read_next(a, log, chunk, left < sizeof(chunk) ? left : sizeof(chunk));
        if (n < 0 || (n == 0 && !a->range.follow))
            return;
        if (n > 0 && fd_write_all(out, chunk, (size_t)n) < 0)
            return;
        left -= left == UINT64_MAX ? 0 : (uint64_t)n;
        if (n == 0 && watched && wait_for_more(out, notify_fd) < 0)
            return;
        /* it may be another file since: once that wakes us too, one more look */
        if (n == 0 && !watched)
            inotify_add_watch(notify_fd, log->file.path, IN_MODIFY | IN_MOVE_SELF);
        watched = n == 0 && !watched;
    }
}

static int run_stream(int out, void *arg)
{
    const struct stream_args *a = arg;
    struct wire_log_head head = {0};
    static struct log log; /* too large for a stack, in a process of its own */
    char path[4096 + 256];
    int fd;

    alarm(OPEN_TIMEOUT_SEC); /* its folder may be on a file system that hangs */
    fd = open_for_stream(a, path, sizeof(path), &head, &log);
    alarm(0);
    *a->opened = true;
    signal(SIGPIPE, SIG_IGN);
    if (fd_write_all(out, &head, sizeof(head)) < 0 || fd < 0)
        return 0;
    if (!head.error)
        pump(out, a, &log);
    return 0;
}

int logs_stream(int64_t worker, const struct wk_def *def, const char *name, const struct logs_range *range)
{
    struct opening *o = take_opening(worker);
    struct stream_args args = {def, name, *range, NULL};
    int fds[2], r;

    if (!o)
        return -EAGAIN;
    args.opened = &opened[o - openings];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        r = -errno;
        free_opening(o);
        return r;
    }
    r = helper_detach(run_stream, &args, fds[1], free_opening, o);
    fd_close(fds[1]);
    if (r < 0) {
        free_opening(o);
        fd_close(fds[0]);
        return r;
    }
    return fds[0];
}
