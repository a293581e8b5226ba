/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl's tables against each other, and against the table of calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agentctl/verbs.h"
#include "base/str.h"
#include "rpc/method.h"

/* Each word of list, handed to is_known. */
static void each_is_known(const char *whose, const char *list, bool (*is_known)(const char *word))
{
    char word[64];

    for (size_t n; *list; list += n, list += *list == ' ') {
        n = strcspn(list, " ");
        assert_true(n < sizeof(word));
        memcpy(word, list, n);
        word[n] = 0;
        if (!is_known(word))
            fail_msg("%s: %s is not known", whose, word);
    }
}

static bool is_call(const char *word)
{
    for (int i = 0; i < METHOD_COUNT; i++)
        if (str_eq(method_table[i].name, word))
            return true;
    return false;
}

/* Those for every verb need not be said. */
static bool is_option(const char *word)
{
    for (unsigned i = 0; i < options_count; i++)
        if (str_eq(options_table[i].name, word))
            return !options_table[i].any;
    return false;
}

static bool some_verb(const char *word, bool options)
{
    for (unsigned i = 0; i < verbs_count; i++)
        if (options_listed(options ? verbs_table[i].options : verbs_table[i].calls, word))
            return true;
    return false;
}

static void test_each_call_has_a_verb(void **state)
{
    for (int i = 0; i < METHOD_COUNT; i++)
        if (!some_verb(method_table[i].name, false))
            fail_msg("no verb of agentctl makes the call %s", method_table[i].name);
    for (unsigned i = 0; i < verbs_count; i++)
        each_is_known(verbs_table[i].name, verbs_table[i].calls, is_call);
}

static void test_options(void **state)
{
    for (unsigned i = 0; i < verbs_count; i++)
        each_is_known(verbs_table[i].name, verbs_table[i].options, is_option);
    for (unsigned i = 0; i < options_count; i++) {
        const struct options_row *a = &options_table[i];
        if (!a->any && !some_verb(a->name, true))
            fail_msg("no verb takes --%s", a->name);
        for (unsigned k = 0; k < i; k++) {
            assert_string_not_equal(a->name, options_table[k].name);
            assert_true(!a->letter || a->letter != options_table[k].letter);
        }
    }
}

static void test_names(void **state)
{
    assert_non_null(verbs_table[0].name);
    for (unsigned i = 0; i < verbs_count; i++)
        for (unsigned k = 0; verbs_table[i].name && k < i; k++)
            assert_true(!verbs_table[k].name || !str_eq(verbs_table[k].name, verbs_table[i].name));
}

static void test_listed(void **state)
{
    assert_true(options_listed("a bc d", "bc"));
    assert_true(options_listed("a bc d", "d"));
    assert_false(options_listed("a bc d", "b"));
    assert_false(options_listed("a bc d", "c"));
    assert_false(options_listed("a bc d", ""));
    assert_false(options_listed("", "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call_has_a_verb),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
