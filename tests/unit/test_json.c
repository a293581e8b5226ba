/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/json_dec and rpc/json_enc: what jsmn lets through and must not pass, what is read, what is written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_dec.h"
#include "rpc/json_enc.h"

#define T(s)             \
    {                    \
        s, sizeof(s) - 1 \
    }

struct text {
    const char *s;
    size_t n;
};

static const struct text bads[] = {
    T(""),
    T(" "),
    T("{\"a\"}"),
    T("{\"a\":}"),
    T("{\"a\":1,}"),
    T("[1,]"),
    T("[,1]"),
    T("[1 2]"),
    T("[1,,2]"),
    T("{\"a\":1 \"b\":2}"),
    T("{\"a\":1}{\"b\":2}"),
    T("{\"a\":\"b\":\"c\"}"),
    T("[\"a\":1]"),
    T("{\"a\",\"b\"}"),
    T("{\"k\":tru}"),
    T("{\"k\":1a}"),
    T("{\"k\":-}"),
    T(":"),
    T(","),
    T("{"),
    T("["),
    T("}"),
    T("]"),
    T("[}"),
    T("{]"),
    T("[1"),
    T("{\"a\":1"),
    T("{\"a\""),
    T("{a:1}"),
    T("{'a':1}"),
    T("{1:2}"),
    T("[01]"),
    T("[-01]"),
    T("[1.]"),
    T("[.1]"),
    T("[1e]"),
    T("[1e+]"),
    T("[+1]"),
    T("[0x1]"),
    T("[NaN]"),
    T("[Infinity]"),
    T("[True]"),
    T("[nul]"),
    T("[nulll]"),
    T("[\"a]"),
    T("[\"a\nb\"]"),
    T("[\"a\tb\"]"),
    T("[\"a\0b\"]"),
    T("[\"\\x\"]"),
    T("[\"\\u12\"]"),
    T("[\"\\u12g4\"]"),
    T("[\"\\ud800\"]"),
    T("[\"\\udc00\"]"),
    T("[\"\\ud800\\u0041\"]"),
    T("[\"\\u0000\"]"),
    T("[\"\\"),
    T("[\"\xff\"]"),
    T("[\"\xc0\x80\"]"),
    T("[\"\xed\xa0\x80\"]"),
    T("[\"\xf4\x90\x80\x80\"]"),
    T("[\"\xe2\x82\"]"),
    T("\xef\xbb\xbf{}"),
    T("{}x"),
    T("[]//"),
    T("1 2"),
    T("\"a\" \"b\""),
    T("truefalse"),
    T("[1]\0"),
    T("{\"a\":1,\"a\":2}"),
    T("[\f1]"),
    T("[1;2]"),
    T("{\"a\":1,,}"),
};

static const char *const goods[] = {
    "{}",
    "[]",
    "1",
    "-0",
    "0.5",
    "1e9",
    "1E-9",
    "-1.5e+3",
    "true",
    "false",
    "null",
    "\"\"",
    " [ ] ",
    "\t{\r\n} ",
    "[1,2,[3,{\"a\":[]}]]",
    "{\"a\":{\"b\":[true,false,null]},\"c\":\"d\"}",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "[\"\\ud83d\\ude00\"]",
    "[\"\xe2\x82\xac\"]",
    "[\"a\x7f\"]",
    "{\"\":1}",
    "[[],[],{}]",
};

static int parse(const char *s, size_t n, int max)
{
    struct json j;
    int r = json_parse(&j, s, n, max);

    json_free(&j);
    return r;
}

static void test_bad(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(bads); i++)
        if (parse(bads[i].s, bads[i].n, 100) != -EINVAL)
            fail_msg("taken: %s", bads[i].s);
}

static void test_good(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(goods); i++)
        if (parse(goods[i], strlen(goods[i]), 100) != 0)
            fail_msg("refused: %s", goods[i]);
}

static void test_limits(void **state)
{
    char deep[2 * LIMIT_JSON_DEPTH + 3];
    size_t wide_len = 400000;
    _cleanup_free_ char *wide = malloc(wide_len);

    for (size_t depth = LIMIT_JSON_DEPTH; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        assert_int_equal(parse(deep, 2 * depth, 100), depth > LIMIT_JSON_DEPTH ? -EINVAL : 0);
    }
    for (size_t i = 0; i < wide_len; i++)
        wide[i] = i == 0 ? '[' : i == wide_len - 1 ? ']' : i % 3 == 1 ? '[' : i % 3 == 2 ? ']' : ',';
    wide[wide_len - 2] = '1';
    wide[wide_len - 3] = ',';
    for (size_t n = wide_len - 4; wide[n] != ']'; n--)
        wide[n] = ' ';
    assert_int_equal(parse(wide, wide_len, LIMIT_JSON_TOKENS), -E2BIG);
    assert_int_equal(parse(wide, wide_len, 1 << 20), 0);
    memset(wide, '[', wide_len);
    assert_int_equal(parse(wide, wide_len, 1 << 20), -EINVAL);
}

