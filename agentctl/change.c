/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/change.h"

#include <inttypes.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/out.h"
#include "base/clock.h"
#include "base/str.h"

#define LOOK_MS 200 /* between two looks at an operation that goes on */

/* The phases' milliseconds together. */
static double total_ms(const struct json *j, int op)
{
    double sum = 0;
    size_t len;

    for (int p = json_first(j, json_member(j, op, "phases")); p >= 0; p = json_next(j, p))
        sum += strtod(json_raw(j, json_member(j, p, "ms"), &len), NULL);
    return sum;
}

static void print_pids(const struct json *j, int op, const char *name)
{
    int list = json_member(j, op, name);
    size_t len;

    if (json_count(j, list) == 0)
        return;
    printf("    %s:", name);
    for (int p = json_first(j, list); p >= 0; p = json_next(j, p)) {
        const char *s = json_raw(j, p, &len);
        printf(" %.*s", (int)len, s);
    }
    printf("\n");
}

static void print_aliases(const struct json *j, int op, const char *name)
{
    int list = json_member(j, op, name);
    char raw[80], alias[320];

    if (json_count(j, list) == 0)
        return;
    printf("    %s:", name);
    for (int p = json_first(j, list); p >= 0; p = json_next(j, p))
        printf(" %s", str_escape(alias, sizeof(alias), json_copy(j, p, raw, sizeof(raw))));
    printf("\n");
}

static void print_done(const struct options *o, const char *alias, const struct json *j, int op)
{
    int before = json_member(j, op, "before"), after = json_member(j, op, "after");
    int64_t old = out_number(j, before, "pid"), new = out_number(j, after, "pid");
    const char *verb = o->words[0];
    double ms = total_ms(j, op);

    if (str_eq(verb, "stop"))
        printf(old ? "%s: stopped in %.1f ms: pid %" PRId64 "\n" : "%s: was stopped already\n", alias, ms,
               old);
    else if (old == new &&out_number(j, before, "startTicks") == out_number(j, after, "startTicks"))
        printf("%s: was running already: pid %" PRId64 "\n", alias, new);
    else if (old)
        printf("%s: %sed in %.1f ms: pid %" PRId64 " \u2192 %" PRId64 " (generation %" PRId64 ")\n", alias,
               verb, ms, old, new, out_number(j, after, "generation"));
    else
        printf("%s: %sed in %.1f ms: pid %" PRId64 " (generation %" PRId64 ")\n", alias, verb, ms, new,
               out_number(j, after, "generation"));
    print_pids(j, op, "killed");
    print_pids(j, op, "survivors");
    print_pids(j, op, "leftovers");
    print_aliases(j, op, "affected");
}

static void print_end(const struct options *o, const char *alias, const struct json *j, int op)
{
    char text[OUT_TEXT];

    if (!str_eq(o->words[0], "signal") && !str_eq(o->words[0], "reload"))
        print_done(o, alias, j, op);
    else
        printf("%s: %s\n", alias, out_text(j, op, "message", text));
}

/* One that has ended, well or not, or that goes on. */
static void show(const struct options *o, struct change *c, const struct http_reply *r, int code)
{
    if (o->json && r->data >= 0) {
        out_data(r, *c->shown ? "," : "", "");
        ++*c->shown;
    } else if (code == EXIT_DONE && c->async) {
        printf("%s: operation %s\n", c->alias, c->operation);
    } else if (code == EXIT_DONE) {
        print_end(o, c->alias, &r->json, r->data);
    }
    fflush(stdout);
}

static void tell_going(const struct options *o, const struct change *c)
{
    if (!c->quiet)
        options_complain("%s: %s is still going on: operation %s", c->alias, o->words[0], c->operation);
}

int change_look(const struct options *o, struct change *c)
{
    struct http_request q = {.method = "GET", .wait_sec = -1, .quiet = true};
    struct http_reply r;
    char path[160], result[OUT_TEXT], text[OUT_TEXT];
    int code;

    q.path = http_path(path, sizeof(path), "/agentd/v1/operations/", c->operation, "");
    code = http_send(o, &q, &r);
    if (code == EXIT_REFUSED && r.status == 503)
        code = EXIT_UNASKED; /* it comes up again */
    else if (code == EXIT_REFUSED)
        options_complain("%s: operation %s: %s", c->alias, c->operation, r.message);
    if (code == EXIT_DONE) {
        out_text(&r.json, r.data, "result", result);
        code = str_eq(result, "running") ? EXIT_GOES_ON : str_eq(result, "done") ? EXIT_DONE : EXIT_REFUSED;
        if (code == EXIT_REFUSED)
            options_complain("%s: %s: %s", c->alias, result, out_text(&r.json, r.data, "message", text));
        if (code != EXIT_GOES_ON)
            show(o, c, &r, code);
    }
    http_free(&r);
    return code;
}

/* What agentd did not wait for itself. */
static int wait_longer(const struct options *o, struct change *c, uint64_t until)
{
    uint64_t heard = clock_mono_us(), now;
    int code = EXIT_GOES_ON;

    while ((now = clock_mono_us()) < until && (code == EXIT_GOES_ON || code == EXIT_UNASKED)) {
        if (code == EXIT_GOES_ON)
            heard = now;
        else if (now - heard > CHANGE_AWAY_US)
            break;
        poll(NULL, 0, LOOK_MS);
        code = change_look(o, c);
    }
    if (code == EXIT_UNASKED)
        options_complain("%s: agentd does not answer any more: operation %s", c->alias, c->operation);
    if (code == EXIT_GOES_ON)
        tell_going(o, c);
    return code;
}

static const char *path_of(const struct options *o, const char *alias, char *path, size_t size)
{
    char tail[64];

    if (str_eq(o->words[0], "signal"))
        snprintf(tail, sizeof(tail), "/signal?signal=%.15s", o->words[1]);
    else
        snprintf(tail, sizeof(tail), "/%s", o->words[0]);
    return http_path(path, size, "/agentd/v1/workers/", alias, tail);
}

int change_ask(const struct options *o, struct change *c)
{
    uint64_t begin = clock_mono_us();
    char path[512];
    struct http_request q = {.method = "POST",
                             .path = path_of(o, c->alias, path, sizeof(path)),
                             .wait_sec = c->wait_sec,
                             .async = c->async,
                             .if_match = o->if_match,
                             .idempotency_key = o->idempotency_key};
    struct http_reply r;
    bool longer = false;
    int code = http_send(o, &q, &r);

    str_copy(c->operation, sizeof(c->operation), r.operation);
    if (c->wipe)
        fputs("\r\033[K", stderr);
    if (code == EXIT_REFUSED) {
        options_complain("%s: %s", c->alias, r.message);
    } else if (code == EXIT_DONE && r.status == 202 && !c->async) {
        code = EXIT_GOES_ON;
        longer = c->wait_sec > 0 && clock_mono_us() - begin < (uint64_t)c->wait_sec * 1000000;
        if (!longer && !c->quiet)
            show(o, c, &r, code);
        if (!longer)
            tell_going(o, c);
    } else if (code == EXIT_DONE) {
        show(o, c, &r, code);
    }
    http_free(&r);
    return longer ? wait_longer(o, c, begin + (uint64_t)c->wait_sec * 1000000) : code;
}
