/* SPDX-License-Identifier: Apache-2.0 */
/* A worker over an exec of agentd: everything that is known of it goes into the state and comes out again;
 * its process stays our child, its descriptors stay open. Names of states and reasons travel as words, since
 * numbers change. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/loop.h"
#include "agentd/notify.h"
#include "agentd/op.h"
#include "agentd/reap.h"
#include "agentd/rotate.h"
#include "agentd/state.h"
#include "agentd/wk_fds.h"
#include "agentd/wk_hook.h"
#include "agentd/wk_keep.h"
#include "agentd/wk_sock.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_prepare.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

/* Fields of struct wk that are plain numbers: one row for both directions. */
/* clang-format off */
#define NUMBERS(ROW) \
    ROW(generation) ROW(generation_used) ROW(restarts) ROW(session) ROW(uid) ROW(adopted) ROW(ready) ROW(stale) \
    ROW(was_ready) ROW(ended) ROW(stale_program) ROW(requested) ROW(start_failed) ROW(never_ran) ROW(barked) \
    ROW(begun) ROW(waiting) ROW(stop_waits) ROW(traces) ROW(phase) ROW(yields) ROW(leaf_spoiled) ROW(clamped) ROW(rested) ROW(leaf_no) ROW(create_us) ROW(update_us) \
    ROW(goal_us) ROW(since_us) ROW(active_us) ROW(retry_us) ROW(started_us) ROW(exec_mono_us) \
    ROW(res_hash) ROW(cpu_from) ROW(kills_before) ROW(ooms_before) ROW(oomed) ROW(secrets_of) \
    ROW(error_size) ROW(error_at_us) ROW(error_moved) ROW(error_shift) ROW(timer_us) ROW(entered_mono_us) ROW(ran_hash)
/* clang-format on */

static void put_pidref(struct buf *b, const char *pid, const char *start, const char *fd,
                       const struct pidref *p)
{
    state_put(b, pid, p->pid);
    state_put_u64(b, start, p->start);
    state_put(b, fd, p->fd > 0 ? p->fd : 0);
}

static void put_past(struct buf *b, const struct wk *w)
{
    state_put(b, "attempts", w->backoff.attempts);
    state_put(b, "count", w->backoff.count);
    state_put(b, "cooled", w->backoff.cooled);
    state_put_u64(b, "window_us", w->backoff.window_us);
    state_put(b, "last_end", w->last.end);
    state_put(b, "last_status", w->last.status);
    state_put(b, "last_pid", w->last.pid);
    state_put(b, "last_us", w->last.at_us);
    state_put(b, "last_kills", w->last_oom.kills);
    state_put(b, "last_main_killed", w->last_oom.main);
    state_put_u64(b, "last_limit", w->last_oom.limit);
}

void wk_image_save(const struct wk *w, struct buf *b)
{
    state_begin(b, "worker");
    state_put_text(b, "alias", w->def->alias);
    state_put(b, "id", w->id);
    state_put_text(b, "state", wk_fsm_state_name(w->state));
    state_put_text(b, "goal", w->goal == WK_GOAL_UP ? "UP" : "DOWN");
    state_put_text(b, "reason", wk_fsm_reason_name(w->reason));
#define ROW(field) state_put(b, #field, (int64_t)w->field);
    NUMBERS(ROW)
#undef ROW
    put_pidref(b, "main", "main_start", "main_fd", &w->main);
    put_pidref(b, "held", "held_start", "held_fd", &w->held);
    if (w->kept.pid) {
        state_put(b, "kept_pid", w->kept.pid);
        state_put_u64(b, "kept_start", w->kept.start);
    }
    put_past(b, w);
    state_put_text(b, "message", w->message);
    state_put_text(b, "goal_by", w->goal_by);
    state_put_text(b, "killed", w->killed);
    if (w->start && w->start->spawning)
        state_put(b, "status_fd", w->start->job.status_fd);
    if (w->notify) {
        state_put(b, "notify_fd", notify_fd(w));
        state_put_text(b, "notify_status", notify_status(w));
        state_put_u64(b, "watchdog_us", notify_watchdog(w));
    }
    wk_sock_save(w, b);
    wk_fds_save(w, b);
    if (w->op)
        state_put_text(b, "op", w->op->id);
    if (w->queued)
        state_put_text(b, "queued", w->queued->id);
    state_end(b);
}

/* --- and back ----------------------------------------------------------------------------------------- */

static struct pidref get_pidref(const struct state *s, const char *line, const char *pid, const char *start,
                                const char *fd)
{
    return (struct pidref){(pid_t)state_get(s, line, pid), state_get_fd(s, line, fd),
                           state_get_u64(s, line, start)};
}

static void get_words(struct wk *w, const struct state *s, const char *line)
{
    _cleanup_free_ char *state = state_get_text(s, line, "state"),
                        *reason = state_get_text(s, line, "reason");

    for (int i = 0; i < WK_STATE_MAX; i++)
        if (state && str_eq(state, wk_fsm_state_name((enum wk_state)i)))
            w->state = (enum wk_state)i;
    for (int i = 0; i < WK_WHY_MAX; i++)
        if (reason && str_eq(reason, wk_fsm_reason_name((enum wk_reason)i)))
            w->reason = (enum wk_reason)i;
    w->goal = state_is(s, line, "goal", "UP") ? WK_GOAL_UP : WK_GOAL_DOWN;
}

