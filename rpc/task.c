/* SPDX-License-Identifier: Apache-2.0 */
/* OCP's calls on the agent as a whole: each is a task with steps, told as a TaskInstance. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_dec.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/ocp.h"
#include "rpc/reply.h"
#include "rpc/view.h"

#define STEP_IDS 16384 /* a step's id is its task's times this, and its place; below 2^53 */

/* --- who comes after whom: agentd tells it the other way round
 * ------------------------------------------------ */

struct graph {
    uint32_t *at;   /* of each step: where its followers begin in list; one more for the end */
    uint32_t *list; /* followers */
    size_t n;
};

/* The numbers of the last field of a line, each handed to fn. */
static void each_before(const char *line, void (*fn)(struct graph *g, uint32_t before, uint32_t step),
                        struct graph *g, uint32_t step)
{
    const char *end = line + strcspn(line, "\n"), *p = memrchr(line, '\t', (size_t)(end - line));

    while (p && p + 1 < end) {
        uint32_t before = (uint32_t)strtoul(p + 1, NULL, 10);
        if (before < g->n)
            fn(g, before, step);
        p = memchr(p + 1, ',', (size_t)(end - p - 1));
    }
}

static void count_one(struct graph *g, uint32_t before, uint32_t step)
{
    g->at[before + 1]++;
}

/* From the end of each one's place: afterwards at[] is where it begins. */
static void put_one(struct graph *g, uint32_t before, uint32_t step)
{
    g->list[--g->at[before + 1]] = step;
}

static void each_line(const char *lines, void (*fn)(struct graph *g, uint32_t before, uint32_t step),
                      struct graph *g)
{
    for (uint32_t step = 0; *lines; step++, lines = view_next_line(lines))
        each_before(lines, fn, g, step);
}

/* 0 or -ENOMEM. After it the followers of step i are list[at[i + 1]] up to list[at[i + 2]]. */
static int make_graph(const char *lines, struct graph *g)
{
    *g = (struct graph){0};
    for (const char *l = lines; *l; l = view_next_line(l))
        g->n++;
    if (!(g->at = calloc(g->n + 2, sizeof(*g->at))))
        return -ENOMEM;
    each_line(lines, count_one, g);
    for (size_t i = 1; i < g->n + 2; i++)
        g->at[i] += g->at[i - 1];
    if (!(g->list = calloc(g->at[g->n] + 1, sizeof(*g->list)))) {
        free(g->at);
        return -ENOMEM;
    }
    each_line(lines, put_one, g);
    return 0;
}

/* --- as OCP tells it
 * --------------------------------------------------------------------------------------------- */

static void put_ids(struct buf *b, const char *name, uint64_t task, const uint32_t *v, size_t n)
{
    json_key(b, name);
    json_open(b, '[');
    for (size_t i = 0; i < n; i++)
        json_put_uint(b, task * STEP_IDS + v[i]);
    json_close(b, ']');
}

static void put_befores(struct buf *b, uint64_t task, const char *list)
{
    json_key(b, "upstreams");
    json_open(b, '[');
    for (; *list; list += strcspn(list, ","), list += *list == ',')
        json_put_uint(b, task * STEP_IDS + strtoul(list, NULL, 10));
    json_close(b, ']');
}

static const char *done_by(const char *verb)
{
    return str_eq(verb, "start-all") ? "Start" : str_eq(verb, "stop-all") ? "Stop" : "Restart";
}

static void put_step(struct buf *b, const char *line, const struct graph *g, uint32_t i, uint64_t task,
                     const char *verb)
{
    char kind[16], name[80], status[16], timeout[24], message[200], text[320];
    const char *what;

    view_field(&line, kind, sizeof(kind));
    view_field(&line, name, sizeof(name));
    view_field(&line, status, sizeof(status));
    view_field(&line, timeout, sizeof(timeout));
    view_field(&line, message, sizeof(message));
    what = str_eq(kind, "host") ? "host " : str_eq(kind, "worker") ? "process " : "";
    json_open(b, '{');
    snprintf(text, sizeof(text), "%s %s%s%s%s", done_by(verb), what, name, message[0] ? ": " : "", message);
    json_str(b, "description", text);
    put_ids(b, "downstreams", task, g->list + g->at[i + 1], g->at[i + 2] - g->at[i + 1]);
    json_uint(b, "id", task * STEP_IDS + i);
    snprintf(text, sizeof(text), "%s %s%s", done_by(verb), what, name);
    json_str(b, "name", text);
    json_str(b, "operation", "EXECUTE");
    json_int(b, "parallelIdx", -1);
    json_bool(b, "prohibitRollback", false);
    json_int(b, "runTime", 1);
    json_uint(b, "seriesId", i);
    json_str(b, "status", status);
    json_uint(b, "timeout", strtoull(timeout, NULL, 10));
    char *befores = strndup(line, strcspn(line, "\n"));
    put_befores(b, task, befores ? befores : "");
    free(befores);
    json_close(b, '}');
}

