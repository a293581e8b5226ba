/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/listen.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "rpc/gate.h"
#include "rpc/link.h"
#include "rpc/reply.h"
#include "rpc/request.h"
#include "rpc/source.h"
#include "rpc/stats.h"
#include "rpc/tls.h"

#define HOLD (SIZE_MAX / 2) /* a low watermark that no input reaches: evhttp is not called */
#define STREAM_INPUT 4096
#define PAUSE_US 100000

struct listener {
    LIST_ENTRY(listener) of_all;
    struct evconnlistener *accepts;
    struct evhttp *http;
    struct event *resume; /* after EMFILE */
    int kind;
    bool loopback;
    char address[108];
};

struct listen_conn {
    TAILQ_ENTRY(listen_conn) of_all;
    struct listener *listener;
    struct bufferevent *bev;
    struct evhttp_connection *evcon;
    struct request *request;
    uint64_t since_us; /* of the state it is in: idle, inside of a request, writing, refused */
    uint64_t arrived;  /* bytes, for the gate's offsets */
    uint32_t handled;  /* requests that evhttp has handed out */
    int role, fd;
    bool fresh;    /* evhttp has not given it its descriptor yet */
    bool busy;     /* from a request's dispatch until its reply is sent */
    bool granted;  /* a request on it was let in */
    bool stream;   /* the reply has no end of its own */
    bool hold;     /* a request has begun, evhttp sees it when it is whole */
    bool poisoned; /* the gate has refused; what came whole before is still answered */
    bool refused;  /* ours: the error is on its way, input is thrown away */
    bool editing;  /* we change the input ourselves */
    struct gate gate;
    struct source_ends ends;
    struct source *source; /* NULL: a unix socket's, or none was given */
};

static LIST_HEAD(, listener) listeners = LIST_HEAD_INITIALIZER(listeners);
static TAILQ_HEAD(conn_list, listen_conn) conns = TAILQ_HEAD_INITIALIZER(conns);
static struct listen_conn **by_fd;
static size_t by_fd_size;
static unsigned conn_count, settled; /* of these those that evhttp serves */
static struct event_base *loop;
static struct event *sweep, *kick, *shut;
static uint64_t sweep_at; /* 0: not armed */
static listen_request_fn on_request;
static struct gate_limits limits;
static bool accepting, full, starved, ended;
static void (*on_empty)(void); /* once the last connection has gone */

static bool is_tls(const struct listen_conn *c)
{
    return c->listener->kind == WIRE_LISTEN_TLS;
}

static bool is_shaking(const struct listen_conn *c)
{
    return is_tls(c) && tls_is_shaking(c->bev);
}

/* ---- time ---- */

static uint64_t deadline_of(const struct listen_conn *c)
{
    if (c->refused)
        return c->since_us + LIMIT_HTTP_LINGER_SEC * 1000000ull;
    if (c->busy)
        return evbuffer_get_length(bufferevent_get_output(c->bev))
                   ? c->since_us + LIMIT_HTTP_TAKE_SEC * 1000000ull
                   : UINT64_MAX;
    if (c->gate.inside || is_shaking(c))
        return c->since_us + link_hello()->request_deadline_ms * 1000ull;
    return c->since_us + link_hello()->idle_ms * 1000ull;
}

/* The sweep is one timer for the nearest deadline; none without connections. */
static void arm_sweep(uint64_t at)
{
    uint64_t now = clock_mono_us(), wait = at > now ? at - now : 0;

    if (sweep_at && sweep_at <= at)
        return;
    if (wait < 20000)
        wait = 20000;
    struct timeval tv = {(time_t)(wait / 1000000), (suseconds_t)(wait % 1000000)};
    sweep_at = at;
    event_add(sweep, &tv);
}

static void set_since(struct listen_conn *c)
{
    c->since_us = clock_mono_us();
}

/* ---- end of a connection ---- */

