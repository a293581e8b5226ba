/* SPDX-License-Identifier: Apache-2.0 */
/* state: what goes in comes out; what other versions wrote is read as far as it may be; what is damaged is
 * refused. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/state.h"
#include "base/fd.h"
#include "base/str.h"

static void check_text(const struct state *s, const char *line, const char *key, const char *want)
{
    char *text = state_get_text(s, line, key);

    if (want)
        assert_string_equal(text, want);
    else
        assert_null(text);
    free(text);
}

/* A state as another version would have written it. */
static size_t make(char *text, size_t size, unsigned version, unsigned oldest, const char *body)
{
    size_t at = (size_t)snprintf(text, size, "agentd-state %u %u %zu ", version, oldest, strlen(body));
    uint64_t sum = str_hash(str_hash(STR_HASH_INIT, text, at), body, strlen(body));

    return at + (size_t)snprintf(text + at, size - at, "%016" PRIx64 "\n%s", sum, body);
}

static int parse(const char *text, size_t n, struct state *s)
{
    struct err err = {0};
    char *exact = malloc(n + !n); /* so that a byte read behind it is found out */
    int r;

    memcpy(exact, text, n);
    r = state_parse(exact, n, s, &err);
    free(exact);
    assert_int_equal(r < 0, err.text[0] != 0);
    return r;
}

static const char odd[] = "a b\tc\nd%20%e=f\x01\x7f\xc3\xa4\"\\";

static void put_all(struct buf *b)
{
    state_begin(b, "thing");
    state_put(b, "least", INT64_MIN);
    state_put(b, "most", INT64_MAX);
    state_put(b, "minus", -1);
    state_put(b, "zero", 0);
    state_put_u64(b, "huge", UINT64_MAX);
    state_put_text(b, "text", odd);
    state_put_text(b, "empty", "");
    state_put_text(b, "none", NULL);
    state_end(b);
    state_begin(b, "things");
    state_put(b, "n", 1);
    state_end(b);
    state_begin(b, "bare");
    state_end(b);
    state_begin(b, "thing");
    state_put(b, "n", 2);
    state_end(b);
}

static void check_all(const struct state *s)
{
    const char *l = state_next(s, "thing", NULL);

    assert_non_null(l);
    assert_true(state_get(s, l, "least") == INT64_MIN);
    assert_true(state_get(s, l, "most") == INT64_MAX);
    assert_int_equal(state_get(s, l, "minus"), -1);
    assert_int_equal(state_get(s, l, "zero"), 0);
    assert_true(state_get_u64(s, l, "huge") == UINT64_MAX);
    check_text(s, l, "text", odd);
    check_text(s, l, "empty", NULL);
    assert_true(state_is(s, l, "text", odd));
    assert_false(state_is(s, l, "text", "a"));
    assert_int_equal(state_get(s, l, "n"), 0);
    l = state_next(s, "thing", l);
    assert_int_equal(state_get(s, l, "n"), 2);
    assert_null(state_next(s, "thing", l));
    assert_int_equal(state_get(s, state_next(s, "things", NULL), "n"), 1);
    assert_non_null(state_next(s, "bare", NULL));
    assert_null(state_next(s, "bar", NULL));
}

static void test_round_trip(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    struct err err = {0};
    struct state s;
    int fd;

    put_all(&b);
    assert_true((fd = state_seal(&b)) > 2);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(state_read(fd, &s, &err), 0);
    assert_int_equal(s.version, STATE_VERSION);
    check_all(&s);
    state_done(&s);
    assert_int_equal(state_read(fd, &s, &err), 0); /* again: it is read from its beginning */
    check_all(&s);
    state_done(&s);
    close(fd);
    buf_free(&b);
    assert_int_equal(state_seal(&(struct buf)BUF_INIT(10)), -EINVAL);
}

static void test_unreadable(void **state)
{
    struct err err = {0};
    struct state s;
    int fds[2];

    assert_true(state_read(-1, &s, &err) < 0);
    assert_null(state_next(&s, "thing", NULL));
    assert_int_equal(pipe(fds), 0);
    assert_true(state_read(fds[0], &s, &err) < 0);
    assert_string_not_equal(err.text, "");
    close(fds[0]);
    close(fds[1]);
}

