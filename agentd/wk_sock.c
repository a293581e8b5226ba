/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/address.h"
#include "agentd/cfg_trust.h"
#include "agentd/passed.h"
#include "agentd/state.h"
#include "agentd/wk_fds.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/sys.h"
#include "systemd/sdn.h"

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn; as systemd.socket(5) */
#define KEPT_NAME 32
#define LOOK_FDS_MAX 256 /* descriptors of a main process that are looked at for ours */

struct sock {
    char *text; /* as configured */
    char *path; /* unix: its file, removed at the end */
};

struct wk_socks {
    unsigned n;
    int fds[LIMIT_SOCKETS];
    struct sock v[LIMIT_SOCKETS];
    const char *failed;
};

/* --- one socket ------------------------------------------------------------------------------------------
 */

static int open_tcp(const struct cfg_listener *l, bool any_four)
{
    union address a;
    socklen_t len = address_of_tcp(l, any_four, &a);
    int on = 1, off = 0;
    _cleanup_close_ int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 && errno == EAFNOSUPPORT && !*l->host && !any_four)
        return open_tcp(l, true); /* a kernel without IPv6 */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return -errno;
    if (a.sa.sa_family == AF_INET6 && !*l->host)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, &a.sa, len) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* In a folder that others can change, root would be led to make and remove files wherever they want. */
static int open_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct err e;
    int fd = dir ? cfg_trust_open(AT_FDCWD, dir, CFG_TRUST_DIR, &e) : -ENOMEM;

    if (fd < 0 && dir)
        log_error("wk", "ListenStream=%s: %s", path, e.text);
    return fd;
}

/* One of a worker that is dead is in the way; anything else is somebody's. */
static int clear_path(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    return unlink(path) < 0 ? -errno : 0;
}

static int open_unix(const struct cfg_listener *l)
{
    union address a = {.un = {.sun_family = AF_UNIX}};
    _cleanup_close_ int dir = open_folder(l->path); /* and what is trusted nobody changes meanwhile */
    _cleanup_close_ int fd = -1;
    int r;

    if (dir < 0)
        return dir;
    if ((r = clear_path(l->path)) < 0)
        return r;
    str_copy(a.un.sun_path, sizeof(a.un.sun_path), l->path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &a.sa, sizeof(a.un)) < 0 || listen(fd, BACKLOG) < 0 || chmod(l->path, 0666) < 0)
        return -errno; /* the mode: SocketMode= of systemd.socket(5) */
    return TAKE_FD(fd);
}

static int open_one(const struct cfg_listener *l)
{
    enum caps_scope scope = caps_enter(CAPS_FILES);
    int fd = l->tcp ? open_tcp(l, false) : open_unix(l);

    caps_enter(scope);
    return fd;
}

