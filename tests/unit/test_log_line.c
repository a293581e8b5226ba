/* SPDX-License-Identifier: Apache-2.0 */
/* Searches in logs: lines, names of files, what is searched for; and which file is which. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/logs_line.h"
#include "agentd/logs_match.h"
#include "agentd/logs_name.h"
#include "agentd/logs_plan.h"
#include "agentd/logs_zip.h"
#include "base/fd.h"
#include "base/str.h"

#define AT INT64_C(1704164645000000) /* 2024-01-02T03:04:05Z */
#define HOUR INT64_C(3600000000)

static int use_zone(void **state)
{
    setenv("TZ", "XST-05:30", 1); /* 5:30 east */
    tzset();
    return 0;
}

static void test_times(void **state)
{
    static const struct {
        const char *line;
        int64_t us;
        int32_t offset;
        const char *level;
    } rows[] = {
        {"[2024-01-02 03:04:05.123456] INFO  [M] x", AT + 123456 - 5 * HOUR - HOUR / 2, 19800, "INFO"},
        {"[2024-01-02 03:04:05.123456]INFO x", AT + 123456 - 5 * HOUR - HOUR / 2, 19800, "INFO"},
        {"2024-01-02T03:04:05.123+08:00 INFO x", AT + 123000 - 8 * HOUR, 28800, "INFO"},
        {"2024-01-02T03:04:05Z warning: x", AT, 0, "WARN"},
        {"2024-01-02T03:04:05.123456789-0330 [ERR] x", AT + 123456 + 3 * HOUR + HOUR / 2, -12600, "ERROR"},
        {"2024-01-02 03:04:05 +0100 x", AT - HOUR, 3600, ""},
        {"2024-01-02 03:04:05,5 [INFO] x", AT + 500000 - 5 * HOUR - HOUR / 2, 19800, "INFO"},
        {"2024-01-02 03:04:05 - name - CRITICAL - x", AT - 5 * HOUR - HOUR / 2, 19800, "CRITICAL"},
        {"2024/01/02 03:04:05 [crit] 1#1: x", AT - 5 * HOUR - HOUR / 2, 19800, "CRITICAL"},
        {"time=\"2024-01-02T03:04:05Z\" level=debug x", AT, 0, "DEBUG"},
        {"2024-01-02T03:04:05Z", AT, 0, ""},
        {"2024-01-02T03:04:05Z a b c d e ERROR", AT, 0, ""},
        {"2024-01-02T03:04:05Z information error here", AT, 0, ""},
        {"2024-01-02T03:04:05Z <fatal>", AT, 0, "FATAL"},
        {"2024-01-02 03:04:05-7 x", AT - 5 * HOUR - HOUR / 2, 19800, ""},
        {"2024-01-02 03:04:05 -01234 x", AT - 5 * HOUR - HOUR / 2, 19800, ""},
        {"0001-01-01 00:00:00Z", INT64_C(-62135596800000000), 0, ""},
        {"9999-12-31T23:59:60Z", INT64_C(253402300800000000), 0, ""},
    };
    struct logs_line l;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!logs_line_read(rows[i].line, strlen(rows[i].line), AT, &l))
            fail_msg("no time: %s", rows[i].line);
        if (l.us != rows[i].us || l.offset != rows[i].offset || !str_eq(l.level, rows[i].level))
            fail_msg("%s: %lld %d %s", rows[i].line, (long long)l.us, l.offset, l.level);
    }
}

