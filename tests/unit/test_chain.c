/* SPDX-License-Identifier: Apache-2.0 */
/* The chain's lines and head: what is written is read again, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/chain.h"

/* printf %s 'agentd audit' | openssl dgst -sha256 */
#define FIRST "7e2dbbfbcc5260c05f1aa66dbe3f057721f11775675a94192f07b55449154566"

static void test_first(void **state)
{
    struct chain_at at;

    chain_begin(&at);
    assert_int_equal(at.seq, 0);
    assert_string_equal(at.hash, FIRST);
}

static void test_line(void **state)
{
    struct chain_at at;
    char text[CHAIN_PREFIX_MAX], prev[CHAIN_HEX];
    uint64_t seq;
    int n;

    chain_begin(&at);
    at.seq = UINT64_MAX - 1;
    n = chain_prefix(text, &at);
    assert_int_equal((size_t)n, strlen(text));
    assert_int_equal(chain_read(text, (size_t)n, &seq, prev), 0);
    assert_true(seq == UINT64_MAX);
    assert_string_equal(prev, FIRST);
    for (size_t i = 0; i < (size_t)n; i++)
        assert_int_not_equal(chain_read(text, i, &seq, prev), 0);
}

/* Only as it is written: else two readings of one line could differ. */
static void test_other_forms(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{\"seq\":0,\"prev\":\"" FIRST "\"}",
        "{\"seq\":01,\"prev\":\"" FIRST "\"}",
        "{\"seq\":+1,\"prev\":\"" FIRST "\"}",
        "{\"seq\":-1,\"prev\":\"" FIRST "\"}",
        "{\"seq\": 1,\"prev\":\"" FIRST "\"}",
        "{\"seq\":1, \"prev\":\"" FIRST "\"}",
        "{\"seq\":99999999999999999999,\"prev\":\"" FIRST "\"}",
        "{\"seq\":1,\"prev\":\"abc\"}",
        "{\"seq\":1,\"prev\":\"" FIRST "0\"}",
        "{\"seq\":1,\"prev\":\"A" FIRST "\"}",
        " {\"seq\":1,\"prev\":\"" FIRST "\"}",
    };
    char prev[CHAIN_HEX];
    uint64_t seq = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (chain_read(bad[i], strlen(bad[i]), &seq, prev) == 0 || seq != 7)
            fail_msg("%s", bad[i]);
}

static void test_head(void **state)
{
    struct chain_head h = {.first = 7}, back;
    char text[CHAIN_HEAD_LEN + 1];

    chain_begin(&h.last);
    h.last.seq = h.first = UINT64_MAX;
    chain_head_put(text, &h);
    assert_int_equal(strlen(text), CHAIN_HEAD_LEN);
    assert_int_equal(text[CHAIN_HEAD_LEN - 1], '\n');
    assert_int_equal(chain_head_get(text, &back), 0);
    assert_true(back.last.seq == UINT64_MAX && back.first == UINT64_MAX);
    assert_string_equal(back.last.hash, FIRST);
    text[40] = 'X';
    assert_int_not_equal(chain_head_get(text, &back), 0);
    assert_int_not_equal(chain_head_get("", &back), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_other_forms),
        cmocka_unit_test(test_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
