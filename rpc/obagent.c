/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that obagent answers today: those of OCP's own client (/api/v1/agent and its like), and those of
 * obagent's supervisor on its socket. Workers are "services" there. Fields, states and their letters as those
 * clients read them; what they do not know they skip. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_dec.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/route.h"
#include "rpc/sample.h"
#include "rpc/table.h"
#include "rpc/view.h"

#define TOKEN_MIN 8
#define TOKEN_MAX 64
#define TOKEN_KEY "taskToken:"
#define TOKEN_KEY_SIZE (sizeof(TOKEN_KEY) + TOKEN_MAX)
#define FIELD_SIZE 512

/* --- what comes ----------------------------------------------------------------------------------------- */

/* A member of the body, or, since those calls are also asked by GET, of the query. 1; 0: it is not there;
 * -EINVAL: it is no string, or too long. text is "" then. */
static int take(struct request *r, const char *name, char *text, size_t size)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in), len;
    struct json j;
    int at, found = 0;

    text[0] = 0;
    if (n == 0)
        return (found = route_query(r->route.query, name, text, size)) == 1 ? 1 : (text[0] = 0, found);
    if (json_parse(&j, (const char *)evbuffer_pullup(in, -1), n, LIMIT_JSON_TOKENS) == 0 &&
        (at = json_member(&j, 0, name)) >= 0 && json_kind(&j, at) != JSON_NULL)
        found = json_kind(&j, at) == JSON_STRING && json_raw(&j, at, &len) && len < size ? 1 : -EINVAL;
    if (found == 1)
        json_copy(&j, at, text, size);
    json_free(&j);
    return found;
}

/* The same, "" for none and for a wrong one. */
static const char *take_text(struct request *r, const char *name, char *text, size_t size)
{
    take(r, name, text, size);
    return text;
}

static bool is_token(const char *t)
{
    size_t n = strspn(t, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-");

    return t[n] == 0 && n >= TOKEN_MIN && n <= TOKEN_MAX;
}

/* --- time ----------------------------------------------------------------------------------------------- */

void obagent_time(struct request *r)
{
    char text[CLOCK_TEXT_MAX];

    json_put_str(reply_data(r), clock_iso(clock_wall_us(), 1, text));
    reply_send(r, 200);
}

/* --- status --------------------------------------------------------------------------------------------- */

static const char *state_of(const struct wire_record *w)
{
    if (str_eq(w->state, "UP"))
        return "running";
    if (str_eq(w->state, "STARTING"))
        return "starting";
    return str_eq(w->state, "STOPPING") || str_eq(w->state, "KILLING") ? "stopping" : "stopped";
}

static bool is_as_wanted(const struct wire_record *w)
{
    return str_eq(w->goal, "DOWN") || (str_eq(w->state, "UP") && w->ready);
}

static int64_t started_ns(const struct wire_record *w)
{
    return w->alive ? (clock_wall_us() - (int64_t)(clock_boot_us() - w->start_boot_us)) * 1000 : 0;
}

static void put_service(struct buf *b, const struct wire_record *w)
{
    json_key(b, w->alias);
    json_open(b, '{');
    json_str(b, "state", state_of(w));
    json_str(b, "version", "");
    json_uint(b, "pid", w->pid);
    json_int(b, "startAt", started_ns(w));
    json_int(b, "endAt", w->alive ? 0 : w->exit_us * 1000);
    json_str(b, "socket", "");
    json_uint(b, "port", strtoul(w->ports, NULL, 10));
    json_numbers(b, "ports", w->ports);
    json_close(b, '}');
}

/* Services, and whether each that is wanted is there. */
static bool put_services(struct buf *b)
{
    struct wire_record w;
    bool ready = true;

    json_key(b, "services");
    json_open(b, '{');
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &w);
        put_service(b, &w);
        ready = ready && is_as_wanted(&w);
    }
    json_close(b, '}');
    return ready;
}