/* In a zone with two offsets each line has that of its own time, whatever the line before it had. */
static void test_summer_time(void **state)
{
    static const struct {
        const char *line;
        int64_t utc_s;
        int32_t offset;
    } rows[] = {
        {"2024-01-02 03:04:05 x", 1704164645 - 3600, 3600},
        {"2024-07-02 03:04:05 x", 1719889445 - 7200, 7200},
        {"2024-07-02 03:59:59 x", 1719892799 - 7200, 7200},
        {"2024-01-02 03:04:05 x", 1704164645 - 3600, 3600},
        {"2024-03-31 01:59:59 x", 1711850399 - 3600, 3600},
        {"2024-03-31 03:00:00 x", 1711854000 - 7200, 7200},
        {"2024-10-27 01:59:59 x", 1729994399 - 7200, 7200},
        {"2024-10-27 03:00:00 x", 1729998000 - 3600, 3600},
    };
    struct logs_line l;

    setenv("TZ", "XST-1XDT,M3.5.0,M10.5.0/3", 1);
    tzset();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(logs_line_read(rows[i].line, strlen(rows[i].line), AT, &l));
        if (l.us != rows[i].utc_s * 1000000 || l.offset != rows[i].offset)
            fail_msg("%s: %lld %d", rows[i].line, (long long)l.us, l.offset);
    }
    use_zone(state);
}

static void test_no_times(void **state)
{
    static const char *const lines[] = {"",
                                        " 2024-01-02T03:04:05Z x",
                                        "[2024-01-02 03:04:05.123456 x",
                                        "[x",
                                        "2024-13-02T03:04:05Z",
                                        "0000-01-01T00:00:00Z",
                                        "2023-02-29T03:04:05Z",
                                        "2024-01-02T24:04:05Z",
                                        "2024-01-02T03:04",
                                        "2024-01/02 03:04:05",
                                        "2024-01-02T03:04:05.",
                                        "2024-01-02T03:04:05.1234567890 x",
                                        "2024-01-02T03:04:05x",
                                        "2024-01-0203:04:05",
                                        "\tat a.B(C.java:7)",
                                        "Jan 32 03:04:05 host x",
                                        "Jan  2 03:04:05",
                                        "Jan  2 03:04:05 ",
                                        "Januar 2 03:04:05 host",
                                        "Jab  2 03:04:05 host x",
                                        "time=",
                                        "Jan"};
    struct logs_line l = {.us = 7, .level = "INFO"};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (logs_line_read(lines[i], strlen(lines[i]), AT, &l))
            fail_msg("a time: %s", lines[i]);
    assert_true(l.us == 7 && str_eq(l.level, "INFO")); /* it is as before */
}

