/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/notify.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/wk_fds.h"
#include "agentd/wk_hook.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define MESSAGES_A_ROUND 16 /* a flood does not keep the loop */
#define TAKE_TIMEOUT_US 1000000
#define TAKE_AGAIN_US 100000
#define WATCHDOG_MIN_US 1000 /* WATCHDOG_USEC= below makes a timer that never rests */
#define EXTEND_MAX_US (LIMIT_NOTIFY_EXTEND_SEC * 1000000ull)

struct notify {
    int fd;
    struct loop_watch *io, *watchdog, *pause;
    struct helper *taking; /* a message with descriptors */
    enum cfg_notify access;
    char *status;
    bool reloading, stopping, watched, bounded, refused;
    uint64_t watchdog_us; /* of this incarnation; 0: none */
    uint64_t heard_us;    /* monotonic: its last WATCHDOG=1 */
    uint64_t second;      /* monotonic, of the next two */
    unsigned looks, messages;
};

bool notify_is_wanted(const struct wk_def *d)
{
    return d->type == CFG_NOTIFY || d->watchdog_us || d->notify_access != CFG_NOTIFY_NONE;
}

/* By number, since an alias may be longer than a socket's path. */
void notify_path(const struct wk *w, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/notify/%d", wk_host.runtime_dir, w->slot);

    if (w->leaf_no && n > 0 && (size_t)n < size) /* two instances at once are in two leaves */
        snprintf(path + n, size - (size_t)n, ".%u", w->leaf_no);
}

const char *notify_status(const struct wk *w)
{
    return w->notify && w->notify->status ? w->notify->status : "";
}

const char *notify_phase(const struct wk *w)
{
    const struct notify *n = w->notify;

    return !n ? "" : n->stopping ? "stopping" : n->reloading ? "reloading" : "";
}

int notify_fd(const struct wk *w)
{
    return w->notify ? w->notify->fd : -1;
}

/* --- the watchdog --------------------------------------------------------------------------------------- */

static void bark(struct wk *w, const char *why)
{
    if (w->state != WK_UP)
        return;
    w->barked = true;
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s", why);
    wk_set_message(w, "%s", why);
    wk_event(w, WK_EV_WATCHDOG);
}

static void on_watchdog(int fd, short what, void *arg)
{
    struct wk *w = arg;
    struct notify *n = w->notify;
    uint64_t due = n->heard_us + n->watchdog_us, now = clock_mono_us();
    char text[96];

    if (now < due) {
        loop_rearm(n->watchdog, due - now);
        return;
    }
    loop_free(&n->watchdog);
    snprintf(text, sizeof(text), "the watchdog was not heard for %llu ms",
             (unsigned long long)(n->watchdog_us / 1000));
    bark(w, text);
}

static void arm(struct wk *w)
{
    struct notify *n = w->notify;

    loop_free(&n->watchdog);
    n->heard_us = clock_mono_us();
    if (n->watched && n->watchdog_us)
        n->watchdog = loop_timer(n->watchdog_us, on_watchdog, w);
}

uint64_t notify_watchdog(const struct wk *w)
{
    return w->notify ? w->notify->watchdog_us : 0;
}

void notify_set_watchdog(struct wk *w, uint64_t us)
{
    if (!w->notify || w->notify->watchdog_us == us)
        return;
    w->notify->watchdog_us = us;
    arm(w);
}

void notify_watch(struct wk *w, bool on)
{
    if (!w->notify || w->notify->watched == on)
        return;
    w->notify->watched = on;
    arm(w);
}

/* --- words ---------------------------------------------------------------------------------------------- */

static bool number(const char *text, uint64_t *ret)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return !*end && !errno;
}

/* Before the deadline of a start or stop; it moves it, if that is later, and not for ever. */
static void extend(struct wk *w, uint64_t us)
{
    uint64_t now = clock_mono_us(), most, until;

    if (!w->timer_us || (w->state != WK_STARTING && w->state != WK_STOPPING))
        return;
    most = w->entered_mono_us + EXTEND_MAX_US +
           (w->state == WK_STARTING ? w->def->start_timeout_us : w->def->stop_timeout_us);
    until = us < EXTEND_MAX_US ? now + us : now + EXTEND_MAX_US;
    if (until > most) {
        if (!w->notify->bounded)
            log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                      "EXTEND_TIMEOUT_USEC= has moved the deadline by an hour: it is moved no more");
        w->notify->bounded = true;
        until = most;
    }
    if (until > w->timer_us)
        wk_arm(w, until - now);
}

