/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "agentctl/out.h"
#include "base/array.h"
#include "base/str.h"

enum column { ALIAS, ID, STATE, PID, USER, UPTIME, SINCE, CPU, MEMORY, RESTARTS, PORTS, REASON };

#define ALIAS_NARROW 20
#define WIDTH 100 /* of a narrow table whose lines are not cut */

static const struct {
    const char *head;
    int from; /* in a narrow table: the width of lines from which on it is there */
} columns[ROWS_COLUMNS] = {
    [ALIAS] = {"ALIAS", 0},       [ID] = {"ID", 160},       [STATE] = {"STATE", 0},
    [PID] = {"PID", 0},           [USER] = {"USER", 160},   [UPTIME] = {"UPTIME", 160},
    [SINCE] = {"SINCE", WIDTH},   [CPU] = {"CPU", 0},       [MEMORY] = {"MEMORY", 0},
    [RESTARTS] = {"RESTARTS", 0}, [PORTS] = {"PORTS", 160}, [REASON] = {"REASON", 0},
};

/* ---- cells ---- */

static void text(const struct json *j, int worker, const char *name, char *cell)
{
    char safe[OUT_TEXT];

    str_copy(cell, ROWS_CELL, out_text(j, worker, name, safe));
    if (!*cell)
        str_copy(cell, ROWS_CELL, "-");
}

static void put_span(char *cell, int64_t sec)
{
    if (sec >= 86400)
        snprintf(cell, ROWS_CELL, "%" PRId64 "d%" PRId64 "h", sec / 86400, sec / 3600 % 24);
    else if (sec >= 3600)
        snprintf(cell, ROWS_CELL, "%" PRId64 "h%" PRId64 "m", sec / 3600, sec / 60 % 60);
    else if (sec >= 60)
        snprintf(cell, ROWS_CELL, "%" PRId64 "m%" PRId64 "s", sec / 60, sec % 60);
    else
        snprintf(cell, ROWS_CELL, "%" PRId64 "s", sec);
}

/* The time of the day, or the day if it is another one. */
static void put_since(const struct json *j, int worker, char *cell)
{
    char word[OUT_TEXT];
    time_t at = (time_t)out_time(out_text(j, worker, "since", word));
    struct tm tm;

    str_copy(cell, ROWS_CELL, "-");
    if (at && localtime_r(&at, &tm))
        strftime(cell, ROWS_CELL, time(NULL) - at < 86400 ? "%H:%M:%S" : "%Y-%m-%d", &tm);
}

static void put_cpu_time(char *cell, int64_t us)
{
    if (us < 60000000)
        snprintf(cell, ROWS_CELL, "%.2fs", (double)us / 1e6);
    else
        put_span(cell, us / 1000000);
}

static void put_memory(char *cell, int64_t bytes)
{
    static const char units[] = "BKMGT";
    double v = (double)bytes;
    int i = 0;

    for (; v >= 1024 && units[i + 1]; i++)
        v /= 1024;
    snprintf(cell, ROWS_CELL, i ? "%.1f%c" : "%.0f%c", v, units[i]);
}

static void put_reason(const struct json *j, int worker, char *cell)
{
    char reason[OUT_TEXT], message[OUT_TEXT];

    out_text(j, worker, "reason", reason);
    out_text(j, worker, "message", message);
    snprintf(cell, ROWS_CELL, "%.60s%s%.90s", reason, *message ? ": " : "", message);
}

static void fill(struct rows_row *r, const struct json *j, int worker)
{
    *r = (struct rows_row){.id = out_number(j, worker, "id"),
                           .pid = out_number(j, worker, "pid"),
                           .cpu_us = out_number(j, worker, "cpuUsec"),
                           .memory = out_number(j, worker, "memoryBytes"),
                           .percent = -1};
    text(j, worker, "alias", r->cell[ALIAS]);
    text(j, worker, "state", r->cell[STATE]);
    text(j, worker, "user", r->cell[USER]);
    text(j, worker, "ports", r->cell[PORTS]);
    snprintf(r->cell[ID], ROWS_CELL, "%" PRId64, r->id);
    snprintf(r->cell[RESTARTS], ROWS_CELL, "%" PRId64, out_number(j, worker, "restarts"));
    put_since(j, worker, r->cell[SINCE]);
    put_reason(j, worker, r->cell[REASON]);
    for (enum column c = PID; c <= MEMORY; c++)
        if (c == PID || c == UPTIME || c == CPU || c == MEMORY)
            str_copy(r->cell[c], ROWS_CELL, "-");
    if (!r->pid)
        return;
    snprintf(r->cell[PID], ROWS_CELL, "%" PRId64, r->pid);
    put_span(r->cell[UPTIME], out_number(j, worker, "elapsedTime"));
    put_cpu_time(r->cell[CPU], r->cpu_us);
    put_memory(r->cell[MEMORY], r->memory);
}

