/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_fds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/state.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/sys.h"

#define SCM_MAX_FD 253 /* of one message: the kernel's, unix(7) */
#define NAME_MAX_ 64
#define CLOSE_AGAIN_US 100000 /* all closers are at work */
#define CLOSE_AT_ONCE 16      /* one that waits keeps no more than those from their end */

struct wk_fds {
    unsigned n;
    int fds[LIMIT_FDSTORE];
    char names[LIMIT_FDSTORE][NAME_MAX_];
    bool complained;
};

/* --- closing ---------------------------------------------------------------------------------------------
 */

/* Those that no child could be started for. */
static int *unclosed;
static unsigned n_unclosed;
static struct loop_watch *again;

/* How many of them are gone. */
static unsigned close_some(const int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i += CLOSE_AT_ONCE)
        if (!helper_close(fds + i, n - i < CLOSE_AT_ONCE ? n - i : CLOSE_AT_ONCE))
            return i;
    return n;
}

static void on_again(int fd, short what, void *arg)
{
    unsigned k = close_some(unclosed, n_unclosed);

    loop_free(&again);
    n_unclosed -= k;
    memmove(unclosed, unclosed + k, n_unclosed * sizeof(*unclosed));
    if (n_unclosed) {
        again = loop_timer(CLOSE_AGAIN_US, on_again, NULL);
        return;
    }
    free(unclosed);
    unclosed = NULL;
}

void wk_fds_close_elsewhere(const int *fds, unsigned n)
{
    unsigned done = n_unclosed ? 0 : close_some(fds, n);
    int *more;

    if (done == n)
        return;
    n -= done;
    if (!(more = realloc(unclosed, (n_unclosed + n) * sizeof(*more)))) {
        log_error("wk", "no memory to close what a worker has stored: it stays open");
        return;
    }
    unclosed = more;
    memcpy(unclosed + n_unclosed, fds + done, n * sizeof(*more));
    n_unclosed += n;
    if (!again)
        again = loop_timer(CLOSE_AGAIN_US, on_again, NULL);
}

void wk_fds_close(struct wk *w)
{
    struct wk_fds *f = TAKE_PTR(w->fds);

    if (!f)
        return;
    wk_fds_close_elsewhere(f->fds, f->n);
    free(f);
}

void wk_fds_remove(struct wk *w, const char *name)
{
    struct wk_fds *f = w->fds;

    for (unsigned i = 0; f && i < f->n;)
        if (str_eq(f->names[i], name)) {
            wk_fds_close_elsewhere(&f->fds[i], 1);
            f->n--;
            f->fds[i] = f->fds[f->n];
            memcpy(f->names[i], f->names[f->n], NAME_MAX_);
        } else {
            i++;
        }
    wk_start_forget(w);
}

/* --- taking ----------------------------------------------------------------------------------------------
 */

/* systemd's rule for a name; another one is called "stored". */
static const char *name_of(const char *text, char name[NAME_MAX_])
{
    const char *at = strstr(text, "FDNAME=");

    str_copy(name, NAME_MAX_, "stored");
    if (!at || (at != text && at[-1] != '\n'))
        return name;
    at += strlen("FDNAME=");
    size_t n = strcspn(at, "\n");
    if (n == 0 || n >= NAME_MAX_)
        return name;
    for (size_t i = 0; i < n; i++)
        if (at[i] <= ' ' || at[i] > '~' || at[i] == ':')
            return name;
    str_copy(name, n + 1, at);
    return name;
}

/* True if it is kept. */
static bool keep(struct wk *w, int fd, const char *name)
{
    struct wk_fds *f = w->fds;

    for (unsigned i = 0; f && i < f->n; i++)
        if (sys_is_same_file(f->fds[i], fd))
            return false;
    if (!f && !(f = w->fds = calloc(1, sizeof(*f))))
        return false;
    if (f->n >= w->def->fdstore_max) {
        if (!f->complained)
            log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                      "FDSTORE=1 is refused: FileDescriptorStoreMax=%u descriptors are kept already",
                      w->def->fdstore_max);
        f->complained = true;
        return false;
    }
    f->fds[f->n] = fd;
    str_copy(f->names[f->n++], NAME_MAX_, name);
    wk_start_forget(w); /* what was made ahead does not tell of it */
    return true;
}

static bool wants_store(const char *text)
{
    const char *at = strstr(text, "FDSTORE=1");

    return at && (at == text || at[-1] == '\n') && (at[9] == '\n' || !at[9]);
}

static void take_all(struct wk *w, struct msghdr *m, const char *text)
{
    char name[NAME_MAX_];
    bool wanted = wants_store(text);
    int rest[SCM_MAX_FD];
    unsigned n_rest = 0;

    name_of(text, name);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if ((!wanted || !keep(w, fd, name)) && n_rest < SCM_MAX_FD)
                rest[n_rest++] = fd;
        }
    }
    wk_fds_close_elsewhere(rest, n_rest);
}

bool wk_fds_peek(struct wk *w, int socket, char *text, size_t size)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(SCM_MAX_FD * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {text, size - 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n;

    if (w->def->fdstore_max == 0)
        return false;
    n = recvmsg(socket, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return false;
    text[n] = 0;
    take_all(w, &m, text);
    return !(m.msg_flags & MSG_TRUNC);
}

/* --- giving ----------------------------------------------------------------------------------------------
 */

/* The second of two at once gets what the first has stored. */
static const struct wk_fds *given(const struct wk *w)
{
    return w->part == WK_NEXT && !w->fds && w->twin ? w->twin->fds : w->fds;
}

unsigned wk_fds_get(const struct wk *w, int fds[LIMIT_FDSTORE])
{
    const struct wk_fds *f = given(w);

    if (f)
        memcpy(fds, f->fds, f->n * sizeof(int));
    return f ? f->n : 0;
}

const char *wk_fds_name(const struct wk *w, unsigned i)
{
    return given(w)->names[i];
}

void wk_fds_save(const struct wk *w, struct buf *b)
{
    char key[32];

    for (unsigned i = 0; w->fds && i < w->fds->n; i++) {
        snprintf(key, sizeof(key), "stored%u_fd", i);
        state_put(b, key, w->fds->fds[i]);
        snprintf(key, sizeof(key), "stored%u", i);
        state_put_text(b, key, w->fds->names[i]);
    }
}

void wk_fds_restore(struct wk *w, const struct state *s, const char *line)
{
    char key[32];

    for (unsigned i = 0; i < LIMIT_FDSTORE; i++) {
        snprintf(key, sizeof(key), "stored%u_fd", i);
        int fd = state_get_fd(s, line, key);
        if (fd < 0 || (!w->fds && !(w->fds = calloc(1, sizeof(*w->fds)))))
            return;
        snprintf(key, sizeof(key), "stored%u", i);
        _cleanup_free_ char *name = state_get_text(s, line, key);
        w->fds->fds[w->fds->n] = fd;
        str_copy(w->fds->names[w->fds->n++], NAME_MAX_, name ? name : "stored");
    }
}
