/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/change.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/audit.h"
#include "rpc/call.h"
#include "rpc/key.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/table.h"
#include "rpc/view.h"
#include "rpc/wish.h"

/* Who asks. 0, or -EINVAL: the reason header is no reason, and r is answered. */
static int fill(struct request *r, struct wire_call *v)
{
    static char digest[KEY_DIGEST], what[AUDIT_WHAT]; /* until the call is encoded */
    const char *reason = request_header(r, "Agentd-Reason");
    size_t n = reason ? strlen(reason) : 0;

    v->actor = r->actor;
    v->source = r->conn ? listen_source(r->conn) : "";
    v->reason = reason;
    v->what = audit_what(r, what);
    if (n > LIMIT_HTTP_REASON || (n && !str_is_utf8(reason, n))) {
        reply_error(r, WIRE_E_BAD_REQUEST, "Agentd-Reason is too long or not UTF-8");
        return -EINVAL;
    }
    if (v->key) /* the call has one by itself */
        return 0;
    if (r->verb == ROUTE_POST && key_of(r, &v->key, digest) < 0) {
        reply_error(r, WIRE_E_BAD_REQUEST, "Idempotency-Key is too long or not printable ASCII");
        return -EINVAL;
    }
    v->request = v->key ? digest : NULL;
    return 0;
}

/* What a call that was not sent is answered with. */
static void send_unsent(struct request *r, int error)
{
    if (error == -EINVAL)
        reply_error(r, WIRE_E_BAD_REQUEST, "a text in it is too long, or has a control character");
    else
        reply_error(r, error == -ENOMEM ? WIRE_E_INTERNAL : WIRE_E_NOT_READY,
                    error == -EBUSY || error == -EAGAIN ? "too many requests are under way" : NULL);
}

/* Of a verb that it does not know an agentd thinks ill: r is answered instead. */
static bool is_known(struct request *r, const struct wire_call *v)
{
    if (v->verb < WIRE_VERB_HOST || link_hello()->wire >= WIRE_WITH_HOST)
        return true;
    reply_error(r, WIRE_E_NOT_IMPLEMENTED, "agentd is older than its listener, and does not know this call");
    return false;
}

void change_ask(struct request *r, struct wire_call *v, call_fn fn)
{
    int error;

    if (!is_known(r, v))
        return;
    if (fill(r, v) == 0 && (error = call_send(v, link_hello()->reply_deadline_ms, fn, r)) < 0)
        send_unsent(r, error);
}

bool change_is_good(struct request *r, enum call_end end, const struct wire_reply *reply, int fd)
{
    fd_close(fd);
    if (end == CALL_REPLIED && (reply->error == WIRE_OK || reply->error == WIRE_E_ACCEPTED))
        return true;
    if (end == CALL_REPLIED)
        reply_error_details(r, (enum wire_error)reply->error, reply->message, reply->items);
    else
        reply_error(r, WIRE_E_NOT_READY, end == CALL_LATE ? "agentd did not answer in time" : NULL);
    return false;
}

void change_send(struct request *r, const struct wire_reply *op)
{
    struct route *route = &r->route;
    uint64_t id;
    const struct table_entry *e = NULL;
    struct wire_record record;
    struct buf *b;

    if (r->ocp)
        e = str_to_u64(route->param[1], INT64_MAX, &id) == 0 ? table_by_id((int64_t)id) : NULL;
    else
        e = table_by_alias(op->alias);
    if (e)
        table_decode(e, &record);
    if (r->ocp && !e) {
        reply_error(r, WIRE_E_NO_PROCESS, NULL);
        return;
    }
    b = reply_data(r);
    if (r->ocp)
        view_process(b, &record);
    else
        view_operation(b, op, e ? &record : NULL);
    reply_send(r, op->error == WIRE_E_ACCEPTED ? 202 : 200);
}

/* With what the worker says that it waits for. */
static void say_late(char *text, size_t size, const struct wire_reply *op)
{
    const struct table_entry *e = table_by_alias(op->alias);
    struct wire_record record = {.message = "", .phase = ""};
    size_t n;

    if (e)
        table_decode(e, &record);
    n = (size_t)snprintf(text, size, "operation %.64s is still going on: GET /agentd/v1/operations/%.64s",
                         op->operation, op->operation);
    if (e && n < size)
        snprintf(text + n, size - n, "; the worker is %s%s%s%s%.200s", record.state,
                 *record.phase ? ", " : "", record.phase, *record.message ? ": " : "", record.message);
}

