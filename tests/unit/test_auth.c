/* SPDX-License-Identifier: Apache-2.0 */
/* base/cred: lines of the credentials file; rpc/auth_basic: headers; rpc/auth_sign: what is signed, against
 * values of openssl's command; rpc/auth_seen, rpc/auth_slow: what is remembered, and for how long. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "rpc/auth_parts.h"

#define SECOND 1000000ull
#define DIGEST "61eb182419d4d110b8b89c88a5f3ed62b0a1f625b30f5aaf80ac5bfac9304f61"

/* ---- lines ---- */

static const struct {
    const char *line;
    int result;
    enum cred_kind kind;
    bool manager;
    const char *name, *secret; /* of a wrong line: what is said */
    unsigned column;
} lines[] = {
    {"basic joe HOST_VIEWER $y$abcdefghij", 1, CRED_BASIC, false, "joe", "$y$abcdefghij", 0},
    {"  basic\tann  HOST_MANAGER  $y$abcdefghij \r", 1, CRED_BASIC, true, "ann", "$y$abcdefghij", 0},
    {"bearer ci HOST_VIEWER " DIGEST, 1, CRED_BEARER, false, "ci", DIGEST, 0},
    {"aksk AK HOST_MANAGER s:e:c", 1, CRED_AKSK, true, "AK", "s:e:c", 0},
    {"cert spiffe://a/b HOST_VIEWER", 1, CRED_CERT, false, "spiffe://a/b", "", 0},
    {"", 0, 0, 0, NULL, NULL, 0},
    {" \t", 0, 0, 0, NULL, NULL, 0},
    {" # basic joe", 0, 0, 0, NULL, NULL, 0},
    {"Basic joe HOST_VIEWER x", -EINVAL, 0, 0, NULL, "starts with", 1},
    {"basic joe HOST_VIEWER", -EINVAL, 0, 0, NULL, "basic NAME ROLE CRYPT-HASH", 1},
    {"aksk AK HOST_VIEWER s e", -EINVAL, 0, 0, NULL, "aksk ACCESS-KEY ROLE SECRET", 1},
    {"cert c HOST_VIEWER x", -EINVAL, 0, 0, NULL, "cert SUBJECT-OR-SAN ROLE", 1},
    {"aksk A:K HOST_VIEWER s", -EINVAL, 0, 0, NULL, "colon", 6},
    {"aksk A\x01K HOST_VIEWER s", -EINVAL, 0, 0, NULL, "control character", 6},
    {"aksk A\xffK HOST_VIEWER s", -EINVAL, 0, 0, NULL, "UTF-8", 6},
    {"basic joe ROOT $y$abcdefghij", -EINVAL, 0, 0, NULL, "role", 11},
    {"basic joe HOST_VIEWER plain", -EINVAL, 0, 0, NULL, "crypt(3)", 23},
    {"bearer ci HOST_VIEWER 00", -EINVAL, 0, 0, NULL, "SHA-256", 23},
};

static void test_lines(void **state)
{
    char copy[LIMIT_CREDENTIAL_LINE + 8];
    struct cred c;
    struct cred_wrong wrong;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        int r = cred_parse(str_copy(copy, sizeof(copy), lines[i].line), &c, &wrong);
        if (r != lines[i].result)
            fail_msg("%s: %d %s", lines[i].line, r, r < 0 ? wrong.why : "");
        if (r < 0) {
            assert_non_null(strstr(wrong.why, lines[i].secret));
            assert_int_equal(wrong.column, lines[i].column);
        } else if (r > 0) {
            assert_int_equal(c.kind, lines[i].kind);
            assert_int_equal(c.manager, lines[i].manager);
            assert_string_equal(c.name, lines[i].name);
            assert_string_equal(c.secret, lines[i].secret);
        }
    }
    memset(copy, 'a', LIMIT_CREDENTIAL_LINE + 1);
    copy[LIMIT_CREDENTIAL_LINE + 1] = 0;
    assert_int_equal(cred_parse(copy, &c, &wrong), -EINVAL);
}

/* ---- headers ---- */

static void test_scheme(void **state)
{
    assert_string_equal(auth_scheme("bearer  x", "Bearer"), "x");
    assert_string_equal(auth_scheme("Bearer ", "Bearer"), "");
    assert_null(auth_scheme("Bearer", "Bearer"));
    assert_null(auth_scheme("Bearers x", "Bearer"));
}

