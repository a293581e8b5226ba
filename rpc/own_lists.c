/* SPDX-License-Identifier: Apache-2.0 */
/* Operations, one by one and as a list, and what agentd's doctor says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
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
#include "rpc/tls.h"
#include "rpc/view.h"

#define DAY 86400

static void put_operation(struct buf *b, const char **items)
{
    char field[512];

    json_open(b, '{');
    json_str(b, "id", view_field(items, field, sizeof(field)));
    json_str(b, "verb", view_field(items, field, sizeof(field)));
    json_str(b, "alias", view_field(items, field, sizeof(field)));
    json_str(b, "actor", view_field(items, field, sizeof(field)));
    json_str(b, "result", view_field(items, field, sizeof(field)));
    json_time(b, "created", strtoll(view_field(items, field, sizeof(field)), NULL, 10), true);
    json_time(b, "ended", strtoll(view_field(items, field, sizeof(field)), NULL, 10), true);
    json_close(b, '}');
}

static void put_finding(struct buf *b, const char **items)
{
    char field[512];

    json_open(b, '{');
    json_str(b, "severity", view_field(items, field, sizeof(field)));
    json_str(b, "what", view_field(items, field, sizeof(field)));
    json_str(b, "advice", view_field(items, field, sizeof(field)));
    json_close(b, '}');
}

void own_send_list(struct request *r, const char *items, void (*put)(struct buf *b, const char **items))
{
    struct buf *b = reply_data(r);

    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    while (*items) {
        put(b, &items);
        items = view_next_line(items);
    }
    json_close(b, ']');
    json_close(b, '}');
    reply_send(r, 200);
}

static void on_operations(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    if (change_is_good(arg, end, reply, fd))
        own_send_list(arg, reply->items, put_operation);
}

bool own_take_from(struct request *r, uint64_t *ret)
{
    char from[24] = "";

    if (route_query(r->route.query, "from", from, sizeof(from)) >= 0 &&
        (!*from || str_to_u64(from, UINT32_MAX, ret) == 0))
        return true;
    reply_error(r, WIRE_E_BAD_REQUEST, "from is a number: how many of the newest are left out");
    return false;
}

void own_operations(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_OPERATIONS};

    if (own_take_from(r, &v.from))
        change_ask(r, &v, on_operations);
}

static void on_cancel(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (end == CALL_LATE) {
        change_send_late(r, reply);
    } else if (end == CALL_REPLIED && reply->error == WIRE_E_CANCELLED) {
        reply_header(r, "Agentd-Operation", reply->operation);
        change_send(r, reply);
    } else if (change_is_good(r, end, reply, fd)) {
        reply_error(r, WIRE_E_CONFLICT, "it has ended"); /* before it could be cancelled */
    }
}

void own_cancel(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_CANCEL, .name = r->route.param[0]};

    change_ask(r, &v, on_cancel);
}

/* The listener knows its certificate, agentd does not. "" if nothing is to be said of it. */
static const char *look_at_certificate(char *line, size_t size)
{
    int64_t left = tls_expires() - clock_wall_us() / 1000000;

    line[0] = 0;
    if (tls_expires() && left < LIMIT_TLS_RENEW_DAYS * DAY)
        snprintf(line, size,
                 "%s\tthe certificate of TlsCertificate= %s %lld days\trenew it, then agentctl reload\n",
                 left < 0 ? "error" : "warning", left < 0 ? "has expired since" : "expires in",
                 (long long)((left < 0 ? -left : left) / DAY));
    return line;
}

static void on_doctor(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct buf all = BUF_INIT(2 * LIMIT_WIRE_STRING);
    char own[256];

    if (!change_is_good(arg, end, reply, fd))
        return;
    buf_str(&all, look_at_certificate(own, sizeof(own)));
    buf_str(&all, reply->items);
    own_send_list(arg, all.p ? all.p : "", put_finding);
    buf_free(&all);
}

void own_doctor(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_DOCTOR};

    change_ask(r, &v, on_doctor);
}
