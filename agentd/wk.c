/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_fds.h"
#include "agentd/wk_hook.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_prepare.h"
#include "agentd/wk_sock.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "agentd/budget.h"
#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/loop.h"
#include "agentd/notify.h"
#include "agentd/reap.h"
#include "agentd/wk_secret.h"
#include "agentd/rotate.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

struct wk_host wk_host = {.cgroups = CGROUP_ROOT_NULL};

#define KILL_AGAIN_US 5000000 /* a tree that was killed and is still there: killed again, and named */

struct wk *wk_new(struct wk_def *def, int64_t id)
{
    struct wk *w = calloc(1, sizeof(*w));

    if (!w) {
        cfg_def_free(def);
        return NULL;
    }
    w->def = def;
    w->id = id;
    w->main = w->held = (struct pidref)PIDREF_NULL;
    w->leaf = (struct cgroup_leaf)CGROUP_LEAF_NULL;
    w->reason = WK_WHY_NEW;
    w->error_size = -1;
    w->slot = facts_slot(def->alias);
    w->since_us = clock_wall_us();
    return w;
}

void wk_free(struct wk *w)
{
    wk_hook_free(w);
    wk_main_find_stop(w);
    wk_start_done(w);
    wk_stop_done(w);
    wk_start_forget(w);
    notify_close(w);
    wk_res_done(w);
    wk_secret_stop(w);
    wk_health_watch(w, false);
    rotate_free(w);
    loop_free(&w->main_watch);
    loop_free(&w->timer);
    budget_forget(w);
    wk_prepare_forget(w);
    if (w->main.pid)
        reap_remove(w->main.pid, w);
    pidref_done(&w->main);
    wk_adopt_let_go(w);
    wk_sock_let_go(w);
    wk_fds_close(w);
    cgroup_leaf_done(&w->leaf);
    cfg_def_free(w->def);
    cfg_def_free(w->next_def);
    free(w->message);
    free(w->goal_by);
    free(w->ports);
    free(w->killed);
    free(w);
}

void wk_set_message(struct wk *w, const char *fmt, ...)
{
    char text[LIMIT_STDERR_TAIL + 512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    free(w->message);
    w->message = text[0] ? strdup(text) : NULL;
}

void wk_changed(struct wk *w)
{
    if (w->part == WK_ONLY)
        wk_host.changed(w);
}

bool wk_is_alive(const struct wk *w)
{
    return w->main.pid != 0 && !(w->start && w->start->spawning) && !w->never_ran;
}

uint64_t wk_lived_us(const struct wk *w)
{
    return w->exec_mono_us ? clock_mono_us() - w->exec_mono_us : 0;
}

void wk_leaf_name(const struct wk *w, unsigned no, char name[LIMIT_ALIAS + 8])
{
    if (no)
        snprintf(name, LIMIT_ALIAS + 8, "w-%s~%u", w->def->alias, no);
    else
        snprintf(name, LIMIT_ALIAS + 8, "w-%s", w->def->alias);
}

void wk_cookie_prefix(const struct wk *w, char *text, size_t size)
{
    snprintf(text, size, "%016llx:%s:", (unsigned long long)wk_host.dir_hash, w->def->alias);
}

/* No path is walked: the kernel holds the file. */
static void note_program(const struct wk *w, struct facts *f)
{
    char path[32];
    struct stat st;
    enum caps_scope scope = caps_enter(CAPS_LOOK);

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)w->main.pid);
    if (stat(path, &st) == 0) {
        f->program_dev = st.st_dev;
        f->program_ino = st.st_ino;
    }
    caps_enter(scope);
}