void rows_add(struct rows *rows, const struct json *j, int worker)
{
    if (array_room(&rows->row, rows->count, &rows->room, sizeof(*rows->row)) < 0) {
        rows->incomplete = true;
        return;
    }
    fill(&rows->row[rows->count], j, worker);
    rows->up += str_eq(rows->row[rows->count].cell[STATE], "UP");
    rows->count++;
}

void rows_free(struct rows *rows)
{
    free(rows->row);
    *rows = (struct rows){0};
}

/* ---- between two rounds ---- */

static int by_id(const void *a, const void *b)
{
    const struct rows_row *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

void rows_compare(struct rows *rows, const struct rows *before)
{
    double span = (double)(rows->at_us - before->at_us);

    for (size_t i = 0; i < rows->count; i++) {
        struct rows_row *r = &rows->row[i];
        const struct rows_row *old =
            before->count ? bsearch(r, before->row, before->count, sizeof(*r), by_id) : NULL;
        if (r->pid && span > 0 && old && old->pid == r->pid && r->cpu_us >= old->cpu_us)
            r->percent = 100 * (double)(r->cpu_us - old->cpu_us) / span;
        if (r->percent < 0)
            str_copy(r->cell[CPU], ROWS_CELL, "-");
        else
            snprintf(r->cell[CPU], ROWS_CELL, "%.1f%%", r->percent);
    }
}

/* The largest first. Without a share it is what was used in all. */
static int by_cpu(const void *a, const void *b)
{
    const struct rows_row *x = a, *y = b;

    if (x->percent != y->percent)
        return x->percent < y->percent ? 1 : -1;
    return x->cpu_us != y->cpu_us ? (x->cpu_us < y->cpu_us ? 1 : -1) : by_id(a, b);
}

static int by_memory(const void *a, const void *b)
{
    const struct rows_row *x = a, *y = b;
    int64_t m = x->pid ? x->memory : -1, n = y->pid ? y->memory : -1;

    return m != n ? (m < n ? 1 : -1) : by_id(a, b);
}

void rows_order(struct rows *rows, enum rows_sort sort)
{
    if (rows->count)
        qsort(rows->row, rows->count, sizeof(*rows->row),
              sort == ROWS_BY_CPU      ? by_cpu
              : sort == ROWS_BY_MEMORY ? by_memory
                                       : by_id);
}

/* ---- lines ---- */

static const char *color_of(const char *state)
{
    return str_eq(state, "UP") ? "\033[32m" : str_eq(state, "DOWN") ? "\033[2m" : "\033[33m";
}

/* n bytes of s at most, and no half of a character. */
static size_t cut(const char *s, size_t n)
{
    size_t len = strlen(s);

    if (len <= n)
        return len;
    while (n && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static void put_cell(struct buf *b, const struct rows_look *look, const char *cell, int width, int *left,
                     const char *color)
{
    size_t room = look->width ? (size_t)*left : SIZE_MAX;
    size_t n = cut(cell, (size_t)width < room && width ? (size_t)width : room);

    if (color && look->color)
        buf_str(b, color);
    buf_put(b, cell, n);
    if (color && look->color)
        buf_str(b, "\033[0m");
    for (; n < (size_t)width + 2 && width && n < room; n++)
        buf_char(b, ' ');
    *left -= (int)n;
}

/* The last cell is as wide as it is. */
static void put_row(struct buf *b, const struct rows_look *look, const char (*cell)[ROWS_CELL],
                    const int width[ROWS_COLUMNS], bool head)
{
    int left = look->width;

    for (int i = 0; i < ROWS_COLUMNS; i++)
        if (!look->narrow || columns[i].from <= (look->width ? look->width : WIDTH))
            put_cell(b, look, cell[i], i == REASON ? 0 : width[i], &left,
                     i == STATE && !head ? color_of(cell[i]) : NULL);
    buf_str(b, look->end);
}

static void measure(const struct rows *rows, const struct rows_look *look, int width[ROWS_COLUMNS])
{
    for (int i = 0; i < ROWS_COLUMNS; i++) {
        width[i] = (int)strlen(columns[i].head);
        for (size_t k = 0; k < rows->count; k++)
            if ((int)strlen(rows->row[k].cell[i]) > width[i])
                width[i] = (int)strlen(rows->row[k].cell[i]);
    }
    if (look->narrow && width[ALIAS] > ALIAS_NARROW)
        width[ALIAS] = ALIAS_NARROW;
}

void rows_put(struct buf *b, const struct rows *rows, const struct rows_look *look)
{
    struct rows_row head;
    int width[ROWS_COLUMNS];

    for (int i = 0; i < ROWS_COLUMNS; i++)
        str_copy(head.cell[i], ROWS_CELL, columns[i].head);
    measure(rows, look, width);
    put_row(b, look, head.cell, width, true);
    for (size_t k = 0; k < rows->count && (!look->most || k < (size_t)look->most); k++)
        put_row(b, look, rows->row[k].cell, width, false);
}
