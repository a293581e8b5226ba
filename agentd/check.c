/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/check.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define WAIT_FIRST_MS 2
#define WAIT_MAX_MS 100
#define TRY_TIMEOUT_US 2000000 /* of one try among many */
#define WHILE_US 2000000       /* all of them */
#define UNKNOWN 2              /* neither CHECK_WELL nor CHECK_NOT_WELL */
#define WHY_MAX 160

struct question {
    const struct cfg_check *check;
    const struct cfg_ids *ids;
    uint64_t until; /* monotonic: the end of this try */
    uint64_t again; /* monotonic: until then it is tried again; 0: not at all */
};

static int ms_left(const struct question *q)
{
    uint64_t now = clock_mono_us();

    return now < q->until ? (int)((q->until - now) / 1000) + 1 : 0;
}

/* 0 or -errno. */
static int wait_for(const struct question *q, int fd, short what)
{
    struct pollfd p = {.fd = fd, .events = what};
    int n = poll(&p, 1, ms_left(q));

    return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

static int connect_to(const struct question *q, int fd, const struct sockaddr *sa, socklen_t len)
{
    socklen_t n = sizeof(int);
    int error = 0, r;

    if (connect(fd, sa, len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    if ((r = wait_for(q, fd, POLLOUT)) < 0)
        return r;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : -error;
}

/* What we lack says nothing of the worker. */
static bool is_ours(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static int ask_unix(const struct question *q, char why[WHY_MAX])
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int r;

    str_copy(sa.sun_path, sizeof(sa.sun_path), q->check->path);
    r = fd < 0 ? -errno : connect_to(q, fd, (struct sockaddr *)&sa, sizeof(sa));
    if (r == 0 || r == -EAGAIN) /* its queue is full: somebody listens */
        return CHECK_WELL;
    snprintf(why, WHY_MAX, "%.80s: %s", q->check->path, strerror(-r));
    return is_ours(-r) ? UNKNOWN : CHECK_NOT_WELL;
}

/* --- HTTP ----------------------------------------------------------------------------------------------- */

/* RFC 6761, 6.3: "localhost" is the loopback on every host, also on one that has no /etc/hosts. */
static const char *node_of(const char *host)
{
    return strcasecmp(host, "localhost") == 0 ? NULL
                                              : host; /* NULL: getaddrinfo(3) answers ::1 and 127.0.0.1 */
}

/* A socket, or -errno of the last address. */
static int connect_http(const struct question *q)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *all, *a;
    char port[8];
    int r;

    snprintf(port, sizeof(port), "%u", q->check->port);
    if ((r = getaddrinfo(node_of(q->check->host), port, &hints, &all)) != 0)
        return r == EAI_AGAIN || r == EAI_MEMORY || r == EAI_SYSTEM ? -ENOMEM : -EHOSTUNREACH;
    r = -EHOSTUNREACH;
    for (a = all; a; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = fd < 0 ? -errno : connect_to(q, fd, a->ai_addr, a->ai_addrlen);
        if (r == 0) {
            r = fd;
            break;
        }
        fd_close(fd);
    }
    freeaddrinfo(all);
    return r;
}

static int send_request(const struct question *q, int fd)
{
    char text[4096];
    bool six = strchr(q->check->host, ':');
    int n = snprintf(text, sizeof(text),
                     "GET %s HTTP/1.0\r\nHost: %s%s%s:%u\r\nUser-Agent: agentd\r\nAccept: */*\r\n"
                     "Connection: close\r\n\r\n",
                     q->check->path, six ? "[" : "", q->check->host, six ? "]" : "", q->check->port);

    if (n >= (int)sizeof(text))
        return -ENAMETOOLONG;
    return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -EPIPE; /* a fresh socket takes it whole */
}

/* All of it, or its first LIMIT_CHECK_ANSWER bytes; how many, or -errno. */
static ssize_t read_answer(const struct question *q, int fd, char *text)
{
    size_t len = 0;
    ssize_t n;
    int r;

    while (len < LIMIT_CHECK_ANSWER) {
        if ((r = wait_for(q, fd, POLLIN)) < 0)
            return r;
        n = recv(fd, text + len, LIMIT_CHECK_ANSWER - len, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = 0;
    return (ssize_t)len;
}

/* RFC 9112: the status line, then the head up to an empty line, then the body. */
static int judge(const struct cfg_check *c, const char *text, size_t len, char why[WHY_MAX])
{
    unsigned status = 0;
    const char *body = strstr(text, "\r\n\r\n");

    if (sscanf(text, "HTTP/1.%*1[0-9] %3u", &status) != 1 || status < 100) {
        snprintf(why, WHY_MAX, "the answer is not HTTP");
        return CHECK_NOT_WELL;
    }
    if (c->status ? status != c->status : status < 200 || status > 399) {
        snprintf(why, WHY_MAX, "the answer is %u", status);
        return CHECK_NOT_WELL;
    }
    if (c->body && (!body || !memmem(body, len - (size_t)(body - text), c->body, strlen(c->body)))) {
        snprintf(why, WHY_MAX, "the answer does not contain \"%.80s\"", c->body);
        return CHECK_NOT_WELL;
    }
    return CHECK_WELL;
}

static int ask_http(const struct question *q, char why[WHY_MAX])
{
    _cleanup_free_ char *text = malloc(LIMIT_CHECK_ANSWER + 1);
    _cleanup_close_ int fd = text ? connect_http(q) : -ENOMEM;
    ssize_t n = fd < 0 ? fd : send_request(q, fd);

    if (n == 0)
        n = read_answer(q, fd, text);
    if (n >= 0)
        return judge(q->check, text, (size_t)n, why);
    snprintf(why, WHY_MAX, "%.64s:%u: %s", q->check->host, q->check->port, strerror((int)-n));
    return is_ours((int)-n) ? UNKNOWN : CHECK_NOT_WELL;
}

/* --- the helper ----------------------------------------------------------------------------------------- */

static int ask(const struct question *q, char why[WHY_MAX])
{
    return q->check->kind == CFG_CHECK_UNIX ? ask_unix(q, why) : ask_http(q, why);
}

static int run(int out, void *arg)
{
    struct question *q = arg;
    struct pollfd gone = {.fd = out}; /* POLLERR: agentd does not read any more */
    char why[WHY_MAX] = "";
    int r;

    if (helper_become(q->ids) < 0)
        return UNKNOWN;
    for (int ms = WAIT_FIRST_MS;; ms = ms < WAIT_MAX_MS ? ms * 2 : ms) {
        if (q->again)
            q->until = clock_mono_us() + TRY_TIMEOUT_US;
        r = ask(q, why);
        if (r == CHECK_WELL || clock_mono_us() >= q->again || poll(&gone, 1, ms) != 0)
            break;
    }
    fd_write_all(out, why, r == CHECK_WELL ? 0 : strlen(why));
    return r;
}

/* The helper is a copy of us: it has its own of all that is asked. */
static struct helper *start(struct question *q, uint64_t timeout_us, helper_done_fn done, void *arg)
{
    if (helper_count() >= LIMIT_CHECKS) /* the others' work must not wait for a worker's answer */
        return NULL;
    return helper_start(run, q, done, arg, timeout_us, WHY_MAX);
}

struct helper *check_once(const struct cfg_check *c, const struct cfg_ids *ids, uint64_t timeout_us,
                          helper_done_fn done, void *arg)
{
    struct question q = {c, ids, clock_mono_us() + timeout_us, 0};

    return start(&q, timeout_us + timeout_us / 2, done, arg);
}

struct helper *check_for_a_while(const struct cfg_check *c, const struct cfg_ids *ids, helper_done_fn done,
                                 void *arg)
{
    struct question q = {c, ids, 0, clock_mono_us() + WHILE_US};

    return start(&q, 2 * (WHILE_US + TRY_TIMEOUT_US), done, arg);
}
