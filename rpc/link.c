/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/link.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <event2/event.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "rpc/auth.h"
#include "rpc/call.h"
#include "rpc/events.h"
#include "rpc/listen.h"
#include "rpc/stats.h"
#include "rpc/table.h"
#include "rpc/tls.h"

#define BULK 8192 /* after a packet above it there are more: agentd is sending its table */

static struct event *readable;
static int wire_fd = -1;
static void (*end_fn)(void), (*drain_fn)(uint32_t grace_ms);
static uint8_t packet[LIMIT_WIRE_PACKET];
static uint8_t *hello_body;
static struct wire_hello hello = {.version = "", .install_home = "", .log_home = "", .host_ip = ""};
static unsigned epoch;

const struct wire_hello *link_hello(void)
{
    return &hello;
}

unsigned link_epoch(void)
{
    return epoch;
}

int link_send(const struct buf *b)
{
    if (b->error)
        return b->error;
    if (wire_fd < 0)
        return -EPIPE;
    if (send(wire_fd, b->p, b->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    stats.frames_out++; /* a packet holds one call */
    stats.bytes_out += b->len;
    return 0;
}

static void or_default(uint32_t *v, uint32_t value)
{
    *v = *v ? *v : value;
}

/* An earlier agentd does not say them. */
static void fill_limits(struct wire_hello *h)
{
    or_default(&h->max_header_bytes, LIMIT_HTTP_HEADER_BYTES);
    or_default(&h->max_headers, LIMIT_HTTP_HEADERS);
    or_default(&h->idle_ms, LIMIT_HTTP_IDLE_SEC * 1000);
    or_default(&h->heartbeat_ms, LIMIT_HTTP_HEARTBEAT_SEC * 1000);
    or_default(&h->max_requests, LIMIT_HTTP_REQUESTS);
    or_default(&h->max_log_streams, LIMIT_HTTP_STREAMS);
    or_default(&h->max_event_streams, LIMIT_HTTP_EVENTS);
}

static int on_hello(const struct wire_frame *f)
{
    struct wire_hello v;
    struct wire_frame own = *f;
    uint8_t *body = malloc(f->len);

    if (!body)
        return -ENOMEM;
    memcpy(body, f->body, f->len);
    own.body = body;
    if (wire_get_hello(&own, &v) < 0) {
        free(body);
        return -EBADMSG;
    }
    free(hello_body);
    hello_body = body;
    hello = v;
    fill_limits(&hello);
    epoch++;
    auth_begin();
    tls_begin();
    return 0;
}

static int on_listener(const struct wire_frame *f, int *fd)
{
    struct wire_listener_frame v;

    if (wire_get_listener(f, &v) < 0 || *fd < 0 || v.kind >= WIRE_LISTEN_MAX)
        return -EBADMSG;
    return listen_add(TAKE_FD(*fd), v.kind, v.loopback, v.address);
}

static int on_credential(const struct wire_frame *f)
{
    struct wire_credential v;

    return wire_get_credential(f, &v) < 0 ? -EBADMSG : auth_add(v.line);
}

static int on_tls(const struct wire_frame *f)
{
    struct wire_tls v;

    return wire_get_tls(f, &v) < 0 ? -EBADMSG : tls_take(&v);
}

static int on_forget(const struct wire_frame *f)
{
    struct wire_forget v;

    if (wire_get_forget(f, &v) < 0)
        return -EBADMSG;
    table_forget(v.id);
    return 0;
}

static int on_synced(const struct wire_frame *f)
{
    struct wire_synced v;

    if (wire_get_synced(f, &v) < 0 || !epoch)
        return -EBADMSG;
    auth_commit();
    tls_commit(); /* if it is wrong, what was in force goes on, and all else does */
    events_arm();
    listen_serve();
    return 0;
}

static int on_reply(const struct wire_frame *f)
{
    struct wire_reply v;

    if (wire_get_reply(f, &v) < 0)
        return -EBADMSG;
    call_replied(&v, f);
    return 0;
}

static int on_stream(const struct wire_frame *f, int *fd)
{
    struct wire_stream v;

    if (wire_get_stream(f, &v) < 0 || *fd < 0)
        return -EBADMSG;
    call_streamed(v.call, TAKE_FD(*fd));
    return 0;
}

static int on_drain(const struct wire_frame *f)
{
    struct wire_drain v;

    if (wire_get_drain(f, &v) < 0)
        return -EBADMSG;
    drain_fn(v.grace_ms);
    return 0;
}

static int on_frame(const struct wire_frame *f, int *fd)
{
    switch (f->type) {
    case WIRE_HELLO:
        return on_hello(f);
    case WIRE_LISTENER:
        return on_listener(f, fd);
    case WIRE_CREDENTIAL:
        return on_credential(f);
    case WIRE_TLS:
        return on_tls(f);
    case WIRE_RECORD:
        return table_put(f);
    case WIRE_FORGET:
        return on_forget(f);
    case WIRE_SYNCED:
        return on_synced(f);
    case WIRE_REPLY:
        return on_reply(f);
    case WIRE_STREAM:
        return on_stream(f, fd);
    case WIRE_DRAIN:
        return on_drain(f);
    case WIRE_EVENT:
        return events_take(f);
    default:
        return 0; /* a newer agentd */
    }
}

static int on_packet(size_t n, int fd)
{
    _cleanup_close_ int own = fd;
    const uint8_t *at = packet;
    struct wire_frame f;
    int r;

    stats.bytes_in += n;
    while ((r = wire_next(&at, &n, &f)) > 0) {
        stats.frames_in++;
        if ((r = on_frame(&f, &own)) < 0)
            break;
    }
    if (r < 0)
        log_error("link", "a frame of type %u: %s", f.type, strerror(-r));
    return r;
}

/* The one descriptor of a packet, others are closed. */
static int take_fd(struct msghdr *m)
{
    int fd = -1, one;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
            memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(one));
            fd_close(fd);
            fd = one;
        }
    }
    return fd;
}

/* Bytes of the packet, 0 at the end, -errno. */
static ssize_t receive(int *fd)
{
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec v = {packet, sizeof(packet)};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(wire_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return -errno;
    *fd = take_fd(&m);
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        *fd = fd_close(*fd);
        return -EBADMSG;
    }
    return n;
}

static void end_link(void)
{
    event_del(readable);
    wire_fd = fd_close(wire_fd);
    end_fn();
}

static void on_readable(evutil_socket_t s, short what, void *arg)
{
    ssize_t n;
    int fd = -1;

    do {
        fd = -1;
        n = receive(&fd);
        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n <= 0 || on_packet((size_t)n, fd) < 0) {
            end_link();
            return;
        }
    } while (n > BULK);
}

int link_init(struct event_base *base, int fd, void (*on_end)(void), void (*on_drained)(uint32_t grace_ms))
{
    wire_fd = fd;
    end_fn = on_end;
    drain_fn = on_drained;
    readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, NULL);
    return readable && event_add(readable, NULL) == 0 ? fd_nonblock(fd, 1) : -ENOMEM;
}