static void set_accepting(void)
{
    struct listener *l;
    bool on = accepting && !full;

    LIST_FOREACH (l, &listeners, of_all) {
        if (on && (l->kind != WIRE_LISTEN_TLS || tls_is_ready()))
            evconnlistener_enable(l->accepts);
        else
            evconnlistener_disable(l->accepts);
    }
}

static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg);
static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg);

static void forget_conn(struct listen_conn *c)
{
    struct request *r = TAKE_PTR(c->request);

    evbuffer_remove_cb(bufferevent_get_input(c->bev), on_input, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
    TAILQ_REMOVE(&conns, c, of_all);
    if (c->fd >= 0 && (size_t)c->fd < by_fd_size && by_fd[c->fd] == c)
        by_fd[c->fd] = NULL;
    conn_count--;
    settled -= !c->fresh;
    source_leave(c->source);
    if (full) {
        full = false;
        set_accepting();
    }
    if (is_tls(c))
        tls_goodbye(c->bev);
    bufferevent_decref(c->bev);
    free(c);
    if (r)
        request_gone(r);
    if (TAILQ_EMPTY(&conns)) {
        event_del(sweep);
        sweep_at = 0;
        if (on_empty)
            on_empty();
    }
}

static void on_closed(struct evhttp_connection *evcon, void *arg)
{
    forget_conn(arg);
}

/* Only without a request in our hands: evhttp would free it under us. */
static void close_conn(struct listen_conn *c)
{
    if (c->evcon)
        evhttp_connection_free(c->evcon); /* calls on_closed */
}

/* ---- refusals: the connection is taken from evhttp, answered and closed ---- */

static void refused_write(struct bufferevent *bev, void *arg)
{
    struct listen_conn *c = arg;

    /* all is written; the end is left to the reader, so that no reset overtakes the answer */
    if (is_tls(c))
        tls_goodbye(bev);
    shutdown(c->fd, SHUT_WR);
}

static void refused_event(struct bufferevent *bev, short what, void *arg)
{
    close_conn(arg);
}

static void refuse(struct listen_conn *c, int status, enum wire_error error, const char *reason)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    c->refused = c->poisoned = true;
    c->editing = true;
    evbuffer_drain(in, evbuffer_get_length(in));
    c->editing = false;
    set_since(c);
    bufferevent_setcb(c->bev, NULL, refused_write, refused_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, 0);
    reply_refusal(bufferevent_get_output(c->bev), c, status, error, reason);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    arm_sweep(deadline_of(c));
}

static void refuse_poisoned(struct listen_conn *c)
{
    refuse(c, wire_error_status(c->gate.error), c->gate.error, c->gate.reason);
}

static bool may_refuse(const struct listen_conn *c)
{
    return c->poisoned && !c->refused && !c->busy && !c->fresh && c->handled == c->gate.requests;
}

/* ---- input ---- */

/* Cuts off what came behind the last whole request, and keeps that for evhttp. */
static void cut_input(struct listen_conn *c, struct evbuffer *in)
{
    size_t len = evbuffer_get_length(in);
    uint64_t start = c->arrived - len;
    size_t keep = c->gate.whole > start ? (size_t)(c->gate.whole - start) : 0;
    struct evbuffer *good = keep ? evbuffer_new() : NULL;

    c->editing = true;
    if (good)
        evbuffer_remove_buffer(in, good, keep);
    evbuffer_drain(in, evbuffer_get_length(in));
    if (good) {
        evbuffer_prepend_buffer(in, good);
        evbuffer_free(good);
    }
    c->editing = false;
}

static enum gate_verdict feed(struct listen_conn *c, struct evbuffer *in, size_t n)
{
    struct evbuffer_ptr at;
    struct evbuffer_iovec v[8];
    int got;

