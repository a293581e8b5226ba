/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_prepare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/wk_sock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

#define WHY_MAX 512
#define PREPARE_TIMEOUT_US 60000000
#define UNDO_TIMEOUT_US 30000000
#define BUSY_US 20000 /* all helpers are at work */
#define DEPTH_MAX 64  /* of a tree that a worker has left; what is deeper stays */

/* --- in the helper: making -------------------------------------------------------------------------------
 */

enum { WELL, UNMET, FAILED };

/* One component, never through a link that the worker's user may have planted in a folder of its own. */
static int enter(int dir, const char *name, bool make)
{
    if (make && mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The folder itself, opened; or -errno. last: the one above it, and its own name. */
static int open_path(const struct cfg_dir *d, bool make, const char **last)
{
    _cleanup_free_ char *path = strdup(d->path);
    int fd, next;

    if (!path)
        return -ENOMEM;
    path[d->base] = 0;
    if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -errno;
    for (char *name = path + d->base + 1, *slash; fd >= 0 && name; name = slash) {
        if ((slash = strchr(name, '/')))
            *slash++ = 0;
        if (!slash && last) {
            *last = d->path + (name - path);
            break;
        }
        next = enter(fd, name, make);
        close(fd);
        fd = next;
    }
    return fd;
}

/* systemd.exec(5): all of it is the user's, if the folder itself is not yet. */
static int give_all(int fd, const struct cfg_ids *ids, unsigned depth)
{
    DIR *d = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    struct dirent *e;
    struct stat st;
    int r = 0;

    while (d && r == 0 && (e = readdir(d))) {
        _cleanup_close_ int one = -1, sub = -1;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        one = openat(dirfd(d), e->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC); /* what is looked at is given */
        if (one < 0 || fstat(one, &st) < 0 ||
            (!S_ISDIR(st.st_mode) && st.st_nlink > 1)) /* it may be somebody's file, under a second name */
            continue;
        if (fchownat(one, "", ids->uid, ids->gid, AT_EMPTY_PATH) < 0)
            r = -errno;
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX &&
                 (sub = openat(one, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0)
            r = give_all(sub, ids, depth + 1);
    }
    if (d)
        closedir(d);
    return r;
}

static int make_one(const struct wk_def *d, const struct cfg_dir *dir)
{
    _cleanup_close_ int fd = open_path(dir, true, NULL);
    mode_t mode = d->dir_modes[dir->kind];
    struct stat st;
    int r;

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (d->ids.set && geteuid() == 0 && (st.st_uid != d->ids.uid || st.st_gid != d->ids.gid)) {
        if ((r = give_all(fd, &d->ids, 0)) < 0)
            return r;
        if (fchown(fd, d->ids.uid, d->ids.gid) < 0)
            return -errno;
    }
    return (st.st_mode & 07777) != mode && fchmod(fd, mode) < 0 ? -errno : 0;
}

static bool is_met(const struct cfg_condition *c)
{
    return (access(c->path, F_OK) == 0) != c->negate;
}

/* All without "|", and one of those with it, if there are any; of each kind. */
static const struct cfg_condition *first_unmet(const struct wk_def *d)
{
    const struct cfg_condition *trigger[2] = {NULL, NULL};
    bool triggered[2] = {false, false};

    for (unsigned i = 0; i < d->n_conditions; i++) {
        const struct cfg_condition *c = &d->conditions[i];
        bool met = is_met(c);
        if (!met && !c->trigger)
            return c;
        if (c->trigger) {
            trigger[c->assert] = c;
            triggered[c->assert] = triggered[c->assert] || met;
        }
    }
    for (int i = 0; i < 2; i++)
        if (trigger[i] && !triggered[i])
            return trigger[i];
    return NULL;
}

static int run_prepare(int out, void *arg)
{
    const struct wk_def *d = arg;
    const struct cfg_condition *c;
    char why[WHY_MAX] = "";
    int r = 0, n;

    caps_enter(CAPS_FILES);
    umask(0);
    if ((c = first_unmet(d))) {
        n = snprintf(why, sizeof(why), "%s=%s%s%.400s is not met",
                     c->assert ? "AssertPathExists" : "ConditionPathExists", c->trigger ? "|" : "",
                     c->negate ? "!" : "", c->path);
        fd_write_all(out, why, (size_t)n);
        return UNMET;
    }
    for (unsigned i = 0; r == 0 && i < d->n_dirs; i++)
        if ((r = make_one(d, &d->dirs[i])) < 0) {
            n = snprintf(why, sizeof(why), "%.400s: %s", d->dirs[i].path, strerror(-r));
            fd_write_all(out, why, (size_t)n);
        }
    return r < 0 ? FAILED : WELL;
}

/* --- in agentd -------------------------------------------------------------------------------------------
 */

bool wk_prepare_is_needed(const struct wk *w)
{
    return !w->def->fault && (w->def->n_dirs || w->def->n_conditions);
}

static void on_busy(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->start->probe_timer);
    wk_prepare(w, w->start->prepared);
}

static void on_prepared(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;

    w->start->preparing = NULL;
    w->start->prepared(w, status != UNMET,
                       status == WELL ? ""
                       : status < 0   ? "its folders were not made in time"
                                      : p);
}

void wk_prepare(struct wk *w, wk_prepare_fn done)
{
    struct wk_start *s = w->start;

    s->prepared = done;
    if (!w->undo) /* of the last time */
        s->preparing = helper_start(run_prepare, w->def, on_prepared, w, PREPARE_TIMEOUT_US, WHY_MAX);
    if (!s->preparing)
        s->probe_timer = loop_timer(BUSY_US, on_busy, w);
}

/* --- removing --------------------------------------------------------------------------------------------
 */

static void empty(int fd, unsigned depth)
{
    DIR *d = fdopendir(fd);
    struct dirent *e;

    if (!d) {
        fd_close(fd);
        return;
    }
    while ((e = readdir(d))) {
        int sub;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, "..") || unlinkat(dirfd(d), e->d_name, 0) == 0 ||
            depth >= DEPTH_MAX)
            continue;
        sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0)
            empty(sub, depth + 1);
        unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
}