void obagent_status(struct request *r)
{
    const struct wire_hello *h = link_hello();
    struct buf *b;
    bool ready;

    if (sample_wait(r, 0, table_count()))
        return;
    b = reply_data(r);
    json_open(b, '{');
    json_str(b, "state", "running"); /* else nobody would answer */
    json_str(b, "version", h->version);
    json_uint(b, "pid", h->pid);
    json_str(b, "socket", listen_unix_path());
    ready = put_services(b);
    json_bool(b, "ready", ready);
    json_key(b, "dangling");
    json_open(b, '['); /* what a dead agentd left is adopted, or ended before anything starts */
    json_close(b, ']');
    json_int(b, "startAt", h->begun_us * 1000);
    json_close(b, '}');
    reply_send(r, 200);
}

/* --- a service ------------------------------------------------------------------------------------------ */

static void change_service(struct request *r, enum wire_verb verb)
{
    char name[LIMIT_ALIAS + 1], text[LIMIT_ALIAS + 64];
    const struct table_entry *e = table_by_alias(take_text(r, "service", name, sizeof(name)));

    if (e) {
        change_start(r, verb, e->id);
    } else if (!*name) {
        reply_error(r, WIRE_E_BAD_REQUEST, "bad_param: the body is {\"service\": NAME}");
    } else { /* the word is obagent's own, and its clients compare it */
        snprintf(text, sizeof(text), "service_not_round: there is no service %s", name);
        reply_error(r, WIRE_E_NO_PROCESS, text);
    }
}

void obagent_start(struct request *r)
{
    change_service(r, WIRE_VERB_START);
}

void obagent_stop(struct request *r)
{
    change_service(r, WIRE_VERB_STOP);
}

/* --- a restart, and how it goes ------------------------------------------------------------------------- */

/* A token is a key: of the task that it began it tells for as long as keys are kept, over agentd's death and
 * exec too. */
static const char *key_of_token(const char *token, char key[TOKEN_KEY_SIZE])
{
    snprintf(key, TOKEN_KEY_SIZE, TOKEN_KEY "%.64s", token); /* TOKEN_MAX */
    return key;
}

static void on_begun(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;
    struct buf *b;

    if (!change_is_good(r, end, reply, fd))
        return;
    reply_header(r, "Agentd-Operation", reply->operation);
    b = reply_data(r);
    json_open(b, '{');
    json_str(b, "taskToken", r->route.param[0]);
    json_close(b, '}');
    reply_send(r, 200);
}

/* The token is kept where a path's first word would be: these paths have none. */
static void begin_task(struct request *r, enum wire_verb verb)
{
    char key[TOKEN_KEY_SIZE], *token = r->route.param[0];
    struct wire_call v = {.verb = (uint8_t)verb, .request = r->method->path};

    if (take(r, "taskToken", token, ROUTE_PARAM) >= 0 && !*token)
        reply_trace(token);
    if (!is_token(token)) {
        reply_error(r, WIRE_E_BAD_REQUEST, "taskToken is 8 to 64 letters, digits, _ and -");
        return;
    }
    v.key = key_of_token(token, key);
    change_ask(r, &v, on_begun);
}

void obagent_start_all(struct request *r)
{
    begin_task(r, WIRE_VERB_AGENT_START);
}

void obagent_stop_all(struct request *r)
{
    begin_task(r, WIRE_VERB_AGENT_STOP);
}

void obagent_restart(struct request *r)
{
    begin_task(r, WIRE_VERB_AGENT_RESTART);
}

static const char *part_of(const char *kind, const char *name)
{
    return str_eq(kind, "agentd") ? "agentd" : name;
}

static void put_entry(struct buf *b, const char *name, const char *at_us, const char *status,
                      const char *message)
{
    json_open(b, '{');
    json_str(b, "name", name);
    json_int(b, "timestamp", strtoll(at_us, NULL, 10) * 1000);
    json_str(b, "status", status);
    if (*message)
        json_str(b, "message", message);
    json_close(b, '}');
}