void wk_put_facts(struct wk *w, enum facts_phase phase)
{
    struct facts f = {
        .phase = (uint8_t)phase,
        .leaf = w->leaf.fd < 0 && phase >= FACTS_INTENT ? FACTS_NO_LEAF : w->leaf_no,
        .generation = w->generation,
        .pid = phase >= FACTS_SPAWNED ? w->main.pid : 0,
        .start = phase >= FACTS_SPAWNED ? w->main.start : 0,
        .def_hash = w->main.pid ? w->ran_hash : w->def->hash,
        .started_us = w->started_us,
        .ready_us = phase == FACTS_READY ? clock_wall_us() : 0,
        .last_end = (uint8_t)w->last.end,
        .last_status = w->last.status,
        .last_pid = w->last.pid,
        .last_us = w->last.at_us,
        .restarts = w->restarts,
        .watchdog_us = notify_watchdog(w),
        .cpu_from = w->cpu_from,
        .kills_before = w->kills_before,
        .ooms_before = w->ooms_before,
        .last_kills = w->last_oom.kills,
        .last_main_killed = w->last_oom.main,
        .last_limit = w->last_oom.limit,
        .traces = w->traces,
    };
    int r;

    if (w->part != WK_ONLY)
        return;
    w->phase = (uint8_t)phase;
    str_copy(f.alias, sizeof(f.alias), w->def->alias);
    if (phase == FACTS_READY)
        note_program(w, &f);
    if ((r = facts_put(w->slot, &f)) < 0)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "the runtime directory can't be written (%s): if agentd dies now, this worker is found by "
                  "its cgroup only",
                  strerror(-r));
}

static void on_timer(int fd, short what, void *arg)
{
    struct wk *w = arg;

    w->timer_us = 0;
    wk_event(w, WK_EV_TIMEOUT);
}

static void disarm(struct wk *w)
{
    loop_free(&w->timer);
    w->timer_us = 0;
}

void wk_arm(struct wk *w, uint64_t us)
{
    disarm(w);
    if (us == STR_USEC_INFINITY)
        return;
    w->timer = loop_timer(us, on_timer, w);
    w->timer_us = clock_mono_us() + us;
}

/* What the new state may not own is released here, in one place. */
static void enter(struct wk *w, enum wk_state next)
{
    bool comes_up = next == WK_UP && w->state != WK_UP;

    if (next != w->state) {
        w->since_us = clock_wall_us();
        w->entered_mono_us = clock_mono_us();
    }
    if (next != WK_STOPPING)
        w->stop_waits = false;
    if (next != WK_STARTING) {
        w->waiting = false;
        wk_main_find_stop(w);
        wk_secret_stop(w);
        wk_start_done(w);
    }
    if (next != WK_UP && w->reloading)
        wk_signal_forget(w, "the worker was stopped meanwhile");
    if (next != w->state && next != WK_UP)
        wk_hook_forget(w);
    if (next == WK_DOWN || next == WK_BACKOFF || next == WK_COOLDOWN)
        notify_close(w);
    if (next == WK_DOWN && w->part == WK_ONLY) {
        wk_sock_close(w); /* whoever comes now is refused, not kept waiting */
        wk_fds_close(w);
        w->traces =
            w->traces || (w->state != WK_DOWN && wk_prepare_leaves(w->def)); /* (of an earlier image) */
        wk_prepare_clear(w);
    }
    notify_watch(w, next == WK_UP);
    wk_health_watch(w, next == WK_UP);
    if (next != WK_STARTING && next != WK_UP)
        wk_res_done(w);
    if (next == WK_DOWN || next == WK_BACKOFF || next == WK_COOLDOWN)
        rotate_watch(w, false);
    else if (next == WK_UP && !w->rotate) /* an adopted one had no exec of ours */
        rotate_watch(w, true);
    if (next != WK_STOPPING && next != WK_KILLING)
        wk_stop_done(w);
    if (next != WK_BACKOFF && next != WK_COOLDOWN)
        w->retry_us = 0;
    if (comes_up) {
        w->ready = w->was_ready = true;
        w->sampled_us = 0; /* what was seen of it while it started is not true any more */
        history_ready(w);
        if (!w->adopted || w->phase != FACTS_ENDING) /* that one is restarted, when its turn comes */
            wk_put_facts(w, FACTS_READY);
        if (!wk_res_recall(w))
            wk_set_message(w, "%s",
                           w->clamped ? "a limit or score was refused by the kernel and is clamped" : "");
    }
    if (next != WK_STOPPING && next != WK_KILLING && next != WK_STARTING)
        wk_start_forget(w);
    if (next != WK_UP)
        w->ready = false;
    w->state = next;
    if (comes_up)
        wk_res_live(w); /* one that was taken over from an earlier agentd */
}

