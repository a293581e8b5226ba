/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/audit.h"
#include "rpc/auth.h"
#include "rpc/events.h"
#include "rpc/handlers.h"
#include "rpc/json_dec.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/stats.h"
#include "rpc/stream.h"

static void (*const handlers[METHOD_COUNT])(struct request *r) = {
#define METHOD(name, verb, path, role, handler, flags, reply, help) [METHOD_##name] = handler,
#include "rpc/method.def"
#undef METHOD
};

static bool refusing;

void request_refuse_all(void)
{
    refusing = true;
}

const char *request_header(const struct request *r, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(r->http), name);
}

int request_header_all(const struct request *r, const char *name, char *buf, size_t size)
{
    const struct evkeyval *h;
    size_t n = 0;
    int found = 0;

    buf[0] = 0;
    TAILQ_FOREACH (h, evhttp_request_get_input_headers(r->http), next) {
        if (strcasecmp(h->key, name) != 0)
            continue;
        n += (size_t)snprintf(buf + n, size - n, "%s%s", found ? "," : "", h->value);
        if (n >= size)
            return -E2BIG;
        found = 1;
    }
    return found;
}

void request_free(struct request *r)
{
    free(r);
}

void request_gone(struct request *r)
{
    r->conn = NULL;
    if (r->stream && r->events)
        events_gone(r);
    else if (r->stream)
        stream_gone(r);
}

void request_resume(struct request *r)
{
    handlers[r->method - method_table](r);
}

static enum route_verb verb_of(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return ROUTE_GET;
    case EVHTTP_REQ_HEAD:
        return ROUTE_HEAD;
    case EVHTTP_REQ_POST:
        return ROUTE_POST;
    case EVHTTP_REQ_DELETE:
        return ROUTE_DELETE;
    case EVHTTP_REQ_OPTIONS:
        return ROUTE_OPTIONS;
    default:
        return ROUTE_OTHER;
    }
}

static void take_trace(struct request *r)
{
    const char *given = request_header(r, "X-OCP-Trace-ID");

    if (given && strlen(given) == 16 && strspn(given, "0123456789abcdefABCDEF") == 16)
        memcpy(r->trace, given, sizeof(r->trace));
    else
        reply_trace(r->trace);
}

/* One range of an Accept header, n bytes at s: does it take type/subtype? A weight of zero says no. */
static bool range_takes(const char *s, size_t n, const char *type)
{
    size_t word = 0, slash = strcspn(type, "/") + 1;

    while (word < n && s[word] != ';' && s[word] != ' ' && s[word] != '\t')
        word++;
    if (memmem(s, n, "q=0", 3)) {
        const char *q = (const char *)memmem(s, n, "q=0", 3) + 3;
        size_t rest = (size_t)(s + n - q);
        size_t zeros = 0;
        while (zeros < rest && (q[zeros] == '.' || q[zeros] == '0'))
            zeros++;
        if (zeros == rest || q[zeros] == ' ' || q[zeros] == ';')
            return false;
    }
    if (word == 3 && memcmp(s, "*/*", 3) == 0)
        return true;
    if (word == slash + 1 && strncasecmp(s, type, slash) == 0 && s[slash] == '*')
        return true;
    return word == strlen(type) && strncasecmp(s, type, word) == 0;
}

static bool accepts(const char *header, const char *type)
{
    bool any = false;

    while (*header) {
        size_t n;
        header += strspn(header, " \t,");
        n = strcspn(header, ",");
        any = any || n;
        if (n && range_takes(header, n, type))
            return true;
        header += n;
    }
    return !any;
}

static bool is_acceptable(const struct request *r)
{
    const char *header = request_header(r, "Accept");

    if (!header || r->method->flags & METHOD_PLAIN)
        return true;
    return accepts(header, "application/json") ||
           (r->method->flags & METHOD_STREAM && accepts(header, r->method->reply)) ||
           (r->method->flags & METHOD_SSE && accepts(header, "text/event-stream"));
}

/* A browser sends along what it holds for us, whoever's page it shows: only our own pages may change things.
 */
static bool is_foreign(const struct request *r)
{
    const char *origin = request_header(r, "Origin"), *site = request_header(r, "Sec-Fetch-Site");
    const char *host = request_header(r, "Host"), *rest;

    if (site && !str_eq(site, "same-origin") && !str_eq(site, "none"))
        return true;
    if (!origin)
        return false;
    rest = strstr(origin, "://");
    return !rest || !host || strcasecmp(rest + 3, host) != 0;
}

static bool is_json_type(const char *header)
{
    size_t n = header ? strcspn(header, "; \t") : 0;

    return n == strlen("application/json") && strncasecmp(header, "application/json", n) == 0;
}