/* A step is told of when it begins, and again when it has ended. The first that failed is why. */
static void put_step(struct buf *b, const char *verb, const char *line, char why[FIELD_SIZE])
{
    char kind[16], name[FIELD_SIZE], status[16], begun[24], ended[24], message[FIELD_SIZE], text[FIELD_SIZE];
    bool failed;

    view_field(&line, kind, sizeof(kind));
    view_field(&line, name, sizeof(name));
    view_field(&line, status, sizeof(status));
    view_field(&line, begun, sizeof(begun));
    view_field(&line, ended, sizeof(ended));
    view_field(&line, message, sizeof(message));
    failed = str_eq(status, "FAILED");
    if (failed && !*why)
        snprintf(why, FIELD_SIZE, "%.200s: %.300s", part_of(kind, name), message);
    /* "restart-all" */
    snprintf(text, sizeof(text), "%.*s %.400s", (int)strcspn(verb, "-"), verb, part_of(kind, name));
    if (!str_eq(begun, "0"))
        put_entry(b, text, begun, "start", "");
    if (failed || str_eq(status, "SUCCESSFUL"))
        put_entry(b, text, ended, failed ? "fail" : "ok", message);
}

static void put_task(struct buf *b, const char *items)
{
    char number[16], verb[24], status[16], why[FIELD_SIZE] = "";
    const char *lines = view_next_line(items);
    bool ok, finished;

    view_field(&items, number, sizeof(number));
    view_field(&items, verb, sizeof(verb));
    view_field(&items, status, sizeof(status));
    ok = str_eq(status, "SUCCESSFUL");
    finished = ok || str_eq(status, "FAILED");
    json_open(b, '{');
    json_bool(b, "finished", finished);
    json_bool(b, "ok", ok);
    json_key(b, "progress");
    json_open(b, '[');
    for (; *lines; lines = view_next_line(lines))
        put_step(b, verb, lines, why);
    json_close(b, ']');
    json_bool(b, "result", ok);
    json_str(b, "err", finished && !ok ? (*why ? why : "superseded") : "");
    json_close(b, '}');
}

static void on_task(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    if (!change_is_good(arg, end, reply, fd))
        return;
    put_task(reply_data(arg), reply->items);
    reply_send(arg, 200);
}

void obagent_task(struct request *r)
{
    char token[TOKEN_MAX + 2], key[TOKEN_KEY_SIZE];
    struct wire_call v = {.verb = WIRE_VERB_TASK};

    if (!is_token(take_text(r, "taskToken", token, sizeof(token)))) {
        reply_error(r, WIRE_E_BAD_REQUEST, "taskToken is 8 to 64 letters, digits, _ and -");
        return;
    }
    v.name = key_of_token(token, key);
    change_ask(r, &v, on_task);
}

/* --- the host ------------------------------------------------------------------------------------------- */

static void on_host(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    static const struct {
        const char *name;
        bool number;
    } fields[] = {{"hostName", false},      {"bootTime", true},          {"upTime", true},
                  {"osPlatform", false},    {"osPlatformFamily", false}, {"osPlatformVersion", false},
                  {"kernelVersion", false}, {"architecture", false},     {"cpuModelName", false},
                  {"cpuCount", true},       {"totalMemory", true}};
    const char *items = reply ? reply->items : "";
    char value[FIELD_SIZE];
    struct buf *b;

    if (!change_is_good(arg, end, reply, fd))
        return;
    b = reply_data(arg);
    json_open(b, '{');
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        view_field(&items, value, sizeof(value));
        if (fields[i].number)
            json_uint(b, fields[i].name, strtoull(value, NULL, 10));
        else
            json_str(b, fields[i].name, value);
    }
    json_str(b, "os", "linux");
    json_close(b, '}');
    reply_send(arg, 200);
}

void obagent_host(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_HOST};

    change_ask(r, &v, on_host);
}

static void on_path(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct buf *b;

    if (!change_is_good(arg, end, reply, fd))
        return;
    b = reply_data(arg);
    json_open(b, '{');
    json_str(b, "path", reply->items);
    json_close(b, '}');
    reply_send(arg, 200);
}

void obagent_real_path(struct request *r)
{
    char path[4096];
    struct wire_call v = {.verb = WIRE_VERB_REAL_PATH,
                          .name = take_text(r, "symbolicLink", path, sizeof(path))};

    if (path[0] == '/')
        change_ask(r, &v, on_path);
    else
        reply_error(r, WIRE_E_BAD_REQUEST, "the body is {\"symbolicLink\": ABSOLUTE-PATH}");
}
