/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as a whole, as OCP sees it: agentd itself, its processes by their ids, and the tasks that start,
 * stop and restart all of them. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

#define LOOK_MS 200    /* between two looks at a task */
#define AWAY_SEC 60    /* agentd may be gone for so long meanwhile: its restart is a step */
#define MOST_SEC 86400 /* --wait */

/* ---- a task ---- */

struct progress {
    const struct options *o;
    char *told; /* of each step, that its end was printed */
    int steps;
};

static bool is_over(const char *status)
{
    return str_eq(status, "SUCCESSFUL") || str_eq(status, "FAILED");
}

/* Steps that have ended since the last look; on a terminal what is under way stands below them. */
static void print_steps(struct progress *p, const struct json *j, int task, bool all)
{
    bool terminal = isatty(STDERR_FILENO) && !p->o->json;
    char status[OUT_TEXT], text[OUT_TEXT], now[OUT_TEXT] = "";
    int list = json_member(j, task, "subtasks"), n = 0, done = 0;

    if (terminal)
        fprintf(stderr, "\r\033[K");
    for (int i = json_first(j, list); i >= 0 && n < LIMIT_TASK_STEPS; i = json_next(j, i), n++) {
        bool over = is_over(out_text(j, i, "status", status));
        done += over;
        out_text(j, i, over ? "description" : "name", text);
        if (!over && str_eq(status, "RUNNING") && !*now)
            str_copy(now, sizeof(now), text);
        if (p->o->json || (p->told && n < p->steps && p->told[n]) || !(over || all))
            continue;
        printf("  %-10s  %s\n", status, text);
        if (p->told && n < p->steps)
            p->told[n] = over;
    }
    fflush(stdout);
    if (terminal && !all && done < n)
        fprintf(stderr, "%d of %d done%s%.60s", done, n, *now ? ": " : "", now);
}

static void print_task(const struct json *j, int task)
{
    char name[OUT_TEXT], status[OUT_TEXT], time[OUT_TEXT];

    printf("task %" PRId64 ": %s: %s, since %s\n", out_number(j, task, "id"), out_text(j, task, "name", name),
           out_text(j, task, "status", status), out_text(j, task, "startTime", time));
}

/* The task as it is now. EXIT_UNASKED also while agentd comes up again; quiet: that is not told. */
static int look(const struct options *o, int64_t id, bool quiet, struct http_reply *r)
{
    char path[64];
    struct http_request q = {.method = "GET", .path = path, .wait_sec = -1, .quiet = quiet};
    int code;

    snprintf(path, sizeof(path), "/tasks/instances/%" PRId64, id);
    code = http_send(o, &q, r);
    return code == EXIT_REFUSED && quiet && r->status == 503 ? EXIT_UNASKED : code;
}

static int end_of(const struct options *o, const struct http_reply *r, bool over)
{
    char status[OUT_TEXT];

    if (o->json)
        out_data(r, "", "\n");
    else
        print_task(&r->json, r->data);
    if (!over)
        options_complain("it is still going on: agentctl task %" PRId64, out_number(&r->json, r->data, "id"));
    out_text(&r->json, r->data, "status", status);
    return !over ? EXIT_GOES_ON : str_eq(status, "FAILED") ? EXIT_REFUSED : EXIT_DONE;
}

static int follow(const struct options *o, struct progress *p, int64_t id, uint64_t wait_sec)
{
    uint64_t heard = clock_mono_us(), until = wait_sec ? heard + wait_sec * 1000000 : UINT64_MAX;
    struct http_reply r;
    char status[OUT_TEXT];

    for (;;) {
        bool patient = clock_mono_us() - heard < AWAY_SEC * UINT64_C(1000000);
        int code = look(o, id, patient, &r);
        if (code == EXIT_DONE) {
            heard = clock_mono_us();
            bool over = is_over(out_text(&r.json, r.data, "status", status)), late = heard >= until;
            print_steps(p, &r.json, r.data, over || late);
            if (over || late)
                code = end_of(o, &r, over);
            if (over || late) {
                http_free(&r);
                return code;
            }
        } else if (code == EXIT_REFUSED) {
            options_complain("task %" PRId64 ": %s", id, r.message);
        }
        http_free(&r);
        if (code == EXIT_REFUSED || (code != EXIT_DONE && !patient))
            return code;
        poll(NULL, 0, LOOK_MS);
    }
}