static void get_past(struct wk *w, const struct state *s, const char *line)
{
    w->backoff =
        (struct wk_backoff){(unsigned)state_get(s, line, "attempts"), (unsigned)state_get(s, line, "count"),
                            state_get(s, line, "cooled") != 0, state_get_u64(s, line, "window_us")};
    w->last =
        (struct wk_exit){(enum wk_end)state_get(s, line, "last_end"), (int)state_get(s, line, "last_status"),
                         (pid_t)state_get(s, line, "last_pid"), state_get(s, line, "last_us")};
    w->last_oom =
        (struct wk_oom){(unsigned)state_get(s, line, "last_kills"),
                        state_get(s, line, "last_main_killed") != 0, state_get_u64(s, line, "last_limit")};
}

static void get_texts(struct wk *w, const struct state *s, const char *line)
{
    free(w->message);
    free(w->goal_by);
    free(w->killed);
    w->message = state_get_text(s, line, "message");
    w->goal_by = state_get_text(s, line, "goal_by");
    w->killed = state_get_text(s, line, "killed");
}

#define LEAF_TRIES 3 /* a failure that passes does not cost the worker its cgroup */

static void open_leaf(struct wk *w)
{
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;
    int r = -1;

    if (wk_host.cgroups.fd < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    wk_leaf_name(w, w->leaf_no, name);
    for (int i = 0; i < LEAF_TRIES && r < 0; i++)
        r = cgroup_leaf_open(&wk_host.cgroups, name, &w->leaf);
    if (r < 0)
        log_error("wk", "%s: its cgroup can't be opened", w->def->alias);
    caps_enter(scope);
}

static void get_op(struct op **slot, const struct state *s, const char *line, const char *key)
{
    _cleanup_free_ char *id = state_get_text(s, line, key);
    struct op *o = id ? (struct op *)op_find(id) : NULL;

    if (o && o->result == OP_RUNNING)
        *slot = o;
}

void wk_image_load(struct wk *w, const struct state *s, const char *line)
{
    get_words(w, s, line);
#define ROW(field) w->field = (typeof(w->field))state_get(s, line, #field);
    NUMBERS(ROW)
#undef ROW
    w->main = get_pidref(s, line, "main", "main_start", "main_fd");
    w->held = get_pidref(s, line, "held", "held_start", "held_fd");
    wk_keep_has(w, (pid_t)state_get(s, line, "kept_pid"), state_get_u64(s, line, "kept_start"));
    if (w->ready)
        w->phase = FACTS_READY; /* (an earlier image did not say) */
    w->stale = w->main.pid && w->ran_hash != w->def->hash;
    get_past(w, s, line);
    get_texts(w, s, line);
    wk_sock_restore(w, s, line);
    wk_fds_restore(w, s, line);
    get_op(&w->op, s, line, "op");
    get_op(&w->queued, s, line, "queued");
    if (w->main.pid || w->state == WK_STOPPING || w->state == WK_KILLING)
        open_leaf(w);
}

int wk_image_main_fd(const struct state *s, const char *alias, pid_t pid)
{
    for (const char *l = state_next(s, "worker", NULL); l; l = state_next(s, "worker", l))
        if (state_is(s, l, "alias", alias))
            return state_get(s, l, "main") == pid ? state_get_fd(s, l, "main_fd") : -1;
    return -1;
}

/* Its timers, watches and probes go on where they were. */
void wk_image_resume(struct wk *w, const struct state *s, const char *line)
{
    uint64_t at = w->timer_us, now = clock_mono_us();

    if (w->held.pid)
        wk_adopt_hold(w);
    if (w->main.pid)
        wk_main_watch(w);
    if (state_get_fd(s, line, "notify_fd") >= 0)
        notify_resume(w, state_get_fd(s, line, "notify_fd"), state_get_text(s, line, "notify_status"));
    else if (w->main.pid && notify_is_wanted(w->def))
        notify_open(w); /* an earlier version kept none for one that was ready */
    notify_set_watchdog(w, state_get_u64(s, line, "watchdog_us"));
    if ((w->state == WK_STARTING && !w->waiting) || state_get_fd(s, line, "status_fd") >= 0)
        wk_start_resume(w, state_get_fd(s, line, "status_fd"));
    wk_health_watch(w, w->state == WK_UP);
    wk_res_live(w);
    if (w->state == WK_STARTING || w->state == WK_UP)
        wk_res_watch(w);
    if (w->main.pid)
        rotate_watch(w, true);
    if (at)
        wk_arm(w, at > now ? at - now : 1);
    if (w->state == WK_STOPPING || w->state == WK_KILLING)
        wk_stop_resume(w);
    if (w->state == WK_DOWN && !w->held.pid)
        wk_prepare_clear(w); /* the earlier image's helper may have been at it */
    wk_changed(w);
}
