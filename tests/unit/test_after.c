/* SPDX-License-Identifier: Apache-2.0 */
/* wk_fsm_after: what comes after an end: the policies held against the table of systemd.service(5), the
 * delays, the limit. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agentd/wk_fsm.h"
#include "base/fd.h"
#include "base/str.h"

#define MS 1000ull
#define SEC 1000000ull

static struct wk_def plain_def(void)
{
    return (struct wk_def){.restart = CFG_RESTART_ALWAYS,
                           .restart_us = 100 * MS,
                           .restart_max_us = 30 * SEC,
                           .limit_interval_us = 0,
                           .limit_burst = 5};
}

static enum wk_event after(const struct wk_def *def, struct wk_backoff *b, struct wk_death d, uint64_t *delay)
{
    uint64_t unused;

    return wk_fsm_after(def, b, &d, delay ? delay : &unused);
}

static struct wk_death death(uint64_t now)
{
    return (struct wk_death){.goal = WK_GOAL_UP,
                             .end = WK_END_EXITED,
                             .status = 1,
                             .lived_us = SEC,
                             .now_us = now,
                             .random = 1u << 31};
}

static bool restarts_after(const struct wk_def *def, enum wk_end end, int status, bool watchdog, bool oom)
{
    struct wk_backoff b = {0};
    struct wk_death d = death(SEC);
    enum wk_event e;

    d.watchdog = watchdog;
    d.oom = oom;
    d.end = end;
    d.status = status;
    e = after(def, &b, d, NULL);
    assert_true(e == WK_EV_AGAIN || e == WK_EV_REST);
    return e == WK_EV_AGAIN;
}

static bool restarts(const struct wk_def *def, enum wk_end end, int status)
{
    return restarts_after(def, end, status, false, false);
}

static void set_code(struct cfg_status_set *s, int code)
{
    s->codes[code / 64] |= 1ull << (code % 64);
}

static void set_signal(struct cfg_status_set *s, int sig)
{
    s->signals |= 1ull << (sig - 1);
}

/* The table "Exit causes and the effect of the Restart= settings" of systemd.service(5). */
static void test_restart_policy(void **state)
{
    static const struct {
        enum wk_end end;
        int status;
        const char *yes; /* for no, always, on-success, on-failure, on-abnormal, on-abort, on-watchdog */
    } rows[] = {
        {WK_END_EXITED, 0, "nyynnnn"},          {WK_END_SIGNALLED, SIGHUP, "nyynnnn"},
        {WK_END_SIGNALLED, SIGINT, "nyynnnn"},  {WK_END_SIGNALLED, SIGTERM, "nyynnnn"},
        {WK_END_SIGNALLED, SIGPIPE, "nyynnnn"}, {WK_END_EXITED, 1, "nynynnn"},
        {WK_END_EXITED, 255, "nynynnn"},        {WK_END_EXITED, 42, "nyynnnn"}, /* SuccessExitStatus=42 */
        {WK_END_SIGNALLED, SIGKILL, "nynyyyn"}, {WK_END_DUMPED, SIGSEGV, "nynyyyn"},
        {WK_END_SIGNALLED, SIGUSR1, "nyynnnn"}, /* SuccessExitStatus=SIGUSR1 */
        {WK_END_DUMPED, SIGUSR1, "nynyyyn"},    {WK_END_DUMPED, SIGTERM, "nynyyyn"},
        {WK_END_TIMEOUT, 0, "nynyynn"},         {WK_END_UNKNOWN, 0, "nynyynn"},
        {WK_END_EXITED, 77, "nnnnnnn"}, /* RestartPreventExitStatus= */
        {WK_END_EXITED, 200, "nnnnnnn"},        {WK_END_SIGNALLED, SIGUSR2, "nnnnnnn"},
        {WK_END_DUMPED, SIGUSR2, "nnnnnnn"},
    };
    struct wk_def def = plain_def();

    set_code(&def.success, 42);
    set_signal(&def.success, SIGUSR1);
    set_code(&def.prevent, 77);
    set_code(&def.prevent, 200);
    set_signal(&def.prevent, SIGUSR2);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int p = CFG_RESTART_NO; p <= CFG_RESTART_ON_WATCHDOG; p++) {
            def.restart = (enum cfg_restart)p;
            if (restarts(&def, rows[i].end, rows[i].status) != (rows[i].yes[p] == 'y'))
                fail_msg("end %d, status %d, policy %d: not as in the manual", rows[i].end, rows[i].status,
                         p);
        }
    /* One whose watchdog was not heard, however it went. */
    for (int p = CFG_RESTART_NO; p <= CFG_RESTART_ON_WATCHDOG; p++) {
        def.restart = (enum cfg_restart)p;
        assert_int_equal(restarts_after(&def, WK_END_SIGNALLED, SIGABRT, true, false), "nynyyny"[p] == 'y');
        assert_int_equal(restarts_after(&def, WK_END_EXITED, 0, true, false), "nynyyny"[p] == 'y');
        assert_false(restarts_after(&def, WK_END_EXITED, 77, true, false));
    }
    /* One that lacked memory: killed itself, or stopped since another process of it was. */
    for (int p = CFG_RESTART_NO; p <= CFG_RESTART_ON_WATCHDOG; p++) {
        def.restart = (enum cfg_restart)p;
        assert_int_equal(restarts_after(&def, WK_END_SIGNALLED, SIGKILL, false, true), "nynyyyn"[p] == 'y');
        assert_int_equal(restarts_after(&def, WK_END_SIGNALLED, SIGTERM, false, true), "nynyynn"[p] == 'y');
        assert_int_equal(restarts_after(&def, WK_END_EXITED, 0, false, true), "nynyynn"[p] == 'y');
        assert_false(restarts_after(&def, WK_END_EXITED, 77, false, true));
    }
    /* A program that can't be started is a failure in any case. */
    def.restart = CFG_RESTART_ON_FAILURE;
    assert_true(restarts(&def, WK_END_SPAWN_FAILED, 0));
    def.restart = CFG_RESTART_ON_SUCCESS;
    assert_false(restarts(&def, WK_END_SPAWN_FAILED, 0));
}