static void test_year(void **state)
{
    static const struct {
        const char *line;
        int64_t latest, us;
    } rows[] = {
        {"Jan  2 08:34:05 host x", AT, AT},
        {"Jan  2 08:34:05 host x", AT + 300 * 24 * HOUR, AT},
        {"Jan  3 08:34:05 host x", AT, AT + 24 * HOUR}, /* clocks differ */
        {"Jan  4 08:34:05 host x", AT, AT + 2 * 24 * HOUR - 365 * 24 * HOUR},
        {"Dec 31 08:34:05 host x", AT, AT - 2 * 24 * HOUR},
        {"Feb 29 08:34:05 host x", AT + 366 * 24 * HOUR, AT + 58 * 24 * HOUR},
    };
    struct logs_line l;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(logs_line_read(rows[i].line, strlen(rows[i].line), rows[i].latest, &l));
        if (l.us != rows[i].us)
            fail_msg("%s of %lld: %lld", rows[i].line, (long long)rows[i].latest, (long long)l.us);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        size_t stem;
        enum logs_name_kind kind;
        bool packed;
    } rows[] = {
        {"a.log", 5, LOGS_NAME_PLAIN, false},
        {"a.log.1", 5, LOGS_NAME_NUMBER, false},
        {"a.log.12.gz", 5, LOGS_NAME_NUMBER, true},
        {"a.log-20240102", 5, LOGS_NAME_DATE, false},
        {"a.log.20240102030405123", 5, LOGS_NAME_DATE, false},
        {"a.log-20240102.gz", 5, LOGS_NAME_DATE, true},
        {"a-1", 3, LOGS_NAME_PLAIN, false},
        {"a7", 2, LOGS_NAME_PLAIN, false},
        {"a.gz", 1, LOGS_NAME_PLAIN, true},
        {"123", 3, LOGS_NAME_PLAIN, false},
    };
    static const char *const others[] = {"",     ".a.log", "a.log.bz2", "a.log.rotating", "a.log.packing",
                                         "a\nb", "a/b",    ".gz"};
    static const char *const order[] = {
        ".20231231", "-20240101.gz", ".20240101000000", ".11", ".2.gz", ".2", ".1", ".gz", ""};
    struct logs_name n;
    char folder[16];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(logs_name_read(rows[i].name, &n));
        if (n.stem != rows[i].stem || n.kind != rows[i].kind || n.packed != rows[i].packed)
            fail_msg("%s: %zu %d %d", rows[i].name, n.stem, (int)n.kind, n.packed);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(logs_name_read(others[i], &n));
    assert_true(logs_name_is_packed("a.log.1.gz") && logs_name_is_packed("a.zip"));
    assert_false(logs_name_is_packed("a.log.1") || logs_name_is_packed(".gz"));
    assert_string_equal(logs_name_split("/a/b*", folder, sizeof(folder)), "b*");
    assert_string_equal(folder, "/a/");
    assert_string_equal(logs_name_split("/b", folder, sizeof(folder)), "b");
    assert_string_equal(folder, "/");
    assert_null(logs_name_split("", folder, sizeof(folder)));
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        for (size_t k = 0; k < ARRAY_LEN(order); k++)
            if ((i < k) != (logs_name_compare(order[i], order[k]) < 0))
                fail_msg("%s and %s", order[i], order[k]);
}

static void test_types(void **state)
{
    assert_true(logs_name_is_type("observer.log", "observer"));
    assert_true(logs_name_is_type("observer_start.log", "observer"));
    assert_true(logs_name_is_type("observer", "observer"));
    assert_true(logs_name_is_type("observer.log.1", "observer.log"));
    assert_false(logs_name_is_type("observers.log", "observer"));
    assert_false(logs_name_is_type("observer.log", ""));
    assert_false(logs_name_is_type("obs", "observer"));
}

static void test_query(void **state)
{
    static const char *const wrong[] = {"",      "k",          "sx\nta",         "n10001\nta",
                                        "q\nta", "c1:2:3\nta", "c1:2:3:4:5\nta", "c1:2:4294967296:4\nta",
                                        "tx\nk", "t",          "s--1\nta",       "ta\ne"};
    static struct logs_query q;
    char text[] = "ta\ntb\ns-5\ne7\nkword\nKpat+\nxno\nlwarn\nlFATAL\nn9\nc1:2:3:4\nz\n", bad[64], why[200];

    assert_int_equal(logs_match_read(text, &q), 0);
    assert_true(q.n_types == 2 && str_eq(q.types[1], "b") && q.start_us == -5 && q.end_us == 7 &&
                q.limit == 9);
    assert_true(q.has_cursor && q.cursor.dev == 1 && q.cursor.ino == 2 && q.cursor.check == 3 &&
                q.cursor.at == 4);
    assert_true(q.zip && q.keys.n == 2 && !q.keys.v[0].is_pattern && q.keys.v[1].is_pattern &&
                q.excludes.n == 1);
    assert_int_equal(logs_match_compile(&q, why, sizeof(why)), 0);
    assert_true(logs_match_level(&q, "WARN") && logs_match_level(&q, "FATAL") && logs_match_level(&q, ""));
    assert_false(logs_match_level(&q, "INFO"));
    assert_true(logs_match_text(&q, "a word pattt", 12));
    assert_false(logs_match_text(&q, "a word pa", 9));
    assert_false(logs_match_text(&q, "a word pat", 9)); /* its end counts */
    assert_false(logs_match_text(&q, "a word pat no", 13));
    regfree(&q.keys.v[1].re);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        str_copy(bad, sizeof(bad), wrong[i]);
        if (logs_match_read(bad, &q) == 0)
            fail_msg("taken: %s", wrong[i]);
    }
    str_copy(bad, sizeof(bad), "ta\nXa(b");
    assert_int_equal(logs_match_read(bad, &q), 0);
    assert_true(logs_match_compile(&q, why, sizeof(why)) < 0 && str_starts(why, "excludeKeyword: "));
}