static void set_status(struct wk *w, const char *text)
{
    char said[LIMIT_NOTIFY_STATUS + 1];

    str_copy(said, sizeof(said), text);
    if (str_eq(notify_status(w), said))
        return;
    free(w->notify->status);
    w->notify->status = strdup(said);
    if (w->state == WK_STARTING)
        wk_set_message(w, "%s", said);
    wk_changed(w);
}

/* What a program that fails says of it, for its record. */
static void take_errno(struct wk *w, const char *value)
{
    uint64_t n;
    char text[LIMIT_NOTIFY_STATUS + 1];

    if (!number(value, &n) || n > 4095)
        return;
    snprintf(text, sizeof(text), "%.*s%s%s", LIMIT_NOTIFY_STATUS - 64, notify_status(w),
             notify_status(w)[0] ? ": " : "", strerror((int)n));
    set_status(w, text);
}

static void set_phase(struct wk *w, bool reloading, bool stopping)
{
    struct notify *n = w->notify;

    if (n->reloading == reloading && n->stopping == stopping)
        return;
    n->reloading = reloading;
    n->stopping = stopping;
    wk_changed(w);
}

static void take_watchdog(struct wk *w, const char *value)
{
    if (str_eq(value, "1"))
        w->notify->heard_us = clock_mono_us();
    else if (str_eq(value, "trigger"))
        bark(w, "the worker itself has triggered its watchdog");
}

static void take_watchdog_usec(struct wk *w, const char *value)
{
    uint64_t us;

    if (!number(value, &us))
        return;
    notify_set_watchdog(w, us && us < WATCHDOG_MIN_US ? WATCHDOG_MIN_US : us);
    if (w->state == WK_UP)
        wk_put_facts(w, FACTS_READY); /* the next agentd waits as long */
}

/* Only a process of the worker's own, whoever says it. */
static void take_main_pid(struct wk *w, const char *value)
{
    uint64_t pid;
    int r = number(value, &pid) && pid < 1 << 22 ? wk_main_set(w, (pid_t)pid) : -EINVAL;

    if (r == 0 || (w->state != WK_STARTING && w->state != WK_UP))
        return;
    if (!w->notify->refused)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "MAINPID=%.20s is refused: %s", value,
                  r == -EPERM ? "it is no process of this worker" : strerror(-r));
    w->notify->refused = true;
}

/* sd_notify(3), but for descriptors, which are taken with their message. */
static void on_word(struct wk *w, char *word)
{
    char *value = strchr(word, '=');
    uint64_t us;

    if (!value)
        return;
    *value++ = 0;
    if (str_eq(word, "READY") && str_eq(value, "1")) {
        set_phase(w, false, w->notify->stopping);
        if (w->def->type == CFG_NOTIFY && w->state == WK_STARTING && wk_is_alive(w))
            wk_start_ready(w); /* not for what a command before it says */
    } else if (str_eq(word, "STATUS")) {
        set_status(w, value);
    } else if (str_eq(word, "ERRNO")) {
        take_errno(w, value);
    } else if (str_eq(word, "RELOADING") && str_eq(value, "1")) {
        set_phase(w, true, false);
    } else if (str_eq(word, "STOPPING") && str_eq(value, "1")) {
        set_phase(w, false, true);
    } else if (str_eq(word, "WATCHDOG")) {
        take_watchdog(w, value);
    } else if (str_eq(word, "WATCHDOG_USEC")) {
        take_watchdog_usec(w, value);
    } else if (str_eq(word, "MAINPID")) {
        if (w->state == WK_UP || (w->state == WK_STARTING && w->main.pid)) /* it is still to be made */
            take_main_pid(w, value);
    } else if (str_eq(word, "EXTEND_TIMEOUT_USEC") && number(value, &us)) {
        extend(w, us);
    }
}

/* --- who speaks ----------------------------------------------------------------------------------------- */

