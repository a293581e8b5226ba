/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/str.h"

static int64_t number(const struct json *j, int object, const char *name)
{
    int64_t v = 0;

    json_to_int(j, json_member(j, object, name), &v);
    return v;
}

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
    char alias[80];

    if (json_count(j, list) == 0)
        return;
    printf("    %s:", name);
    for (int p = json_first(j, list); p >= 0; p = json_next(j, p)) {
        json_copy(j, p, alias, sizeof(alias));
        printf(" %s", alias);
    }
    printf("\n");
}

static void print_done(const struct options *o, const char *alias, const struct json *j, int op)
{
    int before = json_member(j, op, "before"), after = json_member(j, op, "after");
    int64_t old = number(j, before, "pid"), new = number(j, after, "pid");
    const char *verb = o->words[0];
    double ms = total_ms(j, op);

    if (str_eq(verb, "stop"))
        printf(old ? "%s: stopped in %.1f ms: pid %" PRId64 "\n" : "%s: was stopped already\n", alias, ms,
               old);
    else if (old == new &&number(j, before, "startTicks") == number(j, after, "startTicks"))
        printf("%s: was running already: pid %" PRId64 "\n", alias, new);
    else if (old)
        printf("%s: %sed in %.1f ms: pid %" PRId64 " \u2192 %" PRId64 " (generation %" PRId64 ")\n", alias,
               verb, ms, old, new, number(j, after, "generation"));
    else
        printf("%s: %sed in %.1f ms: pid %" PRId64 " (generation %" PRId64 ")\n", alias, verb, ms, new,
               number(j, after, "generation"));
    print_pids(j, op, "killed");
    print_pids(j, op, "survivors");
    print_pids(j, op, "leftovers");
    print_aliases(j, op, "affected");
}

static void print_end(const struct options *o, const char *alias, const struct json *j, int op)
{
    char text[256];

    if (!str_eq(o->words[0], "signal") && !str_eq(o->words[0], "reload")) {
        print_done(o, alias, j, op);
        return;
    }
    json_copy(j, json_member(j, op, "message"), text, sizeof(text));
    printf("%s: %s\n", alias, text);
}

static int change_one(const struct options *o, const char *alias, const char *separator)
{
    struct http_reply r;
    char path[512], tail[64];
    size_t len;
    int code;

    if (str_eq(o->words[0], "signal"))
        snprintf(tail, sizeof(tail), "/signal?signal=%.15s", o->words[1]);
    else
        snprintf(tail, sizeof(tail), "/%s", o->words[0]);
    code = http_ask(o, "POST", http_path(path, sizeof(path), "/agentd/v1/workers/", alias, tail), &r);
    if (code == EXIT_REFUSED)
        options_complain("%s: %s", alias, r.message);
    if (code == EXIT_DONE && o->json) {
        const char *s = json_raw(&r.json, r.data, &len);
        printf("%s%.*s", separator, (int)len, s);
    }
    if (code == EXIT_DONE && r.status == 202) {
        options_complain("%s: %s is still going on: operation %s", alias, o->words[0], r.operation);
        code = EXIT_GOES_ON;
    } else if (code == EXIT_DONE && !o->json) {
        print_end(o, alias, &r.json, r.data);
    }
    http_free(&r);
    return code;
}

static int change_all(const struct options *o, int first)
{
    int code = EXIT_DONE, shown = 0;
    bool list = o->json && o->count > first + 1;

    if (o->count <= first) {
        options_complain("%s: which worker? agentctl status lists them", o->words[0]);
        return EXIT_USAGE;
    }
    if (list)
        printf("[");
    for (int i = first; i < o->count && code != EXIT_UNASKED; i++) {
        int c = change_one(o, o->words[i], shown ? "," : "");
        shown += c == EXIT_DONE || c == EXIT_GOES_ON;
        code = options_worse(code, c);
        fflush(stdout);
    }
    if (list)
        printf("]");
    if (o->json && (list || shown))
        printf("\n");
    return code;
}

int change_run(const struct options *o)
{
    return change_all(o, 1);
}

int change_signal(const struct options *o)
{
    const char *name = o->count > 1 ? o->words[1] : "";

    if (!*name || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != strlen(name) || strlen(name) > 15) {
        options_complain("signal: which one? agentctl signal HUP ALIAS");
        return EXIT_USAGE;
    }
    return change_all(o, 2);
}