/* As the worker's user, and through none of its links: else it would reach what stands open behind a closed
 * door. */
static int run_undo(int out, void *arg)
{
    const struct wk_def *d = arg;
    int fds[LIMIT_DIRS];

    caps_enter(CAPS_FILES);
    for (unsigned i = 0; i < d->n_dirs; i++)
        fds[i] = d->dirs[i].kind == CFG_DIR_RUNTIME ? open_path(&d->dirs[i], false, NULL) : -1;
    if (helper_become(&d->ids) < 0)
        return FAILED;
    for (unsigned i = 0; i < d->n_dirs; i++)
        if (fds[i] >= 0)
            empty(fds[i], 0);
    return WELL;
}

static void forget_traces(struct wk *w)
{
    w->traces = false;
    wk_put_facts(w, (enum facts_phase)w->phase);
}

/* A start waits for it. */
struct wk_undo {
    struct wk *w; /* NULL: freed meanwhile */
    struct wk_def *def;
    struct loop_watch *again;
};

static void free_undo(struct wk_undo *u)
{
    if (u->w)
        u->w->undo = NULL;
    loop_free(&u->again);
    cfg_def_free(u->def);
    free(u);
}

static int remove_dir(const struct cfg_dir *d)
{
    const char *name = NULL;
    _cleanup_close_ int above = open_path(d, false, &name);

    if (above < 0)
        return above;
    return unlinkat(above, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* With our own rights: where they stand is not always the worker's. */
static int run_remove(int out, void *arg)
{
    const struct wk_def *d = arg;
    char why[WHY_MAX];
    int r, n;

    caps_enter(CAPS_FILES);
    for (unsigned i = d->n_dirs; i-- > 0;)
        if (d->dirs[i].kind == CFG_DIR_RUNTIME && (r = remove_dir(&d->dirs[i])) < 0 && r != -ENOENT) {
            n = snprintf(why, sizeof(why), "%.400s can't be removed: %s", d->dirs[i].path, strerror(-r));
            fd_write_all(out, why, (size_t)n);
            return FAILED;
        }
    return WELL;
}

static void on_removed(int status, const char *p, size_t n, void *arg)
{
    struct wk_undo *u = arg;

    if (status != WELL)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = u->def->alias}, "%s",
                  n ? p : "its folders were not removed in time");
    if (u->w && u->w->state == WK_DOWN)
        forget_traces(u->w);
    free_undo(u);
}

static void on_undo_again(int fd, short what, void *arg);

static void on_undone(int status, const char *p, size_t n, void *arg)
{
    struct wk_undo *u = arg;

    if (!helper_start(run_remove, u->def, on_removed, u, UNDO_TIMEOUT_US, WHY_MAX))
        u->again = loop_timer(BUSY_US, on_undo_again, u);
}

static void begin_undo(struct wk_undo *u);

static void on_undo_again(int fd, short what, void *arg)
{
    struct wk_undo *u = arg;

    loop_free(&u->again);
    begin_undo(u);
}

static void begin_undo(struct wk_undo *u)
{
    if (!helper_start(run_undo, u->def, on_undone, u, UNDO_TIMEOUT_US, 1))
        u->again = loop_timer(BUSY_US, on_undo_again, u);
}

void wk_prepare_forget(struct wk *w)
{
    if (w->undo)
        w->undo->w = NULL;
}

static bool has_runtime_dir(const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_dirs; i++)
        if (d->dirs[i].kind == CFG_DIR_RUNTIME)
            return true;
    return false;
}

bool wk_prepare_leaves(const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_sockets; i++)
        if (!d->sockets[i].tcp)
            return true;
    return has_runtime_dir(d) && !d->runtime_preserve;
}

void wk_prepare_note(struct wk *w)
{
    if (w->traces || w->part != WK_ONLY || !wk_prepare_leaves(w->def))
        return;
    w->traces = true;
    wk_put_facts(w, FACTS_NONE);
}

void wk_prepare_clear(struct wk *w)
{
    struct wk_def *d = w->def;
    struct wk_undo *u;

    if (!w->traces || w->undo)
        return;
    wk_sock_clear(w);
    if (d->runtime_preserve || !has_runtime_dir(d)) {
        forget_traces(w);
        return;
    }
    if (!(u = calloc(1, sizeof(*u))))
        return;
    *u = (struct wk_undo){w, d, NULL};
    d->more_refs++;
    w->undo = u;
    begin_undo(u);
}