/* Delays of the first n retries with a jitter of nothing. */
static void assert_delays(const struct wk_def *def, const uint64_t *want, size_t n)
{
    struct wk_backoff b = {0};

    for (size_t i = 0; i < n; i++) {
        uint64_t delay, slack = want[i] / 1000 + 2;
        enum wk_event e = after(def, &b, death((i + 1) * SEC), &delay);
        assert_int_equal(e, want[i] ? WK_EV_LATER : WK_EV_AGAIN);
        if (delay + slack < want[i] || delay > want[i] + slack)
            fail_msg("retry %zu: %llu us, not %llu", i, (unsigned long long)delay,
                     (unsigned long long)want[i]);
    }
}

static void test_delays(void **state)
{
    struct wk_def def = plain_def();

    def.restart_max_us = 1000 * MS;
    assert_delays(&def, (const uint64_t[]){0, 100 * MS, 200 * MS, 400 * MS, 800 * MS, SEC, SEC, SEC}, 8);
    def.restart_max_us = 50 * MS; /* shorter than RestartSec= */
    assert_delays(&def, (const uint64_t[]){0, 100 * MS, 100 * MS, 100 * MS}, 4);
    def.restart_max_us = 1600 * MS;
    def.restart_steps = 4; /* by a factor of two each */
    assert_delays(&def, (const uint64_t[]){0, 100 * MS, 200 * MS, 400 * MS, 800 * MS, 1600 * MS, 1600 * MS},
                  7);
    def.restart_steps = 1;
    assert_delays(&def, (const uint64_t[]){0, 100 * MS, 1600 * MS, 1600 * MS}, 4);
    def.restart_us = 0; /* is no order to spin */
    assert_delays(&def, (const uint64_t[]){0, 10 * MS, 1600 * MS, 1600 * MS}, 4);
    def.restart_steps = 0;
    assert_delays(&def, (const uint64_t[]){0, 10 * MS, 20 * MS, 40 * MS, 80 * MS, 160 * MS}, 6);
}

static void test_jitter(void **state)
{
    struct wk_def def = plain_def();
    uint64_t least = UINT64_MAX, most = 0;

    for (unsigned i = 0; i < 2000; i++) {
        struct wk_backoff b = {.attempts = 1};
        struct wk_death d = death(SEC);
        uint64_t delay;
        d.random = i == 0 ? 0 : i == 1 ? UINT32_MAX : i * 2654435761u;
        assert_int_equal(after(&def, &b, d, &delay), WK_EV_LATER);
        least = delay < least ? delay : least;
        most = delay > most ? delay : most;
    }
    assert_in_range(least, 90 * MS, 91 * MS);
    assert_in_range(most, 109 * MS, 110 * MS);
}

