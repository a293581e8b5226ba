/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/passed.h"
#include "agentd/state.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"

#define IN_USE_WAIT_MS 2000
#define BACKLOG 1024 /* connections wait here while a new listener comes up */

static struct listen_socket *sockets;
static unsigned n_sockets;

/* A socket file of a dead agentd is in the way; one where somebody accepts is not ours to take. */
static int clear_path(const struct sockaddr_un *sa, struct err *err)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;

    if (lstat(sa->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_set(err, errno, "%s: %s", sa->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, EEXIST, "%s is in the way and not a socket: remove it", sa->sun_path);
    if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN)
        return err_set(err, EADDRINUSE, "%s: another program answers there", sa->sun_path);
    return unlink(sa->sun_path) < 0 ? err_set(err, errno, "%s: %s", sa->sun_path, strerror(errno)) : 0;
}

static int open_unix(const struct cfg_listener *l, struct listen_socket *s, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int r;

    if (strlen(l->path) >= sizeof(sa.sun_path))
        return err_set(err, ENAMETOOLONG, "ListenStream=%s: longer than a socket's path may be (%zu bytes)",
                       l->path, sizeof(sa.sun_path) - 1);
    str_copy(sa.sun_path, sizeof(sa.sun_path), l->path);
    if ((r = clear_path(&sa, err)) < 0)
        return r;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Open to all: the peer's uid and groups decide, and the answer says so instead of a bare refusal. */
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(l->path, 0666) < 0 ||
        listen(s->fd, BACKLOG) < 0 || lstat(l->path, &st) < 0)
        return err_set(err, errno, "ListenStream=%s: %s", l->path, strerror(errno));
    s->path = strdup(l->path);
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    return 0;
}

static int open_tcp(const struct cfg_listener *l, struct listen_socket *s, struct err *err)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)l->port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port)};
    bool is_four = inet_pton(AF_INET, l->host, &four.sin_addr) == 1;
    const struct sockaddr *sa = is_four ? (void *)&four : (void *)&six;
    socklen_t len = is_four ? sizeof(four) : sizeof(six);
    int on = 1;

    if (!is_four && inet_pton(AF_INET6, l->host, &six.sin6_addr) != 1)
        return err_set(err, EINVAL, "%s: not a numeric address", l->text);
    s->tcp = true;
    s->loopback = l->loopback;
    s->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0 || setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(s->fd, sa, len) < 0 || listen(s->fd, BACKLOG) < 0)
        return err_set(err, errno, "Listen%s=%s: %s", s->tls ? "Tls" : "Stream", l->text, strerror(errno));
    return 0;
}

/* One that was there before us: its path is as it was made, or it is of no use. */
static bool take_passed(const struct cfg_listener *l, struct listen_socket *s)
{
    bool ours = true;
    struct stat st;

    if ((s->fd = passed_take(l, &ours)) < 0)
        return false;
    if (!l->tcp && lstat(l->path, &st) < 0) {
        s->fd = fd_close(s->fd);
        return false;
    }
    s->tcp = l->tcp;
    s->loopback = l->loopback;
    s->foreign = !ours;
    if (l->tcp)
        return true;
    s->path = strdup(l->path);
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    return true;
}

static int open_one(const struct cfg_listener *l, struct listen_socket *s, struct err *err)
{
    int r;

    if (take_passed(l, s))
        return 0;
    /* The listener of an agentd that was killed closes its sockets at once, but at its own pace. Before
     * READY, so that nothing is kept waiting. */
    for (int waited = 0;; waited += 10) {
        s->fd = -1;
        r = l->tcp ? open_tcp(l, s, err) : open_unix(l, s, err);
        if (r != -EADDRINUSE || waited >= IN_USE_WAIT_MS)
            return r;
        fd_close(s->fd);
        poll(NULL, 0, 10);
    }
}

static int open_list(const struct cfg_listener *list, unsigned n, bool tls, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < n; i++) {
        struct listen_socket *s = &sockets[n_sockets++];
        s->text = strdup(list[i].text);
        s->tls = tls;
        r = open_one(&list[i], s, err);
    }
    return r;
}