static void test_basic_header(void **state)
{
    char user[LIMIT_HTTP_PASSWORD], password[LIMIT_HTTP_PASSWORD];
    static const char *const bads[] = {"", "am9lOn", "am9l", "am9lOng", "am9l\tOng=", "====", "AGE6Yg=="};

    assert_int_equal(auth_basic_header("am9lOng=", user, password), 0);
    assert_string_equal(user, "joe");
    assert_string_equal(password, "x");
    assert_int_equal(auth_basic_header("am9lOmE6Yg==", user, password), 0);
    assert_string_equal(password, "a:b");
    assert_int_equal(auth_basic_header("am9lOg==", user, password), 0);
    assert_string_equal(password, "");
    for (size_t i = 0; i < ARRAY_LEN(bads); i++)
        assert_int_equal(auth_basic_header(bads[i], user, password), -EINVAL);
}

static void test_dates(void **state)
{
    static const char *const bads[] = {"",
                                       "1673926561",
                                       "Tue, 17 Jan 2023 03:36:01",
                                       "Tue, 17 Jan 2023 03:36:01 GMT+1",
                                       "Tue, 17 Jan 2023 03:36:01 +0800 x",
                                       "Tue, 17 Jan 2023 03:66:01 GMT",
                                       "2023-01-17T03:36:01Z"};
    int64_t t = 0;

    assert_int_equal(auth_sign_date("Tue, 17 Jan 2023 03:36:01 GMT", &t), 0);
    assert_int_equal(t, 1673926561);
    assert_int_equal(auth_sign_date("Tue, 17 Jan 2023 11:36:01 +0800", &t), 0);
    assert_int_equal(t, 1673926561);
    assert_int_equal(auth_sign_date("Tue, 3 Jan 2023 00:00:00 GMT", &t), 0);
    assert_int_equal(t, 1672704000);
    for (size_t i = 0; i < ARRAY_LEN(bads); i++)
        if (auth_sign_date(bads[i], &t) != -EINVAL)
            fail_msg("%s", bads[i]);
}

/* ---- signatures: printf TEXT | openssl dgst -sha1 -hmac KEY -r ---- */

static void assert_mac(const char *key, const char *text, const char *expected)
{
    uint8_t mac[AUTH_MAC];
    char hex[2 * AUTH_MAC + 1];

    auth_sign_mac(mac, key, text, strlen(text));
    for (int i = 0; i < AUTH_MAC; i++)
        snprintf(hex + 2 * i, 3, "%02x", mac[i]);
    assert_string_equal(hex, expected);
}

static void test_macs(void **state)
{
    char key[101];

    memset(key, 'k', 100);
    key[100] = 0;
    assert_mac(key, "x", "f0f06edc45a0697855c766dd91a235f449aaa384");
    key[64] = 0;
    assert_mac(key, "x", "2c31eadf68d9ba971ad29339d28ce725b03c11f6");
}

static void test_text_of_a_get(void **state)
{
    struct auth_signed s = {.method = "GET",
                            .type = "",
                            .date = "Tue, 17 Jan 2023 03:36:01 GMT",
                            .host = "ocp.example:62888",
                            .target = "/api/v2/compute/hosts/20/agent"};
    struct buf b = BUF_INIT(4096);

    assert_int_equal(auth_sign_text(&b, &s), 0);
    assert_string_equal(b.p, "GET\n\n\nTue, 17 Jan 2023 03:36:01 GMT\nocp.example:62888\n\n"
                             "/api/v2/compute/hosts/20/agent");
    assert_mac("sekrit", b.p, "8760b1bd868bac44d7abc9ff701853d18764c027");
    buf_free(&b);
}

static void test_text_of_a_post(void **state)
{
    static const char body[] = "{\"hostIds\":[20]}";
    struct auth_signed s = {
        .method = "POST",
        .type = "application/json",
        .date = "Tue, 17 Jan 2023 03:36:01 GMT",
        .host = "ocp.example:62888",
        .target = "/compute/hosts/batchRestartAgents?b=%2Fx&a-b=0&a=2&c&a=1",
        .body = body,
        .body_len = strlen(body),
        .pairs = {{"X-OCP-Trace-ID", "0123456789abcdef"}, {"x-ocp-origin", "test"}},
        .count = 2,
    };
    struct buf b = BUF_INIT(4096);

    assert_int_equal(auth_sign_text(&b, &s), 0);
    assert_string_equal(b.p, "POST\n911C2B11EB7627383FE07B8389150C07\napplication/json\n"
                             "Tue, 17 Jan 2023 03:36:01 GMT\nocp.example:62888\n"
                             "x-ocp-origin:test\nx-ocp-trace-id:0123456789abcdef\n"
                             "/compute/hosts/batchRestartAgents?a=1&a=2&a-b=0&b=%2Fx&c");
    assert_mac("sekrit", b.p, "44f55fdc2056bf55e8f4391bcc674371172101ab");
    buf_free(&b);
}

