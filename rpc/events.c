/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/stats.h"

struct reader {
    LIST_ENTRY(reader) link;
    struct request *request;
    uint64_t last; /* told */
};

/* The bodies of frames, as agentd sent them. */
static struct {
    uint64_t seq;
    size_t len;
    uint8_t *body;
} ring[LIMIT_EVENTS];
static uint64_t first, last; /* last 0: none yet */

static LIST_HEAD(, reader) readers = LIST_HEAD_INITIALIZER(readers);
static unsigned n_readers;
static struct event *heartbeat;
static struct buf line = BUF_INIT(LIMIT_WIRE_PACKET * 2);
static struct evbuffer *piece;

/* --- one reader ------------------------------------------------------------------------------------------
 */

static void free_reader(struct reader *rd)
{
    LIST_REMOVE(rd, link);
    n_readers--;
    free(rd);
    if (LIST_EMPTY(&readers))
        event_del(heartbeat);
}

void events_gone(struct request *r)
{
    free_reader(r->stream);
    r->stream = NULL;
    evhttp_request_free(r->http);
    request_free(r);
}

static void end_reader(struct reader *rd)
{
    struct request *r = rd->request;

    r->stream = NULL;
    free_reader(rd);
    reply_end(r);
}

/* What stands in line, to one reader; one that does not take it is dropped, so that it costs no more. */
static bool send_line(struct reader *rd)
{
    struct request *r = rd->request;

    if (line.error || !r->conn)
        return false;
    if (listen_unsent(r->conn) > LIMIT_HTTP_EVENT_OUTPUT) {
        end_reader(rd);
        return false;
    }
    evbuffer_add(piece, line.p, line.len);
    evhttp_send_reply_chunk(r->http, piece);
    return true;
}

static void put_text(struct buf *b, const char *name, const char *value)
{
    if (value[0])
        json_str(b, name, value);
}

static void put_data(struct buf *b, const struct wire_event *e)
{
    json_open(b, '{');
    json_uint(b, "id", e->seq);
    json_time(b, "time", e->time_us, true);
    json_str(b, "kind", e->kind);
    put_text(b, "alias", e->alias);
    put_text(b, "state", e->state);
    put_text(b, "reason", e->reason);
    if (e->pid)
        json_uint(b, "pid", e->pid);
    if (e->generation)
        json_uint(b, "generation", e->generation);
    put_text(b, "operation", e->operation);
    put_text(b, "verb", e->verb);
    put_text(b, "actor", e->actor);
    put_text(b, "message", e->message);
    json_close(b, '}');
}

static bool send_event(struct reader *rd, uint64_t seq)
{
    size_t i = seq % LIMIT_EVENTS;
    struct wire_frame f = {WIRE_EVENT, ring[i].body, ring[i].len};
    struct wire_event e;

    rd->last = seq;
    if (wire_get_event(&f, &e) < 0)
        return true;
    buf_reset(&line);
    buf_printf(&line, "id: %" PRIu64 "\nevent: %.32s\ndata:", seq, e.kind);
    put_data(&line, &e);
    buf_str(&line, "\n\n");
    return send_line(rd);
}

/* From is what it has; what it missed beyond the ring is said. */
static void send_missed(struct reader *rd, uint64_t from)
{
    uint64_t seq = from + 1;

    if (seq < first || seq > last + 1) {
        buf_reset(&line);
        buf_printf(&line, "event: gap\ndata: {\"after\":%" PRIu64 ",\"next\":%" PRIu64 "}\n\n", from, first);
        if (!send_line(rd))
            return;
        seq = first;
    }
    while (seq <= last && send_event(rd, seq))
        seq++;
}

/* --- all -------------------------------------------------------------------------------------------------
 */

static void forget(uint64_t seq)
{
    free(ring[seq % LIMIT_EVENTS].body);
    ring[seq % LIMIT_EVENTS].body = NULL;
}

