/* SPDX-License-Identifier: Apache-2.0 */
/* agentd's own calls: everything that is known, by alias. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/own.h"
#include "rpc/reply.h"
#include "rpc/sample.h"
#include "rpc/stream.h"
#include "rpc/table.h"
#include "rpc/view.h"

const struct table_entry *own_find_worker(struct request *r)
{
    const struct table_entry *e = table_by_alias(r->route.param[0]);
    uint64_t id;

    if (!e && str_to_u64(r->route.param[0], INT64_MAX, &id) == 0)
        e = table_by_id((int64_t)id);
    if (!e)
        reply_error(r, WIRE_E_NO_PROCESS, NULL);
    return e;
}

void own_list(struct request *r)
{
    struct wire_record record;
    struct buf *b;
    char host[24];

    if (sample_wait(r, 0, table_count()))
        return;
    /* for who is to name this host in OCP's paths */
    snprintf(host, sizeof(host), "%lld", (long long)link_hello()->host_id);
    if (link_hello()->host_id)
        reply_header(r, "Agentd-Host-Id", host);
    b = reply_data(r);
    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &record);
        view_worker(b, &record);
    }
    json_close(b, ']');
    json_close(b, '}');
    reply_send(r, 200);
}

void own_one(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    struct wire_record record;

    if (!e || sample_wait_one(r, e->id))
        return;
    table_decode(e, &record);
    reply_tag(r, record.generation);
    view_worker(reply_data(r), &record);
    reply_send(r, 200);
}

static void change(struct request *r, enum wire_verb verb)
{
    const struct table_entry *e = own_find_worker(r);

    if (e)
        change_start(r, verb, e->id);
}

void own_start(struct request *r)
{
    change(r, WIRE_VERB_START);
}

void own_stop(struct request *r)
{
    change(r, WIRE_VERB_STOP);
}

void own_restart(struct request *r)
{
    change(r, WIRE_VERB_RESTART);
}

void own_reload_worker(struct request *r)
{
    change(r, WIRE_VERB_RELOAD_WORKER);
}

void own_signal(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    char name[16];

    if (!e)
        return;
    if (route_query(r->route.query, "signal", name, sizeof(name)) == 1)
        change_start_named(r, WIRE_VERB_SIGNAL, e->id, name);
    else
        reply_error(r, WIRE_E_BAD_REQUEST, "which signal? ?signal=HUP");
}

static void on_logs(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (!change_is_good(r, end, reply, fd))
        return;
    view_log_list(reply_data(r), reply->items);
    reply_send(r, 200);
}

void own_logs(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    struct wire_call v = {.verb = WIRE_VERB_LOG_LIST, .worker = e ? e->id : 0};

    if (e)
        change_ask(r, &v, on_logs);
}

static void on_log(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (end == CALL_STREAMED)
        stream_start(r, fd);
    else if (change_is_good(r, end, reply, fd))
        reply_error(r, WIRE_E_LOG_FAILED, NULL);
}

/* A cursor: DEVICE:INODE:OFFSET, as an answer's Agentd-Log-Cursor has it. */
static bool take_cursor(char *text, struct wire_call *v)
{
    char *inode = strchr(text, ':'), *offset = strrchr(text, ':');

    if (!inode || inode == offset)
        return false;
    *inode++ = *offset++ = 0;
    return str_to_u64(text, UINT64_MAX, &v->device) == 0 && str_to_u64(inode, UINT64_MAX, &v->inode) == 0 &&
           str_to_u64(offset, UINT64_MAX - 1, &v->from) == 0;
}

/* from=, limit= and follow= into v; false: one of them is no such thing. */
static bool take_range(struct request *r, struct wire_call *v)
{
    char from[72] = "", limit[24] = "", follow[8] = "";
    bool on = false;

    if (route_query(r->route.query, "from", from, sizeof(from)) < 0 ||
        route_query(r->route.query, "limit", limit, sizeof(limit)) < 0 ||
        route_query(r->route.query, "follow", follow, sizeof(follow)) < 0)
        return false;
    if (*follow && str_to_bool(follow, &on) < 0)
        return false;
    v->follow = on;
    if (*limit && (str_to_u64(limit, UINT64_MAX, &v->limit) < 0 || v->limit == 0))
        return false;
    if (strchr(from, ':'))
        return take_cursor(from, v);
    if (*from && *from != '-')
        return str_to_u64(from, UINT64_MAX - 1, &v->from) == 0;
    /* the last bytes: as many as from= says, and none beyond them unless it follows */
    v->from = UINT64_MAX;
    if (!*from)
        v->limit = *limit ? v->limit : LIMIT_HTTP_LOG_TAIL;
    else if (str_to_u64(from + 1, UINT64_MAX, &v->limit) < 0)
        return false;
    return true;
}

void own_log(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    struct wire_call v = {.verb = WIRE_VERB_LOG_OPEN, .worker = e ? e->id : 0, .name = r->route.param[1]};

    if (!e)
        return;
    if (!take_range(r, &v)) {
        reply_error(r, WIRE_E_BAD_REQUEST,
                    "from is an offset, -BYTES or a cursor, limit a number, follow a boolean");
        return;
    }
    if (!stream_room()) {
        reply_error(r, WIRE_E_TOO_MANY, "too many log streams are open");
        return;
    }
    change_ask(r, &v, on_log);
}

static void on_operation(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;
    const struct table_entry *e;
    struct wire_record record;

    /* an operation that failed is found all the same */
    if (!(end == CALL_REPLIED && reply->has_operation) && !change_is_good(r, end, reply, fd))
        return;
    if (!reply->has_operation) {
        reply_error(r, WIRE_E_NO_OPERATION, NULL);
        return;
    }
    if ((e = table_by_alias(reply->alias)))
        table_decode(e, &record);
    view_operation(reply_data(r), reply, e ? &record : NULL);
    reply_send(r, 200);
}

void own_operation(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_OPERATION, .name = r->route.param[0]};

    change_ask(r, &v, on_operation);
}

static void on_reload_plan(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (!change_is_good(r, end, reply, fd))
        return;
    view_reload(reply_data(r), reply->items, reply->message);
    reply_send(r, 200);
}

void own_reload_plan(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_RELOAD_PLAN};

    change_ask(r, &v, on_reload_plan);
}

static void on_reload(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (end == CALL_REPLIED && reply->operation[0])
        reply_header(r, "Agentd-Operation", reply->operation);
    if (!change_is_good(r, end, reply, fd))
        return;
    view_reload(reply_data(r), reply->items, ""); /* its message: warnings */
    reply_send(r, 200);
}

void own_reload(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_RELOAD};

    change_ask(r, &v, on_reload);
}

void own_healthz(struct request *r)
{
    reply_plain(r, 200, "ok\n");
}

void own_readyz(struct request *r)
{
    reply_plain(r, 200, "ready\n"); /* connections are only accepted while it is so */
}