static void test_text_of_odd_ones(void **state)
{
    struct auth_signed s = {.method = "GET", .type = "", .date = "", .host = "", .target = "/x?"};
    struct buf b = BUF_INIT(4096);

    assert_int_equal(auth_sign_text(&b, &s), 0);
    assert_string_equal(b.p, "GET\n\n\n\n\n\n/x");
    buf_reset(&b);
    s.target = "/x?&=&a&&";
    assert_int_equal(auth_sign_text(&b, &s), 0);
    assert_string_equal(b.p, "GET\n\n\n\n\n\n/x?&&=&a");
    buf_reset(&b);
    s.pairs[0] = (struct auth_pair){"X-Ocp-A", "1"};
    s.pairs[1] = (struct auth_pair){"x-ocp-a", "1"};
    s.count = 2;
    assert_int_equal(auth_sign_text(&b, &s), -EINVAL);
    buf_free(&b);
}

static void test_digest(void **state)
{
    char hex[65];

    auth_sign_digest(hex, "key-of-the-token"); /* openssl dgst -sha256 -r */
    assert_string_equal(hex, DIGEST);
}

/* ---- memory ---- */

static void test_seen(void **state)
{
    uint8_t mac[AUTH_MAC] = {0};
    int64_t now = 1000000;

    for (uint32_t i = 0; i < LIMIT_AUTH_SEEN; i++) {
        memcpy(mac, &i, sizeof(i));
        assert_int_equal(auth_seen_put(mac, now + 100 + i, now), 0);
        assert_int_equal(auth_seen_put(mac, now + 100 + i, now), -EEXIST);
    }
    memset(mac, 0xff, sizeof(mac));
    assert_int_equal(auth_seen_put(mac, now + 900, now), 101);
    assert_int_equal(auth_seen_put(mac, now + 900, now + 100), 1); /* to its last second it is good */
    assert_int_equal(auth_seen_put(mac, now + 900, now + 101), 0);
    assert_int_equal(auth_seen_put(mac, now + 900, now + 101), -EEXIST);
    mac[0] = 0;
    assert_int_equal(auth_seen_put(mac, now + 900, now + 101), 1);
}

static void test_slow(void **state)
{
    uint64_t now = 1000 * SECOND;
    unsigned last = 0;

    for (int i = 0; i < LIMIT_AUTH_FAILURES; i++)
        assert_int_equal(auth_slow_failed("192.0.2.1", now), 0);
    assert_int_equal(auth_slow_wait("192.0.2.1", now), 0);
    for (unsigned want = 1; want < 64; want *= 2) {
        last = auth_slow_failed("192.0.2.1", now);
        assert_int_equal(last, want);
        assert_int_equal(auth_slow_wait("192.0.2.1", now + SECOND / 2), want);
        assert_int_equal(auth_slow_failed("::ffff:192.0.2.1", now), want); /* of the wait: not counted */
        assert_int_equal(auth_slow_wait("192.0.2.2", now), 0);
        now += last * SECOND;
        assert_int_equal(auth_slow_wait("192.0.2.1", now), 0);
    }
    assert_int_equal(auth_slow_failed("192.0.2.1", now), LIMIT_AUTH_SLOW_SEC);
    now += 1000ull * LIMIT_AUTH_FORGIVE_SEC * SECOND;
    assert_int_equal(auth_slow_failed("192.0.2.1", now), 0);
    for (int i = 0; i < LIMIT_AUTH_FAILURES; i++)
        last = auth_slow_failed(i % 2 ? "2001:db8::1" : "2001:db8::ffff:0:0:1", now);
    assert_int_equal(last, 0);
    assert_int_equal(auth_slow_failed("2001:db8::2", now), 1);
    assert_int_equal(auth_slow_failed("2001:db8:0:1::2", now), 0);
}

static void test_slow_forgets_the_quietest(void **state)
{
    uint64_t now = 1000000 * SECOND;
    char source[AUTH_SOURCE];

    for (int i = 0; i <= LIMIT_AUTH_FAILURES; i++)
        auth_slow_failed("198.51.100.1", now);
    for (unsigned i = 0; i < LIMIT_AUTH_SOURCES - 1; i++) {
        snprintf(source, sizeof(source), "10.0.%u.%u", i / 256, i % 256);
        auth_slow_failed(source, now + 1 + i);
    }
    assert_int_equal(auth_slow_wait("198.51.100.1", now), 1);
    auth_slow_failed("10.1.0.0", now + SECOND);
    assert_int_equal(auth_slow_wait("198.51.100.1", now), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),          cmocka_unit_test(test_scheme),
        cmocka_unit_test(test_basic_header),   cmocka_unit_test(test_dates),
        cmocka_unit_test(test_macs),           cmocka_unit_test(test_text_of_a_get),
        cmocka_unit_test(test_text_of_a_post), cmocka_unit_test(test_text_of_odd_ones),
        cmocka_unit_test(test_digest),         cmocka_unit_test(test_seen),
        cmocka_unit_test(test_slow),           cmocka_unit_test(test_slow_forgets_the_quietest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