int listen_open(const struct cfg_rpc *rpc, struct err *err)
{
    int r;

    if (!(sockets = calloc(rpc->n_listeners + rpc->n_tls + 1, sizeof(*sockets))))
        return err_set(err, ENOMEM, "no memory");
    r = open_list(rpc->listeners, rpc->n_listeners, false, err);
    if (r == 0)
        r = open_list(rpc->tls, rpc->n_tls, true, err);
    if (r < 0)
        listen_close(true);
    return r;
}

void listen_keep(void)
{
    sdn_forget(PASSED_OWN);
    for (unsigned i = 0; i < n_sockets; i++)
        if (!sockets[i].foreign)
            sdn_keep(PASSED_OWN, sockets[i].fd);
}

void listen_save(struct buf *b)
{
    for (unsigned i = 0; i < n_sockets; i++) {
        const struct listen_socket *l = &sockets[i];
        state_begin(b, "listener");
        state_put(b, "fd", l->fd);
        state_put(b, "tcp", l->tcp);
        state_put(b, "loopback", l->loopback);
        state_put(b, "tls", l->tls);
        state_put(b, "foreign", l->foreign);
        state_put_text(b, "text", l->text);
        state_put_text(b, "path", l->path);
        state_put_u64(b, "dev", l->dev);
        state_put_u64(b, "ino", l->ino);
        state_end(b);
    }
}

static bool is_listening(int fd)
{
    int on = 0;
    socklen_t n = sizeof(on);

    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on;
}

bool listen_restore(const struct state *s)
{
    unsigned n = 0;

    for (const char *l = state_next(s, "listener", NULL); l; l = state_next(s, "listener", l)) {
        if (!is_listening(state_get_fd(s, l, "fd")))
            return false;
        n++;
    }
    if (!n || !(sockets = calloc(n + 1, sizeof(*sockets))))
        return false;
    for (const char *l = state_next(s, "listener", NULL); l; l = state_next(s, "listener", l))
        sockets[n_sockets++] = (struct listen_socket){.fd = state_get_fd(s, l, "fd"),
                                                      .tcp = state_get(s, l, "tcp") != 0,
                                                      .loopback = state_get(s, l, "loopback") != 0,
                                                      .tls = state_get(s, l, "tls") != 0,
                                                      .foreign = state_get(s, l, "foreign") != 0,
                                                      .text = state_get_text(s, l, "text"),
                                                      .path = state_get_text(s, l, "path"),
                                                      .dev = state_get_u64(s, l, "dev"),
                                                      .ino = state_get_u64(s, l, "ino")};
    return true;
}

const struct listen_socket *listen_get(unsigned i)
{
    return i < n_sockets ? &sockets[i] : NULL;
}

bool listen_is_there(const struct listen_socket *s)
{
    struct stat st;

    if (lstat(s->path, &st) < 0)
        return errno != ENOENT && errno != ENOTDIR; /* what can't be told is not repaired */
    return st.st_ino == s->ino && st.st_dev == s->dev;
}

static int open_again(struct listen_socket *s)
{
    struct cfg_listener l = {.path = s->path, .text = s->text};
    struct listen_socket fresh = {.fd = -1};
    struct err err;

    if (open_unix(&l, &fresh, &err) < 0) {
        log_error("listen", "its path was taken away: %s", err.text);
        fd_close(fresh.fd);
        return -err.code;
    }
    log_info("listen", "%s was removed: it is there again", s->path);
    fd_close(s->fd);
    free(s->path);
    fresh.text = s->text;
    *s = fresh;
    return 0;
}

int listen_repair(void)
{
    int n = 0;

    for (unsigned i = 0; i < n_sockets; i++)
        if (sockets[i].path && !listen_is_there(&sockets[i]))
            n += open_again(&sockets[i]) == 0;
    if (n)
        listen_keep();
    return n;
}

void listen_close(bool for_good)
{
    for (unsigned i = 0; i < n_sockets; i++) {
        struct listen_socket *s = &sockets[i];
        if (for_good && s->path && !s->foreign && listen_is_there(s))
            unlink(s->path);
        fd_close(s->fd);
        free(s->text);
        free(s->path);
    }
    free(sockets);
    sockets = NULL;
    n_sockets = 0;
}
