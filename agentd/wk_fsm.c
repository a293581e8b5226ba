/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_fsm.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/str.h"

#define NOTHING WK_DO_NOTHING
#define SPAWN WK_DO_SPAWN
#define WATCH WK_DO_WATCH
#define PROBE WK_DO_PROBE
#define SIGNAL WK_DO_SIGNAL
#define KILL WK_DO_KILL
#define STOP_TIMER WK_DO_STOP_TIMER
#define RETRY_TIMER WK_DO_RETRY_TIMER
#define TELL WK_DO_TELL
#define ABORT WK_DO_ABORT

#define ROW(s, g, e, n, r, a) \
    [WK_##s][WK_GOAL_##g][WK_EV_##e] = {.next = WK_##n, .reason = WK_WHY_##r, .actions = (a), .filled = true},
#define ROW_ANY(s, e, n, r, a) ROW(s, UP, e, n, r, a) ROW(s, DOWN, e, n, r, a)

static const struct wk_step table[WK_STATE_MAX][WK_GOAL_MAX][WK_EV_MAX] = {
#include "agentd/wk_fsm.def"
};
#undef ROW
#undef ROW_ANY

const struct wk_step *wk_fsm_step(enum wk_state state, enum wk_goal goal, enum wk_event event)
{
    return &table[state][goal][event];
}

const char *wk_fsm_state_name(enum wk_state s)
{
    static const char *const names[] = {
#define STATE(name, text) [WK_##name] = #name,
#include "agentd/wk_fsm.def"
#undef STATE
    };
    return names[s];
}

const char *wk_fsm_event_name(enum wk_event e)
{
    static const char *const names[] = {
#define EVENT(name, text) [WK_EV_##name] = #name,
#include "agentd/wk_fsm.def"
#undef EVENT
    };
    return names[e];
}

const char *wk_fsm_reason_name(enum wk_reason r)
{
    static const char *const names[] = {
#define REASON(name, word) [WK_WHY_##name] = word,
#include "agentd/wk_fsm.def"
#undef REASON
    };
    return names[r];
}

bool wk_fsm_is_clean(const struct wk_def *def, enum wk_end end, int status)
{
    /* Signals that systemd counts as clean ends of a service; never with a core dump. */
    bool soft = status == SIGHUP || status == SIGINT || status == SIGTERM || status == SIGPIPE;

    if (end == WK_END_EXITED)
        return status == 0 || def->exec.ignore_failure || cfg_status_has(&def->success, CLD_EXITED, status);
    return end == WK_END_SIGNALLED &&
           (soft || def->exec.ignore_failure || cfg_status_has(&def->success, CLD_KILLED, status));
}

/* systemd.service(5), the table below Restart=. */
static bool policy_restarts(const struct wk_def *def, const struct wk_death *d)
{
    /* A program that could not be executed has exited with a failure (systemd: 203/EXEC). */
    int status = d->end == WK_END_SPAWN_FAILED ? 203 : d->status;
    bool exited = d->end == WK_END_EXITED || d->end == WK_END_SPAWN_FAILED;
    bool signalled = d->end == WK_END_SIGNALLED || d->end == WK_END_DUMPED;
    int code = exited ? CLD_EXITED : CLD_KILLED;
    bool itself = !wk_fsm_is_clean(def, exited ? WK_END_EXITED : d->end, status);
    bool clean = !d->watchdog && !d->oom && !itself;

    if ((exited || signalled) && cfg_status_has(&def->prevent, code, status))
        return false;
    switch (def->restart) {
    case CFG_RESTART_ALWAYS:
        return true;
    case CFG_RESTART_ON_SUCCESS:
        return clean;
    case CFG_RESTART_ON_FAILURE:
        return !clean; /* an end that nobody saw counts as a failure */
    case CFG_RESTART_ON_ABNORMAL:
        return !clean && (!exited || d->watchdog || d->oom);
    case CFG_RESTART_ON_ABORT:
        return itself && signalled && !d->watchdog;
    case CFG_RESTART_ON_WATCHDOG:
        return d->watchdog;
    default:
        return false;
    }
}

#define SHORTEST_DELAY_US 10000

/* "infinity" too is added to the wall clock. */
static uint64_t in_reach(uint64_t us)
{
    return us < WK_DELAY_MAX_US ? us : WK_DELAY_MAX_US;
}

/* RestartSec= for the second retry (the first is at once), growing to RestartMaxDelaySec= in RestartSteps=
 * steps, or doubling. */
static uint64_t retry_delay(const struct wk_def *def, unsigned attempts)
{
    uint64_t delay = in_reach(def->restart_us), max = in_reach(def->restart_max_us);
    unsigned n = attempts - 1;

    if (n == 0)
        return 0;
    if (delay < SHORTEST_DELAY_US)
        delay = SHORTEST_DELAY_US; /* RestartSec=0 too is no order to spin */
    if (max < delay)
        return delay;
    if (def->restart_steps) {
        if (n > def->restart_steps)
            return max;
        return (uint64_t)((double)delay *
                          pow((double)max / (double)delay, (double)(n - 1) / (double)def->restart_steps));
    }
    while (--n && delay < max)
        delay *= 2;
    return delay < max ? delay : max;
}

/* Ten percent to both sides, so that a fleet that fell together does not rise together. */
static uint64_t jitter(uint64_t us, uint32_t random)
{
    return us - us / 10 + us / 5 * (random >> 8) / (1u << 24);
}

static bool over_limit(const struct wk_def *def, struct wk_backoff *b, uint64_t now)
{
    if (!def->limit_burst || !def->limit_interval_us)
        return false;
    if (b->count == 0 || now - b->window_us > def->limit_interval_us) {
        b->window_us = now;
        b->count = 0;
    }
    b->count++;
    return b->cooled || b->count >= def->limit_burst;
}

enum wk_event wk_fsm_after(const struct wk_def *def, struct wk_backoff *b, const struct wk_death *d,
                           uint64_t *ret_delay_us)
{
    uint64_t stable = def->limit_interval_us ? def->limit_interval_us : 10000000;

    *ret_delay_us = 0;
    if (d->goal == WK_GOAL_DOWN || d->requested || d->lived_us >= stable)
        *b = (struct wk_backoff){0};
    if (d->goal == WK_GOAL_DOWN)
        return WK_EV_REST;
    if (d->requested)
        return WK_EV_AGAIN;
    if (!policy_restarts(def, d))
        return WK_EV_REST;
    b->attempts++;
    if (over_limit(def, b, d->now_us)) {
        b->cooled = true;
        *ret_delay_us =
            jitter(def->restart_max_us > WK_COOLDOWN_US && def->restart_max_us != STR_USEC_INFINITY
                       ? in_reach(def->restart_max_us)
                       : WK_COOLDOWN_US,
                   d->random);
        return WK_EV_COOL;
    }
    *ret_delay_us = jitter(retry_delay(def, b->attempts), d->random);
    return *ret_delay_us ? WK_EV_LATER : WK_EV_AGAIN;
}