/* The message that is next, without taking it: 0 none, 1 plain, 2 with descriptors. */
static int peek(int fd, struct ucred *from)
{
    char byte, control[CMSG_SPACE(sizeof(struct ucred))]; /* room for credentials only */
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

    *from = (struct ucred){.uid = (uid_t)-1};
    if (recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
        return 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(from, CMSG_DATA(c), sizeof(*from));
    return m.msg_flags & MSG_CTRUNC ? 2 : 1;
}

/* One that is alive: the kernel's word on a dead sender names nobody. */
static bool is_of_tree(const struct wk *w, pid_t pid)
{
    struct pidref_stat st;
    struct snap_tree tree;
    bool is;

    if (w->leaf.fd < 0)
        return w->session && pidref_read_stat(pid, &st) == 0 && st.session == w->session;
    if (snap_tree_of_leaf(&w->leaf, &tree) < 0)
        return false;
    is = snap_tree_has(&tree, pid);
    snap_tree_done(&tree);
    return is;
}

static bool is_own_user(const struct wk *w, const struct ucred *from)
{
    return from->uid == 0 || from->uid == w->uid;
}

static bool needs_look(const struct wk *w, const struct ucred *from)
{
    return w->notify->access == CFG_NOTIFY_ALL && w->main.pid && from->pid != w->main.pid;
}

static bool may_speak(const struct wk *w, const struct ucred *from)
{
    if (from->pid <= 0)
        return false;
    if (from->pid == w->main.pid || (w->notify->access >= CFG_NOTIFY_EXEC && from->pid == wk_hook_pid(w)))
        return true;
    if (!w->main.pid)
        return false;
    return needs_look(w, from) && w->notify->looks++ < LIMIT_NOTIFY_LOOKS && is_of_tree(w, from->pid);
}

static void on_message(int fd, short what, void *arg);

static void on_pause_over(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->notify->pause);
    w->notify->io = loop_io(w->notify->fd, LOOP_READ, on_message, w);
}

/* What is said waits in the kernel, and so do its senders, or they are refused. */
static void pause_for(struct wk *w, uint64_t us)
{
    loop_free(&w->notify->io);
    loop_free(&w->notify->pause);
    w->notify->pause = loop_timer(us, on_pause_over, w);
}

/* The worker's own words are counted, not those of strangers: by theirs it would not be heard. */
static bool is_too_much(struct wk *w, const struct ucred *from)
{
    struct notify *n = w->notify;
    uint64_t now = clock_mono_us();

    if (now / 1000000 != n->second) {
        n->second = now / 1000000;
        n->looks = n->messages = 0;
    }
    if (!is_own_user(w, from))
        return false;
    return ++n->messages > LIMIT_NOTIFY_MESSAGES || (needs_look(w, from) && n->looks >= LIMIT_NOTIFY_LOOKS);
}

/* --- descriptors that come along ------------------------------------------------------------------------ */

/* Nobody wants them. But who closes the last one of a socket may have to wait as long as its maker likes
 * (SO_LINGER, socket(7)): that is a helper, not the loop. */
static int take_one(int out, void *arg)
{
    char text[1];

    return recv(HELPER_KEPT, text, sizeof(text), MSG_DONTWAIT) < 0;
}

static void on_taken(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;

    w->notify->taking = NULL;
    w->notify->io = loop_io(w->notify->fd, LOOP_READ, on_message, w);
}

static void take_elsewhere(struct wk *w)
{
    struct notify *n = w->notify;

    n->taking = helper_start_keeping(&n->fd, 1, take_one, NULL, on_taken, w, TAKE_TIMEOUT_US, 1);
    if (n->taking)
        loop_free(&n->io);
    else
        pause_for(w, TAKE_AGAIN_US);
}

static int exit_with_it(int out, void *arg)
{
    return 0;
}

/* With what is queued: a process that exits does not linger. */
static void close_socket(int fd)
{
    struct ucred from;
    char text[1];
    int kind;

    shutdown(fd, SHUT_RD);
    while ((kind = peek(fd, &from)) == 1 && recv(fd, text, sizeof(text), MSG_DONTWAIT) >= 0)
        ;
    if (kind == 2 && !helper_start_keeping(&fd, 1, exit_with_it, NULL, NULL, NULL, TAKE_TIMEOUT_US, 1)) {
        log_error("notify", "a socket with descriptors of a worker in it can't be closed now: it stays open");
        return;
    }
    fd_close(fd);
}