static uint64_t random_delay_seed(void)
{
    uint32_t v = 0;

    if (getrandom(&v, sizeof(v), GRND_NONBLOCK) < 0)
        v = (uint32_t)clock_mono_us();
    return v;
}

static void start(struct wk *w)
{
    wk_arm(w, w->def->start_timeout_us);
    wk_start_spawn(w);
}

static void begin_start(struct wk *w)
{
    wk_adopt_let_go(w);
    w->requested = w->yields = false;
    w->begun = w->was_ready = false;
    w->waiting = true;
    if (!wk_host.may_start(w)) {
        if (w->phase !=
            FACTS_NONE) /* it may be long: what has ended is no process that a successor looks for */
            wk_put_facts(w, FACTS_NONE);
        notify_close(w); /* nobody is there to speak */
        return;
    }
    w->waiting = false;
    start(w);
}

void wk_start_now(struct wk *w)
{
    w->waiting = false;
    wk_set_message(w, "%s", "");
    start(w);
    wk_changed(w);
}

/* Before the first signal: else the next agentd would take a tree that is half dead for a whole one. Not
 * while it waits for its turn: then it is whole. */
static void note_ending(struct wk *w)
{
    if (w->main.pid && w->phase == FACTS_READY)
        wk_put_facts(w, FACTS_ENDING);
}

static void begin_stop(struct wk *w)
{
    w->stop_waits = !wk_host.may_stop(w);
    if (w->stop_waits) {
        disarm(w);
        return;
    }
    note_ending(w);
    wk_stop_begin(w);
}

void wk_stop_now(struct wk *w)
{
    w->stop_waits = false;
    note_ending(w);
    wk_set_message(w, "%s", "");
    wk_arm(w, w->def->stop_timeout_us);
    wk_stop_begin(w);
    wk_changed(w);
}

static void do_actions(struct wk *w, unsigned actions)
{
    if (actions & WK_DO_TELL) {
        bool failed = w->start_failed;
        w->start_failed = false;
        if (w->part == WK_ONLY)
            wk_host.told(w, failed);
    }
    if (actions & WK_DO_SPAWN)
        begin_start(w);
    if (actions & WK_DO_PROBE)
        wk_start_probe(w);
    if (actions & WK_DO_STOP_TIMER)
        wk_arm(w, w->state == WK_KILLING ? KILL_AGAIN_US : w->def->stop_timeout_us);
    if (actions & WK_DO_RETRY_TIMER)
        wk_arm(w, w->retry_us > clock_wall_us() ? (uint64_t)(w->retry_us - clock_wall_us()) : 1);
    if (actions & WK_DO_SIGNAL)
        begin_stop(w);
    if (actions & (WK_DO_ABORT | WK_DO_KILL))
        note_ending(w);
    if (actions & WK_DO_ABORT)
        wk_stop_signal(w, SIGABRT);
    if (actions & WK_DO_KILL)
        wk_stop_kill(w);
}

static void note_goal(struct wk *w, enum wk_event e)
{
    bool ending = w->state == WK_STOPPING || w->state == WK_KILLING;

    if (e == WK_EV_START || e == WK_EV_RESTART) {
        w->requested = w->requested || e == WK_EV_RESTART || ending;
        w->goal = WK_GOAL_UP;
    }
    if (e == WK_EV_STOP) {
        w->goal = WK_GOAL_DOWN;
        w->requested = false;
    }
    if (e == WK_EV_YIELD)
        w->yields = w->state == WK_UP || w->state == WK_STARTING;
    if (w->state == WK_STARTING && (e == WK_EV_EXIT || e == WK_EV_FAILED || e == WK_EV_TIMEOUT ||
                                    e == WK_EV_HOOK || e == WK_EV_UNMET || e == WK_EV_OOM))
        w->start_failed = true;
    if ((e == WK_EV_START || e == WK_EV_RESTART) && (w->state == WK_BACKOFF || w->state == WK_COOLDOWN))
        w->backoff = (struct wk_backoff){0};
}

