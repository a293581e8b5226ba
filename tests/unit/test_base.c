/* SPDX-License-Identifier: Apache-2.0 */
/* base: numbers and spans that people write, escapes, distances, buffers, times in print, files, the log. */
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
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

/* --- numbers --- */

static void test_u64(void **state)
{
    static const struct {
        const char *s;
        uint64_t max;
        int r;
        uint64_t v;
    } t[] = {
        {"0", 0, 0, 0},
        {"007", 10, 0, 7},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
        {"99999999999999999999999999", UINT64_MAX, -ERANGE, 0},
        {"11", 10, -ERANGE, 0},
        {"10", 10, 0, 10},
        {"", 10, -EINVAL, 0},
        {" 1", 10, -EINVAL, 0},
        {"1 ", 10, -EINVAL, 0},
        {"+1", 10, -EINVAL, 0},
        {"-1", 10, -EINVAL, 0},
        {"0x1", 10, -EINVAL, 0},
        {"1a", 10, -EINVAL, 0},
        {"\xd9\xa1", 10, -EINVAL, 0}, /* a digit, but none of ours */
    };

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        uint64_t v = 4711;
        int r = str_to_u64(t[i].s, t[i].max, &v);
        if (r != t[i].r || v != (r ? 4711 : t[i].v))
            fail_msg("\"%s\": %d, %llu", t[i].s, r, (unsigned long long)v);
    }
}

static void test_bool(void **state)
{
    static const char *const yes[] = {"1", "yes", "y", "true", "t", "on", "YES", "True", "oN"},
                             *const no[] = {"0", "no", "n", "false", "f", "off", "NO", "False"},
                             *const bad[] = {"", "2", "01", " yes", "yes ", "of", "tru", "enable"};
    bool v;

    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        assert_true(str_to_bool(yes[i], &v) == 0 && v);
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_true(str_to_bool(no[i], &v) == 0 && !v);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(str_to_bool(bad[i], &v), -EINVAL);
}

#define MS 1000ull
#define S 1000000ull
#define MIN (60 * S)
#define H (60 * MIN)
#define D (24 * H)

static void test_usec(void **state)
{
    static const struct {
        const char *s;
        uint64_t v;
    } good[] = {
        {"5", 5 * S},
        {"0", 0},
        {"5s", 5 * S},
        {"5 s", 5 * S},
        {" 5s ", 5 * S},
        {"2sec", 2 * S},
        {"2second", 2 * S},
        {"2seconds", 2 * S},
        {"500ms", 500 * MS},
        {"500msec", 500 * MS},
        {"7us", 7},
        {"7usec", 7},
        {"1min 20s", 80 * S},
        {"1min20s", 80 * S},
        {"1 min 20 s", 80 * S},
        {"2m", 2 * MIN},
        {"2h 3min", 2 * H + 3 * MIN},
        {"2hr", 2 * H},
        {"1d", D},
        {"1w", 7 * D},
        {"1M", 2629800 * S},
        {"1y", 31557600 * S},
        {"1.5s", 1500 * MS},
        {"1.5", 1500 * MS},
        {"0.000001s", 1},
        {"0.0000019s", 1},
        {"1.5min", 90 * S},
        {"0.5ms", 500},
        {"1 2 3", 6 * S},
        {"3min 0.5s 7us", 3 * MIN + 500 * MS + 7},
        {"infinity", STR_USEC_INFINITY},
    };
    static const char *const bad[] = {"",    " ",    "-1",   "s",   "5x",         "5 minutess", "1,5", "1.",
                                      "1.s", "five", "5s x", "0x5", "infinity 1", "Infinity",   "5S",  "+5"},
                             *const big[] = {"18446744073709551615", "99999999999999999999", "9999999y",
                                             "584554y 584554y", "9223372036854775808us"};
    uint64_t v;

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (str_to_usec(good[i].s, S, &v) != 0 || v != good[i].v)
            fail_msg("\"%s\": %llu", good[i].s, (unsigned long long)v);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (str_to_usec(bad[i], S, &v) != -EINVAL)
            fail_msg("\"%s\" was taken", bad[i]);
    for (size_t i = 0; i < ARRAY_LEN(big); i++)
        if (str_to_usec(big[i], S, &v) != -ERANGE)
            fail_msg("\"%s\" is not too big", big[i]);
    assert_int_equal(str_to_usec("20", MS, &v), 0); /* another unit for bare numbers */
    assert_int_equal(v, 20 * MS);
    assert_int_equal(str_to_usec("20s", MS, &v), 0);
    assert_int_equal(v, 20 * S);
}