    if (evbuffer_ptr_set(in, &at, evbuffer_get_length(in) - n, EVBUFFER_PTR_SET) < 0)
        return GATE_REFUSED;
    while (n) {
        size_t done = 0;
        got = evbuffer_peek(in, (ev_ssize_t)n, &at, v, (int)ARRAY_LEN(v));
        if (got > (int)ARRAY_LEN(v))
            got = (int)ARRAY_LEN(v);
        for (int i = 0; i < got && n; i++) {
            size_t len = v[i].iov_len < n ? v[i].iov_len : n;
            if (gate_feed(&c->gate, v[i].iov_base, len) == GATE_REFUSED)
                return GATE_REFUSED;
            n -= len;
            done += len;
        }
        if (n && (!done || evbuffer_ptr_set(in, &at, done, EVBUFFER_PTR_ADD) < 0))
            return GATE_REFUSED;
    }
    return GATE_FINE;
}

static void set_hold(struct listen_conn *c)
{
    bool hold = c->gate.inside && !c->gate.wants_go && !c->busy && c->gate.requests == c->handled;

    if (hold == c->hold)
        return;
    c->hold = hold;
    bufferevent_setwatermark(c->bev, EV_READ, hold ? HOLD : 0, limits.head + limits.body + STREAM_INPUT);
}

/* Called with each piece of input before evhttp is: what the gate refuses is gone by then. */
static void on_input(struct evbuffer *in, const struct evbuffer_cb_info *info, void *arg)
{
    struct listen_conn *c = arg;
    uint64_t whole = c->gate.whole;
    bool inside = c->gate.inside;

    if (!info->n_added || c->editing)
        return;
    c->arrived += info->n_added;
    if (c->refused || c->poisoned) {
        cut_input(c, in);
        return;
    }
    if (feed(c, in, info->n_added) == GATE_REFUSED) {
        c->poisoned = true;
        cut_input(c, in);
        if (c->hold) {
            c->hold = false;
            bufferevent_setwatermark(c->bev, EV_READ, 0, 0);
        }
        if (may_refuse(c))
            refuse_poisoned(c);
        return;
    }
    set_hold(c);
    if (c->gate.inside && !c->busy && (!inside || whole != c->gate.whole)) {
        set_since(c);
        arm_sweep(deadline_of(c));
    }
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
    struct listen_conn *c = arg;

    /* the time to take a reply starts with it and again with each piece that was taken */
    if (!c->refused && ((info->n_added && !info->orig_size) || (info->n_deleted && evbuffer_get_length(out))))
        set_since(c);
}

/* ---- requests ---- */

static struct listen_conn *find(int fd)
{
    return fd >= 0 && (size_t)fd < by_fd_size ? by_fd[fd] : NULL;
}

static void on_complete(struct evhttp_request *http, void *arg)
{
    struct listen_conn *c = arg;

    c->busy = false;
    set_since(c);
    /* evhttp goes on with this connection when we return, so what we want of it waits until then */
    if (c->poisoned || c->gate.inside)
        event_active(kick, EV_TIMEOUT, 0);
}

static void on_http(struct evhttp_request *http, void *arg)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(http);
    struct listen_conn *c = find(bufferevent_getfd(evhttp_connection_get_bufferevent(evcon)));

    if (!c) { /* can't be; but never answer what the gate has not seen */
        evhttp_send_error(http, 500, NULL);
        return;
    }
    c->busy = true;
    c->handled++;
    set_since(c);
    evhttp_request_set_on_complete_cb(http, on_complete, c);
    on_request(c, http);
}

/* ---- new connections ---- */

static unsigned count_uid(uid_t uid)
{
    struct listen_conn *c;
    unsigned n = 0;

    TAILQ_FOREACH (c, &conns, of_all)
        n += !c->fresh && c->listener->kind == WIRE_LISTEN_UNIX && c->ends.uid == uid;
    return n;
}

/* Who has been there for the longest without a request that was let in, over TCP; NULL: each has had one. */
static struct listen_conn *find_stranger(void)
{
    struct listen_conn *c;

    TAILQ_FOREACH (c, &conns, of_all)
        if (!c->fresh && !c->busy && !c->granted && !c->refused && c->listener->kind != WIRE_LISTEN_UNIX)
            return c;
    return NULL;
}

