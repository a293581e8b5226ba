/* SPDX-License-Identifier: Apache-2.0 */
/* wk_fsm: every cell of the table; random lives of a modelled process in which no state is a trap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agentd/wk_fsm.h"
#include "base/fd.h"

#define SEEDS 100
#define STEPS 10000
#define SETTLE 40 /* more than the longest way from any state to the goal */

static const enum wk_event gone_events[] = {WK_EV_AGAIN, WK_EV_LATER, WK_EV_COOL, WK_EV_REST};

static bool is_ending(enum wk_state s)
{
    return s == WK_STOPPING || s == WK_KILLING;
}

static bool is_waiting(enum wk_state s)
{
    return s == WK_BACKOFF || s == WK_COOLDOWN;
}

#define for_each_cell(s, g, e)                     \
    for (int s = 0; s < WK_STATE_MAX; s++)         \
        for (int g = 0; g < (int)WK_GOAL_MAX; g++) \
            for (int e = 0; e < WK_EV_MAX; e++)

/* Says which cell it is when ok is false. */
static void check(bool ok, const char *what, int s, int g, int e)
{
    if (!ok)
        fail_msg("%s, goal %s, %s: %s", wk_fsm_state_name((enum wk_state)s), g == WK_GOAL_UP ? "UP" : "DOWN",
                 wk_fsm_event_name((enum wk_event)e), what);
}

static const struct wk_step *cell(int s, int g, int e)
{
    return wk_fsm_step((enum wk_state)s, (enum wk_goal)g, (enum wk_event)e);
}

/* --- the table --- */

static void test_filled(void **state)
{
    for_each_cell(s, g, e)
    {
        const struct wk_step *c = cell(s, g, e);
        check(c->filled, "not in the table", s, g, e);
        check(c->next < WK_STATE_MAX && c->reason < WK_WHY_MAX, "leads nowhere", s, g, e);
        check(!(c->actions & ~((WK_DO_ABORT << 1) - 1u)), "unknown action", s, g, e);
    }
    for (int i = 0; i < WK_STATE_MAX; i++)
        assert_non_null(wk_fsm_state_name((enum wk_state)i));
    for (int i = 0; i < WK_EV_MAX; i++)
        assert_non_null(wk_fsm_event_name((enum wk_event)i));
    for (int i = 0; i < WK_WHY_MAX; i++)
        assert_non_null(wk_fsm_reason_name((enum wk_reason)i));
}

/* No action that the target state may not have. */
static void test_actions_allowed(void **state)
{
    for_each_cell(s, g, e)
    {
        const struct wk_step *c = cell(s, g, e);
        unsigned a = c->actions;
        check(!(a & WK_DO_SPAWN) || c->next == WK_STARTING, "SPAWN", s, g, e);
        check(!(a & WK_DO_PROBE) || (c->next == WK_STARTING && s == WK_STARTING), "PROBE", s, g, e);
        check(!(a & WK_DO_RETRY_TIMER) || is_waiting(c->next), "RETRY_TIMER", s, g, e);
        check(!(a & WK_DO_STOP_TIMER) || is_ending(c->next), "STOP_TIMER", s, g, e);
        check(!(a & WK_DO_KILL) || c->next == WK_KILLING, "KILL", s, g, e);
        check(!(a & (WK_DO_SIGNAL | WK_DO_ABORT)) || c->next == WK_STOPPING, "SIGNAL", s, g, e);
        check(!(a & WK_DO_ABORT) || (s == WK_UP && e == WK_EV_WATCHDOG), "ABORT", s, g, e);
        check(!(a & WK_DO_WATCH) || e == WK_EV_ADOPT, "WATCH", s, g, e);
    }
}

/* Every action that the target state can't do without: nobody else arms its timer or makes its process. */
static void test_actions_needed(void **state)
{
    for_each_cell(s, g, e)
    {
        const struct wk_step *c = cell(s, g, e);
        unsigned a = c->actions;
        /* (DOWN, REST: it ended while nobody watched) */
        check(c->reason == WK_WHY_KEEP || c->next != (enum wk_state)s || e == WK_EV_STOP ||
                  e == WK_EV_RESTART || (s == WK_DOWN && e == WK_EV_REST),
              "a reason without a change", s, g, e);
        if ((int)c->next == s)
            continue;
        check(c->next != WK_STARTING || a & WK_DO_SPAWN, "no SPAWN", s, g, e);
        check(c->next != WK_STOPPING || ((a & (WK_DO_SIGNAL | WK_DO_ABORT)) && a & WK_DO_STOP_TIMER),
              "no SIGNAL", s, g, e);
        check(c->next != WK_KILLING || (a & WK_DO_KILL && a & WK_DO_STOP_TIMER), "no KILL", s, g, e);
        check(!is_waiting(c->next) || a & WK_DO_RETRY_TIMER, "no RETRY_TIMER", s, g, e);
        check(c->next != WK_DOWN || a & WK_DO_TELL, "nobody is told that it is down", s, g, e);
        check(c->next != WK_UP || a & WK_DO_TELL || e == WK_EV_ADOPT, "nobody is told that it is up", s, g,
              e);
    }
    /* The kill is repeated for as long as it takes. */
    check(cell(WK_KILLING, WK_GOAL_UP, WK_EV_TIMEOUT)->actions == (WK_DO_KILL | WK_DO_STOP_TIMER),
          "killed once only", WK_KILLING, WK_GOAL_UP, WK_EV_TIMEOUT);
}