static int remember(const struct wire_frame *f, uint64_t seq)
{
    uint8_t *body = malloc(f->len ? f->len : 1);
    size_t i = seq % LIMIT_EVENTS;

    if (!body)
        return -ENOMEM;
    memcpy(body, f->body, f->len);
    if (last && seq != last + 1) /* agentd counts without holes while it lives */
        for (; first <= last; first++)
            forget(first);
    if (!last || first > last)
        first = seq;
    if (seq - first >= LIMIT_EVENTS)
        forget(first++);
    ring[i].seq = seq;
    ring[i].body = body;
    ring[i].len = f->len;
    last = seq;
    return 0;
}

unsigned events_count(void)
{
    return n_readers;
}

/* Those from before this listener's time are not its to count. */
static void count(const struct wire_event *e)
{
    if (listen_serves() && str_eq(e->kind, "worker") && str_eq(e->state, "STARTING"))
        stats_started(e->reason);
}

int events_take(const struct wire_frame *f)
{
    struct reader *rd, *next;
    struct wire_event e;
    int r;

    if (wire_get_event(f, &e) < 0)
        return -EBADMSG;
    if (e.seq <= last)
        return 0;
    if ((r = remember(f, e.seq)) < 0)
        return r;
    count(&e);
    for (rd = LIST_FIRST(&readers); rd; rd = next) {
        next = LIST_NEXT(rd, link);
        send_event(rd, e.seq);
    }
    return 0;
}

void events_arm(void)
{
    uint32_t ms = link_hello()->heartbeat_ms;

    if (!LIST_EMPTY(&readers))
        event_add(heartbeat, &(struct timeval){(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000});
}

static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
    struct reader *rd, *next;

    for (rd = LIST_FIRST(&readers); rd; rd = next) {
        next = LIST_NEXT(rd, link);
        buf_reset(&line);
        buf_str(&line, ": here\n\n");
        send_line(rd);
    }
    events_arm();
}

void events_end_all(void)
{
    struct reader *rd, *next;

    for (rd = LIST_FIRST(&readers); rd; rd = next) {
        next = LIST_NEXT(rd, link);
        buf_reset(&line);
        buf_printf(&line, "event: end\ndata: {\"lastId\":%" PRIu64 "}\n\n", rd->last);
        if (send_line(rd))
            end_reader(rd);
    }
}

/* Last-Event-ID, as a browser sends it again, or ?lastEventId=. 1: given, 0: not, -EINVAL. */
static int last_id(struct request *r, uint64_t *ret)
{
    const char *header = request_header(r, "Last-Event-ID");
    char query[24] = "";
    int n = route_query(r->route.query, "lastEventId", query, sizeof(query));

    if (!header && n <= 0)
        return n;
    return str_to_u64(header ? header : query, UINT64_MAX - 1, ret) < 0 ? -EINVAL : 1;
}

void events_serve(struct request *r)
{
    uint64_t from = last;
    int given = last_id(r, &from);
    struct reader *rd;

    if (given < 0) {
        reply_error(r, WIRE_E_BAD_REQUEST, "Last-Event-ID is the number of an event");
        return;
    }
    if (n_readers >= link_hello()->max_event_streams || !r->conn || !(rd = calloc(1, sizeof(*rd)))) {
        reply_error(r, WIRE_E_TOO_MANY, "too many event streams are open");
        return;
    }
    rd->request = r;
    rd->last = from;
    r->stream = rd;
    r->events = true;
    LIST_INSERT_HEAD(&readers, rd, link);
    if (n_readers++ == 0)
        events_arm();
    reply_events(r);
    if (r->verb == ROUTE_HEAD) {
        end_reader(rd);
        return;
    }
    buf_reset(&line);
    /* the comment is for who wants what there is, and no more */
    buf_printf(&line, ": agentd last=%" PRIu64 "\nretry: 1000\n\n", last);
    if (send_line(rd) && given)
        send_missed(rd, from);
}

int events_init(struct event_base *base)
{
    piece = evbuffer_new();
    heartbeat = event_new(base, -1, 0, on_heartbeat, NULL);
    return piece && heartbeat ? 0 : -ENOMEM;
}
