/* SPDX-License-Identifier: Apache-2.0 */
/* How a value is cut into words, and sets of exit statuses. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agentd/cfg.h"
#include "agentd/cfg_parse.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

/* --- statuses --- */

static void test_status(void **state)
{
    struct cfg_status_set s = {.codes = {1ull << 3, 0, 0, 1ull << 63}, .signals = 1ull << (SIGHUP - 1)};

    assert_true(cfg_status_has(&s, CLD_EXITED, 3));
    assert_true(cfg_status_has(&s, CLD_EXITED, 255));
    assert_false(cfg_status_has(&s, CLD_EXITED, SIGHUP));
    assert_true(cfg_status_has(&s, CLD_KILLED, SIGHUP));
    assert_true(cfg_status_has(&s, CLD_DUMPED, SIGHUP));
    assert_false(cfg_status_has(&s, CLD_KILLED, 3));
    assert_false(cfg_status_has(&s, CLD_EXITED, 256));
    assert_false(cfg_status_has(&s, CLD_EXITED, -1));
    assert_false(cfg_status_has(&s, CLD_KILLED, 65));
    assert_false(cfg_status_has(&s, CLD_STOPPED, SIGHUP));
}

/* --- words --- */

static void test_words(void **state)
{
    static const struct {
        const char *in;
        unsigned flags;
        const char *out; /* words joined by '|'; NULL: an error */
    } rows[] = {
        {"", 3, ""},
        {"  a  b\tc ", 3, "a|b|c"},
        {"'a b' \"c d\"", 3, "a b|c d"},
        {"'a b'", 0, "'a|b'"},
        {"\"\"", 3, ""},
        {"a\"b c\"d", 3, "ab cd"},
        {"'a\\tb'", 3, "a\tb"},
        {"a\\tb", 1, "a\\tb"},
        {"a\\", 3, NULL},
        {"'a", 3, NULL},
        {"'a", 3 | CFG_WORD_RELAX, "a"},
        {"\\x4", 3, NULL},
        {"\\777", 3, NULL},
        {"\\U00110000", 3, NULL},
        {"\\u20ac", 3, "\xe2\x82\xac"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cfg_words w = {.s = rows[i].in, .flags = rows[i].flags};
        struct buf b = BUF_INIT(1000);
        char *word;
        int r;
        buf_str(&b, "");
        for (unsigned n = 0; (r = cfg_word(&w, &word)) > 0; n++) {
            buf_str(&b, n ? "|" : "");
            buf_str(&b, word);
            free(word);
        }
        if (rows[i].out ? r != 0 || !str_eq(b.p, rows[i].out) : r != -EINVAL)
            fail_msg("row %zu: %d \"%s\"", i, r, b.p);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