static struct wish wish_of(const struct request *r)
{
    char value[LIMIT_HTTP_WISH];

    return request_header_all(r, "Prefer", value, sizeof(value)) == 1 ? wish_prefer(value) : (struct wish){0};
}

/* Its first answer is enough: there is no wait, or none of any length. */
static bool is_at_once(const struct wish *w)
{
    return w->has_wait ? w->wait_ms == 0 : w->async;
}

static void say_applied(struct request *r)
{
    struct wish w = wish_of(r);
    char text[48] = "";

    if (w.has_wait && w.wait_ms < link_hello()->reply_deadline_ms)
        snprintf(text, sizeof(text), "%swait=%u", w.async ? "respond-async, " : "", w.wait_ms / 1000);
    else if (w.async)
        str_copy(text, sizeof(text), "respond-async");
    if (*text)
        reply_header(r, "Preference-Applied", text);
}

/* The deadline has passed: it goes on, and the caller is told where to look. */
void change_send_late(struct request *r, const struct wire_reply *op)
{
    char text[512];

    if (!op || !op->has_operation) {
        reply_error(r, WIRE_E_NOT_READY, "agentd did not answer in time");
        return;
    }
    snprintf(text, sizeof(text), "/agentd/v1/operations/%.64s", op->operation);
    reply_header(r, "Location", text);
    reply_header(r, "Agentd-Operation", op->operation);
    say_applied(r);
    if (!r->ocp) {
        change_send(r, op);
        return;
    }
    say_late(text, sizeof(text), op);
    reply_error(r, WIRE_E_ACCEPTED, text);
}

static void on_end(void *arg, enum call_end end, const struct wire_reply *op, int fd)
{
    struct request *r = arg;

    fd_close(fd);
    if (end == CALL_LATE) {
        change_send_late(r, op);
        return;
    }
    if (end != CALL_REPLIED) {
        reply_error(r, WIRE_E_NOT_READY, "agentd went away; the operation list tells what became of it");
        return;
    }
    if (op->has_operation)
        reply_header(r, "Agentd-Operation", op->operation);
    if (op->error == WIRE_OK)
        change_send(r, op);
    else
        reply_error(r, (enum wire_error)op->error, op->message);
}

/* If-Match into v, as it travels; -EINVAL: r is answered. */
static int take_match(struct request *r, struct wire_call *v, char *buf, size_t size)
{
    char value[LIMIT_HTTP_WISH];
    int found = request_header_all(r, "If-Match", value, sizeof(value));

    if (found == 0)
        return 0;
    if (found < 0 || wish_match(value, buf, size) < 0) {
        reply_error(r, WIRE_E_BAD_REQUEST, "If-Match is no list of entity tags, or too long");
        return -EINVAL;
    }
    if (*buf && link_hello()->wire < WIRE_WITH_GENERATIONS) {
        reply_error(r, WIRE_E_NOT_IMPLEMENTED,
                    "agentd is older than its listener, and does not know If-Match");
        return -EINVAL;
    }
    v->generations = buf;
    return 0;
}

void change_start(struct request *r, enum wire_verb verb, int64_t worker)
{
    change_start_named(r, verb, worker, NULL);
}

void change_start_named(struct request *r, enum wire_verb verb, int64_t worker, const char *name)
{
    struct wire_call v = {.verb = (uint8_t)verb, .worker = worker, .name = name};
    char generations[LIMIT_HTTP_WISH];
    struct wish w = wish_of(r);
    uint32_t deadline_ms = link_hello()->reply_deadline_ms;
    int error;

    v.at_once = is_at_once(&w);
    if (w.has_wait && !v.at_once && w.wait_ms < deadline_ms)
        deadline_ms = w.wait_ms;
    if (fill(r, &v) == 0 && take_match(r, &v, generations, sizeof(generations)) == 0 &&
        (error = call_send(&v, deadline_ms, on_end, r)) < 0)
        send_unsent(r, error);
}
