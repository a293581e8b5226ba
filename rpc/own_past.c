/* SPDX-License-Identifier: Apache-2.0 */
/* Why a worker is as it is, and what it was before. */
#include <stdlib.h>

#include "base/str.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/own.h"
#include "rpc/table.h"
#include "rpc/view.h"

#define FIELD_MAX 1300

struct incarnation {
    int64_t begun_us, ready_us, ended_us;
    char how[64], actor[256], operation[64], end[32], why[64];
    int64_t status;
};

static int64_t number(const char **items)
{
    char field[24];

    return strtoll(view_field(items, field, sizeof(field)), NULL, 10);
}

static void put_words(struct buf *b, const char **items, const char *const *names)
{
    char field[FIELD_MAX];

    for (; *names; names++)
        json_str(b, *names, view_field(items, field, sizeof(field)));
}

/* --- why ---------------------------------------------------------------------------------------------- */

static void put_cause(struct buf *b, const char **items)
{
    static const char *const names[] = {"kind",   "worker", "what",      "by",
                                        "source", "reason", "operation", NULL};

    json_open(b, '{');
    json_time(b, "at", number(items), true);
    put_words(b, items, names);
    json_close(b, '}');
}

static void on_why(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    if (change_is_good(arg, end, reply, fd))
        own_send_list(arg, reply->items, put_cause);
}

void own_why(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    struct wire_call v = {.verb = WIRE_VERB_WHY, .worker = e ? e->id : 0};

    if (e)
        change_ask(r, &v, on_why);
}

/* --- history ------------------------------------------------------------------------------------------ */

static void put_span(struct buf *b, const char *name, int64_t from, int64_t to)
{
    if (from > 0 && to >= from)
        json_int(b, name, (to - from) / 1000);
    else
        json_null(b, name);
}

static void put_exit(struct buf *b, const struct incarnation *i)
{
    if (!view_open_exit(b, "exit", i->end, i->status))
        return;
    json_str(b, "reason", i->why);
    json_close(b, '}');
}

static void put_incarnation(struct buf *b, const char **items)
{
    struct incarnation i;

    json_open(b, '{');
    json_uint(b, "generation", (uint64_t)number(items));
    json_bool(b, "earlierBoot", number(items) != 0);
    json_uint(b, "pid", (uint64_t)number(items));
    i.begun_us = number(items);
    i.ready_us = number(items);
    i.ended_us = number(items);
    view_field(items, i.how, sizeof(i.how));
    view_field(items, i.actor, sizeof(i.actor));
    view_field(items, i.operation, sizeof(i.operation));
    view_field(items, i.end, sizeof(i.end));
    i.status = number(items);
    view_field(items, i.why, sizeof(i.why));
    json_time(b, "startedAt", i.begun_us, true);
    json_time(b, "readyAt", i.ready_us, true);
    json_time(b, "endedAt", i.ended_us, true);
    put_span(b, "readyMs", i.begun_us, i.ready_us);
    put_span(b, "durationMs", i.begun_us, i.ended_us);
    json_str(b, "reason", i.how);
    json_str(b, "actor", i.actor);
    json_str(b, "operation", i.operation);
    put_exit(b, &i);
    json_close(b, '}');
}

static void on_history(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    if (change_is_good(arg, end, reply, fd))
        own_send_list(arg, reply->items, put_incarnation);
}

void own_history(struct request *r)
{
    const struct table_entry *e = own_find_worker(r);
    struct wire_call v = {.verb = WIRE_VERB_HISTORY, .worker = e ? e->id : 0};

    if (e && own_take_from(r, &v.from))
        change_ask(r, &v, on_history);
}
