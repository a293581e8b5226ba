/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: the table of workers and what was counted here, in the text format that Prometheus reads
 * (0.0.4): every family in one piece, HELP and TYPE first. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/call.h"
#include "rpc/events.h"
#include "rpc/handlers.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/sample.h"
#include "rpc/source.h"
#include "rpc/stats.h"
#include "rpc/stream.h"
#include "rpc/table.h"
#include "rpc/tls.h"

#define TYPE "text/plain; version=0.0.4; charset=utf-8"

enum unit { PLAIN, USEC };

static uint64_t age_us(const struct wire_record *r)
{
    uint64_t now = clock_boot_us();

    return now > r->start_boot_us ? now - r->start_boot_us : 0;
}

static uint64_t own_cpu_us(void)
{
    struct timespec ts = {0, 0};

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- the format ---- */

static void put_head(struct buf *b, const char *prefix, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP agentd_%s%s %s\n# TYPE agentd_%s%s %s\n", prefix, name, help, prefix, name, type);
}

/* NAME="VALUE" */
static void put_label(struct buf *b, const char *name, const char *value)
{
    buf_str(b, name);
    buf_str(b, "=\"");
    while (*value) {
        size_t n = strcspn(value, "\\\"\n");
        buf_put(b, value, n);
        value += n;
        if (*value)
            buf_str(b, *value == '\n' ? "\\n" : *value == '"' ? "\\\"" : "\\\\"), value++;
    }
    buf_char(b, '"');
}

static void put_value(struct buf *b, enum unit unit, uint64_t value)
{
    if (unit == USEC)
        buf_printf(b, " %llu.%06llu\n", (unsigned long long)value / 1000000,
                   (unsigned long long)value % 1000000);
    else
        buf_char(b, ' '), buf_uint(b, value), buf_char(b, '\n');
}

static void put_one(struct buf *b, const char *name, const char *label, const char *word, uint64_t value)
{
    buf_str(b, "agentd_");
    buf_str(b, name);
    buf_char(b, '{');
    put_label(b, label, word);
    buf_char(b, '}');
    put_value(b, PLAIN, value);
}

/* ---- of each worker ---- */

#define WORKER(name, type, unit, condition, value, help)    \
    static bool has_##name(const struct wire_record *r)     \
    {                                                       \
        return condition;                                   \
    }                                                       \
    static uint64_t get_##name(const struct wire_record *r) \
    {                                                       \
        return value;                                       \
    }
#include "rpc/metrics.def"
#undef WORKER

static const struct {
    const char *name, *type, *help;
    enum unit unit;
    bool (*has)(const struct wire_record *r);
    uint64_t (*get)(const struct wire_record *r);
} families[] = {
#define WORKER(name, type, unit, condition, value, help) {#name, type, help, unit, has_##name, get_##name},
#include "rpc/metrics.def"
#undef WORKER
};

/* Its id is in it too: an alias may go to another worker between two looks at the table. */
static void put_labels(struct buf *b, const char *name, const struct wire_record *r)
{
    buf_str(b, "agentd_worker_");
    buf_str(b, name);
    buf_str(b, "{id=\"");
    buf_uint(b, (uint64_t)r->id);
    buf_str(b, "\",");
    put_label(b, "alias", r->alias);
}

static void put_family(struct buf *b, size_t f)
{
    struct wire_record r;

    put_head(b, "worker_", families[f].name, families[f].type, families[f].help);
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &r);
        if (!families[f].has(&r))
            continue;
        put_labels(b, families[f].name, &r);
        buf_char(b, '}');
        put_value(b, families[f].unit, families[f].get(&r));
    }
}

static void put_states(struct buf *b)
{
    static const char *const states[] = {"DOWN",    "STARTING", "UP",      "STOPPING",
                                         "KILLING", "BACKOFF",  "COOLDOWN"};
    uint64_t count[ARRAY_LEN(states)] = {0};
    struct wire_record r;

    put_head(b, "worker_", "state", "gauge", "1 for the state it is in.");
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &r);
        for (size_t s = 0; s < ARRAY_LEN(states); s++)
            count[s] += str_eq(r.state, states[s]);
        put_labels(b, "state", &r);
        buf_char(b, ',');
        put_label(b, "state", r.state);
        buf_str(b, "} 1\n");
    }
    put_head(b, "", "workers", "gauge", "Workers by state.");
    for (size_t s = 0; s < ARRAY_LEN(states); s++)
        put_one(b, "workers", "state", states[s], count[s]);
}

