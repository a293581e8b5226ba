/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that ask one thing: operations, a cancel, probes, and what agentd tells as plain text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/clock.h"
#include "base/str.h"

#define ROWS 20
#define MOST_ROWS 100000
#define PROBE_SEC 10

/* ---- operations ---- */

static void print_row(const struct json *j, int op)
{
    char id[OUT_TEXT], verb[OUT_TEXT], alias[OUT_TEXT], actor[OUT_TEXT], result[OUT_TEXT], created[OUT_TEXT];

    printf("%-25s  %-10s  %-10s  %-20s  %s%s%s\n", out_text(j, op, "created", created),
           out_text(j, op, "result", result), out_text(j, op, "verb", verb), out_text(j, op, "alias", alias),
           out_text(j, op, "id", id), *out_text(j, op, "actor", actor) ? "  by " : "", actor);
}

/* One answer's part of the list; how many rows it had, or -1: *code tells. */
static int print_part(const struct options *o, uint64_t from, uint64_t most, int *code)
{
    struct http_reply r;
    char path[64];
    uint64_t n = 0;

    snprintf(path, sizeof(path), "/agentd/v1/operations?from=%" PRIu64, from);
    *code = http_ask(o, "GET", path, &r);
    if (*code == EXIT_REFUSED)
        options_complain("%s: %s", o->words[0], r.message);
    if (*code == EXIT_DONE && from == 0 && o->json)
        printf("{\"contents\":[");
    if (*code == EXIT_DONE)
        for (int i = json_first(&r.json, json_member(&r.json, r.data, "contents")); i >= 0 && n < most;
             i = json_next(&r.json, i), n++) {
            size_t len;
            const char *s = json_raw(&r.json, i, &len);
            if (o->json)
                printf("%s%.*s", from + n ? "," : "", (int)len, s);
            else
                print_row(&r.json, i);
        }
    http_free(&r);
    return *code == EXIT_DONE ? (int)n : -1;
}

int ask_operations(const struct options *o)
{
    uint64_t most, shown = 0;
    int n, code = EXIT_DONE;

    if (o->count != 1) {
        options_complain("operations takes no words; agentctl operation ID shows one");
        return EXIT_USAGE;
    }
    if (options_number("-n", o->lines, 1, MOST_ROWS, ROWS, &most) < 0)
        return EXIT_USAGE;
    while (shown < most && (n = print_part(o, shown, most - shown, &code)) > 0)
        shown += (uint64_t)n;
    if (o->json && (shown || code == EXIT_DONE))
        printf("]}\n");
    return code;
}

static void print_field(const struct json *j, int op, const char *name)
{
    char text[OUT_TEXT];

    if (*out_text(j, op, name, text))
        printf("%-9s %s\n", name, text);
}

static void print_operation(const struct json *j, int op)
{
    static const char *const fields[] = {"id",     "verb",  "alias",  "result",  "message",
                                         "reason", "actor", "source", "created", "ended"};
    size_t len;
    char name[OUT_TEXT];

    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        print_field(j, op, fields[i]);
    for (int p = json_first(j, json_member(j, op, "phases")); p >= 0; p = json_next(j, p)) {
        const char *ms = json_raw(j, json_member(j, p, "ms"), &len);
        printf("phase     %s: %.*s ms\n", out_text(j, p, "name", name), (int)len, ms);
    }
    printf("pid       %" PRId64 " \u2192 %" PRId64 "\n", out_number(j, json_member(j, op, "before"), "pid"),
           out_number(j, json_member(j, op, "after"), "pid"));
}

static int on_operation(const struct options *o, const char *method)
{
    struct http_reply r;
    char path[512];
    bool text;
    int code;

    if (o->count != 2) {
        options_complain("%s: which operation? agentctl operations lists them", o->words[0]);
        return EXIT_USAGE;
    }
    code = http_ask(o, method, http_path(path, sizeof(path), "/agentd/v1/operations/", o->words[1], ""), &r);
    code = out_answer(o, &r, code, &text);
    if (text)
        print_operation(&r.json, r.data);
    http_free(&r);
    return code;
}

int ask_operation(const struct options *o)
{
    return on_operation(o, "GET");
}

int ask_cancel(const struct options *o)
{
    return on_operation(o, "DELETE");
}

/* ---- probes ---- */

static int probe(const struct options *o, const char *name, const char *separator)
{
    char path[32];
    struct http_request q = {.method = "GET", .path = path, .wait_sec = -1, .timeout_sec = PROBE_SEC};
    struct http_reply r;
    uint64_t begin = clock_mono_us();
    int code;

    snprintf(path, sizeof(path), "/%s", name);
    if ((code = http_fetch(o, &q, &r)) == EXIT_DONE) {
        double ms = (double)(clock_mono_us() - begin) / 1000;
        if (o->json)
            printf("%s\"%s\":{\"status\":%d,\"ms\":%.1f}", separator, name, r.status, ms);
        else
            printf("%s: %s (HTTP %d) in %.1f ms\n", name, r.status == 200 ? "ok" : "not ok", r.status, ms);
        code = r.status == 200 ? EXIT_DONE : EXIT_REFUSED;
    }
    http_free(&r);
    return code;
}

int ask_ping(const struct options *o)
{
    int code;

    if (o->json)
        putchar('{');
    if ((code = probe(o, "healthz", "")) != EXIT_UNASKED)
        code = options_worse(code, probe(o, "readyz", ","));
    if (o->json)
        printf("}\n");
    return code;
}

/* ---- plain text ---- */

static int plain(const struct options *o, const char *path)
{
    struct http_request q = {.method = "GET", .path = path, .wait_sec = -1};
    struct http_reply r;
    int code = http_fetch(o, &q, &r);
    bool is_json = r.body.p && r.body.p[0] == '{';

    if (code == EXIT_DONE && r.status != 200) {
        code = http_open(&r) == EXIT_DONE ? EXIT_REFUSED : EXIT_UNASKED;
        if (code == EXIT_REFUSED)
            options_complain("%s: %s", o->words[0], r.message);
    } else if (code == EXIT_DONE && o->json && !is_json) {
        printf("{\"text\":");
        out_string(r.body.p ? r.body.p : "", r.body.len);
        printf("}\n");
    } else if (code == EXIT_DONE) {
        out_body(r.body.p ? r.body.p : "", r.body.len);
    }
    http_free(&r);
    return code;
}

int ask_metrics(const struct options *o)
{
    return plain(o, "/metrics");
}

int ask_openapi(const struct options *o)
{
    return plain(o, "/openapi.json");
}

int ask_page(const struct options *o)
{
    return plain(o, "/");
}