/* All places are taken, and none can be had of who is nobody, as far as is known. */
static bool is_full(void)
{
    unsigned max = link_hello()->max_connections, reserve = LIMIT_HTTP_ROOT_RESERVE;
    struct listen_conn *stranger;

    /* those that came in the same turn are judged one after the other, each as if it were the last */
    if (settled + 1 <= (max > reserve ? max - reserve : max))
        return false;
    if (!(stranger = find_stranger()))
        return true;
    stats.over_cap++;
    close_conn(stranger);
    return false;
}

static bool over_cap(struct listen_conn *c)
{
    uid_t uid = c->ends.uid;

    if (c->listener->kind == WIRE_LISTEN_UNIX) {
        if (uid == 0 || uid == link_hello()->own_uid)
            return false;
        if (count_uid(uid) >= LIMIT_HTTP_PER_UID)
            return true;
    } else if (!(c->source = source_enter(c->ends.source, link_hello()->max_per_source))) {
        return true;
    }
    return is_full();
}

static bool remember_fd(struct listen_conn *c)
{
    if ((size_t)c->fd >= by_fd_size) {
        size_t want = by_fd_size ? by_fd_size : 64;
        while (want <= (size_t)c->fd)
            want *= 2;
        struct listen_conn **bigger = realloc(by_fd, want * sizeof(*by_fd));
        if (!bigger)
            return false;
        memset(bigger + by_fd_size, 0, (want - by_fd_size) * sizeof(*by_fd));
        by_fd = bigger;
        by_fd_size = want;
    }
    by_fd[c->fd] = c;
    return true;
}

/* One attempt at an answer: lingering would keep the place that it may not have. Under TLS there is none: the
 * handshake would come first. */
static void refuse_over_cap(struct listen_conn *c)
{
    stats.over_cap++;
    if (!is_tls(c)) {
        refuse(c, 503, WIRE_E_NOT_READY, "too many connections");
        listen_flush(c);
    }
    close_conn(c);
}

/* evhttp has accepted and set the descriptor by now. */
static void settle(struct listen_conn *c)
{
    bufferevent_data_cb readcb;
    bufferevent_event_cb eventcb;
    void *arg;
    int one = 1;

    c->fd = bufferevent_getfd(c->bev);
    bufferevent_getcb(c->bev, &readcb, NULL, &eventcb, &arg);
    if (!readcb || c->fd < 0 || evhttp_connection_get_bufferevent(arg) != c->bev || !remember_fd(c)) {
        forget_conn(c); /* evhttp gave it up again */
        return;
    }
    c->evcon = arg;
    evhttp_connection_set_closecb(c->evcon, on_closed, c);
    source_learn(c->fd, listen_is_unix(c), &c->ends);
    if (!listen_is_unix(c))
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (over_cap(c)) {
        refuse_over_cap(c);
        return;
    }
    c->fresh = false;
    settled++;
    arm_sweep(deadline_of(c));
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    struct listen_conn *c, *next;

    for (c = TAILQ_FIRST(&conns); c; c = next) {
        next = TAILQ_NEXT(c, of_all);
        if (c->fresh)
            settle(c);
        else if (may_refuse(c))
            refuse_poisoned(c);
        else if (!c->busy && c->gate.inside)
            arm_sweep(deadline_of(c));
    }
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct listen_conn *c, *next;
    uint64_t now = clock_mono_us(), at, nearest = UINT64_MAX;

    sweep_at = 0;
    for (c = TAILQ_FIRST(&conns); c; c = next) {
        next = TAILQ_NEXT(c, of_all);
        at = deadline_of(c);
        if (at > now)
            nearest = at < nearest ? at : nearest;
        else if (c->busy)
            shutdown(c->fd, SHUT_RDWR); /* evhttp finds out and lets go of the request */
        else if (c->gate.inside && !c->refused)
            refuse(c, 408, WIRE_E_BAD_REQUEST, "the request took too long to come in");
        else
            close_conn(c);
    }
    /* who is busy now gets a deadline with its reply, without telling us: look again in time */
    at = now + LIMIT_HTTP_TAKE_SEC * 1000000ull / 8;
    if (!TAILQ_EMPTY(&conns))
        arm_sweep(nearest < at ? nearest : at);
}

