/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/route: targets to rows, parameters, Allow. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "rpc/route.h"

static const struct {
    const char *target;
    enum route_verb verb;
    int method; /* -1: not with this verb; -2: no such path */
    const char *first, *second;
} rows[] = {
    {"/healthz", ROUTE_GET, METHOD_HEALTHZ, "", ""},
    {"/api/v2/healthz", ROUTE_HEAD, METHOD_HEALTHZ, "", ""},
    {"/healthz?x=1", ROUTE_GET, METHOD_HEALTHZ, "", ""},
    {"/healthz", ROUTE_POST, -1, "", ""},
    {"/healthz/", ROUTE_GET, -2, "", ""},
    {"/health", ROUTE_GET, -2, "", ""},
    {"/", ROUTE_GET, METHOD_PAGE, "", ""},
    {"/api/v2/", ROUTE_HEAD, METHOD_PAGE, "", ""},
    {"//", ROUTE_GET, -2, "", ""},
    {"/api/v2", ROUTE_GET, -2, "", ""},
    {"/api/v2/api/v2/healthz", ROUTE_GET, -2, "", ""},
    {"/compute/hosts/20/agent", ROUTE_GET, METHOD_HOST_AGENT, "20", ""},
    {"/compute/hosts//agent", ROUTE_GET, -2, "", ""},
    {"/compute/hosts/20/agent/processes?page=2", ROUTE_GET, METHOD_PROCESSES, "20", ""},
    {"/compute/hosts/20/agent/processes/7", ROUTE_GET, METHOD_PROCESS, "20", "7"},
    {"/compute/hosts/20/agent/processes/7/restart", ROUTE_POST, METHOD_PROCESS_RESTART, "20", "7"},
    {"/compute/hosts/20/agent/processes/7/restart", ROUTE_GET, -1, "20", "7"},
    {"/compute/hosts/20/agent/processes/7/restarts", ROUTE_POST, -2, "", ""},
    {"/agentd/v1/workers/a%20b", ROUTE_GET, METHOD_WORKER, "a b", ""},
    {"/agentd/v1/workers/a%0ab", ROUTE_GET, -2, "", ""},
    {"/agentd/v1/workers/a%ffb", ROUTE_GET, -2, "", ""},
    {"/agentd/v1/workers/w/logs/x%2elog", ROUTE_GET, METHOD_LOG, "w", "x.log"},
    {"/agentd/v1/reload", ROUTE_OPTIONS, -1, "", ""},
    {"/agentd/v1/reload", ROUTE_OTHER, -1, "", ""},
};

static void test_rows(void **state)
{
    struct route r;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int found = route_match(rows[i].target, rows[i].verb, &r);
        if (found != (rows[i].method == -2 ? -ENOENT : 0))
            fail_msg("%s: %d", rows[i].target, found);
        if (found < 0)
            continue;
        assert_int_equal(r.method, rows[i].method);
        assert_string_equal(r.param[0], rows[i].first);
        assert_string_equal(r.param[1], rows[i].second);
    }
}

static void test_allow(void **state)
{
    struct route r;
    char buf[64];

    route_match("/healthz", ROUTE_POST, &r);
    assert_string_equal(route_allow(r.allowed, buf, sizeof(buf)), "GET, HEAD, OPTIONS");
    route_match("/agentd/v1/operations/x", ROUTE_DELETE, &r);
    assert_int_equal(r.method, METHOD_OPERATION_CANCEL);
    assert_string_equal(route_allow(r.allowed, buf, sizeof(buf)), "GET, HEAD, DELETE, OPTIONS");
    route_match("/agentd/v1/reload", ROUTE_GET, &r);
    assert_string_equal(route_allow(r.allowed, buf, sizeof(buf)), "GET, HEAD, POST, OPTIONS");
}

static void test_query(void **state)
{
    char v[8];

    assert_int_equal(route_query("", "a", v, sizeof(v)), 0);
    assert_int_equal(route_query("b=1&a=2", "a", v, sizeof(v)), 1);
    assert_string_equal(v, "2");
    assert_int_equal(route_query("aa=1&a", "a", v, sizeof(v)), 1);
    assert_string_equal(v, "");
    assert_int_equal(route_query("a=%41+b", "a", v, sizeof(v)), 1);
    assert_string_equal(v, "A b");
    assert_int_equal(route_query("a=1&a=2", "a", v, sizeof(v)), -EINVAL);
    assert_int_equal(route_query("a=12345678", "a", v, sizeof(v)), -EINVAL);
    assert_int_equal(route_query("a=1=2", "a", v, sizeof(v)), 1);
    assert_string_equal(v, "1=2");
}

static void test_every_row_is_reached(void **state)
{
    struct route r;
    char target[256];

    for (int i = 0; i < METHOD_COUNT; i++) {
        const char *from = method_table[i].path;
        char *to = target;
        enum route_verb verb = method_table[i].verb[0] == 'G'   ? ROUTE_GET
                               : method_table[i].verb[0] == 'D' ? ROUTE_DELETE
                                                                : ROUTE_POST;
        for (; *from; from++) {
            if (*from == '{')
                from = strchr(from, '}'), *to++ = '1';
            else
                *to++ = *from;
        }
        *to = 0;
        assert_int_equal(route_match(target, verb, &r), 0);
        assert_int_equal(r.method, i);
        assert_true(*method_table[i].help);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_allow),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_every_row_is_reached),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