static int follow_task(const struct options *o, int64_t id)
{
    struct progress p = {.o = o, .told = calloc(LIMIT_TASK_STEPS, 1), .steps = LIMIT_TASK_STEPS};
    uint64_t wait_sec;
    int code = options_number("--wait", o->wait, 1, MOST_SEC, 0, &wait_sec) < 0 ? EXIT_USAGE
                                                                                : follow(o, &p, id, wait_sec);

    free(p.told);
    return code;
}

int agent_task(const struct options *o)
{
    struct progress p = {.o = o};
    struct http_reply r;
    uint64_t id;
    bool text;
    int code;

    if (o->count != 2 || str_to_u64(o->words[1], INT64_MAX, &id) < 0) {
        options_complain("task takes the number of a task, as agentctl agent tells it");
        return EXIT_USAGE;
    }
    if (o->follow)
        return follow_task(o, (int64_t)id);
    code = out_answer(o, &r, look(o, (int64_t)id, false, &r), &text);
    if (text) {
        print_task(&r.json, r.data);
        print_steps(&p, &r.json, r.data, true);
    }
    http_free(&r);
    return code;
}

/* ---- what begins one ---- */

static int begin(const struct options *o, const char *path, const char *body)
{
    struct http_request q = {
        .method = "POST", .path = path, .body = body, .wait_sec = -1, .idempotency_key = o->idempotency_key};
    struct http_reply r;
    uint64_t wait_sec;
    int64_t id = 0;
    bool text;
    int code;

    if (options_number("--wait", o->wait, 1, MOST_SEC, 0, &wait_sec) < 0)
        return EXIT_USAGE;
    code = http_send(o, &q, &r);
    if (code == EXIT_REFUSED)
        options_complain("agent %s: %s", o->words[1], r.message);
    if (code == EXIT_DONE)
        id = out_number(&r.json, r.data, "id");
    if (code == EXIT_DONE && o->no_wait && out_answer(o, &r, code, &text) == EXIT_DONE && text)
        print_task(&r.json, r.data);
    http_free(&r);
    return code == EXIT_DONE && !o->no_wait ? follow_task(o, id) : code;
}

static int begin_batch(const struct options *o)
{
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY);
    uint64_t id;
    int code = EXIT_USAGE;

    buf_str(&b, "{\"hostIds\":[");
    for (int i = 2; i < o->count; i++) {
        if (str_to_u64(o->words[i], INT64_MAX, &id) < 0 || id == 0) {
            options_complain("agent batch-restart: %s is no host id", o->words[i]);
            buf_free(&b);
            return EXIT_USAGE;
        }
        buf_printf(&b, "%s%" PRIu64, i > 2 ? "," : "", id);
    }
    buf_str(&b, "]}");
    if (o->count < 3)
        options_complain("agent batch-restart: of which hosts? Their ids");
    else if (!b.error)
        code = begin(o, "/compute/hosts/batchRestartAgents", b.p);
    buf_free(&b);
    return code;
}

static void print_field(const struct json *j, int t, const char *name)
{
    char text[OUT_TEXT];

    if (json_kind(j, json_member(j, t, name)) == JSON_NUMBER)
        printf("%-18s %" PRId64 "\n", name, out_number(j, t, name));
    else
        printf("%-18s %s\n", name, out_text(j, t, name, text));
}

static int show_agent(const struct options *o, const char *path)
{
    static const char *const fields[] = {"id",      "hostId",     "hostInnerIpAddress",
                                         "version", "status",     "installHome",
                                         "logHome", "createTime", "updateTime"};
    struct http_reply r;
    bool text;
    int code = out_answer(o, &r, http_ask(o, "GET", path, &r), &text);

    for (size_t i = 0; text && i < sizeof(fields) / sizeof(*fields); i++)
        print_field(&r.json, r.data, fields[i]);
    if (text)
        printf("%-18s %d\n", "processes", json_count(&r.json, json_member(&r.json, r.data, "processes")));
    http_free(&r);
    return code;
}

