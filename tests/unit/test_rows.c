/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/rows: cells, shares of the processor, order, and lines that are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agentctl/rows.h"
#include "base/str.h"

static void add(struct rows *rows, int id, int pid, const char *alias, long cpu_us, long memory,
                const char *message)
{
    char text[1024];
    struct json j;

    snprintf(text, sizeof(text),
             "{\"id\":%d,\"pid\":%d,\"alias\":\"%s\",\"cpuUsec\":%ld,\"memoryBytes\":%ld,\"state\":\"UP\","
             "\"user\":\"u\",\"reason\":\"ready\",\"message\":\"%s\",\"elapsedTime\":3700,\"restarts\":2,"
             "\"since\":\"2020-01-02T03:04:05.678+08:00\"}",
             id, pid, alias, cpu_us, memory, message);
    assert_int_equal(json_parse(&j, text, strlen(text), 100), 0);
    rows_add(rows, &j, 0);
    json_free(&j);
}

static char *put(const struct rows *rows, const struct rows_look *look)
{
    static char text[4096];
    struct buf b = BUF_INIT(sizeof(text) - 1);

    rows_put(&b, rows, look);
    assert_int_equal(b.error, 0);
    str_copy(text, sizeof(text), b.p);
    buf_free(&b);
    return text;
}

static void test_cells(void **state)
{
    struct rows rows = {0};

    add(&rows, 1, 42, "web", 1230000, 7340032, "well");
    add(&rows, 2, 0, "gone", 99, 99, "");
    assert_string_equal(
        put(&rows, &(struct rows_look){.end = "\n"}),
        "ALIAS  ID  STATE  PID  USER  UPTIME  SINCE       CPU    MEMORY  RESTARTS  PORTS  REASON\n"
        "web    1   UP     42   u     1h1m    2020-01-01  1.23s  7.0M    2         -      ready: well\n"
        "gone   2   UP     -    u     -       2020-01-01  -      -       2         -      ready\n");
    rows_free(&rows);
}

static void test_share(void **state)
{
    struct rows before = {.at_us = 1000000}, now = {.at_us = 3000000};
    const int cpu = 7;

    add(&before, 1, 10, "half", 500000, 1, "");
    add(&before, 2, 20, "restarted", 500000, 1, "");
    add(&now, 1, 10, "half", 1500000, 1, "");
    add(&now, 2, 21, "restarted", 600000, 1, "");
    add(&now, 3, 30, "new", 100000, 1, "");
    rows_compare(&now, &before);
    assert_string_equal(now.row[0].cell[cpu], "50.0%");
    assert_string_equal(now.row[1].cell[cpu], "-");
    assert_string_equal(now.row[2].cell[cpu], "-");
    rows_free(&before);
    rows_free(&now);
}

static void order_is(struct rows *rows, enum rows_sort sort, const char *want)
{
    char got[16] = "";

    rows_order(rows, sort);
    for (size_t i = 0; i < rows->count; i++)
        strncat(got, rows->row[i].cell[0], 1);
    assert_string_equal(got, want);
}

static void test_order(void **state)
{
    struct rows rows = {0};

    add(&rows, 3, 10, "c", 100, 300, "");
    add(&rows, 1, 10, "a", 300, 100, "");
    add(&rows, 2, 10, "b", 200, 500, "");
    add(&rows, 4, 0, "d", 0, 900, "");
    order_is(&rows, ROWS_BY_ID, "abcd");
    order_is(&rows, ROWS_BY_CPU, "abcd");
    order_is(&rows, ROWS_BY_MEMORY, "bcad");
    rows.row[2].percent = 5; /* a's: a share counts more than a sum */
    rows.row[0].percent = 90;
    order_is(&rows, ROWS_BY_CPU, "bacd");
    rows_free(&rows);
}

static void test_cut(void **state)
{
    struct rows rows = {0};
    struct rows_look look = {.width = 80, .narrow = true, .end = "|"};
    char *line;

    add(&rows, 1, 42, "an-alias-that-is-much-longer-than-the-column", 1, 1,
        "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4");
    for (look.width = 20; look.width < 100; look.width++) {
        line = put(&rows, &look);
        for (char *end; (end = strchr(line, '|')); line = end + 1) {
            assert_true(end - line <= look.width);
            assert_true(str_is_utf8(line, (size_t)(end - line)));
        }
    }
    look = (struct rows_look){.width = 80, .narrow = true, .most = 1, .end = "\n"};
    add(&rows, 2, 43, "second", 1, 1, "");
    line = put(&rows, &look);
    assert_non_null(strstr(line, "\nan-alias-that-is-muc  UP "));
    assert_null(strstr(line, "second"));
    look.color = true;
    assert_non_null(strstr(put(&rows, &look), "\033[32mUP\033[0m "));
    rows_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_cut),
    };

    setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