static enum wire_error judge_body(const struct request *r)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in);
    struct json j;
    int error;

    if (n == 0)
        return WIRE_OK;
    if (!is_json_type(request_header(r, "Content-Type")))
        return WIRE_E_MEDIA_TYPE;
    error = json_parse(&j, (const char *)evbuffer_pullup(in, -1), n, LIMIT_JSON_TOKENS);
    json_free(&j);
    return error < 0 ? WIRE_E_BAD_REQUEST : WIRE_OK;
}

/* Whoever asks is known: may it, and is it asked well? Then the handler has it. */
static void dispatch(struct request *r)
{
    char allow[64];
    enum wire_error e = WIRE_OK;
    const char *why = NULL;

    if (!r->route.allowed) {
        reply_error(r, WIRE_E_NO_PATH, NULL);
        return;
    }
    if (r->verb == ROUTE_OPTIONS || !r->method) {
        reply_header(r, "Allow", route_allow(r->route.allowed, allow, sizeof(allow)));
        if (r->verb == ROUTE_OPTIONS)
            reply_plain(r, 204, "");
        else
            reply_error(r, WIRE_E_METHOD_NOT_ALLOWED, NULL);
        return;
    }
    if (r->role < r->method->role) {
        e = WIRE_E_FORBIDDEN;
        why = "the role does not allow it";
        stats.forbidden++;
    } else if (!is_acceptable(r))
        e = WIRE_E_NOT_ACCEPTABLE;
    else if (r->verb & (ROUTE_POST | ROUTE_DELETE) && is_foreign(r)) {
        e = WIRE_E_FORBIDDEN;
        why = "a page of another origin asks";
    } else if (r->verb == ROUTE_POST)
        e = judge_body(r);
    if (why)
        audit_refused(r, e, why);
    if (e != WIRE_OK)
        reply_error(r, e, e == WIRE_E_BAD_REQUEST ? "the body is not valid JSON" : NULL);
    else
        request_resume(r);
}

static const struct {
    enum wire_error error;
    const char *message; /* NULL: the error's own */
} refusals[] = {
    [AUTH_DENIED] = {WIRE_E_UNAUTHORIZED, NULL},
    [AUTH_FORBIDDEN] = {WIRE_E_FORBIDDEN, NULL},
    [AUTH_BUSY] = {WIRE_E_TOO_MANY, NULL},
    [AUTH_SLOWED] = {WIRE_E_TOO_MANY, "too many wrong attempts from this address"},
    [AUTH_EARLY] = {WIRE_E_NOT_READY, "agentd-rpc has just started: sign the request anew"},
    [AUTH_FAILED] = {WIRE_E_INTERNAL, NULL},
};

static void refuse(struct request *r, enum auth_verdict v)
{
    const char *way, *message = refusals[v].message;

    for (unsigned i = 0; v == AUTH_DENIED && (way = auth_challenge(r, i)); i++)
        reply_header(r, "WWW-Authenticate", way);
    audit_refused(r, refusals[v].error, message ? message : wire_error_text(refusals[v].error));
    reply_error(r, refusals[v].error, message);
}

static void on_auth(struct request *r, enum auth_verdict v)
{
    if (v == AUTH_GRANTED && r->conn && !refusing) {
        listen_grant(r->conn);
        dispatch(r);
        return;
    }
    stats.unauthorized += v == AUTH_DENIED || v == AUTH_SLOWED;
    stats.forbidden += v == AUTH_FORBIDDEN;
    stats.busy += v == AUTH_BUSY;
    if (refusing || v == AUTH_GRANTED) {
        reply_error(r, WIRE_E_NOT_READY, NULL);
        return;
    }
    refuse(r, v);
}

void request_serve(struct listen_conn *c, struct evhttp_request *http)
{
    struct request *r = malloc(sizeof(*r));
    enum auth_verdict v;

    if (!r) {
        evhttp_send_reply(http, 503, "Service Unavailable", NULL);
        return;
    }
    memset(r, 0, offsetof(struct request, route));
    r->http = http;
    r->conn = c;
    r->start_us = clock_mono_us();
    r->verb = verb_of(http);
    listen_attach(c, r);
    take_trace(r);
    if (route_match(evhttp_request_get_uri(http), r->verb, &r->route) == 0 && r->route.method >= 0) {
        r->method = &method_table[r->route.method];
        r->ocp = r->method->flags & METHOD_OCP;
    }
    if (refusing) {
        reply_error(r, WIRE_E_NOT_READY, NULL);
        return;
    }
    if ((r->retry_sec = listen_over_rate(c))) {
        stats.over_rate++;
        reply_error(r, WIRE_E_TOO_MANY, "too many requests from this address");
        return;
    }
    if (r->method && r->method->role == METHOD_NONE) {
        dispatch(r);
        return;
    }
    if ((v = auth_check(r, on_auth)) != AUTH_WAITING)
        on_auth(r, v);
}
