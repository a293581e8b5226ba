/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/calls.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "base/clock.h"
#include "base/fd.h"
#include "wire/wire.h"

#define PACKETS_A_ROUND 64
#define TURN_US 5000                           /* then the others are heard */
#define FRAME_ROOM (LIMIT_WIRE_PACKET - 12288) /* a packet is sent before a record could overflow it */

struct peer_packet {
    STAILQ_ENTRY(peer_packet) link;
    size_t len;
    int pass_fd; /* travels with it, or -1 */
    char bytes[];
};

struct peer_list peer_all = TAILQ_HEAD_INITIALIZER(peer_all);

static void end_with(struct peer *p, const char *broken)
{
    if (!p->gone)
        p->on_end(p, broken);
}

static void end_failed(struct peer *p, const char *what, int error)
{
    char text[128];

    snprintf(text, sizeof(text), "%s: %s", what, strerror(error));
    end_with(p, text);
}

/* --- sending --------------------------------------------------------------------------------------- */

static int send_now(const struct peer *p, const void *bytes, size_t n, int pass_fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (pass_fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
    }
    return sendmsg(p->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void free_first(struct peer *p)
{
    struct peer_packet *first = STAILQ_FIRST(&p->queue);

    STAILQ_REMOVE_HEAD(&p->queue, link);
    p->n_queued--;
    fd_close(first->pass_fd);
    free(first);
}

/* Memory or buffers that the kernel has not now, it may have soon. */
static bool may_pass(int r)
{
    return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM || r == -EINTR;
}

static void on_writable(int fd, short what, void *arg)
{
    struct peer *p = arg;
    struct peer_packet *first;

    while ((first = STAILQ_FIRST(&p->queue))) {
        int r = send_now(p, first->bytes, first->len, first->pass_fd);
        if (may_pass(r))
            return;
        if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
            end_failed(p, "nothing can be sent to it", -r);
            return;
        }
        free_first(p);
    }
    loop_free(&p->out_io);
}

static void enqueue(struct peer *p, int pass_fd)
{
    struct peer_packet *q;

    if (p->n_queued >= LIMIT_WIRE_REPLIES || !(q = malloc(sizeof(*q) + p->out.len))) {
        fd_close(pass_fd);
        end_with(p, "it does not read");
        return;
    }
    q->len = p->out.len;
    q->pass_fd = pass_fd;
    memcpy(q->bytes, p->out.p, p->out.len);
    STAILQ_INSERT_TAIL(&p->queue, q, link);
    p->n_queued++;
    if (!p->out_io)
        p->out_io = loop_io(p->fd, LOOP_WRITE, on_writable, p);
}

void peer_send_fd(struct peer *p, int fd)
{
    int r;

    if (p->fd < 0 || p->out.error || !p->out.len) {
        fd_close(fd);
        buf_reset(&p->out);
        return;
    }
    r = p->n_queued ? -EAGAIN : send_now(p, p->out.p, p->out.len, fd);
    if (may_pass(r))
        enqueue(p, fd);
    else
        fd_close(fd);
    buf_reset(&p->out);
    if (r < 0 && !may_pass(r) && r != -EPIPE && r != -ECONNRESET) /* else its end says so */
        end_failed(p, "nothing can be sent to it", -r);
}

void peer_send(struct peer *p)
{
    peer_send_fd(p, -1);
}

void peer_make_room(struct peer *p)
{
    if (p->out.len > FRAME_ROOM)
        peer_send(p);
}

uint64_t peer_local_call(uint64_t call)
{
    return call & ((1ull << PEER_NUMBER_BITS) - 1);
}

void peer_reply(struct peer *p, const struct wire_reply *r)
{
    struct wire_reply local = *r;

    local.call = peer_local_call(r->call);
    wire_put_reply(&p->out, &local);
}

/* --- hearing ---------------------------------------------------------------------------------------- */

/* All that it says is within the limits that its own end keeps too: what breaks them is not our listener. */
static bool is_sound(const struct peer *p, const struct wire_call *c)
{
    return !(c->call >> PEER_NUMBER_BITS) && wire_call_is_sound(c) &&
           (p->kind == PEER_PRIVATE || p->wire > WIRE_VERSION || calls_may(c->verb));
}

static bool is_too_much(struct peer *p, uint64_t now)
{
    if (now - p->second > 1000000) {
        p->second = now;
        p->asked = 0;
    }
    return ++p->asked > LIMIT_WIRE_RATE;
}

static int take_frame(struct peer *p, const struct wire_frame *f)
{
    struct wire_call c;

    if (f->type != WIRE_CALL || wire_get_call(f, &c) < 0 || !is_sound(p, &c))
        return -EBADMSG;
    c.call |= (uint64_t)p->no << PEER_NUMBER_BITS;
    if (p->kind == PEER_PRIVATE) { /* as the kernel says it, not as it says */
        c.actor = p->actor;
        c.source = "private";
        c.what = "";
    }
    calls_take(&c, p->kind == PEER_PRIVATE);
    return 0;
}

/* Takes what is in *at, as long as it is this peer's turn: what it asks for may cost, and others wait. 1: its
 * turn is over. */
static int take_packet(struct peer *p, const uint8_t **at, size_t *n, uint64_t until)
{
    struct wire_frame f;
    uint64_t now;
    int r;

    while (p->io && (r = wire_next(at, n, &f)) != 0) {
        now = clock_mono_us();
        if (r < 0 || (r = take_frame(p, &f)) < 0)
            return r;
        if (is_too_much(p, now))
            return -EOVERFLOW;
        if (*n && p->io && now > until)
            return 1;
    }
    return 0;
}

static void end_broken(struct peer *p, int r)
{
    loop_free(&p->io);
    end_with(p, r == -EOVERFLOW ? "it asks for too much" : "it sent a broken frame");
}

static void on_again(int fd, short what, void *arg);

static void keep_rest(struct peer *p, const uint8_t *at, size_t n)
{
    if ((p->rest = malloc(n))) {
        memcpy(p->rest, at, n);
        p->rest_at = 0;
        p->rest_n = n;
    }
    if (!p->rest || !(p->again = loop_timer(0, on_again, p)))
        end_failed(p, "what it asks for can't be kept", ENOMEM);
}

static void forget_rest(struct peer *p)
{
    free(TAKE_PTR(p->rest));
    loop_free(&p->again);
}

/* 0: nothing is left of it. What a call says stands in it: it stays until the call is taken, even if that is
 * what ends the peer. */
static int take_rest(struct peer *p, uint64_t until)
{
    const uint8_t *at = p->rest + p->rest_at;
    size_t n = p->rest_n;
    int r;

    p->is_taken = true;
    r = take_packet(p, &at, &n, until);
    p->is_taken = false;
    p->rest_at = (size_t)(at - p->rest);
    p->rest_n = n;
    if (r > 0) {
        loop_rearm(p->again, 0);
        return r;
    }
    forget_rest(p);
    if (r < 0)
        end_broken(p, r);
    return r;
}

static bool is_over(struct peer *p, ssize_t n)
{
    if (n > 0)
        return false;
    if (n < 0 && may_pass(-errno))
        return true;
    loop_free(&p->io);
    end_with(p, n < 0 && errno != ECONNRESET ? "it can't be heard" : NULL);
    return true;
}

/* No control buffer: descriptors that it might send are closed by the kernel. */
static void on_wire(int fd, short what, void *arg)
{
    static uint8_t bytes[LIMIT_WIRE_PACKET];
    uint64_t until = clock_mono_us() + TURN_US;
    struct peer *p = arg;
    int r = p->rest ? take_rest(p, until) : 0;

    for (int i = 0; r == 0 && i < PACKETS_A_ROUND && p->io; i++) {
        const uint8_t *at = bytes;
        ssize_t n = recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC);
        size_t left = (size_t)n;
        if (is_over(p, n))
            return;
        r = left > sizeof(bytes) ? -EBADMSG : take_packet(p, &at, &left, until);
        if (r > 0)
            keep_rest(p, at, left);
        else if (r < 0)
            end_broken(p, r);
    }
}