static void test_tree(void **state)
{
    static const char s[] =
        "{\"a\":[10,{\"x\":[1]},-3],\"b\":{\"c\":\"\\u00e4\\n\\ud83d\\ude00\"},\"n\":null,"
        "\"big\":9223372036854775808,\"f\":1.5,\"t\":true}";
    struct json j;
    int64_t v;
    char buf[8];

    assert_int_equal(json_parse(&j, s, sizeof(s) - 1, 100), 0);
    int a = json_member(&j, 0, "a"), at = json_first(&j, a);
    assert_int_equal(json_count(&j, a), 3);
    assert_true(json_to_int(&j, at, &v) && v == 10);
    at = json_next(&j, at);
    assert_int_equal(json_kind(&j, at), JSON_OBJECT);
    at = json_next(&j, at);
    assert_true(json_to_int(&j, at, &v) && v == -3);
    assert_int_equal(json_next(&j, at), -1);
    _cleanup_free_ char *c = json_text(&j, json_member(&j, json_member(&j, 0, "b"), "c"));
    assert_string_equal(c, "\xc3\xa4\n\xf0\x9f\x98\x80");
    assert_int_equal(json_kind(&j, json_member(&j, 0, "n")), JSON_NULL);
    assert_int_equal(json_kind(&j, json_member(&j, 0, "t")), JSON_TRUE);
    assert_false(json_to_int(&j, json_member(&j, 0, "big"), &v));
    assert_false(json_to_int(&j, json_member(&j, 0, "f"), &v));
    assert_int_equal(json_member(&j, 0, "x"), -1);
    assert_int_equal(json_member(&j, -1, "x"), -1);
    assert_string_equal(json_copy(&j, -1, buf, sizeof(buf)), "");
    json_free(&j);
}

/* Everything that is written is read back, whatever bytes went in. */
static void test_round_trip(void **state)
{
    struct buf b = BUF_INIT(4096);
    char raw[40];

    srand(4712);
    for (int round = 0; round < 50000; round++) {
        struct json j;
        size_t n = (size_t)rand() % (sizeof(raw) - 1);
        for (size_t i = 0; i < n; i++)
            raw[i] = (char)(1 + rand() % 255);
        raw[n] = 0;
        buf_reset(&b);
        json_open(&b, '{');
        json_str(&b, "s", raw);
        json_int(&b, "i", -5);
        json_uint(&b, "u", UINT64_MAX);
        json_close(&b, '}');
        assert_int_equal(json_parse(&j, b.p, b.len, 100), 0);
        _cleanup_free_ char *back = json_text(&j, json_member(&j, 0, "s"));
        if (str_is_utf8(raw, n))
            assert_string_equal(back, raw);
        json_free(&j);
    }
    buf_free(&b);
}

static void test_written(void **state)
{
    struct buf b = BUF_INIT(4096);

    json_open(&b, '{');
    json_str(&b, "a", "\x01\"\\\n\xff\xe2\x82\xac\x7f\xc2\x9b\xc2\xa0");
    json_numbers(&b, "n", "1,22,x,3");
    json_numbers(&b, "e", "");
    json_words(&b, "w", "a,b");
    json_null(&b, "z");
    json_time(&b, "t", 0, true);
    json_bool(&b, "f", false);
    json_close(&b, '}');
    assert_string_equal(
        b.p,
        "{\"a\":\"\\u0001\\\"\\\\\\n\xef\xbf\xbd\xe2\x82\xac\\u007f\\u009b\xc2\xa0\",\"n\":[1,22,3],\"e\":[],"
        "\"w\":[\"a\",\"b\"],\"z\":null,\"t\":null,\"f\":false}");
    buf_free(&b);
}

static void test_mutations(void **state)
{
    char raw[128];

    srand(4713);
    for (int round = 0; round < 200000; round++) {
        const char *s = goods[(size_t)rand() % ARRAY_LEN(goods)];
        size_t n = strlen(s);
        struct json j;
        memcpy(raw, s, n);
        for (int k = rand() % 3; k >= 0; k--)
            raw[(size_t)rand() % n] = (char)(rand() % 2 ? "{}[],:\"\\u0e-."[rand() % 13] : rand());
        if (json_parse(&j, raw, n, 100) == 0)
            for (int t = 0; t < j.count; t++)
                free(json_text(&j, t));
        json_free(&j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),       cmocka_unit_test(test_good),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_tree),      cmocka_unit_test(test_round_trip), cmocka_unit_test(test_written),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
