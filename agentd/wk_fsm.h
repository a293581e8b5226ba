/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_fsm: what a worker does next, as pure tables and arithmetic.
 * Knows states, events and numbers; never knows the kernel, the clock, names or who asked. */
#ifndef AGENTD_WK_FSM_H
#define AGENTD_WK_FSM_H

#include <stdbool.h>
#include <stdint.h>

#include "agentd/cfg.h"

enum wk_state {
#define STATE(name, text) WK_##name,
#include "agentd/wk_fsm.def"
#undef STATE
    WK_STATE_MAX,
};
enum wk_event {
#define EVENT(name, text) WK_EV_##name,
#include "agentd/wk_fsm.def"
#undef EVENT
    WK_EV_MAX,
};
enum wk_reason {
#define REASON(name, word) WK_WHY_##name,
#include "agentd/wk_fsm.def"
#undef REASON
    WK_WHY_MAX,
};
enum wk_goal { WK_GOAL_DOWN, WK_GOAL_UP, WK_GOAL_MAX };

enum wk_action {
    WK_DO_NOTHING = 0,
    WK_DO_SPAWN = 1 << 0,       /* a new generation; arms the start timer */
    WK_DO_WATCH = 1 << 1,       /* wait for the end of an adopted main process */
    WK_DO_PROBE = 1 << 2,       /* begin to look for readiness */
    WK_DO_SIGNAL = 1 << 3,      /* ask the tree to end, watch its members */
    WK_DO_KILL = 1 << 4,        /* kill the tree, watch its members */
    WK_DO_STOP_TIMER = 1 << 5,  /* arm the timer of STOPPING or KILLING */
    WK_DO_RETRY_TIMER = 1 << 6, /* arm the timer of BACKOFF or COOLDOWN */
    WK_DO_TELL = 1 << 7,        /* an operation may have come to its end */
    WK_DO_ABORT = 1 << 8,       /* as SIGNAL, with SIGABRT */
};

struct wk_step {
    enum wk_state next;
    enum wk_reason reason; /* KEEP: as before */
    unsigned actions;
    bool filled; /* every cell of the table is; the test looks */
};

/* The cell for an event in a state; goal as it is after the event. */
const struct wk_step *wk_fsm_step(enum wk_state state, enum wk_goal goal, enum wk_event event);

const char *wk_fsm_state_name(enum wk_state s);
const char *wk_fsm_event_name(enum wk_event e);
const char *wk_fsm_reason_name(enum wk_reason r);

/* How often a worker was started of late. */
struct wk_backoff {
    unsigned attempts;  /* starts that ended before they lived long, in a row */
    unsigned count;     /* starts within the window */
    bool cooled;        /* it has been in COOLDOWN and not lived long since */
    uint64_t window_us; /* monotonic start of the window */
};

/* How an incarnation ended, as far as it is known. */
enum wk_end {
    WK_END_EXITED,
    WK_END_SIGNALLED,
    WK_END_DUMPED,
    WK_END_UNKNOWN,
    WK_END_SPAWN_FAILED,
    WK_END_TIMEOUT,
};

struct wk_death {
    enum wk_goal goal;
    bool requested; /* a restart was asked for: at once, and all is forgotten */
    bool oom;       /* it lacked memory */
    bool watchdog;  /* it was ended since it was not heard, however it went then */
    enum wk_end end;
    int status; /* exit code or signal */
    uint64_t lived_us;
    uint64_t now_us; /* monotonic */
    uint32_t random; /* for the jitter */
};

/* The end counts as a success; systemd.service(5), SuccessExitStatus=. */
bool wk_fsm_is_clean(const struct wk_def *def, enum wk_end end, int status);

/* What comes after the tree is gone: AGAIN, LATER, COOL or REST; delay for LATER and COOL. Updates b. */
enum wk_event wk_fsm_after(const struct wk_def *def, struct wk_backoff *b, const struct wk_death *d,
                           uint64_t *ret_delay_us);

#define WK_DELAY_MAX_US 315576000000000ull /* ten years: what RestartSec=infinity comes to */
#define WK_COOLDOWN_US 60000000ull         /* the long retry; a longer RestartMaxDelaySec= makes it longer */

#endif
