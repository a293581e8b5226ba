/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: how they are sent; and operations. */
#include <stdlib.h>

#include "base/str.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/own.h"
#include "rpc/reply.h"
#include "rpc/view.h"

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
