/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

#define LINES 10
#define MAX_LINES 1000000
#define LINE_BYTES 400 /* fetched for each line that is asked for */
#define LEAST (64 << 10)
#define MOST (32 << 20)
#define NAME 256

static void on_interrupt(int sig)
{
    _exit(EXIT_DONE); /* what was read is written: nothing is buffered */
}

static void write_out(void *arg, const char *p, size_t n)
{
    if (fd_write_all(STDOUT_FILENO, p, n) < 0)
        _exit(EXIT_DONE); /* the reader of our output has enough */
}

static void gather(void *arg, const char *p, size_t n)
{
    buf_put(arg, p, n);
}

/* From where on the last lines are. */
static size_t tail_from(const struct buf *b, uint64_t lines)
{
    size_t at = b->len;

    if (at && b->p[at - 1] == '\n')
        at--;
    for (; at > 0; at--)
        if (b->p[at - 1] == '\n' && --lines == 0)
            break;
    return at;
}

static bool is_listed(const struct json *j, int list, const char *name)
{
    char entry[NAME];

    for (int i = json_first(j, list); i >= 0; i = json_next(j, i))
        if (str_eq(json_copy(j, json_member(j, i, "name"), entry, sizeof(entry)), name))
            return true;
    return false;
}

/* The newest of the list, by its time; times of one answer have one zone. */
static void find_newest(const struct json *j, int list, char *name)
{
    char best[64] = "", when[64];

    for (int i = json_first(j, list); i >= 0; i = json_next(j, i))
        if (strcmp(json_copy(j, json_member(j, i, "updateTime"), when, sizeof(when)), best) > 0) {
            str_copy(best, sizeof(best), when);
            json_copy(j, json_member(j, i, "name"), name, NAME);
        }
}

/* The captured output if there is one, else the newest file of the pattern. */
static int choose(const struct options *o, const char *alias, char *name)
{
    struct http_reply worker, logs = {.data = -1};
    char path[512], output[4096];
    const char *slash;
    int code = http_ask(o, "GET", http_path(path, sizeof(path), "/agentd/v1/workers/", alias, ""), &worker);

    if (code == EXIT_DONE)
        code =
            http_ask(o, "GET", http_path(path, sizeof(path), "/agentd/v1/workers/", alias, "/logs"), &logs);
    if (code == EXIT_DONE) {
        int list = json_member(&logs.json, logs.data, "contents");
        json_copy(&worker.json, json_member(&worker.json, worker.data, "output"), output, sizeof(output));
        slash = strrchr(output, '/');
        if (slash && is_listed(&logs.json, list, slash + 1))
            str_copy(name, NAME, slash + 1);
        else
            find_newest(&logs.json, list, name);
    }
    if (code == EXIT_REFUSED)
        options_complain("%s: %s", alias, worker.status == 200 ? logs.message : worker.message);
    http_free(&worker);
    http_free(&logs);
    if (code == EXIT_DONE && !*name) {
        options_complain("%s: no log file", alias);
        code = EXIT_REFUSED;
    }
    return code;
}

static int fetch(const struct options *o, const char *alias, const char *name, const char *query,
                 http_take_fn take, void *arg, struct http_reply *r)
{
    char head[512], path[1600];
    int code;

    http_path(head, sizeof(head), "/agentd/v1/workers/", alias, "/logs/");
    http_path(path, sizeof(path), head, name, query);
    code = http_stream(o, path, take, arg, r);
    if (code == EXIT_REFUSED)
        options_complain("%s: %s: %s", alias, name, r->message);
    return code;
}

/* The last lines, and then, if it is followed, what comes behind them: the cursor says where they end. */
static int show(const struct options *o, const char *alias, const char *name, uint64_t lines)
{
    struct buf b = BUF_INIT(MOST + LEAST);
    struct http_reply r;
    uint64_t want = lines * LINE_BYTES, from = 0;
    char query[160], file[80] = "";
    const char *offset;
    int code, file_len;

    want = want < LEAST ? LEAST : want > MOST ? MOST : want;
    snprintf(query, sizeof(query), "?from=-%" PRIu64, want);
    code = fetch(o, alias, name, query, gather, &b, &r);
    if (code == EXIT_DONE) {
        size_t at = lines ? tail_from(&b, lines) : b.len;
        if (b.len > at)
            write_out(NULL, b.p + at, b.len - at);
        if ((offset = strrchr(r.cursor, ':'))) {
            from = strtoull(offset + 1, NULL, 10) + b.len;
            file_len = (int)(offset + 1 - r.cursor);
            snprintf(file, sizeof(file), "%.*s", file_len, r.cursor);
        }
    }
    http_free(&r);
    buf_free(&b);
    if (code != EXIT_DONE || !o->follow)
        return code;
    /* by the file itself: it may have been renamed since */
    snprintf(query, sizeof(query), "?from=%s%" PRIu64 "&follow=1", file, from);
    code = fetch(o, alias, name, query, write_out, NULL, &r);
    http_free(&r);
    return code;
}

int logs_run(const struct options *o)
{
    char name[NAME] = "";
    uint64_t lines = LINES;
    int code = EXIT_DONE;

    if (o->count < 2 || o->count > 3) {
        options_complain("logs ALIAS [NAME] [-n LINES] [-f]");
        return EXIT_USAGE;
    }
    if (o->lines && str_to_u64(o->lines, MAX_LINES, &lines) < 0) {
        options_complain("-n is a number up to %d", MAX_LINES);
        return EXIT_USAGE;
    }
    if (o->follow)
        signal(SIGINT, on_interrupt);
    if (o->count == 3)
        str_copy(name, sizeof(name), o->words[2]);
    else
        code = choose(o, o->words[1], name);
    return code == EXIT_DONE ? show(o, o->words[1], name, lines) : code;
}