static void test_limit(void **state)
{
    struct wk_def def = plain_def();
    struct wk_backoff b = {0};
    struct wk_death d = death(SEC);
    uint64_t delay;

    def.limit_interval_us = 10 * SEC;
    for (unsigned i = 0; i < 4; i++)
        assert_int_not_equal(after(&def, &b, death((1 + i) * SEC), NULL), WK_EV_COOL);
    assert_int_equal(after(&def, &b, death(5 * SEC), &delay), WK_EV_COOL);
    assert_in_range(delay, WK_COOLDOWN_US * 9 / 10, WK_COOLDOWN_US * 11 / 10);
    /* It stays there, window or not, until it has lived long. */
    assert_int_equal(after(&def, &b, death(500 * SEC), NULL), WK_EV_COOL);
    d = death(1000 * SEC);
    d.lived_us = def.limit_interval_us - 1;
    assert_int_equal(after(&def, &b, d, NULL), WK_EV_COOL);
    d.lived_us = def.limit_interval_us;
    assert_int_equal(after(&def, &b, d, &delay), WK_EV_AGAIN);
    assert_int_equal(delay, 0);
    assert_int_equal(b.attempts, 1);
    assert_false(b.cooled);
    /* One end in three seconds never comes to five in ten. */
    b = (struct wk_backoff){0};
    for (unsigned i = 0; i < 50; i++)
        assert_int_not_equal(after(&def, &b, death((1 + 3 * i) * SEC), NULL), WK_EV_COOL);
    /* The cooldown is as long as the longest delay, if that is longer. */
    def.restart_max_us = 600 * SEC;
    b = (struct wk_backoff){.count = 9, .window_us = SEC};
    assert_int_equal(after(&def, &b, death(2 * SEC), &delay), WK_EV_COOL);
    assert_in_range(delay, 540 * SEC, 660 * SEC);
    def.restart_max_us = STR_USEC_INFINITY;
    assert_int_equal(after(&def, &b, death(2 * SEC), &delay), WK_EV_COOL);
    assert_in_range(delay, WK_COOLDOWN_US * 9 / 10, WK_COOLDOWN_US * 11 / 10);
    /* No limit. */
    def.limit_burst = 0;
    b = (struct wk_backoff){0};
    for (unsigned i = 0; i < 50; i++)
        assert_int_not_equal(after(&def, &b, death(SEC + i), NULL), WK_EV_COOL);
}

/* Spans without end stay in range: they are added to the wall clock. */
static void test_endless(void **state)
{
    struct wk_def def = plain_def();
    struct wk_backoff b = {.attempts = 1};
    uint64_t delay;

    def.restart_us = def.restart_max_us = STR_USEC_INFINITY;
    assert_int_equal(after(&def, &b, death(SEC), &delay), WK_EV_LATER);
    assert_in_range(delay, 365 * 86400 * SEC, INT64_MAX / 2);
    def.restart_us = 1;
    b.attempts = 200;
    assert_int_equal(after(&def, &b, death(SEC), &delay), WK_EV_LATER);
    assert_in_range(delay, 365 * 86400 * SEC, INT64_MAX / 2);
}

static void test_requested(void **state)
{
    struct wk_def def = plain_def();
    struct wk_backoff b = {.attempts = 7, .count = 9, .cooled = true, .window_us = SEC};
    struct wk_death d = death(2 * SEC);
    uint64_t delay = 1;

    def.restart = CFG_RESTART_NO;
    def.limit_interval_us = 10 * SEC;
    d.requested = true;
    assert_int_equal(after(&def, &b, d, &delay), WK_EV_AGAIN);
    assert_int_equal(delay, 0);
    assert_int_equal(b.attempts + b.count + b.cooled, 0);
    b.attempts = 3;
    d.goal = WK_GOAL_DOWN; /* the last word */
    assert_int_equal(after(&def, &b, d, &delay), WK_EV_REST);
    assert_int_equal(b.attempts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_policy), cmocka_unit_test(test_delays),
        cmocka_unit_test(test_jitter),         cmocka_unit_test(test_limit),
        cmocka_unit_test(test_requested),      cmocka_unit_test(test_endless),
    };

    return cmocka_run_group_tests_name("after", tests, NULL, NULL);
}