static void step(struct wk *w, enum wk_event e)
{
    const struct wk_step *s;
    enum wk_state before = w->state;

    if (e == WK_EV_RESTART && wk_overlap_begin(w))
        return;
    note_goal(w, e);
    s = wk_fsm_step(w->state, w->goal, e);
    if (s->reason != WK_WHY_KEEP)
        w->reason = s->reason;
    if (s->next != before) {
        disarm(w);
        log_write(LOG_DEBUG, "wk", &(struct log_about){.worker = w->def->alias}, "%s: %s -> %s",
                  wk_fsm_event_name(e), wk_fsm_state_name(before), wk_fsm_state_name(s->next));
    }
    enter(w, s->next);
    if (s->next == WK_COOLDOWN && before != WK_COOLDOWN)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias, .event = "cooldown"},
                  "it was started too often in a short time, and is tried again after a longer wait");
    if (s->next != before && w->part == WK_ONLY)
        wk_host.moved(w);
    if (s->next != before && w->twin)
        wk_overlap_moved(w);
    do_actions(w, s->actions);
    wk_host.stepped(w);
    wk_changed(w);
}

/* Actions may bring up the next event at once: it waits its turn here, so that nothing recurses. */
void wk_event(struct wk *w, enum wk_event e)
{
    if (w->n_queue < ARRAY_LEN(w->queue))
        w->queue[w->n_queue++] = (uint8_t)e;
    else
        log_error("wk", "%s: event %s lost: too many at once", w->def->alias, wk_fsm_event_name(e));
    if (w->draining)
        return;
    w->draining = true;
    while (w->n_queue) {
        enum wk_event next = w->queue[0];
        memmove(w->queue, w->queue + 1, --w->n_queue);
        step(w, next);
    }
    w->draining = false;
}

/* A timeout that runs counts from when it began. */
static void rearm(struct wk *w, const struct wk_def *old)
{
    uint64_t now = w->state == WK_STARTING   ? w->def->start_timeout_us
                   : w->state == WK_STOPPING ? w->def->stop_timeout_us
                                             : 0;
    uint64_t before = w->state == WK_STARTING ? old->start_timeout_us : old->stop_timeout_us;
    uint64_t passed = clock_mono_us() - w->entered_mono_us;

    if (now == 0 || now == before || w->waiting || w->stop_waits)
        return;
    wk_arm(w, now == STR_USEC_INFINITY ? now : now > passed ? now - passed : 1);
}

static void use_def(struct wk *w, struct wk_def *def)
{
    struct wk_def *old = w->def;

    w->stale = w->main.pid != 0 && def->hash != w->ran_hash;
    wk_start_forget(w);
    if (w->start && !w->start->spawning) /* its credentials are being made: nothing has its environment yet */
        wk_env_done(&w->start->env);
    w->def = def;
    wk_host.redefined();
    rearm(w, old);
    wk_live_apply(w, old);
    wk_res_load(w);
    wk_res_live(w);
    if (!cfg_check_same(old->health, def->health) || old->health_interval_us != def->health_interval_us)
        wk_health_watch(w, false); /* it is asked anew */
    wk_health_watch(w, w->state == WK_UP);
    rotate_watch(w, w->main.pid != 0);
    cfg_def_free(old);
}

bool wk_must_restart(const struct wk *w, const struct wk_def *def)
{
    return def->hash != w->def->hash && def->hash != w->ran_hash &&
           (w->main.pid != 0 || (w->state == WK_STARTING && !w->waiting));
}

/* A child on its way to exec may still be reading the definition, or a hook goes through its commands. */
static bool is_read(const struct wk *w)
{
    return w->hook || (w->start && w->start->spawning);
}

bool wk_set_def(struct wk *w, struct wk_def *def)
{
    bool must = wk_must_restart(w, def);

    w->live_refused = false;
    if (def->hash_all != w->def->hash_all)
        w->update_us = clock_wall_us();
    cfg_def_free(TAKE_PTR(w->next_def));
    if (is_read(w))
        w->next_def = def;
    else
        use_def(w, def);
    wk_changed(w);
    return must;
}

void wk_take_next_def(struct wk *w)
{
    if (w->next_def && !is_read(w) && wk_set_def(w, TAKE_PTR(w->next_def)) && w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_RESTART);
}

bool wk_has_ended(const struct wk *w)
{
    return w->ended && !w->main.pid;
}