static struct bufferevent *make_bev(struct event_base *base, void *arg)
{
    const struct listener *l = arg;
    struct listen_conn *c = calloc(1, sizeof(*c));
    struct bufferevent *bev = l->kind == WIRE_LISTEN_TLS
                                  ? tls_bufferevent(base)
                                  : bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

    if (!c || !bev || !evbuffer_add_cb(bufferevent_get_input(bev), on_input, c) ||
        !evbuffer_add_cb(bufferevent_get_output(bev), on_output, c)) {
        log_error("listen", "out of memory"); /* evhttp would go on without the gate; agentd starts us anew */
        _exit(1);
    }
    c->listener = arg;
    c->bev = bev;
    c->fd = -1;
    c->role = -1;
    c->fresh = true;
    set_since(c);
    gate_init(&c->gate, &limits);
    bufferevent_incref(bev);
    bufferevent_setwatermark(bev, EV_READ, 0, limits.head + limits.body + STREAM_INPUT);
    TAILQ_INSERT_TAIL(&conns, c, of_all);
    conn_count++;
    stats.connections++;
    starved = false;
    if (conn_count >= link_hello()->max_connections) {
        full = true;
        set_accepting();
    }
    event_active(kick, EV_TIMEOUT, 0);
    return bev;
}

/* Out of descriptors accept(2) fails at once and for ever: wait for some to come back. */
static void on_accept_error(struct evconnlistener *lev, void *arg)
{
    struct timeval tv = {0, PAUSE_US};
    struct listener *l;

    stats.starved++;
    if (!starved)
        log_warn("listen", "accept: %s; waiting for descriptors to come back", strerror(errno));
    starved = true;
    LIST_FOREACH (l, &listeners, of_all)
        if (l->accepts == lev)
            event_add(l->resume, &tv);
    evconnlistener_disable(lev);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    set_accepting();
}

/* Others hold these sockets too, so that closing them here ends no watch: the loop must have given it up
 * before. */
static void on_shut(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l;

    /* evhttp keeps the listener and its connections; only the socket goes */
    LIST_FOREACH (l, &listeners, of_all)
        close(evconnlistener_get_fd(l->accepts));
}

/* ---- the interface ---- */

int listen_init(struct event_base *base, listen_request_fn fn)
{
    loop = base;
    on_request = fn;
    sweep = evtimer_new(base, on_sweep, NULL);
    kick = event_new(base, -1, 0, on_kick, NULL);
    shut = evtimer_new(base, on_shut, NULL);
    return sweep && kick && shut ? 0 : -ENOMEM;
}

