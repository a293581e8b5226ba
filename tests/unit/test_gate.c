/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/gate: raw requests, each judged whole, byte by byte and cut in two at every place; then mutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "rpc/gate.h"

static const struct gate_limits limits = {.target = 64, .head = 512, .headers = 6, .body = 32};

#define H "Host: h\r\n"
#define T(s) s, sizeof(s) - 1

struct good {
    const char *raw;
    size_t len;
    unsigned requests;
    int inside;
};

static const struct good goods[] = {
    {T("GET / HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("GET / HTTP/1.0\r\n\r\n"), 1, 0},
    {T("GET /a/b HTTP/1.0\r\nHost: h:80\r\n\r\n"), 1, 0},
    {T("HEAD /healthz HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("OPTIONS /x HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("DELETE /x HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"), 1, 0},
    {T("GET /x?y=//..%2f HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("GET /a..b/c.d/...x HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("GET /%41%7e HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("GET /a/ HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("GET / HTTP/1.1\r\nhOsT:\t h \t\r\n\r\n"), 1, 0},
    {T("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 1, 0},
    {T("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 1, 0},
    {T("GET / HTTP/1.1\r\n" H "X:\r\nY: \xc3\xa4 b\r\n\r\n"), 1, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"), 1, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 005\r\n\r\nhello"), 1, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 32\r\n\r\n01234567890123456789012345678901"), 1, 0},
    {T("POST / HTTP/1.1\r\n" H "\r\n"), 1, 0},
    {T("PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n\n"), 1, 0},
    {T("PATCH / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n\0"), 1, 0},
    {T("POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nhi"), 1, 0},
    {T("GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n"), 2, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nGET GET / HTTP/1.1\r\n" H "\r\n"), 2, 0},
    {T("GET / HTTP/1.1\r\n" H "\r\nGE"), 1, 1},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nhi"), 0, 1},
    {T("GET / HTTP/1.1\r\n" H "A:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\n\r\n"), 1, 0},
    {T(""), 0, 0},
};

struct bad {
    const char *raw;
    size_t len;
    enum wire_error error;
    unsigned requests; /* that came whole before */
};

#define B WIRE_E_BAD_REQUEST

static const struct bad bads[] = {
    {T("\r\nGET / HTTP/1.1\r\n" H "\r\n"), B, 0},
    {T(" GET / HTTP/1.1\r\n"), B, 0},
    {T("\0"), B, 0},
    {T("\x16\x03\x01\x02\x00"), B, 0},
    {T("GET\t/ HTTP/1.1\r\n"), B, 0},
    {T("GET  / HTTP/1.1\r\n"), B, 0},
    {T("GET / HTTP/1.1 \r\n"), B, 0},
    {T("GET /  HTTP/1.1\r\n"), B, 0},
    {T("GET /\r\n"), B, 0},
    {T("GET / HTTP/1.1\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost: h\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\rHost: h\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "\rX"), B, 0},
    {T("GET / HTTP/2.0\r\n"), B, 0},
    {T("GET / HTTP/1.2\r\n"), B, 0},
    {T("GET / http/1.1\r\n"), B, 0},
    {T("GET / HTTP/1.10\r\n"), B, 0},
    {T("GET http://h/ HTTP/1.1\r\n"), B, 0},
    {T("OPTIONS * HTTP/1.1\r\n"), B, 0},
    {T("GET x HTTP/1.1\r\n"), B, 0},
    {T("GET /# HTTP/1.1\r\n"), B, 0},
    {T("GET /a%00b HTTP/1.1\r\n"), B, 0},
    {T("GET /a%0a HTTP/1.1\r\n"), B, 0},
    {T("GET /a?b=%00 HTTP/1.1\r\n"), B, 0},
    {T("GET /%zz HTTP/1.1\r\n"), B, 0},
    {T("GET /% HTTP/1.1\r\n"), B, 0},
    {T("GET /%4 HTTP/1.1\r\n"), B, 0},
    {T("GET /a/../b HTTP/1.1\r\n"), B, 0},
    {T("GET /.. HTTP/1.1\r\n"), B, 0},
    {T("GET /./a HTTP/1.1\r\n"), B, 0},
    {T("GET /a/.%2E/b HTTP/1.1\r\n"), B, 0},
    {T("GET /%2e%2e?x HTTP/1.1\r\n"), B, 0},
    {T("GET /a//b HTTP/1.1\r\n"), B, 0},
    {T("GET //h/a HTTP/1.1\r\n"), B, 0},
    {T("GET /a%2fb HTTP/1.1\r\n"), B, 0},
    {T("GET /\xc3\xa4 HTTP/1.1\r\n"), B, 0},
    {T("GET /a\\b HTTP/1.1\r\n"), B, 0},
    {T("GET /\x7f HTTP/1.1\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n: h\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHo st: h\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H " folded: x\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "\tfolded\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H H "\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 6\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5,5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Expect: everything\r\nContent-Length: 2\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\n"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"), B, 0},
    {T("HEAD / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"), B, 0},
    {T("DELETE / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"), B, 0},
    {T("GET / HTTP/1.1\r\n" H "Authorization: a\r\nAuthorization: b\r\n\r\n"), B, 0},
    {T("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("POST / HTTP/1.0\r\nTransfer-Encoding:\r\n\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("PRI * HTTP/2.0\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("get / HTTP/1.1\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("TRACE / HTTP/1.1\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("CONNECT h:80 HTTP/1.1\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("ABCDEFGHIJKLMNOP / HTTP/1.1\r\n"), WIRE_E_NOT_IMPLEMENTED, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 33\r\n\r\n"), WIRE_E_TOO_LARGE, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n"), WIRE_E_TOO_LARGE, 0},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"), WIRE_E_TOO_LARGE, 0},
    {T("GET /0123456789012345678901234567890123456789012345678901234567890123 HTTP/1.1\r\n"),
     WIRE_E_URI_TOO_LONG, 0},
    {T("GET / HTTP/1.1\r\n" H "A:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\nF:6\r\n\r\n"), WIRE_E_HEADERS_TOO_LARGE, 0},
    {T("GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\n"), B, 1},
    {T("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi\r\n"), B, 1},
    {T("GET / HTTP/1.1\r\n" H "\r\n0\r\n\r\n"), B, 1},
};

static void check_good(const struct good *g, size_t piece)
{
    struct gate gate;

    gate_init(&gate, &limits);
    for (size_t at = 0; at < g->len; at += piece)
        assert_int_equal(
            gate_feed(&gate, (const uint8_t *)g->raw + at, g->len - at < piece ? g->len - at : piece),
            GATE_FINE);
    assert_int_equal(gate.requests, g->requests);
    assert_int_equal(gate.inside, g->inside);
    assert_int_equal(gate.fed, g->len);
}

static void test_good(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(goods); i++)
        for (size_t piece = 1; piece <= goods[i].len + 1; piece++)
            check_good(&goods[i], piece);
}

static void check_bad(const struct bad *b, size_t piece)
{
    struct gate gate;
    enum gate_verdict v = GATE_FINE;

    gate_init(&gate, &limits);
    for (size_t at = 0; at < b->len && v == GATE_FINE; at += piece)
        v = gate_feed(&gate, (const uint8_t *)b->raw + at, b->len - at < piece ? b->len - at : piece);
    if (v != GATE_REFUSED || gate.error != b->error)
        fail_msg("not refused as it should be: %s", b->raw);
    assert_non_null(gate.reason);
    assert_int_equal(gate.requests, b->requests);
    assert_true(gate.whole <= b->len);
    assert_true((gate.whole > 0) == (b->requests > 0));
    assert_int_equal(gate_feed(&gate, (const uint8_t *)"x", 1), GATE_REFUSED);
}

static void test_bad(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(bads); i++)
        for (size_t piece = 1; piece <= bads[i].len + 1; piece++)
            check_bad(&bads[i], piece);
}

static void test_head_too_large(void **state)
{
    struct gate gate;
    char raw[700];

    memset(raw, 'a', sizeof(raw));
    memcpy(raw, "GET / HTTP/1.1\r\nX: ", 19);
    gate_init(&gate, &limits);
    assert_int_equal(gate_feed(&gate, (uint8_t *)raw, sizeof(raw)), GATE_REFUSED);
    assert_int_equal(gate.error, WIRE_E_HEADERS_TOO_LARGE);
}

static void test_expect(void **state)
{
    static const char raw[] = "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    struct gate gate;

    gate_init(&gate, &limits);
    assert_int_equal(gate_feed(&gate, (const uint8_t *)raw, sizeof(raw) - 1), GATE_FINE);
    assert_true(gate.inside && gate.wants_go);
    assert_int_equal(gate_feed(&gate, (const uint8_t *)"hi", 2), GATE_FINE);
    assert_true(!gate.inside && !gate.wants_go && gate.requests == 1);
}

/* Whatever comes, the verdict is the same in one piece and in bytes. */
static void test_mutations(void **state)
{
    uint8_t raw[512];

    srand(4711);
    for (int round = 0; round < 200000; round++) {
        const struct good *g = &goods[(size_t)rand() % ARRAY_LEN(goods)];
        struct gate whole, bytes;
        size_t len = g->len;
        enum gate_verdict v = GATE_FINE;
        memcpy(raw, g->raw, len);
        for (int k = rand() % 4; k >= 0 && len; k--)
            raw[(size_t)rand() % len] = (uint8_t)(rand() % 3 ? "\r\n :\t/.%0+"[rand() % 10] : rand());
        gate_init(&whole, &limits);
        gate_init(&bytes, &limits);
        for (size_t i = 0; i < len && v == GATE_FINE; i++)
            v = gate_feed(&bytes, raw + i, 1);
        assert_int_equal(gate_feed(&whole, raw, len), v);
        assert_int_equal(whole.requests, bytes.requests);
        assert_int_equal(whole.whole, bytes.whole);
        assert_int_equal(whole.error, bytes.error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_bad),
        cmocka_unit_test(test_head_too_large), cmocka_unit_test(test_expect),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