static void on_again(int fd, short what, void *arg)
{
    on_wire(-1, 0, arg);
}

bool peer_is_read(const struct peer *p)
{
    return !p->rest;
}

/* --- life -------------------------------------------------------------------------------------------- */

static uint16_t free_number(void)
{
    static uint16_t last;
    const struct peer *p;

    do {
        last = last == UINT16_MAX ? 1 : last + 1;
        TAILQ_FOREACH (p, &peer_all, link)
            if (p->no == last)
                break;
    } while (p);
    return last;
}

struct peer *peer_new(enum peer_kind kind, int fd, uint16_t no,
                      void (*on_end)(struct peer *p, const char *broken))
{
    struct peer *p = calloc(1, sizeof(*p));

    if (!p || !(p->io = loop_io(fd, LOOP_READ, on_wire, p))) {
        fd_close(fd);
        free(p);
        return NULL;
    }
    p->kind = kind;
    p->fd = fd;
    p->no = no ? no : free_number();
    p->ref = (struct pidref)PIDREF_NULL;
    p->out = (struct buf)BUF_INIT(LIMIT_WIRE_PACKET);
    p->on_end = on_end;
    STAILQ_INIT(&p->queue);
    TAILQ_INSERT_TAIL(&peer_all, p, link);
    return p;
}

void peer_deafen(struct peer *p)
{
    loop_free(&p->io);
    if (!p->is_taken)
        forget_rest(p);
}

void peer_close(struct peer *p)
{
    peer_deafen(p);
    loop_free(&p->out_io);
    p->fd = fd_close(p->fd);
    while (!STAILQ_EMPTY(&p->queue))
        free_first(p);
    buf_reset(&p->out);
    op_forget_waiters(p->no);
}

void peer_bury(struct peer *p)
{
    peer_close(p);
    loop_free(&p->timer);
    pidref_done(&p->ref);
    p->gone = true;
}

void peer_end_round(void)
{
    struct peer *p, *next;

    for (p = TAILQ_FIRST(&peer_all); p; p = next) {
        next = TAILQ_NEXT(p, link);
        if (!p->gone) {
            peer_send(p);
            continue;
        }
        TAILQ_REMOVE(&peer_all, p, link);
        buf_free(&p->out);
        free(p);
    }
}

struct peer *peer_of_call(uint64_t call)
{
    struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link)
        if (p->no == peer_number(call))
            return p->gone || p->fd < 0 ? NULL : p;
    return NULL;
}