/* ---- what was counted ---- */

static void put_starts(struct buf *b)
{
    const char *word;
    uint64_t count, sum;

    put_head(b, "", "worker_starts_total", "counter",
             "Starts that were begun, by what led to them, since the listener runs.");
    for (unsigned i = 0; (word = stats_reason(i, &count)); i++)
        put_one(b, "worker_starts_total", "reason", word, count);
    put_head(b, "", "operation_phase_seconds", "summary",
             "How long the phases of operations took, counted for each caller that waited here: stop, spawn, "
             "ready.");
    for (unsigned i = 0; (word = stats_phase(i, &count, &sum)); i++) {
        buf_str(b, "agentd_operation_phase_seconds_sum{");
        put_label(b, "phase", word);
        buf_char(b, '}');
        put_value(b, USEC, sum);
        put_one(b, "operation_phase_seconds_count", "phase", word, count);
    }
}

static void put_requests(struct buf *b)
{
    char status[8];

    put_head(b, "", "http_requests_total", "counter",
             "Requests that were answered, by method and class of status.");
    for (unsigned v = 0; v < STATS_VERBS; v++)
        for (unsigned c = 0; c < STATS_CLASSES; c++)
            if (stats.requests[v][c])
                buf_printf(b, "agentd_http_requests_total{method=\"%s\",code=\"%uxx\"} %llu\n",
                           stats_verb_name(v), c + 1, (unsigned long long)stats.requests[v][c]);
    put_head(b, "", "http_refused_total", "counter",
             "Connections that were answered and closed by the listener itself, by error code: no request, "
             "or none "
             "that is read the same by everybody.");
    for (int e = 0; e < WIRE_E_MAX; e++) {
        snprintf(status, sizeof(status), "%d", wire_error_code((enum wire_error)e));
        if (stats.refused[e])
            put_one(b, "http_refused_total", "code", status, stats.refused[e]);
    }
    put_head(b, "", "http_auth_refused_total", "counter", "Requests whose caller was not let in, by reason.");
    put_one(b, "http_auth_refused_total", "reason", "unauthorized", stats.unauthorized);
    put_one(b, "http_auth_refused_total", "reason", "forbidden", stats.forbidden);
    put_one(b, "http_auth_refused_total", "reason", "busy", stats.busy);
    put_one(b, "http_auth_refused_total", "reason", "certificate", stats.certificates_refused);
}

static void put_streams(struct buf *b)
{
    put_head(b, "", "http_streams", "gauge", "Streams that are open.");
    put_one(b, "http_streams", "kind", "log", stream_count());
    put_one(b, "http_streams", "kind", "events", events_count());
    put_head(b, "", "http_streams_max", "gauge", "As many may be open.");
    put_one(b, "http_streams_max", "kind", "log", link_hello()->max_log_streams);
    put_one(b, "http_streams_max", "kind", "events", link_hello()->max_event_streams);
}

static void put_scalar(struct buf *b, const char *name, const char *type, enum unit unit, uint64_t value,
                       const char *help)
{
    put_head(b, "", name, type, help);
    buf_str(b, "agentd_");
    buf_str(b, name);
    put_value(b, unit, value);
}

static void put_self(struct buf *b)
{
    put_head(b, "", "build_info", "gauge", "1, with agentd's version.");
    put_one(b, "build_info", "version", link_hello()->version, 1);
#define SELF(name, type, unit, value, help) put_scalar(b, #name, type, unit, value, help);
#include "rpc/metrics.def"
#undef SELF
}

void metrics_serve(struct request *r)
{
    struct buf *b;

    if (sample_wait(r, 0, table_count()))
        return;
    b = reply_bare();
    put_self(b);
    put_requests(b);
    put_streams(b);
    put_starts(b);
    put_states(b);
    for (size_t f = 0; f < ARRAY_LEN(families); f++)
        put_family(b, f);
    reply_send_bare(r, TYPE);
}
