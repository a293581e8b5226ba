/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/link_records.h"

#include <string.h>
#include <sys/queue.h>

#include "agentd/audit.h"
#include "agentd/event.h"
#include "agentd/link.h"
#include "agentd/loop.h"
#include "agentd/manager.h"
#include "agentd/peer.h"
#include "agentd/sup.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"

#define PUSH_US 1000

static TAILQ_HEAD(, wk) dirty_workers = TAILQ_HEAD_INITIALIZER(dirty_workers);
static bool happened; /* events that nobody was told yet */
static struct loop_watch *push;

bool link_is_listener(const struct peer *p)
{
    return p->kind != PEER_PRIVATE && p->fd >= 0;
}

void link_happened(void)
{
    happened = true;
}

/* A record that does not fit behind the others starts a packet of its own; one too long even for that is
 * said, not sent. */
static void put_record(struct peer *p, struct wk *w)
{
    size_t before = p->out.len;

    view_put_record(w, &p->out);
    if (p->out.error && before) {
        p->out.error = 0;
        p->out.len = before;
        peer_send(p);
        view_put_record(w, &p->out);
    }
    if (p->out.error) {
        log_error("link", "%s: its record is too long for the wire", w->def->alias);
        buf_reset(&p->out);
    }
    peer_make_room(p);
}

void link_changed(struct wk *w)
{
    if (w->dirty)
        return;
    w->dirty = true;
    TAILQ_INSERT_TAIL(&dirty_workers, w, dirty_link);
    manager_changed();
}

void link_replace_worker(struct wk *w, struct wk *by)
{
    if (w->dirty)
        TAILQ_REMOVE(&dirty_workers, w, dirty_link);
    w->dirty = false;
    link_changed(by);
}

static void put_events(struct peer *p)
{
    const struct wire_event *e;

    while ((e = event_next(p->event))) {
        peer_make_room(p);
        wire_put_event(&p->out, e);
        p->event = e->seq;
    }
}

void link_put_table(struct peer *p)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        peer_make_room(p);
        put_record(p, w);
    }
    put_events(p);
}

/* Records first, then what happened, then the replies that speak of them: they stand in p->out already. */
static void send_records(struct peer *p)
{
    struct buf replies = p->out;
    struct wk *w;

    if (TAILQ_EMPTY(&dirty_workers) && p->event == event_last()) {
        peer_send(p);
        return;
    }
    p->out = (struct buf)BUF_INIT(LIMIT_WIRE_PACKET);
    TAILQ_FOREACH (w, &dirty_workers, dirty_link)
        put_record(p, w);
    put_events(p);
    if (p->out.len + replies.len >= LIMIT_WIRE_PACKET)
        peer_send(p);
    buf_put(&p->out, replies.p ? replies.p : "", replies.len);
    peer_send(p);
    buf_free(&replies);
}

/* A listener that does not keep up gets each worker's newest record later, not every one in between. */
static bool is_backed_up(const struct peer *p)
{
    return p && p->n_queued >= LIMIT_WIRE_REPLIES / 2 && p->out.len == 0;
}

void link_flush(void)
{
    struct peer *p;
    struct wk *w;

    loop_free(&push);
    if (is_backed_up(link_current()))
        return;
    happened = false; /* a listener that comes is told everything */
    TAILQ_FOREACH (p, &peer_all, link)
        if (link_is_listener(p))
            send_records(p);
    while ((w = TAILQ_FIRST(&dirty_workers))) {
        TAILQ_REMOVE(&dirty_workers, w, dirty_link);
        w->dirty = false;
    }
}

static void on_push(int fd, short what, void *arg)
{
    link_flush();
}

static bool has_replies(void)
{
    const struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link)
        if (link_is_listener(p) && p->out.len)
            return true;
    return false;
}

void link_flush_replies(void)
{
    if (has_replies())
        link_flush();
}

/* A reply goes out at once, and with it all records. Records alone wait up to PUSH_US for more: a restart
 * changes its record four times within a millisecond, and waking the listener each time would take the
 * processor from the worker. */
void link_end_round(void)
{
    if (has_replies())
        link_flush();
    else if ((!TAILQ_EMPTY(&dirty_workers) || happened) && link_current() && !push)
        push = loop_timer(PUSH_US, on_push, NULL);
    peer_end_round();
}

void link_forget(struct wk *w)
{
    struct peer *p;

    if (w->dirty)
        TAILQ_REMOVE(&dirty_workers, w, dirty_link);
    w->dirty = false;
    TAILQ_FOREACH (p, &peer_all, link)
        if (link_is_listener(p)) {
            peer_make_room(p);
            wire_put_forget(&p->out, &(struct wire_forget){w->id});
        }
}

void link_reply(const struct wire_reply *r)
{
    struct peer *p = peer_of_call(r->call);

    audit_answered(r);
    if (!p)
        return;
    if (p->kind == PEER_PRIVATE || p->out.len)
        link_flush(); /* who hears it may ask the listener next */
    peer_make_room(p);
    peer_reply(p, r);
}

void link_reply_long(const struct wire_reply *r)
{
    struct wire_reply last = *r;
    char part[LIMIT_WIRE_STRING + 1];

    while (strlen(last.items) > LIMIT_WIRE_STRING) {
        const char *end = memrchr(last.items, '\n', LIMIT_WIRE_STRING);
        size_t n = end ? (size_t)(end + 1 - last.items) : LIMIT_WIRE_STRING;
        memcpy(part, last.items, n);
        part[n] = 0;
        link_reply(&(struct wire_reply){.call = r->call, .items = part, .more = 1});
        last.items += n;
    }
    link_reply(&last);
}

void link_stream(uint64_t call, int fd)
{
    struct peer *p = peer_of_call(call);

    if (!p) {
        fd_close(fd);
        return;
    }
    link_flush();
    peer_send(p);
    wire_put_stream(&p->out, &(struct wire_stream){peer_local_call(call)});
    peer_send_fd(p, fd);
}
