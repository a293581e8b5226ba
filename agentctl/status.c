/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/str.h"

#define COLUMNS 9
#define CELL 160

static const char *const heads[COLUMNS] = {"ALIAS",  "ID",       "STATE", "PID",   "USER",
                                           "UPTIME", "RESTARTS", "PORTS", "REASON"};

struct row {
    char cell[COLUMNS][CELL];
};

struct rows {
    struct row *row;
    size_t count, room;
};

static int64_t number(const struct json *j, int worker, const char *name)
{
    int64_t v = 0;

    json_to_int(j, json_member(j, worker, name), &v);
    return v;
}

/* A worker's words may hold anything: nothing of it reaches the terminal as a control sequence. */
static void text(const struct json *j, int worker, const char *name, char *cell)
{
    char raw[CELL];

    str_escape(cell, CELL, json_copy(j, json_member(j, worker, name), raw, sizeof(raw)));
}

static void put_uptime(char *cell, int64_t sec)
{
    if (sec >= 86400)
        snprintf(cell, CELL, "%" PRId64 "d%" PRId64 "h", sec / 86400, sec / 3600 % 24);
    else if (sec >= 3600)
        snprintf(cell, CELL, "%" PRId64 "h%" PRId64 "m", sec / 3600, sec / 60 % 60);
    else if (sec >= 60)
        snprintf(cell, CELL, "%" PRId64 "m%" PRId64 "s", sec / 60, sec % 60);
    else
        snprintf(cell, CELL, "%" PRId64 "s", sec);
}

static void put_reason(const struct json *j, int worker, char *cell)
{
    char reason[CELL], message[CELL];

    text(j, worker, "reason", reason);
    text(j, worker, "message", message);
    snprintf(cell, CELL, "%.60s%s%.90s", reason, *message ? ": " : "", message);
}

static int add_row(struct rows *rows, const struct json *j, int worker)
{
    struct row *r;
    int64_t pid = number(j, worker, "pid");

    if (rows->count == rows->room) {
        size_t want = rows->room ? rows->room * 2 : 32;
        if (!(r = realloc(rows->row, want * sizeof(*r))))
            return -1;
        rows->row = r;
        rows->room = want;
    }
    r = &rows->row[rows->count++];
    text(j, worker, "alias", r->cell[0]);
    snprintf(r->cell[1], CELL, "%" PRId64, number(j, worker, "id"));
    text(j, worker, "state", r->cell[2]);
    snprintf(r->cell[3], CELL, pid ? "%" PRId64 : "-", pid);
    text(j, worker, "user", r->cell[4]);
    if (pid)
        put_uptime(r->cell[5], number(j, worker, "elapsedTime"));
    else
        str_copy(r->cell[5], CELL, "-");
    snprintf(r->cell[6], CELL, "%" PRId64, number(j, worker, "restarts"));
    text(j, worker, "ports", r->cell[7]);
    if (!r->cell[7][0])
        str_copy(r->cell[7], CELL, "-");
    put_reason(j, worker, r->cell[8]);
    return 0;
}

static const char *color_of(const char *state)
{
    return str_eq(state, "UP") ? "\033[32m" : str_eq(state, "DOWN") ? "\033[2m" : "\033[33m";
}

static void print_row(const struct row *r, const int width[COLUMNS], bool color)
{
    for (int i = 0; i < COLUMNS; i++) {
        const char *end = i == COLUMNS - 1 ? "\n" : "  ";
        int pad = i == COLUMNS - 1 ? 0 : width[i];
        if (i == 2 && color)
            printf("%s%-*s\033[0m%s", color_of(r->cell[i]), pad, r->cell[i], end);
        else
            printf("%-*s%s", pad, r->cell[i], end);
    }
}

static void print_rows(const struct rows *rows, bool color)
{
    struct row head;
    int width[COLUMNS];

    for (int i = 0; i < COLUMNS; i++) {
        str_copy(head.cell[i], CELL, heads[i]);
        width[i] = (int)strlen(heads[i]);
        for (size_t k = 0; k < rows->count; k++)
            if ((int)strlen(rows->row[k].cell[i]) > width[i])
                width[i] = (int)strlen(rows->row[k].cell[i]);
    }
    print_row(&head, width, false);
    for (size_t k = 0; k < rows->count; k++)
        print_row(&rows->row[k], width, color);
}

static void print_data(const struct http_reply *r)
{
    size_t len;
    const char *s = json_raw(&r->json, r->data, &len);

    printf("%.*s", (int)len, s);
}

static int all(const struct options *o, struct rows *rows)
{
    struct http_reply r;
    int code = http_ask(o, "GET", "/agentd/v1/workers", &r);

    if (code == EXIT_REFUSED)
        options_complain("%s", r.message);
    if (code == EXIT_DONE && o->json)
        print_data(&r);
    if (code == EXIT_DONE && !o->json)
        for (int w = json_first(&r.json, json_member(&r.json, r.data, "contents")); w >= 0;
             w = json_next(&r.json, w))
            add_row(rows, &r.json, w);
    http_free(&r);
    return code;
}

static int one(const struct options *o, const char *alias, const char *separator, struct rows *rows)
{
    struct http_reply r;
    char path[512];
    int code = http_ask(o, "GET", http_path(path, sizeof(path), "/agentd/v1/workers/", alias, ""), &r);

    if (code == EXIT_REFUSED)
        options_complain("%s: %s", alias, r.message);
    if (code == EXIT_DONE && o->json) {
        printf("%s", separator);
        print_data(&r);
    }
    if (code == EXIT_DONE && !o->json)
        add_row(rows, &r.json, r.data);
    http_free(&r);
    return code;
}

int status_run(const struct options *o)
{
    struct rows rows = {0};
    int code = EXIT_DONE, asked = o->count - 1, shown = 0;
    bool list = o->json && asked > 1;

    if (list)
        printf("[");
    if (asked == 0)
        code = all(o, &rows);
    for (int i = 1; i <= asked && code != EXIT_UNASKED; i++) {
        int c = one(o, o->words[i], shown ? "," : "", &rows);
        shown += c == EXIT_DONE;
        code = options_worse(code, c);
    }
    if (list)
        printf("]");
    if (o->json && (list || shown || (asked == 0 && code == EXIT_DONE)))
        printf("\n");
    if (!o->json && (rows.count || code == EXIT_DONE))
        print_rows(&rows, o->color);
    free(rows.row);
    return code;
}