static void test_descriptors(void **state)
{
    struct buf b = BUF_INIT(4096);
    struct err err;
    struct state s;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), other = fcntl(fd, F_DUPFD_CLOEXEC, 100), held;

    state_begin(&b, "thing");
    state_put(&b, "fd", fd);
    state_put(&b, "main_fd", other);
    state_put(&b, "fdx", 1);
    state_put(&b, "gone_fd", 999);
    state_put(&b, "input_fd", 1);
    state_put_text(&b, "word", "x=y_fd=1");
    state_end(&b);
    held = state_seal(&b);
    assert_int_equal(state_read(held, &s, &err), 0);
    const char *l = state_next(&s, "thing", NULL);
    assert_int_equal(state_get_fd(&s, l, "fd"), fd);
    assert_int_equal(state_get_fd(&s, l, "gone_fd"), -1);
    assert_int_equal(state_get_fd(&s, l, "no_fd"), -1);
    for (int on = 1; on >= 0; on--) {
        state_each_fd(&s, on);
        assert_int_equal(fcntl(fd, F_GETFD), on ? 0 : FD_CLOEXEC);
        assert_int_equal(fcntl(other, F_GETFD), on ? 0 : FD_CLOEXEC);
        assert_int_equal(fcntl(1, F_GETFD), 0); /* the first three are everybody's */
    }
    state_done(&s);
    state_each_fd(&s, true);
    close(fd);
    close(other);
    close(held);
    buf_free(&b);
}

static void test_other_versions(void **state)
{
    static const char body[] = "thing n=7 later=x\nlater a=1 b=2\nthing n=8\n";
    static const struct {
        unsigned version, oldest;
        int r;
    } cases[] = {{STATE_VERSION, STATE_OLDEST, 0}, {STATE_VERSION + 1, STATE_VERSION, 0},
                 {STATE_VERSION + 70, 1, 0},       {STATE_VERSION + 1, STATE_VERSION + 1, -EPROTO},
                 {STATE_READS, STATE_READS, 0},    {STATE_READS - 1, STATE_READS - 1, -EPROTO}};
    char text[256];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct state s;
        size_t n = make(text, sizeof(text), cases[i].version, cases[i].oldest, body);
        assert_int_equal(parse(text, n, &s), cases[i].r);
        if (cases[i].r == 0) {
            const char *l = state_next(&s, "thing", NULL);
            assert_int_equal(s.version, cases[i].version);
            assert_int_equal(state_get(&s, l, "n"), 7);
            assert_int_equal(state_get(&s, l, "missing"), 0);
            check_text(&s, l, "missing", NULL);
            assert_int_equal(state_get(&s, state_next(&s, "thing", l), "n"), 8);
        }
        state_done(&s);
    }
}

static void test_odd_bodies(void **state)
{
    static const char *const bodies[] = {"",
                                         "\n",
                                         "\n\n\n",
                                         "thing",
                                         "thing\n thing n=1\n",
                                         "thing n",
                                         "thing n=",
                                         "thing n=\n",
                                         "thing =1 n=%\n",
                                         "thing n=%2",
                                         "thing n=%zz%\n",
                                         "thing  n=1\n",
                                         "thing n=99999999999999999999999999\n",
                                         "thing n=-99999999999999999999\n",
                                         "thing fd= fd=999999999999\n"};
    char text[256];

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct state s;
        assert_int_equal(parse(text, make(text, sizeof(text), STATE_VERSION, STATE_OLDEST, bodies[i]), &s),
                         0);
        for (const char *l = state_next(&s, "thing", NULL); l; l = state_next(&s, "thing", l)) {
            state_get(&s, l, "n");
            state_get_fd(&s, l, "fd");
            free(state_get_text(&s, l, "n"));
        }
        state_each_fd(&s, false);
        state_done(&s);
    }
}

static void test_damaged(void **state)
{
    char text[256], copy[256];
    size_t n = make(text, sizeof(text), STATE_VERSION, STATE_OLDEST, "thing n=7 text=a%20b\nbare\n");
    struct state s;

    for (size_t cut = 0; cut < n; cut++)
        assert_true(parse(text, cut, &s) < 0);
    memcpy(copy, text, n);
    copy[n] = 'x';
    assert_true(parse(copy, n + 1, &s) < 0);
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < 256; c++) {
            memcpy(copy, text, n);
            copy[i] = (char)c;
            if (copy[i] != text[i])
                assert_true(parse(copy, n, &s) < 0);
        }
    assert_int_equal(parse(text, n, &s), 0);
    state_done(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_other_versions),
        cmocka_unit_test(test_odd_bodies),  cmocka_unit_test(test_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
