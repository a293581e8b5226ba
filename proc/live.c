/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/live.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/array.h"
#include "base/fd.h"
#include "base/limits.h"
#include "proc/pidref.h"

#define ROUNDS 16 /* a tree that forks faster than it is listed is left so */

struct member {
    struct pidref ref;
    bool done;
};

struct members {
    struct member *v;
    size_t n, room;
    int error; /* why somebody could not be held, or 0 */
};

static void refused(struct live_result *r, pid_t pid, int error, int resource)
{
    if (error == ESRCH || error == ENOENT)
        return; /* it went */
    if (r->refused++)
        return;
    r->pid = pid;
    r->error = error;
    r->resource = resource;
}

/* As at a start: where the hard limit can't be raised, up to it. */
static void set_limit(pid_t pid, int resource, struct rlimit want, struct live_result *r)
{
    struct rlimit now;

    if (prlimit(pid, resource, &want, NULL) == 0)
        return;
    refused(r, pid, errno, resource);
    if (errno != EPERM || prlimit(pid, resource, NULL, &now) < 0)
        return;
    if (want.rlim_max > now.rlim_max)
        want.rlim_max = now.rlim_max;
    if (want.rlim_cur > want.rlim_max)
        want.rlim_cur = want.rlim_max;
    prlimit(pid, resource, &want, NULL);
}

/* One look at all threads; how many had another level. */
static unsigned renice_threads(int dir, pid_t pid, int nice, struct live_result *r)
{
    int fd = openat(dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    unsigned changed = 0;

    if (!d) {
        fd_close(fd);
        return 0;
    }
    while ((e = readdir(d))) {
        id_t tid = isdigit((unsigned char)e->d_name[0]) ? (id_t)atoi(e->d_name) : 0;
        errno = 0;
        if (!tid || (getpriority(PRIO_PROCESS, tid) == nice && errno == 0) || errno == ESRCH)
            continue;
        if (setpriority(PRIO_PROCESS, tid, nice) < 0)
            refused(r, pid, errno, LIVE_NICE);
        else
            changed++;
    }
    closedir(d);
    return changed;
}

/* The level is a thread's own, and a new thread has that of its maker: until all have it. */
static void set_nice(int dir, pid_t pid, int nice, struct live_result *r)
{
    for (unsigned i = 0; i < ROUNDS && renice_threads(dir, pid, nice, r) > 0; i++)
        ;
}

static void set_oom(int dir, pid_t pid, int score, struct live_result *r)
{
    _cleanup_close_ int fd = openat(dir, "oom_score_adj", O_WRONLY | O_CLOEXEC);
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", score);

    if (fd < 0 || write(fd, text, (size_t)n) < 0)
        refused(r, pid, errno, LIVE_OOM);
}

/* The folder is opened before the last check: it is this process's, and stays so. */
static void apply_one(const struct pidref *ref, const struct live_want *w, struct live_result *r)
{
    char path[32];
    _cleanup_close_ int dir = -1;

    snprintf(path, sizeof(path), "/proc/%d", (int)ref->pid);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || pidref_check(ref) != PIDREF_SAME)
        return;
    for (int i = 0; i < (int)RLIM_NLIMITS; i++)
        if (w->limits_set >> i & 1)
            set_limit(ref->pid, i, w->limits[i], r);
    if (w->has_nice)
        set_nice(dir, ref->pid, w->nice, r);
    if (w->has_oom)
        set_oom(dir, ref->pid, w->oom_score_adj, r);
    r->done++;
}

static struct member *find(struct members *m, pid_t pid)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].ref.pid == pid)
            return &m->v[i];
    return NULL;
}

static int make_room(struct members *m)
{
    if (m->n >= LIMIT_TREE_PIDS)
        return -E2BIG;
    return array_room(&m->v, m->n, &m->room, sizeof(*m->v));
}

static bool hold(struct members *m, pid_t pid)
{
    int r = make_room(m);

    if (r == 0)
        r = pidref_open(&m->v[m->n].ref, pid);
    if (r < 0) {
        m->error = r == -ESRCH ? m->error : r;
        return false;
    }
    m->v[m->n++].done = false;
    return true;
}

/* One listing: who was held before it is served, who is new is held. How many are new. */
static unsigned one_round(struct members *m, const struct snap_tree *tree, const struct live_want *want,
                          struct live_result *ret)
{
    unsigned new = 0;

    for (size_t i = 0; i < tree->n; i++) {
        struct member *k = find(m, tree->pids[i]);
        if (k && pidref_check(&k->ref) == PIDREF_GONE) { /* the pid is somebody else's */
            pidref_done(&k->ref);
            *k = m->v[--m->n];
            k = NULL;
        }
        if (!k) {
            new += hold(m, tree->pids[i]);
        } else if (!k->done) {
            apply_one(&k->ref, want, ret);
            k->done = true;
        }
    }
    return new;
}

int live_apply(live_list_fn list, void *arg, const struct live_want *want, struct live_result *ret)
{
    struct members m = {0};
    unsigned new = 1;
    int r = 0;

    *ret = (struct live_result){0};
    for (unsigned i = 0; i<ROUNDS &&new> 0 && r == 0; i++) {
        struct snap_tree tree;
        if ((r = list(arg, &tree)) < 0)
            break;
        new = one_round(&m, &tree, want, ret);
        snap_tree_done(&tree);
    }
    for (size_t i = 0; i < m.n; i++)
        pidref_done(&m.v[i].ref);
    free(m.v);
    return r < 0 ? r : m.error;
}