/* How the end reads for people. */
static void describe_end(struct wk *w, enum wk_end end, int status)
{
    const char *during = w->state == WK_STARTING ? " before it was ready" : "";
    char text[200];

    if (w->state == WK_STOPPING || w->state == WK_KILLING)
        return; /* it was asked to: the reason says by whom */
    if (end == WK_END_EXITED)
        wk_set_message(w, "the main process exited with status %d%s", status, during);
    else if (w->last_oom.main)
        wk_set_message(w, "the main process was %s%s", wk_res_oom_text(&w->last_oom, text, sizeof(text)),
                       during);
    else if (end == WK_END_UNKNOWN)
        wk_set_message(w, "the main process ended%s, nobody saw how", during);
    else
        wk_set_message(w, "the main process was killed by signal %d (SIG%s)%s%s", status,
                       sigabbrev_np(status) ? sigabbrev_np(status) : "?",
                       end == WK_END_DUMPED ? ", core dumped" : "", during);
}

/* Nobody has asked for it: the journal is where an administrator looks first. */
static void log_end(const struct wk *w, const char *message)
{
    if (*message)
        log_write(LOG_NOTICE, "wk", &(struct log_about){.worker = w->def->alias, .event = "worker-died"},
                  "%s", message);
}

void wk_main_exited(struct wk *w, enum wk_end end, int status)
{
    bool oom, asked = w->state == WK_STOPPING || w->state == WK_KILLING;
    char message[256] = "";

    w->last = (struct wk_exit){end, status, w->main.pid, clock_wall_us()};
    w->ended = true;
    w->active_us = w->last.at_us;
    oom = wk_res_main_exited(w, end, status);
    describe_end(w, end, status);
    if (!asked && w->message)
        str_copy(message, sizeof(message), w->message);
    loop_free(&w->main_watch);
    pidref_done(&w->main);
    w->adopted = false;
    w->stale = w->stale_program = false;
    if (w->start && w->start->spawning) {
        /* Killed on the way to exec, or gone before we saw the exec: the pipe tells nothing more. */
        loop_free(&w->start->status);
        spawn_done(&w->start->job);
        w->start->spawning = false;
    }
    if (w->next_def && !is_read(w))
        use_def(w, TAKE_PTR(w->next_def));
    if (wk_start_goes_on(w, end, status))
        return;
    history_ended(w);
    wk_event(w, oom ? WK_EV_OOM : WK_EV_EXIT);
    wk_stop_check(w);
    log_end(w, message); /* by now its successor may be on its way: that comes first */
}

void wk_gone(struct wk *w)
{
    struct wk_death d = {
        .goal = w->part == WK_ONLY ? w->goal : WK_GOAL_DOWN,
        .requested = w->requested || w->yields,
        .watchdog = w->barked,
        .oom = w->oomed,
        .end = w->reason == WK_WHY_START_TIMEOUT ? WK_END_TIMEOUT
               : w->reason == WK_WHY_HOOK_FAILED ? w->hook_end.end
                                                 : w->last.end,
        .status = w->reason == WK_WHY_HOOK_FAILED ? w->hook_end.status : w->last.status,
        .lived_us = wk_lived_us(w),
        .now_us = clock_mono_us(),
        .random = (uint32_t)random_delay_seed(),
    };
    uint64_t delay = 0;
    /* Nobody has failed: it is looked at again when somebody wants it up. */
    bool unmet = w->reason == WK_WHY_CONDITION && !w->requested;
    enum wk_event e = unmet ? WK_EV_REST : wk_fsm_after(w->def, &w->backoff, &d, &delay);

    w->exec_mono_us = 0;
    history_ended(w);
    if (e != WK_EV_AGAIN) /* else the next intent stands there at once */
        wk_put_facts(w, e == WK_EV_REST && w->goal == WK_GOAL_UP && !unmet ? FACTS_RESTED : FACTS_NONE);
    wk_secret_remove(w);
    free(TAKE_PTR(w->ports));
    w->processes = 0;
    w->memory = 0;
    w->retry_us = delay ? clock_wall_us() + (int64_t)delay : 0;
    wk_event(w, e);
}
