/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/rows: workers as rows of a table: what stands in the cells, their order, their widths. Knows no
 * terminal but its width, and asks nobody. */
#ifndef AGENTCTL_ROWS_H
#define AGENTCTL_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "rpc/json_dec.h"

#define ROWS_COLUMNS 12
#define ROWS_CELL 160

struct rows_row {
    char cell[ROWS_COLUMNS][ROWS_CELL];
    int64_t id, pid, cpu_us, memory;
    double percent; /* of one processor; -1: not known */
};

struct rows {
    struct rows_row *row;
    size_t count, room;
    size_t up;       /* how many of them are */
    uint64_t at_us;  /* when they were asked for, monotonic */
    bool incomplete; /* no memory for more */
};

enum rows_sort { ROWS_BY_ID, ROWS_BY_CPU, ROWS_BY_MEMORY };

struct rows_look {
    int width;   /* lines are cut there; 0: they are not */
    int most;    /* rows; 0: all */
    bool narrow; /* without the columns that matter least */
    bool color;
    const char *end; /* of a line */
};

void rows_add(struct rows *rows, const struct json *j, int worker);
void rows_free(struct rows *rows);

/* The processor's column becomes a share of the time since before: what each has used meanwhile. Before is in
 * the order of ids. */
void rows_compare(struct rows *rows, const struct rows *before);
void rows_order(struct rows *rows, enum rows_sort sort);
void rows_put(struct buf *b, const struct rows *rows, const struct rows_look *look);

#endif