static void test_size(void **state)
{
    static const struct {
        const char *s;
        int r;
        uint64_t v;
    } t[] = {
        {"0", 0, 0},
        {"1", 0, 1},
        {"1B", 0, 1},
        {"1K", 0, 1024},
        {"1KB", 0, 1024},
        {"3M", 0, 3 << 20},
        {"2G", 0, 2ull << 30},
        {"1T", 0, 1ull << 40},
        {"1P", 0, 1ull << 50},
        {"15E", 0, 15ull << 60},
        {"16E", -ERANGE, 0},
        {"18014398509481984K", -ERANGE, 0},
        {"infinity", 0, STR_SIZE_INFINITY},
        {"", -EINVAL, 0},
        {"K", -EINVAL, 0},
        {"1k", -EINVAL, 0},
        {"1KK", -EINVAL, 0},
        {"1.5K", -EINVAL, 0},
        {"1 K", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1KiB", -EINVAL, 0},
        {"18446744073709551616", -ERANGE, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        uint64_t v = 0;
        int r = str_to_size(t[i].s, &v);
        if (r != t[i].r || (r == 0 && v != t[i].v))
            fail_msg("\"%s\": %d, %llu", t[i].s, r, (unsigned long long)v);
    }
}

/* --- text --- */

static void test_copy(void **state)
{
    char b[8];

    memset(b, 'x', sizeof(b));
    assert_string_equal(str_copy(b, 4, "abcdef"), "abc");
    assert_int_equal(b[4], 'x');
    assert_string_equal(str_copy(b, 4, "ab"), "ab");
    assert_string_equal(str_copy(b, 1, "ab"), "");
}

static void test_escape(void **state)
{
    static const struct {
        const char *from, *to;
    } t[] = {
        {"plain text", "plain text"},
        {"a\nb", "a\\x0ab"},
        {"\r\t\x1b[31m", "\\x0d\\x09\\x1b[31m"},
        {"\x7f", "\\x7f"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
        {"\xe2\x82", "\\xe2\\x82"},
        {"", ""},
    };
    char b[64], small[8];

    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_string_equal(str_escape(b, sizeof(b), t[i].from), t[i].to);
    assert_string_equal(str_escape(small, 8, "abcdefghij"), "abcdefg");
    assert_string_equal(str_escape(small, 8, "abcd\n"), "abcd"); /* no half escape */
    assert_string_equal(str_escape(small, 8, "abc\n"), "abc\\x0a");
    assert_string_equal(str_escape(small, 4, "ab\xc3\xa4"), "ab"); /* nor half a character */
    assert_string_equal(str_escape(small, 1, "a"), "");
}

static void test_utf8(void **state)
{
    assert_true(str_is_utf8("a\xc3\xa4\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", 13));
    assert_true(str_is_utf8("", 0));
    assert_false(str_is_utf8("a\0b", 3));
    assert_false(str_is_utf8("\xc3\xa4", 1)); /* cut */
    assert_false(str_is_utf8("\x80", 1));
    assert_false(str_is_utf8("\xe0\x80\xaf", 3));
    assert_false(str_is_utf8("\xf8\x88\x80\x80\x80", 5));
}

static void test_utf8_put(void **state)
{
    static const struct {
        uint32_t c;
        const char *text;
    } rows[] = {{0, ""},
                {0x7f, "\x7f"},
                {0x80, "\xc2\x80"},
                {0x7ff, "\xdf\xbf"},
                {0x800, "\xe0\xa0\x80"},
                {0xffff, "\xef\xbf\xbf"},
                {0x10000, "\xf0\x90\x80\x80"},
                {0x10ffff, "\xf4\x8f\xbf\xbf"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = BUF_INIT(8);
        buf_utf8(&b, rows[i].c);
        assert_int_equal(b.len, i ? strlen(rows[i].text) : 1);
        assert_string_equal(b.p, rows[i].text);
        buf_free(&b);
    }
}

static void test_distance(void **state)
{
    char a[100], b[100];

    assert_int_equal(str_distance("", ""), 0);
    assert_int_equal(str_distance("", "abc"), 3);
    assert_int_equal(str_distance("abc", ""), 3);
    assert_int_equal(str_distance("kitten", "sitting"), 3);
    assert_int_equal(str_distance("Restart", "restart"), 0);
    assert_int_equal(str_distance("Restat", "Restart"), 1);
    assert_int_equal(str_distance("ab", "ba"), 2);
    memset(a, 'a', 99);
    memset(b, 'b', 99);
    a[99] = b[99] = 0;
    assert_int_equal(str_distance(a, b), 63);
}

static void test_hash(void **state)
{
    assert_true(str_hash(STR_HASH_INIT, "", 0) == STR_HASH_INIT);
    assert_true(str_hash(STR_HASH_INIT, "a", 1) == 0xaf63dc4c8601ec8cull);
    assert_true(str_hash(str_hash(STR_HASH_INIT, "foo", 3), "bar", 3) == 0x85944171f73967e8ull);
}

/* --- buffers, errors --- */

static void test_buf(void **state)
{
    struct buf b = BUF_INIT(8), big = BUF_INIT(1 << 20);

    buf_put(&b, NULL, 0);
    assert_string_equal(b.p, "");
    buf_str(&b, "1234567"); /* seven and a NUL */
    assert_int_equal(b.error, 0);
    buf_char(&b, '8');
    assert_int_equal(b.error, -EFBIG);
    assert_string_equal(b.p, "1234567");
    buf_str(&b, "");
    assert_int_equal(b.error, -EFBIG); /* remembered */
    buf_reset(&b);
    assert_int_equal(b.error, 0);
    assert_string_equal(b.p, "");
    buf_printf(&b, "%d-%s", 12, "abcd");
    assert_string_equal(b.p, "12-abcd");
    buf_printf(&b, "%d", 1);
    assert_int_equal(b.error, -EFBIG);
    buf_free(&b);
    assert_null(b.p);
    buf_put(&b, "12345678", 8);
    assert_int_equal(b.error, -EFBIG);
    buf_put(&b, "x", SIZE_MAX);
    assert_int_equal(b.len, 0);
    buf_free(&b);
    for (unsigned i = 0; i < 10000; i++)
        buf_printf(&big, "%04u ", i);
    assert_int_equal(big.len, 50000);
    assert_memory_equal(big.p + 49990, "9998 9999 ", 11);
    buf_free(&big);
}

static void test_buf_json(void **state)
{
    struct buf b = BUF_INIT(100);

    buf_json(&b, "a\0\"\\/\t\x1f\xc2\x9b\xc3\xa4\xff\xe2\x82\xac", 15);
    assert_string_equal(b.p, "\"a\\u0000\\\"\\\\/\\t\\u001f\\u009b\xc3\xa4\xef\xbf\xbd\xe2\x82\xac\"");
    buf_reset(&b);
    buf_json(&b, "\xe2\x82\xac", 2); /* what is cut off is no character */
    assert_string_equal(b.p, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    buf_reset(&b);
    buf_json(&b, "", 0);
    assert_string_equal(b.p, "\"\"");
    buf_free(&b);
}

static void test_err(void **state)
{
    struct err e = {0};

    assert_int_equal(err_set(&e, ENOENT, "%s: %d", "file", 7), -ENOENT);
    assert_int_equal(e.code, ENOENT);
    assert_string_equal(e.text, "file: 7");
    assert_int_equal(err_set(NULL, EIO, "x"), -EIO);
    err_set(&e, EIO, "%01000d", 7);
    assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
}

/* --- time --- */

static void test_clock_iso(void **state)
{
    static const struct {
        const char *tz;
        int64_t us;
        int with_ms;
        const char *text;
    } t[] = {
        {"UTC0", 0, 0, "1970-01-01T00:00:00+00:00"},
        {"UTC0", 1700000000123456, 1, "2023-11-14T22:13:20.123+00:00"},
        {"UTC0", 1700000000999999, 0, "2023-11-14T22:13:20+00:00"},
        {"UTC0", 1700000000005000, 1, "2023-11-14T22:13:20.005+00:00"},
        {"CST-8", 1700000000123456, 1, "2023-11-15T06:13:20.123+08:00"},
        {"NST3:30", 1700000000000000, 0, "2023-11-14T18:43:20-03:30"},
        {"XXX-5:45", 1700000000000000, 0, "2023-11-15T03:58:20+05:45"},
        {"XXX0:30", 1700000000000000, 0, "2023-11-14T21:43:20-00:30"},
        {"EST5EDT,M3.2.0,M11.1.0", 1700000000000000, 0, "2023-11-14T17:13:20-05:00"},
        {"EST5EDT,M3.2.0,M11.1.0", 1690000000000000, 0, "2023-07-22T00:26:40-04:00"},
        {"LINT-14", 4102444800000000, 1, "2100-01-01T14:00:00.000+14:00"},
    };
    char text[CLOCK_TEXT_MAX];

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        setenv("TZ", t[i].tz, 1);
        tzset();
        assert_string_equal(clock_iso(t[i].us, t[i].with_ms, text), t[i].text);
    }
    unsetenv("TZ");
    tzset();
}

static void test_clocks(void **state)
{
    uint64_t a = clock_mono_us(), b = clock_mono_us();

    assert_true(a > 0 && b >= a && b - a < 60 * S);
    assert_true(clock_boot_us() + MS >= a); /* counts sleep too */
    assert_true(clock_wall_us() > 1700000000000000);
}

/* --- files --- */

static int file_with(size_t n)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    char *p = malloc(n + 1);

    memset(p, 'z', n);
    assert_int_equal(fd_write_all(fd, p, n), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    free(p);
    return fd;
}

static void test_read_all(void **state)
{
    static const size_t sizes[] = {0, 1, 4094, 4095, 4096, 4097, 8191, 8192, 100000};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i];
        int fd = file_with(n);
        char *p = NULL;
        assert_int_equal(fd_read_all(fd, n, &p), n);
        assert_int_equal(strlen(p), n);
        free(p);
        p = NULL;
        lseek(fd, 0, SEEK_SET);
        if (n) {
            assert_int_equal(fd_read_all(fd, n - 1, &p), -EFBIG);
            assert_null(p);
        }
        fd_close(fd);
        assert_int_equal(fd_read_all(fd, 10, &p), -EBADF);
    }
}

static void test_files(void **state)
{
    char path[] = "/tmp/test_base.XXXXXX", text[8];
    int fd = mkstemp(path);

    assert_int_equal(fd_write_file(AT_FDCWD, path, "123456789"), 0);
    assert_int_equal(fd_read_file(AT_FDCWD, path, text, sizeof(text)), 7);
    assert_string_equal(text, "1234567");
    assert_int_equal(fd_read_file(fd, "x", text, sizeof(text)), -ENOTDIR);
    unlink(path);
    assert_int_equal(fd_read_file(AT_FDCWD, path, text, sizeof(text)), -ENOENT);
    assert_int_equal(fd_write_file(AT_FDCWD, path, "x"), -ENOENT); /* makes none */
    assert_int_equal(fd_nonblock(fd, 1), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fd_nonblock(fd, 0), 0);
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
    errno = 77;
    assert_int_equal(fd_close(fd), -1);
    assert_int_equal(fd_close(fd), -1); /* a mistake, but errno is kept */
    assert_int_equal(errno, 77);
    assert_int_equal(fd_close(-1), -1);
    assert_int_equal(fd_nonblock(fd, 1), -EBADF);
    assert_int_equal(fd_write_all(fd, "x", 1), -EBADF);
}

/* --- the log --- */

static char seen[1500];
static int seen_level, n_seen;

static void sink(int level, const char *area, const struct log_about *about, const char *message)
{
    n_seen++;
    seen_level = level;
    snprintf(seen, sizeof(seen), "%s|%s|%s", area, about && about->worker ? about->worker : "", message);
    errno = 0;
}

static void test_temporary(void **state)
{
    char dir[] = "/tmp/test_base.XXXXXX", names[2][64], longest[256], name[256];
    int at, fds[2];
    struct stat st;

    assert_non_null(mkdtemp(dir));
    at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        fds[i] = fd_temporary(at, "a.conf", 0600, names[i], sizeof(names[i]));
        assert_true(fds[i] >= 0 && str_starts(names[i], ".a.conf."));
        assert_int_equal(fd_write_all(fds[i], "x", 1), 0);
        fd_close(fds[i]);
        assert_int_equal(fstatat(at, names[i], &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
    }
    assert_string_not_equal(names[0], names[1]);
    memset(longest, 'y', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    fds[0] = fd_temporary(at, longest, 0600, name, sizeof(name));
    assert_true(fds[0] >= 0);
    fd_close(fds[0]);
    assert_int_equal(unlinkat(at, name, 0) | unlinkat(at, names[0], 0) | unlinkat(at, names[1], 0), 0);
    assert_int_equal(fd_temporary(-1, "a", 0600, name, sizeof(name)), -EBADF);
    fd_close(at);
    assert_int_equal(rmdir(dir), 0);
}

static void test_log(void **state)
{
    char big[3000];

    log_set_sink(sink);
    log_set_level(LOG_INFO);
    errno = 42;
    log_info("area", "%s %d", "one\ntwo: err forged", 7);
    assert_int_equal(errno, 42);
    assert_string_equal(seen, "area||one\\x0atwo: err forged 7");
    assert_int_equal(seen_level, LOG_INFO);
    log_debug("area", "not heard");
    assert_int_equal(n_seen, 1);
    log_set_level(LOG_DEBUG);
    log_debug("area", "heard");
    assert_int_equal(n_seen, 2);
    log_write(LOG_ERR, "a", &(struct log_about){.worker = "w"}, "\x1b[2J");
    assert_string_equal(seen, "a|w|\\x1b[2J");
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = 0;
    log_error("a", "%s", big);
    assert_in_range(strlen(seen), 1000, 1200);
    memset(big, '\n', sizeof(big) - 1); /* four bytes each */
    log_error("a", "%s", big);
    assert_in_range(strlen(seen), 1000, 1210);
    assert_null(strchr(seen, '\n'));
    log_set_level(LOG_INFO);
    log_set_sink(NULL);
    assert_int_equal(log_level_from_string("warning"), LOG_WARNING);
    assert_int_equal(log_level_from_string("emerg"), LOG_EMERG);
    assert_int_equal(log_level_from_string("debug"), LOG_DEBUG);
    assert_int_equal(log_level_from_string("loud"), -EINVAL);
}

static void test_log_stderr(void **state)
{
    int p[2], saved = dup(2);
    char text[256] = "";

    assert_int_equal(pipe(p), 0);
    dup2(p[1], 2);
    log_write(LOG_WARNING, "area", &(struct log_about){"w", "o", NULL, NULL}, "text");
    log_info("area", "text");
    dup2(saved, 2);
    close(saved);
    close(p[1]);
    assert_true(read(p[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "warning area worker=w operation=o: text\ninfo area: text\n");
    close(p[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),      cmocka_unit_test(test_bool),       cmocka_unit_test(test_usec),
        cmocka_unit_test(test_size),     cmocka_unit_test(test_copy),       cmocka_unit_test(test_escape),
        cmocka_unit_test(test_utf8),     cmocka_unit_test(test_utf8_put),   cmocka_unit_test(test_distance),
        cmocka_unit_test(test_hash),     cmocka_unit_test(test_buf),        cmocka_unit_test(test_buf_json),
        cmocka_unit_test(test_err),      cmocka_unit_test(test_clock_iso),  cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_read_all), cmocka_unit_test(test_files),      cmocka_unit_test(test_temporary),
        cmocka_unit_test(test_log),      cmocka_unit_test(test_log_stderr),
    };

    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
