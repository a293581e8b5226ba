/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/notify.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

#define MESSAGES_A_ROUND 16 /* a flood does not keep the loop */

/* By number, since an alias may be longer than a socket's path. */
void notify_path(const struct wk *w, char *path, size_t size)
{
    snprintf(path, size, "%s/notify/%d", wk_host.runtime_dir, w->slot);
}

static pid_t sender(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred cred;
            memcpy(&cred, CMSG_DATA(c), sizeof(cred));
            return cred.pid;
        }
    return 0;
}

static void on_word(struct wk *w, char *word)
{
    if (str_eq(word, "READY=1"))
        wk_event(w, WK_EV_READY);
    else if (str_starts(word, "STATUS=") && w->state == WK_STARTING)
        wk_set_message(w, "%.200s", word + 7);
}

static void on_message(int fd, short what, void *arg)
{
    struct wk *w = arg;
    char text[4097], control[CMSG_SPACE(sizeof(struct ucred))], *save = NULL;

    for (int i = 0; i < MESSAGES_A_ROUND && w->start; i++) {
        struct iovec iov = {text, sizeof(text) - 1};
        struct msghdr m = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
            return;
        /* Descriptors that came along were closed by the kernel: there is room for credentials only. */
        if (m.msg_flags & MSG_TRUNC || sender(&m) != w->main.pid || !w->main.pid)
            continue;
        text[n] = 0;
        wk_start_look(w); /* else it would be ready with no pid on its record */
        for (char *word = strtok_r(text, "\n", &save); word && w->start; word = strtok_r(NULL, "\n", &save))
            on_word(w, word);
    }
}

int notify_open(struct wk *w, struct wk_start *s)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[600], path[700];
    int on = 1, r;

    snprintf(dir, sizeof(dir), "%s/notify", wk_host.runtime_dir);
    mkdir(dir, 0711);
    notify_path(w, path, sizeof(path));
    if (strlen(path) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    str_copy(sa.sun_path, sizeof(sa.sun_path), path);
    if ((s->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return -errno;
    unlink(path);
    if (bind(s->notify_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return -errno;
    /* Any user may send, as to systemd's socket; the credentials decide. */
    if (chmod(path, 0666) < 0 || setsockopt(s->notify_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
        r = -errno;
    else
        r = (s->notify = loop_io(s->notify_fd, LOOP_READ, on_message, w)) ? 0 : -ENOMEM;
    return r;
}

void notify_close(struct wk *w, struct wk_start *s)
{
    char path[700];

    loop_free(&s->notify);
    if (s->notify_fd < 0)
        return;
    s->notify_fd = fd_close(s->notify_fd);
    notify_path(w, path, sizeof(path));
    unlink(path);
}

void notify_resume(struct wk *w, struct wk_start *s, int fd)
{
    s->notify_fd = fd;
    s->notify = loop_io(fd, LOOP_READ, on_message, w);
}