/* Whoever holds a process gives it up only by way of STOPPING or KILLING. */
static void test_no_second_process(void **state)
{
    for_each_cell(s, g, e)
    {
        const struct wk_step *c = cell(s, g, e);
        bool has = s == WK_STARTING || s == WK_UP;
        check(!has || c->next == WK_STARTING || c->next == WK_UP || is_ending(c->next), "forgets its process",
              s, g, e);
        check(!has || !(c->actions & WK_DO_SPAWN), "a second process", s, g, e);
        bool gone = e == WK_EV_AGAIN || e == WK_EV_LATER || e == WK_EV_COOL || e == WK_EV_REST;
        check(!is_ending((enum wk_state)s) || gone || is_ending(c->next), "leaves before the tree is gone", s,
              g, e);
    }
}

static void test_goal_down(void **state)
{
    for (int s = 0; s < WK_STATE_MAX; s++) {
        enum wk_state next = cell(s, WK_GOAL_DOWN, WK_EV_STOP)->next;
        check(next == WK_DOWN || is_ending(next), "STOP does not stop", s, WK_GOAL_DOWN, WK_EV_STOP);
        for (size_t i = 0; i < ARRAY_LEN(gone_events); i++) {
            check(cell(next, WK_GOAL_DOWN, gone_events[i])->next == WK_DOWN, "not down", next, WK_GOAL_DOWN,
                  gone_events[i]);
            if (is_ending((enum wk_state)s))
                check(cell(s, WK_GOAL_DOWN, gone_events[i])->next == WK_DOWN, "not down", s, WK_GOAL_DOWN,
                      gone_events[i]);
        }
    }
}

static void test_goal_up(void **state)
{
    static const enum wk_state after[] = {WK_STARTING, WK_BACKOFF, WK_COOLDOWN, WK_DOWN};

    for (int s = WK_STOPPING; s <= WK_KILLING; s++)
        for (size_t i = 0; i < ARRAY_LEN(gone_events); i++)
            check(cell(s, WK_GOAL_UP, gone_events[i])->next == after[i], "wrong way", s, WK_GOAL_UP,
                  gone_events[i]);
    for_each_cell(s, g, e) if (g == WK_GOAL_UP && s != WK_DOWN && e != WK_EV_REST && e != WK_EV_STOP)
        check(cell(s, g, e)->next != WK_DOWN, "rests", s, g, e);
    for (int s = 0; s < WK_STATE_MAX; s++) {
        enum wk_state next = cell(s, WK_GOAL_UP, WK_EV_START)->next;
        check(next != WK_DOWN && !is_waiting(next), "START waits", s, WK_GOAL_UP, WK_EV_START);
        next = cell(s, WK_GOAL_UP, WK_EV_RESTART)->next;
        check(next == WK_STARTING || is_ending(next), "RESTART keeps the old one", s, WK_GOAL_UP,
              WK_EV_RESTART);
    }
}

/* --- random lives --- */

/* A worker as wk.c drives it, with a process that is only a few bits. */
struct life {
    enum wk_state state;
    enum wk_goal goal;
    bool requested, timer, probing;
    bool spawning, alive; /* the process: before its exec, after it */
    bool asked, killed;   /* signals on their way */
    bool behaves;         /* it executes, gets ready, lives on and follows signals */
    uint64_t now, born;
    struct wk_backoff backoff;
    struct wk_def def;
    uint64_t seed;
    unsigned spawns;
};

static uint32_t roll(struct life *l, uint32_t n)
{
    l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(l->seed >> 33) % n;
}

static void feed(struct life *l, enum wk_event e);

/* Nothing is left of the tree: wk_stop_check and wk_gone. */
static void look(struct life *l)
{
    struct wk_death d = {.goal = l->goal,
                         .requested = l->requested,
                         .end = WK_END_EXITED,
                         .status = 1,
                         .lived_us = l->now - l->born,
                         .now_us = l->now,
                         .random = roll(l, UINT32_MAX)};
    uint64_t delay;

    if (is_ending(l->state) && !l->spawning && !l->alive)
        feed(l, wk_fsm_after(&l->def, &l->backoff, &d, &delay));
}

