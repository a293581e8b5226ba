/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/history.h"
#include "agentd/op.h"
#include "agentd/order.h"
#include "agentd/wk.h"
#include "base/str.h"

#define WHAT_MAX 300

struct cause {
    int64_t at_us; /* wall clock; 0: not known */
    const char *kind, *worker;
    char what[WHAT_MAX];
    const char *by, *source, *reason, *operation;
};

struct causes {
    struct cause v[LIMIT_WHY];
    unsigned n;
    struct history_entry past[LIMIT_HISTORY]; /* of the worker that is asked for */
    unsigned n_past;
    const struct wk *seen[LIMIT_WHY_DEPTH];
    unsigned n_seen;
};

static struct cause *add(struct causes *c, const struct wk *w, int64_t at_us, const char *kind,
                         const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static struct cause *add(struct causes *c, const struct wk *w, int64_t at_us, const char *kind,
                         const char *fmt, ...)
{
    struct cause *x = &c->v[c->n < LIMIT_WHY ? c->n++ : LIMIT_WHY - 1];
    va_list ap;

    *x = (struct cause){.at_us = at_us, .kind = kind, .worker = w->def->alias};
    va_start(ap, fmt);
    vsnprintf(x->what, sizeof(x->what), fmt, ap);
    va_end(ap);
    return x;
}

static void note_op(struct cause *x, const struct op *o)
{
    x->by = o->actor;
    x->source = o->source;
    x->reason = o->reason;
    x->operation = o->id;
}

/* --- one cause each ----------------------------------------------------------------------------------- */

static void say_state(struct causes *c, const struct wk *w)
{
    const char *colon = w->message ? ": " : "";

    add(c, w, w->since_us, "state", "%s, %s%s%s", wk_fsm_state_name(w->state), wk_fsm_reason_name(w->reason),
        colon, w->message ? w->message : "");
    if (w->retry_us)
        add(c, w, w->since_us, "retry", "the next start is due: %u in a row have not lived long",
            w->backoff.attempts);
    if (w->rested && w->held.pid)
        add(c, w, w->since_us, "held",
            "process %d can't be proven to be the worker's: nothing starts beside it", (int)w->held.pid);
    else if (w->rested)
        add(c, w, w->since_us, "policy", "it ended, and Restart= lets it stay down");
    if (*wk_health_name(w) && str_eq(wk_health_name(w), "unhealthy"))
        add(c, w, w->since_us, "health", "HealthCheck= fails: %s", wk_health_why(w));
}

static void say_files(struct causes *c, const struct wk *w)
{
    if (w->broken)
        add(c, w, w->update_us, "definition", "its file is wrong: it stays on the last good definition");
    if (w->removed)
        add(c, w, w->update_us, "definition", "its file is gone: it stops, and is forgotten");
    if (w->stale)
        add(c, w, w->update_us, "definition", "it runs an earlier definition until it is restarted");
}

static void say_exit(struct causes *c, const struct wk *w)
{
    const struct wk_exit *e = &w->last;
    char oom[200];

    if (!e->at_us)
        return;
    if (w->last_oom.main)
        add(c, w, e->at_us, "exit", "process %d was %s", (int)e->pid,
            wk_res_oom_text(&w->last_oom, oom, sizeof(oom)));
    else if (e->end == WK_END_EXITED)
        add(c, w, e->at_us, "exit", "process %d exited with status %d", (int)e->pid, e->status);
    else if (e->end == WK_END_SIGNALLED || e->end == WK_END_DUMPED)
        add(c, w, e->at_us, "exit", "process %d was killed by signal %d (SIG%s)", (int)e->pid, e->status,
            sigabbrev_np(e->status) ? sigabbrev_np(e->status) : "?");
    else if (e->end == WK_END_SPAWN_FAILED)
        add(c, w, e->at_us, "exit", "it could not be started: %s", strerror(e->status));
    else
        add(c, w, e->at_us, "exit", "process %d ended, nobody saw how", (int)e->pid);
}

static void say_ownership(struct causes *c, const struct wk *w)
{
    if (w->adopted)
        add(c, w, w->state == WK_UP ? w->since_us : w->started_us, "ownership",
            "process %d was running already, and was taken over", (int)w->main.pid);
}

/* How the incarnation came to be that runs, or ran last. */
static void say_start(struct causes *c, const struct wk *w)
{
    const struct history_entry *e = c->n_past ? &c->past[0] : NULL;
    const struct op *o;
    struct cause *x;

    if (!e || e->generation != w->generation || !history_is_this_boot(e))
        return;
    x = add(c, w, e->begun_us, "start", "generation %u was started: %s", e->generation, e->how);
    x->by = e->actor;
    x->operation = e->operation;
    if (e->operation[0] && (o = op_find(e->operation)))
        note_op(x, o);
}

/* The newest operation that has set the goal, as far as it is remembered. */
static const struct op *op_of_goal(const struct wk *w)
{
    const struct op *o;

    TAILQ_FOREACH_REVERSE(o, &op_all, op_list, link)
    if (o->turned && str_eq(o->alias, w->def->alias) && o->created_us <= w->goal_us && w->goal_by &&
        str_eq(o->actor, w->goal_by) && (o->verb == WIRE_VERB_STOP) == (w->goal == WK_GOAL_DOWN))
        return o;
    return NULL;
}

static void say_goal(struct causes *c, const struct wk *w)
{
    const struct op *o = op_of_goal(w);
    struct cause *x = add(c, w, w->goal_us ? w->goal_us : w->create_us, "goal", "wanted %s",
                          w->goal == WK_GOAL_UP ? "UP" : "DOWN");

    x->by = w->goal_by && w->goal_by[0] ? w->goal_by : "config";
    if (o)
        note_op(x, o);
}

static void say_op(struct causes *c, const struct wk *w, const struct op *o, const char *how)
{
    if (o)
        note_op(add(c, w, o->created_us, "operation", "%s %s", op_verb_name(o->verb), how), o);
}

/* --- the whole ---------------------------------------------------------------------------------------- */

static bool is_seen(struct causes *c, const struct wk *w)
{
    for (unsigned i = 0; i < c->n_seen; i++)
        if (c->seen[i] == w)
            return true;
    if (c->n_seen == LIMIT_WHY_DEPTH)
        return true;
    c->seen[c->n_seen++] = w;
    return false;
}

/* Whom it waits for, and what that one waits for in turn. */
static void say_others(struct causes *c, const struct wk *w)
{
    const char *how;
    const struct wk *x;

    while (!is_seen(c, w) && (x = order_cause(w, &how))) {
        add(c, x, w->since_us, "dependency", "%s: %s", w->def->alias, how);
        say_state(c, x);
        say_files(c, x);
        if (x->state != WK_UP)
            say_exit(c, x);
        say_op(c, x, x->op, "is under way");
        say_goal(c, x);
        w = x;
    }
    if (c->n_seen == 1 && w->waiting)
        add(c, w, w->since_us, "budget", "it waits for its turn among the starts of this host");
}

static int by_time(const void *a, const void *b)
{
    const struct cause *const *x = a, *const *y = b;

    if ((*x)->at_us != (*y)->at_us)
        return (*x)->at_us < (*y)->at_us ? 1 : -1;
    return *x < *y ? -1 : 1; /* the cause comes behind what it explains */
}

static void put_word(struct buf *b, const char *s, char end)
{
    char text[2 * WHAT_MAX];

    buf_str(b, str_escape(text, sizeof(text), s ? s : ""));
    buf_char(b, end);
}

static void put(struct buf *b, const struct cause *x)
{
    buf_printf(b, "%lld\t%s\t%s\t", (long long)x->at_us, x->kind, x->worker);
    put_word(b, x->what, '\t');
    put_word(b, x->by, '\t');
    put_word(b, x->source, '\t');
    put_word(b, x->reason, '\t');
    put_word(b, x->operation, '\n');
}

void why_tell(const struct wk *w, struct buf *b)
{
    struct causes *c = calloc(1, sizeof(*c));
    const struct cause *order[LIMIT_WHY];

    if (!c)
        return;
    c->n_past = history_read(w, c->past);
    say_state(c, w);
    say_others(c, w);
    say_files(c, w);
    say_ownership(c, w);
    say_op(c, w, w->op, "is under way");
    say_op(c, w, w->queued, "waits behind it");
    say_start(c, w);
    say_exit(c, w);
    say_goal(c, w);
    for (unsigned i = 0; i < c->n; i++)
        order[i] = &c->v[i];
    qsort(order, c->n, sizeof(order[0]), by_time);
    for (unsigned i = 0; i < c->n; i++)
        put(b, order[i]);
    free(c);
}
