/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/auth.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "rpc/link.h"
#include "rpc/listen.h"

/* The credentials, as lines: other kinds than basic are kept as they are, and match nobody. */
struct set {
    char *lines[LIMIT_CREDENTIALS];
    size_t count;
};

/* One password that waits for a child, or is with one. */
struct check {
    struct check *next;
    struct request *request;
    auth_fn done;
    struct event *result; /* the pipe's end, while a child computes */
    int fd;
    bool known; /* there is such a user: else the same work is done for nothing */
    struct auth_basic basic;
    uint8_t key[AUTH_KEY];
    char password[LIMIT_HTTP_PASSWORD];
};

static struct set current, coming;
static struct event_base *loop;
static struct check *waiting, **waiting_end = &waiting, *running;
static unsigned waiting_count, running_count;

/* ---- the set ---- */

static void clear_set(struct set *s)
{
    for (size_t i = 0; i < s->count; i++) {
        explicit_bzero(s->lines[i], strlen(s->lines[i]));
        free(s->lines[i]);
    }
    s->count = 0;
}

void auth_begin(void)
{
    clear_set(&coming);
}

int auth_add(const char *line)
{
    if (coming.count == LIMIT_CREDENTIALS)
        return -ENOSPC;
    if (!(coming.lines[coming.count] = strdup(line)))
        return -ENOMEM;
    coming.count++;
    return 0;
}

void auth_commit(void)
{
    clear_set(&current);
    current = coming;
    coming.count = 0;
    auth_cache_clear();
}

/* The credential of that name, or, so that an unknown name takes as long, any; NULL: there are none. */
static const char *find_line(const char *user, struct auth_basic *ret, bool *known)
{
    struct auth_basic b;
    const char *any = NULL;

    *known = false;
    for (size_t i = 0; i < current.count; i++) {
        if (auth_basic_line(current.lines[i], &b) < 0)
            continue;
        if (!any) {
            any = current.lines[i];
            *ret = b;
        }
        if (str_eq(b.name, user)) {
            *known = true;
            *ret = b;
            any = current.lines[i];
            break;
        }
    }
    explicit_bzero(&b, sizeof(b));
    return any;
}

/* ---- the unix socket ---- */

static bool in_groups(const gid_t *groups, size_t n, gid_t primary, int64_t wanted)
{
    if (wanted < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((int64_t)groups[i] == wanted)
            return true;
    return (int64_t)primary == wanted;
}

static enum method_role role_of_groups(int fd)
{
    gid_t few[64];
    _cleanup_free_ gid_t *many = NULL;
    gid_t *groups = few;
    socklen_t len = sizeof(few), cred_len = sizeof(struct ucred);
    struct ucred cred;
    const struct wire_hello *h = link_hello();

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0)
        return METHOD_NONE;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &len) < 0) {
        /* ERANGE tells the length; a kernel without the option leaves the primary group */
        if (errno != ERANGE || !(many = malloc(len)) ||
            getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, many, &len) < 0)
            len = 0;
        groups = many;
    }
    if (in_groups(groups, len / sizeof(gid_t), cred.gid, h->manager_gid))
        return METHOD_MANAGER;
    return in_groups(groups, len / sizeof(gid_t), cred.gid, h->viewer_gid) ? METHOD_VIEWER : METHOD_NONE;
}

static enum auth_verdict check_unix(struct request *r)
{
    uid_t uid = listen_uid(r->conn);
    int *cached = listen_role_cache(r->conn), epoch = (int)(link_epoch() & 0xffff) << 2;

    if (uid == (uid_t)-1)
        return AUTH_FORBIDDEN;
    if (*cached < 0 || (*cached & ~3) != epoch)
        *cached =
            epoch | (uid == 0 || uid == link_hello()->own_uid ? (int)METHOD_MANAGER
                                                              : (int)role_of_groups(listen_fd(r->conn)));
    r->role = (enum method_role)(*cached & 3);
    snprintf(r->actor, sizeof(r->actor), "uid:%u", uid);
    return r->role == METHOD_NONE ? AUTH_FORBIDDEN : AUTH_GRANTED;
}

/* ---- passwords ---- */

static void free_check(struct check *c)
{
    if (c->result)
        event_free(c->result);
    fd_close(c->fd);
    explicit_bzero(c, sizeof(*c));
    free(c);
}

static void grant(struct request *r, const struct auth_basic *b)
{
    r->role = b->role;
    snprintf(r->actor, sizeof(r->actor), "basic:%.64s", b->name);
}

static void end_check(struct check *c, enum auth_verdict v)
{
    struct request *r = c->request;
    auth_fn done = c->done;

    if (v == AUTH_GRANTED) {
        auth_cache_put(c->key);
        grant(r, &c->basic);
    }
    free_check(c);
    done(r, v);
}

