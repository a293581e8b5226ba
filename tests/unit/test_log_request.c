/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of searches in logs, into what travels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/obagent_read.h"
#include "rpc/when.h"

#define SPAN "\"startTime\":\"1970-01-01T00:00:01Z\",\"endTime\":\"1970-01-01T00:00:02.5+00:00\""

static void test_when(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"1970-01-01t00:00:00.0000019z", 1},
                {"1969-12-31T23:59:59.5Z", -500000},
                {"1970-01-01T08:00:00+08:00", 0},
                {"1970-01-01T01:00:00+00:59", 60000000},
                {"1970-01-01T00:00:60Z", 60000000},
                {"1969-12-31 20:30:00-03:30", 0},
                {"2024-02-29T00:00:00Z", INT64_C(1709164800000000)}};
    static const char *const bad[] = {"",
                                      "1970-01-01",
                                      "1970-01-01T00:00:00",
                                      "1970-01-01T00:00:00ZZ",
                                      "1970-01-01T00:00:00.Z",
                                      "1970-01-01T24:00:00Z",
                                      "1970-01-01T00:60:00Z",
                                      "1970-13-01T00:00:00Z",
                                      "1970-00-01T00:00:00Z",
                                      "2023-02-29T00:00:00Z",
                                      "1970-01-00T00:00:00Z",
                                      "1970-01-01T00:00:00+0800",
                                      "1970-01-01T00:00:00+24:00",
                                      "1970-01-01T00:00:00+00:60",
                                      "1970-01-01T00:00:61Z",
                                      "x"};
    int64_t us;

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!when_read(good[i].text, &us) || us != good[i].us)
            fail_msg("%s: %lld", good[i].text, (long long)us);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (when_read(bad[i], &us))
            fail_msg("a time: %s", bad[i]);
}

static void test_good(void **state)
{
    static const struct {
        const char *body;
        bool zip;
        const char *text;
    } rows[] = {
        {"{\"logType\":\"a\"," SPAN "}", false, "ta\ns1000000\ne2500000\nn200\n"},
        {"{\"logType\":[\"a\",\"b\"]," SPAN ",\"limit\":\"none\"}", true, "ta\ntb\ns1000000\ne2500000\nz\n"},
        {"{\"logType\":\"a\"," SPAN ",\"keyword\":[\"k\",\"\",\"\\u00e4\"],\"excludeKeyword\":[\"x.*\"],"
         "\"keywordType\":\"\",\"excludeKeywordType\":\"REGEX\",\"logLevel\":[\"INFO\"],\"limit\":0,"
         "\"other\":{}}",
         false, "ta\ns1000000\ne2500000\nkk\nk\xc3\xa4\nXx.*\nlINFO\nn200\n"},
        {"{\"logType\":\"a\"," SPAN ",\"limit\":7,\"lastQueryFileId\":\"204900000000000000000012000000034\","
         "\"lastQueryFileOffset\":56}",
         false, "ta\ns1000000\ne2500000\nn7\nc2049:12:34:56\n"},
    };
    char why[256];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(LIMIT_HTTP_BODY);
        if (obagent_read_search(rows[i].body, strlen(rows[i].body), rows[i].zip, &b, why, sizeof(why)) < 0)
            fail_msg("%s: %s", rows[i].body, why);
        assert_string_equal(b.p, rows[i].text);
        buf_free(&b);
    }
}

static void test_bad(void **state)
{
    static const char *const rows[][2] = {
        {"", "the body"},
        {"[]", "the body"},
        {"{}", "logType"},
        {"{\"logType\":[\"a\"]}", "logType"},
        {"{\"logType\":\"a\\u0000b\"," SPAN "}", "the body"},
        {"{\"logType\":\"a\\nb\"," SPAN "}", "logType"},
        {"{\"logType\":\"a\"}", "startTime"},
        {"{\"logType\":\"a\"," SPAN ",\"keywordType\":\"regex\"}", "keywordType"},
        {"{\"logType\":\"a\"," SPAN ",\"limit\":1.5}", "limit"},
        {"{\"logType\":\"a\"," SPAN ",\"lastQueryFileId\":\"12\"}", "lastQueryFileId"},
        {"{\"logType\":\"a\"," SPAN ",\"lastQueryFileOffset\":\"12\"}", "lastQueryFileOffset"},
    };
    char why[256];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(LIMIT_HTTP_BODY);
        assert_true(obagent_read_search(rows[i][0], strlen(rows[i][0]), false, &b, why, sizeof(why)) < 0);
        if (!str_starts(why, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], why);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
