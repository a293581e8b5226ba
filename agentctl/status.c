/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "agentctl/out.h"
#include "agentctl/status.h"
#include "agentctl/verbs.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define TABLE_MAX (64 << 20)

static int all(const struct options *o, struct rows *rows)
{
    struct http_reply r;
    int code = http_ask(o, "GET", "/agentd/v1/workers", &r);

    if (code == EXIT_REFUSED)
        options_complain("%s", r.message);
    if (code == EXIT_DONE && o->json)
        out_data(&r, "", "");
    if (code == EXIT_DONE && !o->json)
        for (int w = json_first(&r.json, json_member(&r.json, r.data, "contents")); w >= 0;
             w = json_next(&r.json, w))
            rows_add(rows, &r.json, w);
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
    if (code == EXIT_DONE && o->json)
        out_data(&r, separator, "");
    if (code == EXIT_DONE && !o->json)
        rows_add(rows, &r.json, r.data);
    http_free(&r);
    return code;
}

int status_collect(const struct options *o, bool words, struct rows *rows)
{
    int code = EXIT_DONE, asked = words ? o->count - 1 : 0, shown = 0;
    bool list = o->json && asked > 1;

    if (list)
        printf("[");
    if (asked == 0)
        code = all(o, rows);
    rows->at_us = clock_mono_us();
    for (int i = 1; i <= asked && code != EXIT_UNASKED; i++) {
        int c = one(o, o->words[i], shown ? "," : "", rows);
        shown += c == EXIT_DONE;
        code = options_worse(code, c);
    }
    if (list)
        printf("]");
    if (o->json && (list || shown || (asked == 0 && code == EXIT_DONE)))
        printf("\n");
    if (rows->incomplete)
        options_complain("out of memory: not all are shown");
    return code;
}

int status_print(const struct rows *rows, const struct rows_look *look)
{
    struct buf b = BUF_INIT(TABLE_MAX);
    int r;

    rows_put(&b, rows, look);
    r = b.error || fwrite(b.p, 1, b.len, stdout) != b.len || fflush(stdout) != 0 ? -1 : 0;
    buf_free(&b);
    return r;
}

int status_sort(const struct options *o, enum rows_sort otherwise, enum rows_sort *ret)
{
    static const char *const names[] = {
        [ROWS_BY_ID] = "id", [ROWS_BY_CPU] = "cpu", [ROWS_BY_MEMORY] = "memory"};

    *ret = otherwise;
    if (!o->sort)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(names[i], o->sort)) {
            *ret = (enum rows_sort)i;
            return 0;
        }
    options_complain("--sort is cpu, memory or id, not \"%s\"", o->sort);
    return -1;
}

int status_run(const struct options *o)
{
    struct rows rows = {0};
    enum rows_sort sort;
    int code;

    if (o->watch)
        return top_run(o);
    if (o->delay || o->lines) {
        options_complain("%s is for --watch", o->delay ? "-d" : "-n");
        return EXIT_USAGE;
    }
    if (status_sort(o, ROWS_BY_ID, &sort) < 0)
        return EXIT_USAGE;
    code = status_collect(o, true, &rows);
    if (o->sort) /* else as they were asked for */
        rows_order(&rows, sort);
    if (!o->json && (rows.count || code == EXIT_DONE))
        status_print(&rows, &(struct rows_look){.color = o->color, .end = "\n"});
    rows_free(&rows);
    return code;
}