/* As long for a wrong byte at the start as for one at the end. */
static bool differ_bytes(const char *a, const char *b)
{
    size_t n = strlen(b);
    volatile unsigned char sum = 0;

    if (strlen(a) != n)
        return true;
    for (size_t i = 0; i < n; i++)
        sum = (unsigned char)(sum | (a[i] ^ b[i]));
    return sum != 0;
}

/* In the child: nothing of the parent is used but memory. */
static _Noreturn void child(const struct check *c, int to)
{
    struct rlimit cpu = {LIMIT_AUTH_CHECK_SEC, LIMIT_AUTH_CHECK_SEC};
    struct crypt_data *data = calloc(1, sizeof(*data));
    const char *got;
    bool differ = true;
    char answer;

    /* no socket of ours may stay open for as long as a hash takes; and nobody is left to read it without us
     */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(to, STDIN_FILENO);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    setrlimit(RLIMIT_CPU, &cpu);
    if (data && (got = crypt_rn(c->password, c->basic.hash, data, (int)sizeof(*data))))
        differ = differ_bytes(got, c->basic.hash);
    answer = !differ && c->known ? 'y' : 'n';
    fd_write_all(STDIN_FILENO, &answer, 1);
    _exit(0);
}

static void start_waiting(void);

static void on_result(evutil_socket_t fd, short what, void *arg)
{
    struct check *c = arg, **at = &running;
    char answer = 0;
    ssize_t n = read(fd, &answer, 1);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    running_count--;
    end_check(c, n == 1 ? (answer == 'y' ? AUTH_GRANTED : AUTH_DENIED) : AUTH_FAILED);
    start_waiting();
}

/* 0 or -errno. Children are never waited for: SIGCHLD is ignored, so the kernel clears them away. */
static int start_child(struct check *c)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fd_nonblock(ends[0], 1);
    pid = fork();
    if (pid == 0)
        child(c, ends[1]);
    fd_close(ends[1]);
    c->fd = ends[0];
    c->result = pid < 0 ? NULL : event_new(loop, ends[0], EV_READ | EV_PERSIST, on_result, c);
    if (!c->result || event_add(c->result, NULL) < 0)
        return -ENOMEM;
    explicit_bzero(c->password, sizeof(c->password));
    c->next = running;
    running = c;
    running_count++;
    return 0;
}

static void start_waiting(void)
{
    while (waiting && running_count < LIMIT_AUTH_CHECKS) {
        struct check *c = waiting;
        if (!(waiting = c->next))
            waiting_end = &waiting;
        waiting_count--;
        /* the same password may have been found right while this one waited */
        if (c->known && auth_cache_has(c->key))
            end_check(c, AUTH_GRANTED);
        else if (start_child(c) < 0)
            end_check(c, AUTH_FAILED);
    }
}

static enum auth_verdict queue_check(struct check *c)
{
    if (running_count >= LIMIT_AUTH_CHECKS && waiting_count >= LIMIT_AUTH_WAITING) {
        free_check(c);
        return AUTH_BUSY;
    }
    if (running_count < LIMIT_AUTH_CHECKS) {
        if (start_child(c) == 0)
            return AUTH_WAITING;
        free_check(c);
        return AUTH_FAILED;
    }
    c->next = NULL;
    *waiting_end = c;
    waiting_end = &c->next;
    waiting_count++;
    return AUTH_WAITING;
}

static enum auth_verdict check_basic(struct request *r, const char *header, auth_fn done)
{
    char user[LIMIT_HTTP_PASSWORD];
    struct check *c = calloc(1, sizeof(*c));
    const char *line;
    enum auth_verdict v = AUTH_DENIED;

    if (!c)
        return AUTH_FAILED;
    c->fd = -1;
    c->request = r;
    c->done = done;
    if (auth_basic_header(header, user, c->password) < 0 || !(line = find_line(user, &c->basic, &c->known))) {
        free_check(c);
        return v;
    }
    auth_cache_key(c->key, line, user, c->password);
    if (!c->known || !auth_cache_has(c->key))
        return queue_check(c);
    grant(r, &c->basic);
    free_check(c);
    return AUTH_GRANTED;
}

enum auth_verdict auth_check(struct request *r, auth_fn done)
{
    const char *header;

    if (!r->conn)
        return AUTH_FAILED;
    if (listen_is_unix(r->conn))
        return check_unix(r);
    if (!(header = request_header(r, "Authorization")))
        return AUTH_DENIED;
    if (!listen_is_loopback(r->conn) && !link_hello()->plaintext_credentials)
        return AUTH_FORBIDDEN;
    return check_basic(r, header, done);
}

void auth_cancel_all(void)
{
    while (running) {
        struct check *c = running;
        running = c->next;
        running_count--;
        end_check(c, AUTH_FAILED);
    }
    while (waiting) {
        struct check *c = waiting;
        waiting = c->next;
        waiting_count--;
        end_check(c, AUTH_FAILED);
    }
    waiting_end = &waiting;
}

int auth_init(struct event_base *base)
{
    loop = base;
    auth_cache_init();
    return signal(SIGCHLD, SIG_IGN) == SIG_ERR ? -errno : 0;
}
