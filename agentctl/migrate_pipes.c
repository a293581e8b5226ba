/* SPDX-License-Identifier: Apache-2.0 */
/* What the peer's processes write may go into pipes that the peer reads: once it is gone, a write ends the
 * writer (SIGPIPE, pipe(7)), and who reads what it writes finds the end. Which pipes those are, who else has
 * them, and whether agentd-drain does, as /proc/PID/fd shows it. Never opens one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/migrate.h"
#include "base/array.h"
#include "base/str.h"
#include "drain/drain.h"

#define WAIT_MS 5000 /* a program of a few pages is started, or ends */
#define LOOK_MS 20

struct pipe {
    uint64_t no;          /* its inode's number; all are of one file system */
    mode_t peer, drain;   /* how each has it open: S_IRUSR, S_IWUSR */
    pid_t writer, reader; /* any, but for these two; 0: nobody */
    pid_t drain_pid;
};

struct pipes {
    struct pipe *v;
    size_t n, size;
};

static struct pipe *find(struct pipes *p, uint64_t no)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].no == no)
            return &p->v[i];
    return NULL;
}

/* The mode of the link says how the descriptor is open, proc(5). */
typedef int (*pipe_fn)(struct pipes *p, uint64_t no, mode_t mode, pid_t pid);

static int each_pipe(pid_t pid, struct pipes *p, pipe_fn fn)
{
    char path[48], to[64];
    struct dirent *e;
    struct stat st;
    int r = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    if (!(dir = opendir(path)))
        return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    while (r == 0 && (e = readdir(dir))) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, to, sizeof(to) - 1);
        to[n < 0 ? 0 : n] = 0;
        if (str_starts(to, "pipe:[") && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            r = fn(p, strtoull(to + strlen("pipe:["), NULL, 10), st.st_mode, pid);
    }
    closedir(dir);
    return r;
}

static int take_peers(struct pipes *p, uint64_t no, mode_t mode, pid_t pid)
{
    struct pipe *x = find(p, no);

    if (!x && array_room(&p->v, p->n, &p->size, sizeof(*p->v)) < 0)
        return -ENOMEM;
    if (!x)
        *(x = &p->v[p->n++]) = (struct pipe){.no = no};
    x->peer |= mode & (S_IRUSR | S_IWUSR);
    return 0;
}

/* agentd has it open too, until agentd-drain runs, or has failed to: that is no drain. */
static int take_use(struct pipes *p, uint64_t no, mode_t mode, pid_t pid)
{
    struct pipe *x = find(p, no);

    if (x && drain_is(pid)) {
        x->drain |= mode & (S_IRUSR | S_IWUSR);
        x->drain_pid = pid;
    } else if (x) {
        x->writer = mode & S_IWUSR ? pid : x->writer;
        x->reader = mode & S_IRUSR ? pid : x->reader;
    }
    return 0;
}

/* Those of the peer, and who else has them. 0 or -errno. */
static int look(pid_t peer, struct pipes *ret)
{
    int r = each_pipe(peer, ret, take_peers);
    struct dirent *e;
    DIR *dir;

    if (r < 0 || ret->n == 0)
        return r;
    if (!(dir = opendir("/proc")))
        return -errno;
    while (r == 0 && (e = readdir(dir))) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 0 && pid != peer)
            r = each_pipe(pid, ret, take_use);
    }
    closedir(dir);
    return r;
}

/* With the peer its last reader would go, or its last writer: nobody would have it in its place. */
static bool is_unread(const struct pipe *p)
{
    return (p->peer & S_IRUSR && p->writer && !(p->drain & S_IRUSR)) ||
           (p->peer & S_IWUSR && p->reader && !(p->drain & S_IWUSR));
}

static bool is_read(const struct pipe *p)
{
    return p->drain != 0;
}

/* The first that is so, *ret->no is 0 without one. 0 or -errno. */
static int find_one(pid_t peer, bool (*is)(const struct pipe *p), struct pipe *ret)
{
    struct pipes p = {0};
    int r = look(peer, &p);

    *ret = (struct pipe){0};
    for (size_t i = 0; r == 0 && i < p.n && !ret->no; i++)
        if (is(&p.v[i]))
            *ret = p.v[i];
    free(p.v);
    return r;
}

/* Until there is none. 0; -ETIMEDOUT, and *ret is one; or -errno. */
static int await_none(const struct migrate *m, bool (*is)(const struct pipe *p), struct pipe *ret)
{
    int r = 0;

    for (int waited = 0; migrate_is(&m->peer); waited += LOOK_MS) {
        if ((r = find_one(m->peer.pid, is, ret)) < 0 || !ret->no)
            return r;
        if (waited >= WAIT_MS)
            return -ETIMEDOUT;
        poll(NULL, 0, LOOK_MS);
    }
    return 0;
}

int migrate_await_readers(const struct migrate *m, pid_t *ret_user)
{
    struct pipe p;
    int r = await_none(m, is_unread, &p);

    *ret_user = p.writer ? p.writer : p.reader;
    return r;
}

int migrate_await_no_readers(const struct migrate *m, pid_t *ret_reader)
{
    struct pipe p;
    int r = await_none(m, is_read, &p);

    *ret_reader = p.drain_pid;
    return r;
}
