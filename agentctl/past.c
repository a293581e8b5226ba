/* SPDX-License-Identifier: Apache-2.0 */
/* why and history: the causes of a worker's state, and its past incarnations, the newest first. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agentctl/http.h"
#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/str.h"

static bool has(const struct json *j, int object, const char *name)
{
    enum json_kind k = json_kind(j, json_member(j, object, name));
    char text[8];

    return k != JSON_NONE && k != JSON_NULL &&
           (k != JSON_STRING || *json_copy(j, json_member(j, object, name), text, sizeof(text)));
}

static void print_cause(const struct json *j, int x, const char *alias)
{
    char worker[128];

    json_copy(j, json_member(j, x, "worker"), worker, sizeof(worker));
    out_word(j, x, "", "at", " ");
    if (!has(j, x, "at"))
        printf("(time not known) ");
    if (!str_eq(worker, alias))
        out_word(j, x, "", "worker", ": ");
    out_word(j, x, "", "what", "");
    out_word(j, x, ", by ", "by", "");
    out_word(j, x, " from ", "source", "");
    out_word(j, x, ": ", "reason", "");
    out_word(j, x, " (operation ", "operation", ")");
    putchar('\n');
}

static void print_incarnation(const struct json *j, int x, const char *alias)
{
    int exit = json_member(j, x, "exit");

    out_word(j, x, "", "startedAt", "");
    out_figure(j, x, "  generation ", "generation", "");
    out_figure(j, x, "  pid ", "pid", "");
    out_word(j, x, "  ", "reason", "");
    out_word(j, x, " by ", "actor", "");
    out_word(j, x, " (operation ", "operation", ")");
    out_figure(j, x, ", ready after ", "readyMs", " ms");
    if (json_kind(j, exit) == JSON_OBJECT) {
        out_word(j, exit, "; ", "kind", "");
        out_figure(j, exit, " ", "status", "");
        out_word(j, exit, ", ", "reason", "");
        out_figure(j, x, ", after ", "durationMs", " ms");
    }
    putchar('\n');
}

static int show(const struct options *o, const char *tail,
                void (*print)(const struct json *j, int x, const char *alias))
{
    struct http_reply r;
    char path[512];
    size_t len;
    int code;

    if (o->count != 2) {
        options_complain("%s: which worker? agentctl status lists them", o->words[0]);
        return EXIT_USAGE;
    }
    code = http_ask(o, "GET", http_path(path, sizeof(path), "/agentd/v1/workers/", o->words[1], tail), &r);
    if (code == EXIT_REFUSED)
        options_complain("%s: %s", o->words[1], r.message);
    if (code == EXIT_DONE && o->json) {
        const char *s = json_raw(&r.json, r.data, &len);
        printf("%.*s\n", (int)len, s);
    } else if (code == EXIT_DONE) {
        for (int i = json_first(&r.json, json_member(&r.json, r.data, "contents")); i >= 0;
             i = json_next(&r.json, i))
            print(&r.json, i, o->words[1]);
    }
    http_free(&r);
    return code;
}

int past_why(const struct options *o)
{
    return show(o, "/why", print_cause);
}

int past_history(const struct options *o)
{
    return show(o, "/history", print_incarnation);
}
