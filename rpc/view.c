/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"

static uint64_t elapsed_sec(const struct wire_record *r)
{
    uint64_t now = clock_boot_us();

    return r->alive && now > r->start_boot_us ? (now - r->start_boot_us) / 1000000 : 0;
}

static int64_t last_active(const struct wire_record *r)
{
    return r->alive ? clock_wall_us() : r->active_us;
}

void view_process(struct buf *b, const struct wire_record *r)
{
    json_open(b, '{');
    json_int(b, "id", r->id);
    json_int(b, "hostId", link_hello()->host_id);
    json_str(b, "alias", r->alias);
    json_uint(b, "pid", r->alive ? r->pid : 0);
    json_str(b, "user", r->user);
    json_str(b, "startCommand", r->start_command);
    json_str(b, "ports", r->alive ? r->ports : "");
    json_uint(b, "elapsedTime", elapsed_sec(r));
    json_time(b, "lastActiveTime", last_active(r), true);
    json_str(b, "status", r->alive ? "STARTED" : "STOPPED");
    json_bool(b, "operable", r->operable);
    json_str(b, "logFilePattern", r->log_pattern);
    json_time(b, "createTime", r->create_us, false);
    json_time(b, "updateTime", r->update_us, false);
    json_close(b, '}');
}

void view_agent(struct buf *b)
{
    const struct wire_hello *h = link_hello();
    struct wire_record r;

    json_open(b, '{');
    json_int(b, "id", h->agent_id);
    json_str(b, "version", h->version);
    json_str(b, "installHome", h->install_home);
    json_str(b, "logHome", h->log_home);
    json_time(b, "lastAvailableTime", clock_wall_us(), true);
    json_int(b, "hostId", h->host_id);
    json_str(b, "hostInnerIpAddress", h->host_ip);
    json_str(b, "status", "STARTED");
    json_key(b, "processes");
    json_open(b, '[');
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &r);
        view_process(b, &r);
    }
    json_close(b, ']');
    json_time(b, "createTime", h->create_us, false);
    json_time(b, "updateTime", h->update_us, false);
    json_close(b, '}');
}

static void put_identity(struct buf *b, const struct wire_record *r)
{
    json_key(b, "identity");
    if (!r->alive) {
        buf_str(b, "null");
        return;
    }
    json_open(b, '{');
    json_uint(b, "pid", r->pid);
    json_uint(b, "startTicks", r->start_ticks);
    json_time(b, "startTime", clock_wall_us() - (int64_t)(clock_boot_us() - r->start_boot_us), true);
    json_uint(b, "cgroupId", r->cgroup_id);
    json_close(b, '}');
}

bool view_open_exit(struct buf *b, const char *name, const char *kind, int64_t status)
{
    json_key(b, name);
    if (!*kind) {
        buf_str(b, "null");
        return false;
    }
    json_open(b, '{');
    json_str(b, "kind", kind);
    if (str_eq(kind, "unknown"))
        json_null(b, "status");
    else
        json_int(b, "status", status);
    if (str_eq(kind, "killed") || str_eq(kind, "dumped") || str_eq(kind, "oom-killed"))
        json_int(b, "signal", status);
    return true;
}

static void put_last_exit(struct buf *b, const struct wire_record *r)
{
    if (!view_open_exit(b, "lastExit", r->exit_kind, r->exit_status))
        return;
    json_time(b, "time", r->exit_us, true);
    json_uint(b, "pid", r->exit_pid);
    json_str(b, "message", r->exit_message);
    json_close(b, '}');
}

static void put_sample(struct buf *b, const struct wire_record *r)
{
    json_str(b, "ports", r->alive ? r->ports : "");
    json_uint(b, "processes", r->processes);
    json_uint(b, "cpuUsec", r->cpu_us);
    json_uint(b, "memoryBytes", r->memory);
}

void view_worker(struct buf *b, const struct wire_record *r)
{
    json_open(b, '{');
    json_int(b, "id", r->id);
    json_str(b, "alias", r->alias);
    json_str(b, "description", r->description);
    json_str(b, "state", r->state);
    json_str(b, "goal", r->goal);
    json_str(b, "goalBy", r->goal_by);
    json_time(b, "goalSince", r->goal_us, true);
    json_str(b, "reason", r->reason);
    json_str(b, "message", r->message);
    json_bool(b, "alive", r->alive);
    json_bool(b, "ready", r->ready);
    json_bool(b, "operable", r->operable);
    json_str(b, "ownership", r->ownership);
    json_uint(b, "generation", r->generation);
    put_identity(b, r);
    json_uint(b, "pid", r->alive ? r->pid : 0);
    json_str(b, "user", r->user);
    json_uint(b, "uid", r->uid);
    json_uint(b, "elapsedTime", elapsed_sec(r));
    json_str(b, "startCommand", r->start_command);
    json_str(b, "logFilePattern", r->log_pattern);
    json_str(b, "output", r->output);
    put_sample(b, r);
    json_uint(b, "restarts", r->restarts);
    json_uint(b, "attempts", r->attempts);
    json_time(b, "since", r->since_us, true);
    json_time(b, "nextRetryAt", r->retry_us, true);
    put_last_exit(b, r);
    json_words(b, "stale", r->stale);
    json_words(b, "noEffect", r->no_effect);
    json_str(b, "statusText", r->status_text);
    json_str(b, "phase", r->phase);
    json_str(b, "health", r->health);
    json_str(b, "healthMessage", r->health_why);
    json_numbers(b, "leftovers", r->leftovers);
    json_time(b, "lastActiveTime", last_active(r), true);
    json_time(b, "createTime", r->create_us, false);
    json_time(b, "updateTime", r->update_us, false);
    json_close(b, '}');
}

