/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams to $NOTIFY_SOCKET. sd_notify(3) waits while the manager's queue is full, and a manager that is
 * behind, or frozen, must not keep agentd from its workers: what has to be told waits here instead. */
#include "systemd/sdn_notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "systemd/sdn.h"

struct message {
    STAILQ_ENTRY(message) link;
    int fd; /* to be kept; -1: none */
    char text[];
};
static STAILQ_HEAD(messages, message) waiting = STAILQ_HEAD_INITIALIZER(waiting);
static unsigned n_waiting;
static int socket_fd = -1;

/* Connected, so that poll(2) tells when its reader has room. A name with '@' is abstract: unix(7). */
static int connect_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof(a.sun_path) || (*path != '/' && *path != '@'))
        return -ENOTCONN;
    memcpy(a.sun_path, path, n);
    if (*path == '@')
        a.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 &&
        connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        fd = fd_close(fd);
    return fd < 0 ? -errno : fd;
}

static int send_once(const char *text, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

    if (fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
    }
    return sendmsg(socket_fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* A manager that has executed itself may listen anew. -EAGAIN: it is behind. */
static int send_now(const char *text, int fd)
{
    int r = socket_fd < 0 ? -ENOTCONN : send_once(text, fd);

    if (r == 0 || r == -EAGAIN)
        return r;
    fd_close(socket_fd);
    if ((socket_fd = connect_socket()) < 0)
        return socket_fd;
    return send_once(text, fd);
}

static void wait_for_room(const char *text, int fd)
{
    size_t size = strlen(text) + 1;
    struct message *m = n_waiting < LIMIT_NOTIFY_WAITING ? malloc(sizeof(*m) + size) : NULL;

    if (!m) {
        log_error("notify", "the service manager is too far behind to be told: %.64s", text);
        return;
    }
    m->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    memcpy(m->text, text, size);
    STAILQ_INSERT_TAIL(&waiting, m, link);
    n_waiting++;
}

bool sdn_is_told(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

void sdn_tell(int fd, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (n_waiting || send_now(text, fd) == -EAGAIN)
        wait_for_room(text, fd);
}

void sdn_mention(const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (!n_waiting)
        send_now(text, -1);
}

int sdn_waits_for(void)
{
    return n_waiting ? socket_fd : -1;
}

void sdn_go_on(void)
{
    struct message *m;

    while ((m = STAILQ_FIRST(&waiting)) && send_now(m->text, m->fd) != -EAGAIN) {
        STAILQ_REMOVE_HEAD(&waiting, link);
        n_waiting--;
        fd_close(m->fd);
        free(m);
    }
}
