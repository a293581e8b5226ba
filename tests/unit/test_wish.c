/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/wish: If-Match, Prefer and Accept-Encoding, good and bad. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "rpc/wish.h"

static void test_match(void **state)
{
    static const struct {
        const char *value, *want; /* NULL: malformed */
    } rows[] = {
        {"*", ""},
        {" * ", ""},
        {"\"3\"", "3"},
        {"\"3\",\"4\"", "3,4"},
        {" \"3\" , , \"4\"\t", "3,4"},
        {",\"3\",", "3"},
        {"\"0\"", "0"},
        {"\"4294967295\"", "4294967295"},
        {"\"4294967296\"", "-"},
        {"\"99999999999999999999\"", "-"},
        {"\"03\"", "-"}, /* not how we write it */
        {"W/\"3\"", "-"},
        {"W/\"3\", \"4\"", "4"},
        {"\"abc\"", "-"},
        {"\"\"", "-"},
        {"\"3,4\"", "-"}, /* one tag with a comma in it */
        {"\"3\x80\"", "-"},
        {"", NULL},
        {",", NULL},
        {"3", NULL},
        {"\"3", NULL},
        {"3\"", NULL},
        {"\"3\" \"4\"", NULL},
        {"\"3\"x", NULL},
        {"\"3 4\"", NULL},
        {"\"3\x7f\"", NULL},
        {"w/\"3\"", NULL},
        {"W/3", NULL},
        {"* , \"3\"", NULL},
        {"\"3\", *", NULL},
        {"**", NULL},
    };
    char buf[64];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int r = wish_match(rows[i].value, buf, sizeof(buf));
        if (r != (rows[i].want ? 0 : -EINVAL) || (rows[i].want && strcmp(buf, rows[i].want) != 0))
            fail_msg("%s: %d %s", rows[i].value, r, buf);
    }
}

static void test_match_fits(void **state)
{
    char buf[8];

    assert_int_equal(wish_match("\"111\",\"22\"", buf, sizeof(buf)), 0);
    assert_string_equal(buf, "111,22");
    assert_int_equal(wish_match("\"111\",\"2222\"", buf, sizeof(buf)), -EINVAL);
}

static void test_prefer(void **state)
{
    static const struct {
        const char *value;
        int async, wait_ms; /* -1: none */
    } rows[] = {
        {"", 0, -1},
        {"respond-async", 1, -1},
        {"Respond-Async", 1, -1},
        {"respond-async, wait=10", 1, 10000},
        {"wait=10 , respond-async", 1, 10000},
        {"wait=0", 0, 0},
        {"wait = 5", 0, 5000},
        {"wait=\"5\"", 0, 5000},
        {"wait=5;x=y", 0, 5000},
        {"wait=5, wait=6", 0, 5000},
        {"wait=999999999", 0, 24 * 3600 * 1000},
        {"wait=99999999999999999999", 0, -1},
        {"wait", 0, -1},
        {"wait=", 0, -1},
        {"wait=, respond-async", 1, -1},
        {"wait=-1", 0, -1},
        {"wait=x", 0, -1},
        {"waiting=5", 0, -1},
        {"x=\"respond-async, wait=3\", wait=4", 0, 4000},
        {"x=\"a\\\", respond-async\"", 0, -1},
        {"x=\"respond-async", 0, -1}, /* the quote does not end */
        {"return=minimal; respond-async", 0, -1},
        {",,respond-async,,", 1, -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wish w = wish_prefer(rows[i].value);
        if (w.async != rows[i].async || w.has_wait != (rows[i].wait_ms >= 0) ||
            (w.has_wait && w.wait_ms != (uint32_t)rows[i].wait_ms))
            fail_msg("%s: %d %d %u", rows[i].value, w.async, w.has_wait, w.wait_ms);
    }
}

static void test_gzip(void **state)
{
    static const struct {
        const char *value;
        int takes;
    } rows[] = {
        {"", 0},
        {"gzip", 1},
        {"GZip", 1},
        {"x-gzip", 1},
        {"deflate, gzip;q=1.0, *;q=0.5", 1},
        {"gzip;q=0", 0},
        {"gzip ; q=0.000", 0},
        {"gzip;Q=0.0", 0},
        {"gzip;q=0.001", 1},
        {"gzip;q=0.01, br", 1},
        {"identity", 0},
        {"br, deflate", 0},
        {"*", 1},
        {"*;q=0", 0},
        {"gzip;q=0, *", 0},
        {"*, gzip;q=0", 0},
        {"*;q=0, gzip", 1},
        {"gzipped", 0},
        {"gzi", 0},
        {",, ,gzip,", 1},
        {"gzip;", 1},
        {"gzip;q=", 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (wish_gzip(rows[i].value) != rows[i].takes)
            fail_msg("%s", rows[i].value);
}

/* Each text in memory of its own, so that a sanitizer sees a read behind its end. */
static void test_garbage(void **state)
{
    static const char letters[] = "W/\"\"\"*,,, =;13wait\\respond-async\t\x80";
    char buf[32];

    srand(7240);
    for (int round = 0; round < 200000; round++) {
        size_t n = (size_t)(rand() % 24);
        char *text = malloc(n + 1);
        for (size_t i = 0; i < n; i++)
            text[i] = letters[(size_t)rand() % (sizeof(letters) - 1)];
        text[n] = 0;
        if (wish_match(text, buf, sizeof(buf)) == 0)
            assert_true(strspn(buf, "0123456789,-") == strlen(buf));
        wish_prefer(text);
        wish_gzip(text);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match), cmocka_unit_test(test_match_fits), cmocka_unit_test(test_prefer),
        cmocka_unit_test(test_gzip),  cmocka_unit_test(test_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
