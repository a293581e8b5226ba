/* SPDX-License-Identifier: Apache-2.0 */
/* OCP's calls: exactly its paths, parameters and fields. */
#include <errno.h>
#include <stddef.h>

#include "base/limits.h"
#include "base/str.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/ocp.h"
#include "rpc/reply.h"
#include "rpc/sample.h"
#include "rpc/table.h"
#include "rpc/view.h"

bool ocp_has_host(struct request *r)
{
    if (link_hello()->host_id == 0)
        reply_error(r, WIRE_E_NO_HOST_ID, "HostId= is not set in agentd.conf; `agentctl setup` sets it");
    return link_hello()->host_id != 0;
}

bool ocp_is_our_host(struct request *r)
{
    uint64_t id;

    if (!ocp_has_host(r))
        return false;
    if (str_to_u64(r->route.param[0], INT64_MAX, &id) < 0 || (int64_t)id != link_hello()->host_id) {
        reply_error(r, WIRE_E_NO_HOST, NULL);
        return false;
    }
    return true;
}

/* The process that the path names; NULL: r is answered. */
static const struct table_entry *find_process(struct request *r)
{
    const struct table_entry *e = NULL;
    uint64_t id;
    int error;

    if (!ocp_is_our_host(r))
        return NULL;
    error = str_to_u64(r->route.param[1], INT64_MAX, &id);
    if (error == -EINVAL) {
        reply_error(r, WIRE_E_BAD_REQUEST, "the process id is not a number");
        return NULL;
    }
    if (error < 0 || !(e = table_by_id((int64_t)id)))
        reply_error(r, WIRE_E_NO_PROCESS, NULL);
    return e;
}

void ocp_agent(struct request *r)
{
    if (!ocp_is_our_host(r) || sample_wait(r, 0, table_count()))
        return;
    view_agent(reply_data(r));
    reply_send(r, 200);
}

/* A positive number in the query, or what it is by default. */
static int take_number(struct request *r, const char *name, uint64_t max, uint64_t *ret)
{
    char text[24];
    int found = route_query(r->route.query, name, text, sizeof(text));

    if (found <= 0)
        return found;
    return str_to_u64(text, max, ret) < 0 || *ret == 0 ? -EINVAL : 0;
}

static void put_page(struct buf *b, size_t total, uint64_t number, uint64_t size)
{
    json_key(b, "page");
    json_open(b, '{');
    json_uint(b, "totalElements", total);
    json_uint(b, "totalPages", (total + size - 1) / size);
    json_uint(b, "number", number);
    json_uint(b, "size", size);
    json_close(b, '}');
}

void ocp_list(struct request *r)
{
    uint64_t page = 1, size = 20;
    size_t total = table_count(), from, to;
    struct wire_record record;
    struct buf *b;

    if (!ocp_is_our_host(r))
        return;
    if (take_number(r, "page", INT32_MAX, &page) < 0 || take_number(r, "size", LIMIT_HTTP_PAGE, &size) < 0) {
        reply_error(r, WIRE_E_BAD_REQUEST, "page counts from 1, size is 1 to 1000");
        return;
    }
    from = (page - 1) * size < total ? (size_t)((page - 1) * size) : total;
    to = from + size < total ? from + (size_t)size : total;
    if (sample_wait(r, from, to))
        return;
    b = reply_data(r);
    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    for (size_t i = from; i < to; i++) {
        table_decode(table_at(i), &record);
        view_process(b, &record);
    }
    json_close(b, ']');
    put_page(b, total, page, size);
    json_close(b, '}');
    reply_send(r, 200);
}

void ocp_one(struct request *r)
{
    const struct table_entry *e = find_process(r);
    struct wire_record record;

    if (!e || sample_wait_one(r, e->id))
        return;
    table_decode(e, &record);
    reply_tag(r, record.generation);
    view_process(reply_data(r), &record);
    reply_send(r, 200);
}

static void change(struct request *r, enum wire_verb verb)
{
    const struct table_entry *e = find_process(r);

    if (e)
        change_start(r, verb, e->id);
}

void ocp_start(struct request *r)
{
    change(r, WIRE_VERB_START);
}

void ocp_stop(struct request *r)
{
    change(r, WIRE_VERB_STOP);
}

void ocp_restart(struct request *r)
{
    change(r, WIRE_VERB_RESTART);
}