/* "stop:1234,spawn:567" in microseconds, as milliseconds with three decimals */
static void put_phases(struct buf *b, const char *list)
{
    char name[LIMIT_JSON_WORD];

    json_key(b, "phases");
    json_open(b, '[');
    while (*list) {
        size_t n = strcspn(list, ","), colon = strcspn(list, ":,");
        if (colon < n && colon < sizeof(name)) {
            unsigned long long us = strtoull(list + colon + 1, NULL, 10);
            memcpy(name, list, colon);
            name[colon] = 0;
            json_open(b, '{');
            json_str(b, "name", name);
            json_key(b, "ms");
            buf_printf(b, "%llu.%03llu", us / 1000, us % 1000);
            json_close(b, '}');
        }
        list += n + (list[n] == ',');
    }
    json_close(b, ']');
}

static void put_incarnation(struct buf *b, const char *name, uint32_t pid, uint64_t start,
                            uint32_t generation)
{
    json_key(b, name);
    json_open(b, '{');
    json_uint(b, "pid", pid);
    json_uint(b, "startTicks", start);
    json_uint(b, "generation", generation);
    json_close(b, '}');
}

void view_operation(struct buf *b, const struct wire_reply *op, const struct wire_record *worker)
{
    json_open(b, '{');
    json_str(b, "id", op->operation);
    json_str(b, "verb", op->verb);
    json_key(b, "worker");
    if (worker)
        view_worker(b, worker);
    else
        buf_str(b, "null");
    json_str(b, "alias", op->alias);
    json_str(b, "actor", op->actor);
    json_str(b, "source", op->source);
    json_str(b, "reason", op->reason);
    json_time(b, "created", op->created_us, true);
    json_time(b, "ended", op->ended_us, true);
    json_str(b, "result", op->result);
    json_str(b, "message", op->message);
    json_bool(b, "durable", op->durable);
    put_phases(b, op->phases);
    put_incarnation(b, "before", op->before_pid, op->before_start, op->before_generation);
    put_incarnation(b, "after", op->after_pid, op->after_start, op->after_generation);
    json_numbers(b, "killed", op->killed);
    json_numbers(b, "survivors", op->survivors);
    json_numbers(b, "leftovers", op->leftovers);
    json_words(b, "affected", op->affected);
    json_close(b, '}');
}

/* The next field of a line of fields with tabs between, cut into buf; *s moved behind it. */
const char *view_field(const char **s, char *buf, size_t size)
{
    size_t n = strcspn(*s, "\t\n"), take = n < size - 1 ? n : size - 1;

    memcpy(buf, *s, take);
    buf[take] = 0;
    *s += n;
    if (**s == '\t')
        (*s)++;
    return buf;
}

const char *view_next_line(const char *s)
{
    s += strcspn(s, "\n");
    return *s ? s + 1 : s;
}

void view_log_list(struct buf *b, const char *items)
{
    char field[512];

    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    for (; *items; items = view_next_line(items)) {
        json_open(b, '{');
        json_str(b, "name", view_field(&items, field, sizeof(field)));
        json_uint(b, "size", strtoull(view_field(&items, field, sizeof(field)), NULL, 10));
        json_time(b, "updateTime", strtoll(view_field(&items, field, sizeof(field)), NULL, 10), true);
        json_close(b, '}');
    }
    json_close(b, ']');
    json_close(b, '}');
}

/* "Key=cost,Key=cost" */
static void put_keys(struct buf *b, const char *keys)
{
    char word[128];

    json_key(b, "keys");
    json_open(b, '[');
    while (*keys) {
        size_t n = strcspn(keys, ","), name = strcspn(keys, "=");
        snprintf(word, sizeof(word), "%.*s", (int)name, keys);
        json_open(b, '{');
        json_str(b, "key", word);
        snprintf(word, sizeof(word), "%.*s", name < n ? (int)(n - name - 1) : 0, keys + name + 1);
        json_str(b, "cost", word);
        json_close(b, '}');
        keys += n + (keys[n] == ',');
    }
    json_close(b, ']');
}

static void put_lines(struct buf *b, const char *name, const char *lines)
{
    char line[LIMIT_WIRE_STRING + 1];

    json_key(b, name);
    buf_char(b, '[');
    for (; *lines; lines = view_next_line(lines)) {
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(lines, "\n"), lines);
        json_put_str(b, line);
    }
    buf_char(b, ']');
}

void view_reload(struct buf *b, const char *items, const char *errors)
{
    char field[LIMIT_WIRE_STRING + 1];

    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    for (; *items; items = view_next_line(items)) {
        json_open(b, '{');
        json_str(b, "alias", view_field(&items, field, sizeof(field)));
        json_str(b, "action", view_field(&items, field, sizeof(field)));
        json_str(b, "detail", view_field(&items, field, sizeof(field)));
        put_keys(b, view_field(&items, field, sizeof(field)));
        json_close(b, '}');
    }
    json_close(b, ']');
    put_lines(b, "errors", errors);
    json_close(b, '}');
}