static void feed(struct life *l, enum wk_event e)
{
    const struct wk_step *c;
    enum wk_state before = l->state;

    if (e == WK_EV_START || e == WK_EV_RESTART) {
        l->requested |= e == WK_EV_RESTART || is_ending(before);
        l->goal = WK_GOAL_UP;
    }
    if (e == WK_EV_STOP) {
        l->goal = WK_GOAL_DOWN;
        l->requested = false;
    }
    c = wk_fsm_step(before, l->goal, e);
    if (c->next != before)
        l->timer = false;
    if (c->next != WK_STARTING)
        l->probing = false;
    l->state = c->next;
    if (c->actions & WK_DO_SPAWN) {
        if (l->spawning || l->alive)
            fail_msg("two processes: %s in %s", wk_fsm_event_name(e), wk_fsm_state_name(before));
        l->spawning = l->timer = true;
        l->requested = l->asked = l->killed = false;
        l->born = l->now;
        l->spawns++;
    }
    if (c->actions & WK_DO_PROBE)
        l->probing = true;
    if (c->actions & (WK_DO_STOP_TIMER | WK_DO_RETRY_TIMER))
        l->timer = true;
    if (c->actions & (WK_DO_SIGNAL | WK_DO_ABORT))
        l->asked = true;
    if (c->actions & WK_DO_KILL)
        l->asked = l->killed = true;
    look(l);
}

/* One thing that can happen now happens. */
static void happen(struct life *l)
{
    unsigned what = roll(l, 100);

    l->now += l->behaves ? 1000 : roll(l, 3000000);
    if (l->killed && (l->spawning || l->alive))
        what = 0; /* SIGKILL is not a matter of luck */
    if (l->spawning && what < 60) {
        bool fails = l->killed || (!l->behaves && roll(l, 4) == 0);
        l->spawning = false;
        l->alive = !fails;
        feed(l, fails ? WK_EV_FAILED : WK_EV_EXEC);
        return;
    }
    if (l->alive && l->probing && !l->asked && what < 50) {
        feed(l, WK_EV_READY);
        return;
    }
    if (l->alive && what < 50 && (l->killed || (l->behaves ? l->asked : roll(l, 3) == 0))) {
        l->alive = false;
        feed(l, what % 3 == 0 ? WK_EV_OOM : WK_EV_EXIT);
        return;
    }
    if (l->timer && (what < 90 || is_waiting(l->state)) &&
        (!l->behaves || is_waiting(l->state) || l->state == WK_KILLING)) {
        l->timer = l->state == WK_KILLING;
        l->now += 5000000;
        feed(l, WK_EV_TIMEOUT);
    }
}

static void hold(const struct life *l)
{
    bool process = l->spawning || l->alive;

    if (process && (l->state == WK_DOWN || is_waiting(l->state)))
        fail_msg("a process in %s", wk_fsm_state_name(l->state));
    if (!process && !(l->state == WK_DOWN || is_waiting(l->state)))
        fail_msg("no process in %s", wk_fsm_state_name(l->state));
    if (!l->timer && is_waiting(l->state))
        fail_msg("%s without a timer", wk_fsm_state_name(l->state));
}

/* From now on the process behaves: the goal is reached, by a new process if one was asked for. */
static void settle(struct life *l, enum wk_event wish)
{
    unsigned before = l->spawns, n = 0;
    enum wk_state target = wish == WK_EV_STOP ? WK_DOWN : WK_UP;

    l->behaves = true;
    feed(l, wish);
    for (; (l->state != target || l->requested) && n < SETTLE * 20; n++) {
        happen(l);
        hold(l);
    }
    if (l->state != target)
        fail_msg("%s is not followed: stays in %s", wk_fsm_event_name(wish), wk_fsm_state_name(l->state));
    if (wish == WK_EV_RESTART && l->spawns == before)
        fail_msg("restarted without a new process");
    l->behaves = false;
}

static void test_random_lives(void **state)
{
    static const enum wk_event wishes[] = {WK_EV_START, WK_EV_STOP, WK_EV_RESTART};
    unsigned seen[WK_STATE_MAX] = {0};

    for (unsigned seed = 0; seed < SEEDS; seed++) {
        struct life l = {.seed = seed, .now = 1000000};
        l.def = (struct wk_def){.restart = seed % 4 ? CFG_RESTART_ALWAYS : CFG_RESTART_ON_SUCCESS,
                                .restart_us = seed % 3 * 100000,
                                .restart_max_us = 30000000,
                                .limit_interval_us = seed % 5 ? 10000000 : 0,
                                .limit_burst = 5};
        for (unsigned i = 0; i < STEPS; i++) {
            if (roll(&l, 20) == 0)
                feed(&l, wishes[roll(&l, 3)]);
            else
                happen(&l);
            hold(&l);
            if (i % 100 == 99)
                settle(&l, wishes[roll(&l, 3)]);
            seen[l.state]++;
        }
    }
    for (int s = 0; s < WK_STATE_MAX; s++)
        if (!seen[s])
            fail_msg("the lives never came to %s", wk_fsm_state_name((enum wk_state)s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filled),         cmocka_unit_test(test_actions_allowed),
        cmocka_unit_test(test_actions_needed), cmocka_unit_test(test_no_second_process),
        cmocka_unit_test(test_goal_down),      cmocka_unit_test(test_goal_up),
        cmocka_unit_test(test_random_lives),
    };

    return cmocka_run_group_tests_name("fsm", tests, NULL, NULL);
}
