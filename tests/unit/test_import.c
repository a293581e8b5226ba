/* SPDX-License-Identifier: Apache-2.0 */
/* Words, times, sizes and paths of foreign configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agentctl/import.h"
#include "base/fd.h"
#include "base/str.h"

static void test_shell(void **state)
{
    static const struct {
        const char *in, *out; /* out: the words as an Exec key has them; or what is wrong */
    } cases[] = {
        {"/bin/a  b\tc\n d", "/bin/a b c d"},
        {"/bin/a 'b c' \"d 'e'\" f\\ g", "/bin/a \"b c\" \"d 'e'\" \"f g\""},
        {"/bin/a '' \"\"", "/bin/a \"\" \"\""},
        {"/bin/a \"\\\"\\\\\\x\" 'a\\b'", "/bin/a \"\\\"\\\\\\\\x\" a\\\\b"},
        {"/b$n/a $X ${Y} 5% ; x;y", "/b$n/a $$X $${Y} 5%% \";\" x;y"},
        {"/bin/a 'b\nc\rd'", "/bin/a \"b\\nc\\rd\""},
        {"/bin/a 'b", "a quote that is not closed"},
        {"/bin/a \"b", "a quote that is not closed"},
        {"/bin/a \\", "a backslash at its end; write two of them"},
        {"", ""},
    };
    struct import im = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct import_words words = {0};
        const char *why = import_words_shell(&im, cases[i].in, &words);
        assert_string_equal(why ? why : import_words_exec(&im, &words), cases[i].out);
        import_words_free(&words);
    }
    import_free(&im);
}

/* In the program's own path a $ is nothing special, in its first word it is. */
static void test_exec_as(void **state)
{
    struct import im = {0};
    struct import_words words = {0};

    import_words_add(&im, &words, "c$t");
    import_words_add(&im, &words, "$x");
    assert_string_equal(import_words_exec_as(&im, "/b$n/5% c$t", &words), "@\"/b$n/5%% c$t\" c$$t $$x");
    import_words_free(&words);
    import_free(&im);
}

static void test_env(void **state)
{
    static const struct {
        const char *name, *value, *out; /* out: NULL: it is refused */
    } cases[] = {
        {"A", "1", "A=1"},
        {"A", "", "A="},
        {"_a9", "b c", "\"_a9=b c\""},
        {"A", "5%$x", "A=5%%$x"},
        {"A", "\"'", "\"A=\\\"'\""},
        {"A", "a\nb", "\"A=a\\nb\""},
        {"9A", "1", NULL},
        {"", "1", NULL},
        {"A-B", "1", NULL},
        {"A", "\x1b[2J", NULL},
    };
    struct import im = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *out = NULL;
        const char *why = import_words_env(&im, cases[i].name, cases[i].value, &out);
        assert_int_equal(why == NULL, cases[i].out != NULL);
        if (!why)
            assert_string_equal(out, cases[i].out);
    }
    import_free(&im);
}

static void test_spans(void **state)
{
    static const struct {
        const char *in, *out; /* bare numbers are milliseconds; out: NULL: it is none */
    } cases[] = {
        {"5s", "5s"},     {"1m30s", "90s"}, {"1.5s", "1500ms"},
        {"250", "250ms"}, {"1h", "3600s"},  {"10us", "10us"},
        {"0", "0s"},      {"", NULL},       {"s", NULL},
        {"5x", NULL},     {"-1s", NULL},    {"1..5s", NULL},
        {"1e9", NULL},    {"5 s", NULL},    {"99999999999999999h", NULL},
    };
    char buf[IMPORT_SPAN];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double us;
        bool fine = import_words_span(cases[i].in, 1000, &us);
        assert_int_equal(fine, cases[i].out != NULL);
        if (fine)
            assert_string_equal(import_words_write_span(us, buf), cases[i].out);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        const char *in;
        int64_t out; /* -1: it is none */
    } cases[] = {
        {"5", 5},
        {"1K", 1024},
        {"1kb", 1024},
        {"1 MB", 1 << 20},
        {"2GiB", INT64_C(2) << 30},
        {"7B", 7},
        {"1T", 1ll << 40},
        {"", -1},
        {"M", -1},
        {"1X", -1},
        {"1MBs", -1},
        {"-1", -1},
        {"1.5M", -1},
        {"99999999999999999999G", -1},
        {"9999T", -1},
        {"1iB", -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t v = 0;
        bool fine = import_words_size(cases[i].in, &v);
        assert_int_equal(fine, cases[i].out >= 0);
        if (fine)
            assert_int_equal(v, cases[i].out);
    }
}

static void test_paths_and_names(void **state)
{
    static const struct {
        const char *dir, *path, *out;
    } paths[] = {
        {"/a", "b", "/a/b"}, {"/a", "./b/../c", "/a/c"}, {"/a", "/b//c/", "/b/c"}, {"/a", "../../..", "/"},
        {"/", "", "/"},      {"/a/b", "../c", "/a/c"},   {"/a", "...", "/a/..."},
    };
    static const struct {
        const char *in, *out;
    } names[] = {{"web", "web"}, {"a b/c", "a_b_c"}, {"../x", "_._x"},    {"-x", "_x"},
                 {"x@", "x_"},   {"", ""},           {"\xc3\xa4x", "_x"}, {"g:x_00", "g:x_00"}};
    struct import im = {0};
    char buf[IMPORT_ALIAS];

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_string_equal(import_words_path(&im, paths[i].dir, paths[i].path), paths[i].out);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_string_equal(import_alias(names[i].in, buf), names[i].out);
    assert_string_equal(import_words_signal("term", buf), "SIGTERM");
    assert_string_equal(import_words_signal("SIGUSR1", buf), "SIGUSR1");
    assert_string_equal(import_words_signal("2", buf), "SIGINT");
    assert_string_equal(import_words_signal("sigttin", buf), "SIGTTIN");
    assert_string_equal(import_words_signal("RTMIN+3", buf), "SIGRTMIN+3");
    assert_string_equal(import_words_signal("64", buf), "SIGRTMIN+30");
    assert_null(import_words_signal("33", buf)); /* of the C library's own */
    assert_null(import_words_signal("65", buf));
    assert_null(import_words_signal("NOSUCH", buf));
    assert_null(import_words_signal("TERM-and-much-that-is-behind", buf));
    assert_null(import_words_signal("0", buf));
    import_free(&im);
}

static void test_what_it_is(void **state)
{
    static const struct {
        const char *path, *text, *format;
    } cases[] = {
        {"x", "; a\n[program:x]\n", "supervisord"},
        {"x.conf", "[supervisord]\n", "supervisord"},
        {"x.service", "", "systemd"},
        {"x", "[Unit]\n[Service]\n", "systemd"},
        {"/etc/monitrc", "", "monit"},
        {"x", " check process a with pidfile /b\n", "monit"},
        {"x", "SET DAEMON 5\n", "monit"},
        {"x.yaml", "a: 1\nservices:\n", "obagent"},
        {"x.yml", "apps:\n", "pm2"},
        {"x.js", "", "pm2"},
        {"x", "module.exports = {}", "pm2"},
        {"x", "\n{\"apps\": []}", "pm2"},
        {"x", "", NULL},
        {"x", "hello", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct import_source src = {.path = (char *)cases[i].path, .text = (char *)cases[i].text};
        const char *format = import_guess(&src);
        assert_string_equal(format ? format : "", cases[i].format ? cases[i].format : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shell),      cmocka_unit_test(test_exec_as),
        cmocka_unit_test(test_env),        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_sizes),      cmocka_unit_test(test_paths_and_names),
        cmocka_unit_test(test_what_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
