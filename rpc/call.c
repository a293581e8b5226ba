/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/call.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "rpc/link.h"
#include "rpc/stats.h"

#define SLOTS LIMIT_WIRE_CALLS

/* A late call keeps its place, without a callback, until agentd has ended it: agentd holds it open as long.
 */
struct call {
    uint64_t number; /* its low part is the slot, so that a stale answer never finds another call */
    uint64_t deadline_us;
    bool at_once;      /* the first answer is enough */
    int64_t change_us; /* wall clock: when a change was asked for; 0: it is none */
    call_fn fn;
    void *arg;
    struct buf items; /* those that came before the rest */
    size_t early_len;
    uint8_t early[]; /* the first answer's body */
};

static struct call *slots[SLOTS];
static unsigned open_calls, last_slot;
static uint64_t rounds;
static struct event *timer;
static uint64_t timer_at; /* 0: not armed */
static struct buf packet = BUF_INIT(LIMIT_WIRE_PACKET);

static void arm(uint64_t at)
{
    uint64_t now = clock_mono_us(), wait = at > now ? at - now : 1;
    struct timeval tv = {(time_t)(wait / 1000000), (suseconds_t)(wait % 1000000)};

    if (timer_at && timer_at <= at)
        return;
    timer_at = at;
    event_add(timer, &tv);
}

static struct call *find(uint64_t number)
{
    struct call *c = slots[number % SLOTS];

    return c && c->number == number ? c : NULL;
}

static void release(struct call *c)
{
    slots[c->number % SLOTS] = NULL;
    buf_free(&c->items);
    free(c);
    if (--open_calls == 0 && timer_at) {
        event_del(timer);
        timer_at = 0;
    }
}

static struct call *take_slot(void)
{
    struct call *c;

    if (open_calls >= SLOTS || !(c = calloc(1, sizeof(*c))))
        return NULL;
    do
        last_slot = (last_slot + 1) % SLOTS;
    while (slots[last_slot]);
    c->number = ++rounds * SLOTS + last_slot;
    c->items = (struct buf)BUF_INIT(LIMIT_HTTP_REPLY);
    slots[last_slot] = c;
    open_calls++;
    return c;
}

static bool is_change(unsigned verb)
{
    return verb == WIRE_VERB_START || verb == WIRE_VERB_STOP || verb == WIRE_VERB_RESTART;
}

int call_send(struct wire_call *v, uint32_t deadline_ms, call_fn fn, void *arg)
{
    struct call *c;
    int r;

    if (!wire_call_is_sound(v)) /* agentd would end us for it */
        return -EINVAL;
    if (!(c = take_slot()))
        return -EBUSY;
    v->call = c->number;
    buf_reset(&packet);
    wire_put_call(&packet, v);
    if ((r = link_send(&packet)) < 0) {
        release(c);
        return r;
    }
    stats.calls++;
    c->change_us = is_change(v->verb) ? clock_wall_us() : 0;
    c->at_once = v->at_once;
    c->fn = fn;
    c->arg = arg;
    c->deadline_us = clock_mono_us() + deadline_ms * 1000ull;
    arm(c->deadline_us);
    return 0;
}

static void end_late(struct call *c);

static void keep_early(struct call *c, const struct wire_frame *f)
{
    struct call *bigger;

    if (c->early_len || !c->fn || !(bigger = realloc(c, sizeof(*c) + f->len)))
        return;
    slots[bigger->number % SLOTS] = bigger;
    bigger->early_len = f->len;
    memcpy(bigger->early, f->body, f->len);
    if (bigger->at_once)
        end_late(bigger);
}

/* The whole of the items: what came before, and what this reply has. */
static void end_replied(struct call *c, const struct wire_reply *reply)
{
    struct wire_reply whole = *reply;
    bool counts = c->change_us && reply->ended_us >= c->change_us; /* not what has ended before */
    struct buf items = c->items;
    call_fn fn = c->fn;
    void *arg = c->arg;

    c->items = (struct buf)BUF_INIT(0);
    release(c);
    if (counts)
        stats_phases(reply->phases);
    if (items.len) {
        buf_str(&items, reply->items);
        whole.items = items.p;
    }
    if (fn)
        fn(arg, CALL_REPLIED, &whole, -1);
    buf_free(&items);
}

void call_replied(const struct wire_reply *reply, const struct wire_frame *frame)
{
    struct call *c = find(reply->call);

    if (!c)
        return;
    if (reply->more) {
        if (c->fn)
            buf_str(&c->items, reply->items);
        return;
    }
    if (reply->error == WIRE_E_ACCEPTED) {
        keep_early(c, frame);
        return;
    }
    end_replied(c, reply);
}

void call_streamed(uint64_t number, int fd)
{
    struct call *c = find(number);
    call_fn fn = c ? c->fn : NULL;
    void *arg = c ? c->arg : NULL;

    if (c)
        release(c);
    if (fn)
        fn(arg, CALL_STREAMED, NULL, fd);
    else
        fd_close(fd);
}

static void end_late(struct call *c)
{
    struct wire_frame f = {WIRE_REPLY, c->early, c->early_len};
    struct wire_reply early;
    bool has = c->early_len && wire_get_reply(&f, &early) == 0;
    call_fn fn = c->fn;

    stats.calls_late += !c->at_once;
    c->fn = NULL;
    fn(c->arg, CALL_LATE, has ? &early : NULL, -1);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    uint64_t now = clock_mono_us(), nearest = UINT64_MAX;

    timer_at = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct call *c = slots[i];
        if (c && c->fn && c->deadline_us <= now)
            end_late(c);
        else if (c && c->fn && c->deadline_us < nearest)
            nearest = c->deadline_us;
    }
    if (nearest != UINT64_MAX)
        arm(nearest);
}

void call_lose_all(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct call *c = slots[i];
        call_fn fn = c ? c->fn : NULL;
        void *arg = c ? c->arg : NULL;
        if (c)
            release(c);
        if (fn)
            fn(arg, CALL_LOST, NULL, -1);
    }
}

unsigned call_count(void)
{
    return open_calls;
}

int call_init(struct event_base *base)
{
    return (timer = evtimer_new(base, on_timer, NULL)) ? 0 : -ENOMEM;
}