/* FDSTOREREMOVE=1 and FDNAME= belong together, in whichever order. */
static void remove_stored(struct wk *w, const char *text)
{
    const char *name = strstr(text, "FDNAME=");
    char copy[65];
    size_t n;

    if (!strstr(text, "FDSTOREREMOVE=1") || !name)
        return;
    name += strlen("FDNAME=");
    n = strcspn(name, "\n");
    str_copy(copy, n < sizeof(copy) ? n + 1 : sizeof(copy), name);
    wk_fds_remove(w, copy);
}

static void hear(struct wk *w, char *text)
{
    char *save = NULL;

    remove_stored(w, text);
    wk_start_look(w); /* else it would be ready with no pid on its record */
    for (char *word = strtok_r(text, "\n", &save); word && w->notify; word = strtok_r(NULL, "\n", &save))
        on_word(w, word);
}

static void on_message(int fd, short what, void *arg)
{
    struct wk *w = arg;
    char text[4097];
    struct ucred from;
    int kind;

    for (int i = 0; i < MESSAGES_A_ROUND && w->notify && (kind = peek(fd, &from)) != 0; i++) {
        if (kind == 2) {
            if (!is_too_much(w, &from) && may_speak(w, &from) && wk_fds_peek(w, fd, text, sizeof(text)))
                hear(w, text);
            if (w->notify)
                take_elsewhere(w); /* the message itself */
            return;
        }
        if (is_too_much(w, &from)) {
            pause_for(w, 1000000 - clock_mono_us() % 1000000);
            return;
        }
        bool heard = may_speak(w, &from);
        ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 || n > (ssize_t)sizeof(text) - 1 || !heard)
            continue;
        text[n] = 0;
        hear(w, text);
    }
}

/* --- the socket ----------------------------------------------------------------------------------------- */

/* Its own user; or any, as to systemd's socket, if it is started as ours and may become another: then the
 * credentials decide. */
static int let_send(const struct wk *w, const char *path)
{
    const struct cfg_ids *ids = &w->def->ids;
    enum caps_scope scope = caps_enter(CAPS_FILES);
    bool given = ids->set && ids->uid != geteuid() && chown(path, ids->uid, (gid_t)-1) == 0;
    int r = chmod(path, given ? 0600 : 0666);

    caps_enter(scope);
    return r;
}

static int make_socket(const struct wk *w)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[600], path[700];
    int on = 1;

    if (fd < 0)
        return -errno;
    snprintf(dir, sizeof(dir), "%s/notify", wk_host.runtime_dir);
    mkdir(dir, 0711);
    notify_path(w, path, sizeof(path));
    if (strlen(path) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    str_copy(sa.sun_path, sizeof(sa.sun_path), path);
    unlink(path);
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || let_send(w, path) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int attach(struct wk *w, int fd)
{
    struct notify *n = calloc(1, sizeof(*n));

    if (!n || !(n->io = loop_io(fd, LOOP_READ, on_message, w))) {
        free(n);
        fd_close(fd);
        return -ENOMEM;
    }
    n->fd = fd;
    w->notify = n;
    return 0;
}

int notify_open(struct wk *w)
{
    int fd, r = 0;

    if (!w->notify && ((fd = make_socket(w)) < 0 || (r = attach(w, fd)) < 0))
        return fd < 0 ? fd : r;
    free(TAKE_PTR(w->notify->status));
    w->notify->access = w->def->notify_access;
    w->notify->reloading = w->notify->stopping = w->notify->bounded = w->notify->refused = false;
    w->notify->watchdog_us = w->def->watchdog_us == STR_USEC_INFINITY ? 0 : w->def->watchdog_us;
    return 0;
}

void notify_clear(void)
{
    char dir[600];
    struct dirent *e;
    DIR *d;

    snprintf(dir, sizeof(dir), "%s/notify", wk_host.runtime_dir);
    if (!(d = opendir(dir)))
        return;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

void notify_close(struct wk *w)
{
    struct notify *n = TAKE_PTR(w->notify);
    char path[700];

    if (!n)
        return;
    loop_free(&n->io);
    loop_free(&n->watchdog);
    loop_free(&n->pause);
    helper_cancel(&n->taking);
    notify_path(w, path, sizeof(path));
    unlink(path);
    close_socket(n->fd);
    free(n->status);
    free(n);
}

void notify_resume(struct wk *w, int fd, char *status)
{
    if (attach(w, fd) < 0) {
        free(status);
        return;
    }
    w->notify->status = status;
    w->notify->access = w->def->notify_access;
    notify_watch(w, w->state == WK_UP);
}