static int set_up_http(struct listener *l)
{
    l->http = evhttp_new(loop);
    l->resume = evtimer_new(loop, on_resume, NULL);
    if (!l->http || !l->resume)
        return -ENOMEM;
    evhttp_set_bevcb(l->http, make_bev, l);
    evhttp_set_gencb(l->http, on_http, l);
    evhttp_set_default_content_type(l->http, NULL);
    evhttp_set_timeout(l->http, 7 * 24 * 3600); /* the sweep has the real deadlines */
    evhttp_set_allowed_methods(l->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                            EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
    return evhttp_bind_listener(l->http, l->accepts) ? 0 : -ENOMEM;
}

int listen_add(int fd, int kind, bool loopback, const char *address)
{
    struct listener *l = calloc(1, sizeof(*l));

    if (!l || fd_nonblock(fd, 1) < 0) {
        free(l);
        fd_close(fd);
        return -ENOMEM;
    }
    l->kind = kind;
    l->loopback = loopback;
    str_copy(l->address, sizeof(l->address), address);
    l->accepts = evconnlistener_new(loop, NULL, NULL,
                                    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
    if (!l->accepts || set_up_http(l) < 0)
        return -ENOMEM; /* at start; the process ends over it */
    evconnlistener_disable(l->accepts);
    evconnlistener_set_error_cb(l->accepts, on_accept_error);
    LIST_INSERT_HEAD(&listeners, l, of_all);
    if (accepting)
        set_accepting();
    return 0;
}

const char *listen_unix_path(void)
{
    const struct listener *l, *found = NULL;

    LIST_FOREACH (l, &listeners, of_all) /* the last is the first in the file */
        found = l->kind == WIRE_LISTEN_UNIX ? l : found;
    return found ? found->address : "";
}

void listen_serve(void)
{
    struct listener *l;
    const struct wire_hello *h = link_hello();

    if (ended)
        return;
    limits =
        (struct gate_limits){LIMIT_HTTP_TARGET, h->max_header_bytes, h->max_headers, h->max_request_bytes};
    /* evhttp's own limits stay behind the gate's */
    LIST_FOREACH (l, &listeners, of_all) {
        evhttp_set_max_headers_size(l->http, (ev_ssize_t)h->max_header_bytes + 1024);
        evhttp_set_max_body_size(l->http, (ev_ssize_t)h->max_request_bytes + 1024);
    }
    full = conn_count >= h->max_connections;
    accepting = true;
    set_accepting();
}

bool listen_serves(void)
{
    return accepting;
}

void listen_stop(void)
{
    struct timeval at_once = {0, 0};
    struct listener *l;

    if (ended)
        return;
    ended = true;
    accepting = false;
    set_accepting();
    LIST_FOREACH (l, &listeners, of_all)
        event_del(l->resume);
    event_add(shut, &at_once); /* by the next round the change list has been worked off */
}

void listen_drain(void (*empty)(void))
{
    listen_stop();
    on_empty = empty;
    if (TAILQ_EMPTY(&conns))
        empty();
}

unsigned listen_count(void)
{
    return conn_count;
}

bool listen_idle(void)
{
    struct listen_conn *c;

    TAILQ_FOREACH (c, &conns, of_all)
        if (!c->stream && (c->busy || evbuffer_get_length(bufferevent_get_output(c->bev))))
            return false;
    return true;
}

bool listen_is_unix(const struct listen_conn *c)
{
    return c->listener->kind == WIRE_LISTEN_UNIX;
}

bool listen_is_loopback(const struct listen_conn *c)
{
    return c->listener->loopback;
}

struct bufferevent *listen_tls(const struct listen_conn *c)
{
    return is_tls(c) ? c->bev : NULL;
}

unsigned listen_over_rate(struct listen_conn *c)
{
    return source_request(c->source, link_hello()->request_rate, clock_mono_us());
}

int listen_fd(const struct listen_conn *c)
{
    return c->fd;
}

uid_t listen_uid(const struct listen_conn *c)
{
    return c->ends.uid;
}

const char *listen_source(const struct listen_conn *c)
{
    return c->ends.source;
}

const char *listen_server(const struct listen_conn *c)
{
    return c->ends.server[0] ? c->ends.server : c->listener->address;
}

bool listen_last(const struct listen_conn *c)
{
    return !accepting || c->handled >= link_hello()->max_requests || c->stream;
}

int *listen_role_cache(struct listen_conn *c)
{
    return &c->role;
}

void listen_grant(struct listen_conn *c)
{
    c->granted = true;
}

void listen_attach(struct listen_conn *c, struct request *r)
{
    c->request = r;
}

void listen_streams(struct listen_conn *c)
{
    c->stream = true;
    bufferevent_setwatermark(c->bev, EV_READ, 0, STREAM_INPUT);
}

size_t listen_unsent(const struct listen_conn *c)
{
    return evbuffer_get_length(bufferevent_get_output(c->bev));
}

void listen_flush(struct listen_conn *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    if (is_tls(c))
        return; /* its bytes are not those of the reply */
    evbuffer_unfreeze(out, 1);
    evbuffer_write(out, c->fd);
    evbuffer_freeze(out, 1);
    if (evbuffer_get_length(out) || c->refused)
        return; /* the rest, or the error, is the loop's */
    bufferevent_disable(c->bev, EV_WRITE);
    bufferevent_trigger(c->bev, EV_WRITE, BEV_OPT_DEFER_CALLBACKS);
}