static void remove_file(const char *path)
{
    _cleanup_close_ int dir = open_folder(path);
    enum caps_scope scope;

    if (dir < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    clear_path(path);
    caps_enter(scope);
}

/* For good: nobody listens there any more, also by the copy that the service manager has until it gets to
 * forget it. */
static void close_one(struct wk_socks *s, unsigned i, bool for_good)
{
    if (for_good) {
        shutdown(s->fds[i], SHUT_RDWR);
        if (s->v[i].path)
            remove_file(s->v[i].path);
    }
    fd_close(s->fds[i]);
    free(s->v[i].text);
    free(s->v[i].path);
}

/* --- all of a worker -------------------------------------------------------------------------------------
 */

static int find(const struct wk_socks *s, const char *text)
{
    for (unsigned i = 0; s && i < s->n; i++)
        if (str_eq(s->v[i].text, text))
            return (int)i;
    return -1;
}

/* Takes fd if it succeeds. */
static int add(struct wk_socks *s, const struct cfg_listener *l, int fd)
{
    struct sock x = {strdup(l->text), l->path ? strdup(l->path) : NULL};

    if (!x.text || (l->path && !x.path)) {
        free(x.text);
        free(x.path);
        return -ENOMEM;
    }
    s->v[s->n] = x;
    s->fds[s->n++] = fd;
    return 0;
}

static void swap(struct wk_socks *s, unsigned i, unsigned k)
{
    struct sock x = s->v[i];
    int fd = s->fds[i];

    s->v[i] = s->v[k];
    s->fds[i] = s->fds[k];
    s->v[k] = x;
    s->fds[k] = fd;
}

static void done(struct wk_socks *s, bool for_good)
{
    for (unsigned i = 0; s && i < s->n; i++)
        close_one(s, i, for_good);
    free(s);
}

/* What the definition does not name any more is closed first: its address may be wanted. True: there was one.
 */
static bool drop_others(struct wk_socks *s, const struct wk_def *d)
{
    unsigned before = s->n;

    for (unsigned i = 0; i < s->n;) {
        unsigned k = 0;
        while (k < d->n_sockets && !str_eq(d->sockets[k].text, s->v[i].text))
            k++;
        if (k < d->n_sockets) {
            i++;
            continue;
        }
        close_one(s, i, true);
        s->n--;
        s->v[i] = s->v[s->n];
        s->fds[i] = s->fds[s->n];
    }
    return s->n < before;
}

/* 1: it is one more than before. */
static int open_missing(struct wk_socks *s, const struct cfg_listener *l)
{
    int fd, r;

    if (find(s, l->text) >= 0)
        return 0;
    if ((fd = open_one(l)) < 0 || (r = add(s, l, fd)) == 0)
        return fd < 0 ? fd : 1;
    close(fd);
    return r;
}

/* The service manager keeps them for the next agentd. By its id: an alias may have a colon, a name must not.
 */
static const char *kept_name(const struct wk *w, char name[KEPT_NAME])
{
    snprintf(name, KEPT_NAME, PASSED_WORKER "%lld", (long long)w->id);
    return name;
}

static void forget(const struct wk *w)
{
    char name[KEPT_NAME];

    sdn_forget(kept_name(w, name));
}

void wk_sock_keep(const struct wk *w)
{
    char name[KEPT_NAME];

    if (!w->socks)
        return;
    forget(w);
    for (unsigned i = 0; i < w->socks->n; i++)
        sdn_keep(kept_name(w, name), w->socks->fds[i]);
}

/* As they are to be passed; 1: there is one more than before. */
static int open_in_place(struct wk_socks *s, unsigned i, const struct cfg_listener *l)
{
    int r = open_missing(s, l);

    if (r < 0)
        s->failed = l->text;
    else
        swap(s, i, (unsigned)find(s, l->text));
    return r;
}

int wk_sock_open(struct wk *w)
{
    const struct wk_def *d = w->def;
    bool changed = false;
    int r = 0;

    if (!d->n_sockets) {
        if (w->part != WK_NEXT)
            wk_sock_close(w);
        return 0;
    }
    if (!w->socks && !(w->socks = calloc(1, sizeof(*w->socks))))
        return -ENOMEM;
    if (w->part != WK_NEXT) /* else the one that runs has them still, and may go on */
        changed = drop_others(w->socks, d);
    for (unsigned i = 0; r >= 0 && i < d->n_sockets; i++) {
        r = open_in_place(w->socks, i, &d->sockets[i]);
        changed |= r > 0;
    }
    if (changed)
        wk_sock_keep(w);
    return r < 0 ? r : 0;
}

const char *wk_sock_failed(const struct wk *w)
{
    return w->socks ? w->socks->failed : NULL;
}

/* Also from the one that they are lent to: it may be the last of the two to end. */
static struct wk_socks *take(struct wk *w)
{
    if (w->twin && w->twin->socks == w->socks)
        w->twin->socks = NULL;
    return TAKE_PTR(w->socks);
}

void wk_sock_close(struct wk *w)
{
    if (w->socks)
        forget(w);
    done(take(w), true);
}

/* Refused: its socket is gone. */
static bool is_dead(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    str_copy(un.sun_path, sizeof(un.sun_path), path);
    return fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0 && errno == ECONNREFUSED;
}

void wk_sock_clear(const struct wk *w)
{
    enum caps_scope scope = caps_enter(CAPS_FILES);

    for (unsigned i = 0; i < w->def->n_sockets; i++) {
        const char *path = w->def->sockets[i].path;
        int dir = path && access(path, F_OK) == 0 && is_dead(path) ? open_folder(path) : -1;
        if (dir >= 0)
            clear_path(path);
        fd_close(dir);
    }
    caps_enter(scope);
}

void wk_sock_let_go(struct wk *w)
{
    done(take(w), false);
}

unsigned wk_sock_fds(const struct wk *w, const int **ret)
{
    *ret = w->socks ? w->socks->fds : NULL;
    if (!w->socks)
        return 0;
    return w->socks->n < w->def->n_sockets ? w->socks->n : w->def->n_sockets;
}

/* --- after agentd's death, and over an exec ---------------------------------------------------------------
 */

/* Once for all of them: what is none of them is closed elsewhere, since that may take its time. */
struct looked {
    int fds[LOOK_FDS_MAX];
    unsigned n;
};

static int look_at_all(const struct wk *w, struct looked *l)
{
    l->n = 0;
    for (int n = 3; n < LOOK_FDS_MAX; n++) {
        int fd = sys_pidfd_getfd(w->main.fd, n);
        if (fd == -ENOSYS || fd == -EPERM)
            return fd;
        if (fd >= 0)
            l->fds[l->n++] = fd;
    }
    return 0;
}

static int take_one(struct looked *all, const struct cfg_listener *l)
{
    for (unsigned i = 0; i < all->n; i++)
        if (address_is_at(all->fds[i], l)) {
            int fd = all->fds[i];
            all->fds[i] = all->fds[--all->n];
            return fd;
        }
    return -ENOENT;
}

bool wk_sock_take_kept(struct wk *w)
{
    const struct wk_def *d = w->def;
    int fd;

    if (!d->n_sockets || (!w->socks && !(w->socks = calloc(1, sizeof(*w->socks)))))
        return true;
    for (unsigned i = 0; i < d->n_sockets; i++) {
        fd = find(w->socks, d->sockets[i].text) >= 0 ? -EEXIST : passed_take(&d->sockets[i], NULL);
        if (fd >= 0 && add(w->socks, &d->sockets[i], fd) < 0)
            close(fd);
    }
    return w->socks->n == d->n_sockets;
}

void wk_sock_take_back(struct wk *w)
{
    const struct wk_def *d = w->def;
    enum caps_scope scope;
    struct looked all;
    int r;

    if (w->socks || wk_sock_take_kept(w) || w->main.fd < 0)
        return;
    scope = caps_enter(CAPS_LOOK);
    r = look_at_all(w, &all);
    for (unsigned i = 0; i < d->n_sockets; i++) {
        if (find(w->socks, d->sockets[i].text) >= 0)
            continue;
        int fd = r < 0 ? r : take_one(&all, &d->sockets[i]);
        if (fd >= 0 && add(w->socks, &d->sockets[i], fd) == 0)
            continue;
        fd_close(fd);
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = d->alias},
                  "ListenStream=%s can't be taken back from its process (%s): it is opened anew once that "
                  "has ended",
                  d->sockets[i].text, strerror(fd < 0 ? -fd : ENOMEM));
    }
    wk_fds_close_elsewhere(all.fds, all.n);
    caps_enter(scope);
}

static const char *key_of(char key[32], unsigned i, const char *what)
{
    snprintf(key, 32, "socket%u%s", i, what);
    return key;
}

void wk_sock_save(const struct wk *w, struct buf *b)
{
    char key[32];

    for (unsigned i = 0; w->socks && i < w->socks->n; i++) {
        state_put(b, key_of(key, i, "_fd"), w->socks->fds[i]);
        state_put_text(b, key_of(key, i, ""), w->socks->v[i].text);
        state_put_text(b, key_of(key, i, "_path"), w->socks->v[i].path);
    }
}

void wk_sock_restore(struct wk *w, const struct state *s, const char *line)
{
    char key[32];

    for (unsigned i = 0; i < LIMIT_SOCKETS; i++) {
        int fd = state_get_fd(s, line, key_of(key, i, "_fd"));
        struct sock x = {state_get_text(s, line, key_of(key, i, "")),
                         state_get_text(s, line, key_of(key, i, "_path"))};
        if (fd < 0 || !x.text || (!w->socks && !(w->socks = calloc(1, sizeof(*w->socks))))) {
            free(x.text);
            free(x.path);
            return;
        }
        w->socks->v[w->socks->n] = x;
        w->socks->fds[w->socks->n++] = fd;
    }
}