static void put_context(struct buf *b)
{
    char host[24];

    snprintf(host, sizeof(host), "%lld", (long long)link_hello()->host_id);
    json_key(b, "context");
    json_open(b, '{');
    json_key(b, "listMap");
    json_open(b, '{');
    json_close(b, '}');
    json_bool(b, "parallel", false);
    json_int(b, "parallelIdx", -1);
    json_key(b, "stringMap");
    json_open(b, '{');
    json_str(b, "prohibit_rollback", "false");
    json_str(b, "host_id", host);
    json_close(b, '}');
    json_close(b, '}');
}

/* The first line is the task's. */
static void put_task(struct buf *b, const char *items, const struct graph *g)
{
    const char *lines = view_next_line(items);
    char number[16], verb[24], status[16], created[24], actor[REQUEST_ACTOR], batch[4], name[48];
    uint64_t task = strtoull(view_field(&items, number, sizeof(number)), NULL, 10);

    view_field(&items, verb, sizeof(verb));
    view_field(&items, status, sizeof(status));
    view_field(&items, created, sizeof(created));
    view_field(&items, actor, sizeof(actor));
    view_field(&items, batch, sizeof(batch));
    snprintf(name, sizeof(name), "%s OCP agent", done_by(verb));
    if (str_eq(batch, "1"))
        snprintf(name, sizeof(name), "Batch restart OCP agents");
    json_open(b, '{');
    put_context(b);
    json_str(b, "creator", actor);
    json_str(b, "executor", link_hello()->host_ip);
    json_int(b, "hostId", link_hello()->host_id);
    json_uint(b, "id", task);
    json_str(b, "name", name);
    json_str(b, "operation", "EXECUTE");
    json_time(b, "startTime", strtoll(created, NULL, 10), true);
    json_str(b, "status", status);
    json_key(b, "subtasks");
    json_open(b, '[');
    for (uint32_t i = 0; *lines; i++, lines = view_next_line(lines))
        put_step(b, lines, g, i, task, verb);
    json_close(b, ']');
    json_close(b, '}');
}

static void on_task(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;
    struct graph g;

    if (!change_is_good(r, end, reply, fd))
        return;
    if (make_graph(view_next_line(reply->items), &g) < 0) {
        reply_error(r, WIRE_E_INTERNAL, "out of memory");
        return;
    }
    if (r->verb == ROUTE_POST)
        reply_header(r, "Agentd-Operation", reply->operation);
    put_task(reply_data(r), reply->items, &g);
    free(g.at);
    free(g.list);
    reply_send(r, 200);
}

static void ask_for(struct request *r, enum wire_verb verb)
{
    struct wire_call v = {.verb = (uint8_t)verb};

    if (ocp_is_our_host(r))
        change_ask(r, &v, on_task);
}

void task_start(struct request *r)
{
    ask_for(r, WIRE_VERB_AGENT_START);
}

void task_stop(struct request *r)
{
    ask_for(r, WIRE_VERB_AGENT_STOP);
}

void task_restart(struct request *r)
{
    ask_for(r, WIRE_VERB_AGENT_RESTART);
}

/* The hosts of the body but ours, as a comma list. 1: ours is among them, 0: it is not, -EINVAL. */
static int take_hosts(const struct json *j, struct buf *others)
{
    int list = json_member(j, 0, "hostIds"), ours = 0;

    if (json_kind(j, 0) != JSON_OBJECT || json_kind(j, list) != JSON_ARRAY || json_count(j, list) < 1 ||
        json_count(j, list) > LIMIT_TASK_HOSTS)
        return -EINVAL;
    for (int t = json_first(j, list); t >= 0; t = json_next(j, t)) {
        int64_t id;
        if (!json_to_int(j, t, &id) || id <= 0)
            return -EINVAL;
        if (id == link_hello()->host_id)
            ours = 1;
        else
            buf_printf(others, "%s%lld", others->len ? "," : "", (long long)id);
    }
    return others->error ? -EINVAL : ours;
}

void task_batch(struct request *r)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in);
    struct buf others = BUF_INIT(LIMIT_WIRE_STRING);
    struct json j;
    int ours = -EINVAL;

    if (!ocp_has_host(r))
        return;
    if (n) {
        if (json_parse(&j, (const char *)evbuffer_pullup(in, -1), n, LIMIT_JSON_TOKENS) == 0)
            ours = take_hosts(&j, &others);
        json_free(&j);
    }
    if (ours < 0) {
        reply_error(r, WIRE_E_BAD_REQUEST, "the body is {\"hostIds\": [numbers]}, 1 to 64 of them");
    } else {
        struct wire_call v = {.verb = WIRE_VERB_AGENT_RESTART,
                              .name = others.len ? others.p : "",
                              .from = ours ? 0 : 1,
                              .follow = 1};
        change_ask(r, &v, on_task);
    }
    buf_free(&others);
}

void task_show(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_TASK};

    if (!ocp_has_host(r))
        return;
    if (str_to_u64(r->route.param[0], INT64_MAX, &v.from) < 0)
        reply_error(r, WIRE_E_BAD_REQUEST, "the task's id is not a number");
    else
        change_ask(r, &v, on_task);
}