static bool fits(const char *pattern, const char *text)
{
    static struct logs_query q;
    char asked[64], why[200];
    bool found;

    snprintf(asked, sizeof(asked), "ta\nK%s", pattern);
    assert_int_equal(logs_match_read(asked, &q), 0);
    if (logs_match_compile(&q, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    found = logs_match_text(&q, text, strlen(text));
    regfree(&q.keys.v[0].re);
    return found;
}

static void test_patterns(void **state)
{
    static const char *const broken[] = {"ta\nK[", "ta\nK[^", "ta\nKa\\", "ta\nK[]", "ta\nK[^]", "ta\nK(\\d"};
    static struct logs_query q;
    char asked[32], why[200];

    assert_true(fits("^a\\d+b$", "a12b") && !fits("^a\\d+b$", "addb") && !fits("\\d", "d"));
    assert_true(fits("a\\Db", "acb") && !fits("a\\Db", "a1b"));
    assert_true(fits("[]\\d]x", "]x") && fits("[]\\d]x", "\\x") && !fits("[]\\d]x", "7x"));
    assert_true(fits("\\\\d", "\\d") && !fits("\\\\d", "\\7") && fits("[^x]\\d", "y7"));
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        str_copy(asked, sizeof(asked), broken[i]);
        assert_int_equal(logs_match_read(asked, &q), 0);
        assert_int_equal(logs_match_compile(&q, why, sizeof(why)), -EINVAL);
    }
    assert_true(fits("^b$", "a\nb\nc") && !fits("a.b", "a\nb")); /* lines are lines */
}

static void put_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

/* A file is found by what it is, under any name; another one of its inode, born later, is not. */
static void test_open(void **state)
{
    static struct logs_source s;
    struct wk_def def = {.alias = (char *)"a"};
    char folder[] = "/tmp/agentd-logs.XXXXXX", path[64], other[64], why[160];
    struct logs_file f;
    struct stat st;
    int fd;

    assert_non_null(mkdtemp(folder));
    s.def = &def;
    snprintf(s.folder, sizeof(s.folder), "%s/", folder);
    snprintf(path, sizeof(path), "%s/one", folder);
    snprintf(other, sizeof(other), "%s/two", folder);
    put_file(path);
    assert_int_equal(stat(path, &st), 0);
    f = logs_plan_file(AT_FDCWD, path, &st);
    for (int i = 0; i < 2; i++) {
        fd = logs_plan_open(&s, "one", &f, why, sizeof(why));
        assert_true(fd >= 0);
        close(fd);
        if (i == 0) {
            assert_int_equal(rename(path, other), 0);
            put_file(path);
        }
    }
    if (f.birth_ns) {
        f.birth_ns--;
        assert_int_equal(logs_plan_open(&s, "two", &f, why, sizeof(why)), -ENOENT);
        f.birth_ns++;
    }
    assert_int_equal(unlink(other), 0);
    assert_int_equal(logs_plan_open(&s, "one", &f, why, sizeof(why)), -ENOENT);
    assert_int_equal(symlink(path, other), 0);
    assert_int_equal(logs_plan_open(&s, "two", &f, why, sizeof(why)), -ELOOP);
    assert_true(unlink(other) == 0 && unlink(path) == 0 && rmdir(folder) == 0);
}

static uint64_t number(const unsigned char *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* What begins behind 4 GB is said in 64 bits, and so is where the list of it is. */
static void test_far(void **state)
{
    struct logs_zip *z = calloc(1, sizeof(*z) + sizeof(z->v[0]));
    uint64_t far = UINT64_C(5) << 30, list;
    unsigned char b[512], *central, *end;
    int fd = memfd_create("archive", MFD_CLOEXEC);
    ssize_t n;

    z->max = 1;
    z->at = far;
    assert_int_equal(logs_zip_begin(z, fd, "a", 0), 0);
    assert_int_equal(logs_zip_put(z, fd, "text", 4), 0);
    assert_int_equal(logs_zip_end(z, fd), 0);
    assert_int_equal(logs_zip_begin(z, fd, "b", 0), -E2BIG);
    list = z->at;
    assert_int_equal(logs_zip_finish(z, fd), 0);
    n = pread(fd, b, sizeof(b), 0);
    assert_true(n == (ssize_t)(z->at - far));
    central = memmem(b, (size_t)n, "PK\1\2", 4);
    end = memmem(b, (size_t)n, "PK\6\6", 4);
    assert_true(central && (uint64_t)(central - b) == list - far);
    assert_true(end && number(end + 48) == list);
    assert_true(number(central + 46 + 1 + 4) == far); /* behind the name */
    z->n = 7;                                         /* whatever the process before has left there */
    assert_int_equal(logs_zip_begin(z, fd, "c", 0), -E2BIG);
    close(fd);
    free(z);
}

/* Sizes of more than 4 GB: those behind a member have 8 bytes each then, and the list has them in
 * 64 bits. Its date is local, as MS-DOS has it. */
static void test_long(void **state)
{
    struct logs_zip *z = calloc(1, sizeof(*z) + 2 * sizeof(z->v[0]));
    uint64_t gone = UINT64_C(5) << 30;
    unsigned char b[512], *behind, *central;
    int fd = memfd_create("archive", MFD_CLOEXEC);
    ssize_t n;

    z->max = 2;
    assert_int_equal(logs_zip_begin(z, fd, "a", AT), 0);
    assert_true(z->v[0].when == (44u << 25 | 1 << 21 | 2 << 16 | 8 << 11 | 34 << 5 | 2));
    z->v[0].size = gone; /* as if so many had been put */
    assert_int_equal(logs_zip_put(z, fd, "text", 4), 0);
    assert_int_equal(logs_zip_end(z, fd), 0);
    assert_int_equal(logs_zip_begin(z, fd, "b", 0), 0);
    assert_true(z->v[1].when == (1 << 21 | 1 << 16)); /* that begins in 1980 */
    assert_int_equal(logs_zip_end(z, fd), 0);
    assert_int_equal(logs_zip_finish(z, fd), 0);
    n = pread(fd, b, sizeof(b), 0);
    behind = memmem(b, (size_t)n, "PK\7\10", 4);
    assert_non_null(behind);
    assert_true(number(behind + 8) == z->v[0].packed && number(behind + 16) == gone + 4);
    assert_true(z->v[1].at == (uint64_t)(behind + 24 - b) && memcmp(behind + 24, "PK\3\4", 4) == 0);
    central = memmem(b, (size_t)n, "PK\1\2", 4);
    assert_non_null(central);
    assert_true(memcmp(central + 20, "\377\377\377\377\377\377\377\377", 8) ==
                0); /* its sizes are elsewhere: */
    assert_true(number(central + 46 + 1 + 4) == gone + 4 && number(central + 46 + 1 + 12) == z->v[0].packed);
    close(fd);
    free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),    cmocka_unit_test(test_no_times),    cmocka_unit_test(test_year),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_types),       cmocka_unit_test(test_query),
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_open),        cmocka_unit_test(test_far),
        cmocka_unit_test(test_long),     cmocka_unit_test(test_summer_time),
    };

    return cmocka_run_group_tests(tests, use_zone, NULL);
}
