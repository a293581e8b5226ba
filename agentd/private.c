/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "agentd/peer.h"
#include "agentd/state.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define NAME "private"
#define BACKLOG 16
#define PAUSE_US 100000

static int fd = -1;
static struct loop_watch *watch, *pause_watch;
static char path[600];
static dev_t dev;
static ino_t ino;

static void on_end(struct peer *p, const char *broken)
{
    if (broken)
        log_warn("private", "%s: %s", p->actor, broken);
    peer_bury(p);
}

static unsigned count(void)
{
    const struct peer *p;
    unsigned n = 0;

    TAILQ_FOREACH (p, &peer_all, link)
        n += p->kind == PEER_PRIVATE && !p->gone;
    return n;
}

static void add(int s, uint16_t no, uid_t uid)
{
    struct peer *p = peer_new(PEER_PRIVATE, s, no, on_end);

    if (p)
        snprintf(p->actor, sizeof(p->actor), "uid:%u", (unsigned)uid);
}

static void on_connection(int listener, short what, void *arg);

static void on_pause_over(int unused, short what, void *arg)
{
    loop_free(&pause_watch);
    if (fd >= 0 && !watch)
        watch = loop_io(fd, LOOP_READ, on_connection, NULL);
}

static void on_connection(int listener, short what, void *arg)
{
    struct ucred cred = {.uid = (uid_t)-1};
    socklen_t n = sizeof(cred);
    int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (s < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
        loop_free(&watch); /* no descriptor is left: it would be readable all the time */
        pause_watch = loop_timer(PAUSE_US, on_pause_over, NULL);
    }
    if (s < 0)
        return;
    if (getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 || (cred.uid != 0 && cred.uid != geteuid()) ||
        count() >= LIMIT_PRIVATE_PEERS) {
        log_warn("private", "a connection of uid %u is refused", (unsigned)cred.uid);
        close(s);
        return;
    }
    add(s, 0, cred.uid);
}

static int listen_on(const char *at)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    mode_t mask;
    int s, r;

    if (strlen(at) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    str_copy(sa.sun_path, sizeof(sa.sun_path), at);
    if ((s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return -errno;
    unlink(at); /* ours: we hold the lock of this directory */
    mask = umask(0177);
    r = bind(s, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(s, BACKLOG) < 0 ? -errno : 0;
    umask(mask);
    if (r < 0)
        close(s);
    return r < 0 ? r : s;
}

static void remember_place(void)
{
    struct stat st;

    if (lstat(path, &st) == 0) {
        dev = st.st_dev;
        ino = st.st_ino;
    }
}

int private_open(const char *runtime_dir, const struct state *s)
{
    const char *l = s ? state_next(s, NAME, NULL) : NULL;

    snprintf(path, sizeof(path), "%s/" NAME, runtime_dir);
    fd = l ? state_get_fd(s, l, "fd") : -1;
    if (fd < 0)
        fd = listen_on(path);
    if (fd < 0) {
        log_error("private", "%s: %s: agentctl adopt and upgrade can't reach agentd", path, strerror(-fd));
        return fd;
    }
    remember_place();
    return 0;
}

void private_save(struct buf *b)
{
    const struct peer *p;

    if (fd >= 0) {
        state_begin(b, NAME);
        state_put(b, "fd", fd);
        state_end(b);
    }
    TAILQ_FOREACH (p, &peer_all, link)
        if (p->kind == PEER_PRIVATE && !p->gone) {
            state_begin(b, "administrator");
            state_put(b, "no", p->no);
            state_put(b, "fd", p->fd);
            state_put_u64(b, "uid", strtoull(p->actor + strlen("uid:"), NULL, 10));
            state_end(b);
        }
}

void private_serve(const struct state *s)
{
    if (fd >= 0)
        watch = loop_io(fd, LOOP_READ, on_connection, NULL);
    for (const char *l = s ? state_next(s, "administrator", NULL) : NULL; l;
         l = state_next(s, "administrator", l)) {
        int c = state_get_fd(s, l, "fd");
        if (c >= 0)
            add(c, (uint16_t)state_get(s, l, "no"), (uid_t)state_get_u64(s, l, "uid"));
    }
}

void private_repair(void)
{
    struct stat st;
    int s;

    if (!path[0] || (fd >= 0 && lstat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino))
        return;
    if ((s = listen_on(path)) < 0) {
        log_error("private", "%s: %s", path, strerror(-s));
        return;
    }
    loop_free(&watch);
    fd_close(fd);
    fd = s;
    remember_place();
    watch = loop_io(fd, LOOP_READ, on_connection, NULL);
    log_info("private", "%s was missing: it is there again", path);
}

void private_close(void)
{
    struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link)
        if (p->kind == PEER_PRIVATE && !p->gone) {
            peer_send(p); /* the last word */
            peer_bury(p);
        }
    loop_free(&watch);
    loop_free(&pause_watch);
    if (fd >= 0)
        unlink(path);
    fd = fd_close(fd);
}