int agent_run(const struct options *o)
{
    const char *verb = o->count > 1 ? o->words[1] : "";
    char host[24], path[128];
    int code;

    if (str_eq(verb, "batch-restart"))
        return begin_batch(o);
    if (o->count > 2 || (*verb && !options_listed("start stop restart", verb))) {
        options_complain("agent [start|stop|restart], or agent batch-restart HOST-ID...");
        return EXIT_USAGE;
    }
    if ((code = http_host(o, host)) != EXIT_DONE)
        return code;
    snprintf(path, sizeof(path), "/compute/hosts/%.20s/agent%s%.20s", host, *verb ? "/" : "", verb);
    return *verb ? begin(o, path, NULL) : show_agent(o, path);
}

/* ---- processes ---- */

static void print_process(const struct json *j, int p)
{
    char alias[OUT_TEXT], status[OUT_TEXT], user[OUT_TEXT], ports[OUT_TEXT];

    printf("%-8" PRId64 "  %-7s  %-8" PRId64 "  %-20s  %-12s  %8" PRId64 " s  %s\n", out_number(j, p, "id"),
           out_text(j, p, "status", status), out_number(j, p, "pid"), out_text(j, p, "alias", alias),
           out_text(j, p, "user", user), out_number(j, p, "elapsedTime"), out_text(j, p, "ports", ports));
}

/* Page by page; with -o json a line each. */
static int list_processes(const struct options *o, const char *base)
{
    struct http_reply r;
    char path[160];
    int64_t pages = 1;
    bool text = true;
    int code = EXIT_DONE;

    for (int64_t page = 1; code == EXIT_DONE && page <= pages; page++) {
        snprintf(path, sizeof(path), "%s?page=%" PRId64 "&size=%d", base, page, LIMIT_HTTP_PAGE);
        code = out_answer(o, &r, http_ask(o, "GET", path, &r), &text);
        for (int i = json_first(&r.json, json_member(&r.json, r.data, "contents")); text && i >= 0;
             i = json_next(&r.json, i))
            print_process(&r.json, i);
        pages = out_number(&r.json, json_member(&r.json, r.data, "page"), "totalPages");
        http_free(&r);
    }
    return code;
}

static int one_process(const struct options *o, const char *path, bool change)
{
    struct http_request q = {.method = change ? "POST" : "GET",
                             .path = path,
                             .wait_sec = -1,
                             .idempotency_key = o->idempotency_key};
    struct http_reply r;
    bool text;
    int code = http_send(o, &q, &r);

    if (code == EXIT_DONE && r.data < 0) {
        options_complain("process: %s", r.message);
        code = EXIT_GOES_ON;
    }
    code = out_answer(o, &r, code, &text);
    if (text)
        print_process(&r.json, r.data);
    http_free(&r);
    return code;
}

int agent_process(const struct options *o)
{
    const char *first = o->count > 1 ? o->words[1] : "";
    bool change = options_listed("start stop restart", first) && *first;
    const char *id = o->words[o->count > 1 ? o->count - 1 : 0];
    char host[24], base[80], path[160];
    uint64_t number;
    int code;

    if (o->count > 2 + change || (o->count > 1 && str_to_u64(id, INT64_MAX, &number) < 0)) {
        options_complain("process [ID], or process start|stop|restart ID: by the number of its worker");
        return EXIT_USAGE;
    }
    if ((code = http_host(o, host)) != EXIT_DONE)
        return code;
    snprintf(base, sizeof(base), "/compute/hosts/%.20s/agent/processes", host);
    if (o->count == 1)
        return list_processes(o, base);
    snprintf(path, sizeof(path), "%s/%.20s%s%.10s", base, id, change ? "/" : "", change ? first : "");
    return one_process(o, path, change);
}
