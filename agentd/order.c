/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "agentd/budget.h"
#include "agentd/op.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define AFTER 1u
#define REQUIRES 2u
#define BINDS 4u
#define WANTS 8u
#define NEEDED (REQUIRES | BINDS)
#define ORDERED (AFTER | NEEDED)

struct edge {
    struct wk *w;
    unsigned kinds;
};

/* Only of workers that have an edge. */
struct order {
    TAILQ_ENTRY(order) link; /* while it is dirty */
    struct wk *w;
    struct edge *on, *by; /* whom it waits for; who waits for it */
    unsigned n_on, n_by;
    unsigned char seen; /* while cycles are looked for */
    bool dirty, pulling;
    bool held; /* what it needs is not wanted: it waits for an operator */
};

static TAILQ_HEAD(, order) changed = TAILQ_HEAD_INITIALIZER(changed);
static bool holding, stopping_all, rebuild;
static bool known; /* the edges, after our start: until all are adopted nobody is told to end */

/* --- edges ---------------------------------------------------------------------------------------------- */

static struct order *order_of(struct wk *w)
{
    if (!w->order && (w->order = calloc(1, sizeof(*w->order))))
        w->order->w = w;
    return w->order;
}

static void set_dirty(struct order *o)
{
    if (o && !o->dirty) {
        o->dirty = true;
        TAILQ_INSERT_TAIL(&changed, o, link);
    }
}

static void drop(struct wk *w)
{
    struct order *o = TAKE_PTR(w->order);

    if (!o)
        return;
    if (o->dirty)
        TAILQ_REMOVE(&changed, o, link);
    free(o->on);
    free(o->by);
    free(o);
}

static bool add_edge(struct edge **v, unsigned *n, struct wk *w, unsigned kinds)
{
    struct edge *more;

    for (unsigned i = 0; i < *n; i++)
        if ((*v)[i].w == w) {
            (*v)[i].kinds |= kinds;
            return true;
        }
    if (!(more = realloc(*v, (*n + 1) * sizeof(*more))))
        return false;
    *v = more;
    more[(*n)++] = (struct edge){w, kinds};
    return true;
}

static void connect(struct wk *from, struct wk *to, unsigned kinds)
{
    struct order *a = order_of(from), *b = order_of(to);

    if (!a || !b || !add_edge(&a->on, &a->n_on, to, kinds) || !add_edge(&b->by, &b->n_by, from, kinds))
        log_error("order", "no memory: %s does not wait for %s", from->def->alias, to->def->alias);
}

static int by_alias(const void *key, const void *w)
{
    return strcmp(key, (*(struct wk *const *)w)->def->alias);
}

static void connect_all(struct wk *w, struct wk **all, size_t n)
{
    static const unsigned kinds[] = {[CFG_NEED_AFTER] = AFTER,
                                     [CFG_NEED_BEFORE] = AFTER,
                                     [CFG_NEED_REQUIRES] = REQUIRES,
                                     [CFG_NEED_WANTS] = WANTS,
                                     [CFG_NEED_BINDS_TO] = BINDS};

    for (unsigned i = 0; i < w->def->n_needs; i++) {
        const struct cfg_need *need = &w->def->needs[i];
        struct wk **other = bsearch(need->alias, all, n, sizeof(struct wk *), by_alias);
        if (!other || *other == w || (*other)->removed)
            continue; /* one that goes holds nobody: the file that still names it is reported */
        if (need->kind == CFG_NEED_BEFORE)
            connect(*other, w, kinds[need->kind]);
        else
            connect(w, *other, kinds[need->kind]);
    }
}

static void cut(struct order *o, unsigned i)
{
    struct order *other = o->on[i].w->order;

    log_write(LOG_WARNING, "order", &(struct log_about){.worker = o->w->def->alias},
              "waits, over others, for itself: its order behind %s is left out", o->on[i].w->def->alias);
    o->on[i].kinds &= WANTS;
    for (unsigned k = 0; k < other->n_by; k++)
        if (other->by[k].w == o->w)
            other->by[k].kinds &= WANTS;
}

/* Files are refused for a cycle; but what runs on an earlier definition can close one with a new file. The
 * depth is bounded by the files' check but for such ones. */
static void cut_cycles(struct order *o, unsigned depth)
{
    o->seen = 1;
    for (unsigned i = 0; i < o->n_on; i++) {
        struct order *other = o->on[i].w->order;
        if (!(o->on[i].kinds & ORDERED) || other->seen == 2)
            continue;
        if (other->seen == 1 || depth == LIMIT_WORKERS)
            cut(o, i);
        else
            cut_cycles(other, depth + 1);
    }
    o->seen = 2;
}

static void review_all(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        if (w->order || w->stop_waits) /* for one that does not stand there any more, too */
            set_dirty(order_of(w));
        else if (w->waiting)
            budget_queue(w);
        if (w->twin && w->twin->waiting) /* beside one that runs it waits for nobody */
            budget_queue(w->twin);
    }
}

void order_rebuild_soon(void)
{
    rebuild = true;
}

void order_rebuild(void)
{
    size_t n = 0;
    struct wk *w, **all = calloc(sup_count() + 1, sizeof(struct wk *));

    rebuild = false;
    if (!all) {
        log_error("order", "no memory: the order of starts is as it was");
        return;
    }
    TAILQ_FOREACH (w, &sup_workers, link) {
        drop(w);
        all[n++] = w;
    }
    for (size_t i = 0; i < n; i++)
        connect_all(all[i], all, n);
    for (size_t i = 0; i < n; i++)
        if (all[i]->order && !all[i]->order->seen)
            cut_cycles(all[i]->order, 0);
    free(all);
    review_all();
}

/* --- who waits for what ----------------------------------------------------------------------------------
 */

static bool is_ending(const struct wk *w)
{
    return w->state == WK_STOPPING || w->state == WK_KILLING;
}

static bool runs(const struct wk *w)
{
    return w->state == WK_UP || is_ending(w) || (w->state == WK_STARTING && !w->waiting);
}

/* It is up, or was and has ended well, as Type=oneshot does. */
static bool is_satisfied(const struct wk *w)
{
    if (w->state == WK_UP)
        return true;
    return w->def->type == CFG_ONESHOT && w->state == WK_DOWN && w->goal == WK_GOAL_UP &&
           w->last.end == WK_END_EXITED && wk_fsm_is_clean(w->def, w->last.end, w->last.status);
}

/* It has not failed yet. */
static bool is_on_its_way(const struct wk *w)
{
    if (w->goal != WK_GOAL_UP)
        return false;
    return is_ending(w) || (w->state == WK_STARTING && !(w->waiting && w->order && w->order->held));
}

static bool holds_start(const struct edge *e)
{
    if (e->kinds & NEEDED)
        return !is_satisfied(e->w);
    return (e->kinds & AFTER) && is_on_its_way(e->w);
}

/* The first that keeps it from starting, or NULL. */
static const struct wk *awaited(const struct wk *w)
{
    for (unsigned i = 0; w->order && i < w->order->n_on; i++)
        if (holds_start(&w->order->on[i]))
            return w->order->on[i].w;
    return NULL;
}

/* It will not be up before an operator wants something up. */
static bool is_out(const struct wk *w)
{
    return w->goal != WK_GOAL_UP || (w->order && w->order->held);
}

static bool is_held(const struct order *o)
{
    for (unsigned i = 0; i < o->n_on; i++)
        if ((o->on[i].kinds & NEEDED) && is_out(o->on[i].w))
            return true;
    return false;
}

/* What it may not run beside, as it is now; NULL. */
static struct wk *must_yield_to(const struct wk *w)
{
    for (unsigned i = 0; w->order && i < w->order->n_on; i++) {
        const struct edge *e = &w->order->on[i];
        if (((e->kinds & NEEDED) && is_out(e->w)) || ((e->kinds & BINDS) && !is_satisfied(e->w)))
            return e->w;
    }
    return NULL;
}

/* It is one of those that have to be gone before what they wait for may go. */
static bool goes_first(const struct edge *e)
{
    const struct wk *w = e->w;

    if (!(e->kinds & ORDERED) || !runs(w))
        return false;
    return stopping_all || must_yield_to(w) ||
           (is_ending(w) && (w->goal != WK_GOAL_UP || w->yields || w->reason == WK_WHY_REQUESTED));
}

static const struct wk *goes_before(const struct wk *w)
{
    for (unsigned i = 0; w->order && i < w->order->n_by; i++)
        if (goes_first(&w->order->by[i]))
            return w->order->by[i].w;
    return NULL;
}

const struct wk *order_cause(const struct wk *w, const char **how)
{
    const struct wk *x = w->stop_waits ? goes_before(w) : NULL;

    *how = "waits for it to stop";
    if (x)
        return x;
    *how = "goes with it, which is not up";
    if (w->goal == WK_GOAL_UP && (x = must_yield_to(w)))
        return x;
    *how = "waits for it to be ready";
    return w->waiting ? awaited(w) : NULL;
}

/* --- turns -----------------------------------------------------------------------------------------------
 */

static void say_waits(struct wk *w, const struct wk *x)
{
    const char *how = x->goal != WK_GOAL_UP ? "which is stopped" : "to be ready";

    wk_set_message(w, "waits for %s %s", x->def->alias, is_ending(w) ? "to stop" : how);
    wk_changed(w);
}

static void review_start(struct wk *w)
{
    const struct wk *x = awaited(w);

    if (x) {
        budget_unqueue(w);
        say_waits(w, x);
    } else {
        budget_queue(w);
    }
}

/* The operation that began it, over as many as it takes. */
static void note_affected(const struct wk *w, struct wk *x)
{
    while (x && !x->op)
        x = must_yield_to(x);
    if (x)
        op_note_affected(x->op, w->def->alias);
}

static void yield(struct wk *w)
{
    struct wk *x = must_yield_to(w);

    if (!x || (w->state != WK_UP && !(w->state == WK_STARTING && !w->waiting)))
        return;
    note_affected(w, x);
    log_write(LOG_INFO, "order", &(struct log_about){.worker = w->def->alias},
              "stops with %s, and comes back with it", x->def->alias);
    wk_event(w, WK_EV_YIELD);
}

static void review(struct wk *w)
{
    struct order *o = w->order;
    bool held = is_held(o);

    if (held != o->held) {
        o->held = held;
        for (unsigned i = 0; i < o->n_by; i++)
            set_dirty(o->by[i].w->order);
    }
    yield(w);
    if (w->waiting && !holding)
        review_start(w);
    if (w->stop_waits && !goes_before(w))
        wk_stop_now(w);
}

static void look_around(struct order *o)
{
    struct wk *w = o->w;

    review(w);
    for (unsigned i = 0; w->order && i < w->order->n_by; i++)
        review(w->order->by[i].w);
    for (unsigned i = 0; w->order && i < w->order->n_on; i++)
        if (w->order->on[i].w->stop_waits)
            review(w->order->on[i].w);
}

void order_each_before(const struct wk *w, bool stops, void (*fn)(const struct wk *other, void *arg),
                       void *arg)
{
    const struct order *o = w->order;
    const struct edge *v = !o ? NULL : stops ? o->by : o->on;

    for (unsigned i = 0, n = !o ? 0 : stops ? o->n_by : o->n_on; i < n; i++)
        if (v[i].kinds & ORDERED)
            fn(v[i].w, arg);
}

void order_round(void)
{
    struct order *o;

    if (holding)
        return;
    do {
        if (rebuild)
            order_rebuild();
        while ((o = TAILQ_FIRST(&changed))) {
            TAILQ_REMOVE(&changed, o, link);
            o->dirty = false;
            look_around(o);
        }
        budget_round();
    } while (rebuild || !TAILQ_EMPTY(&changed));
}

void order_hold(bool on)
{
    holding = on;
    if (!on)
        review_all();
}

static bool may_start(struct wk *w)
{
    const struct wk *x = awaited(w);

    if (holding)
        return false;
    if (!x)
        return budget_ask(w);
    say_waits(w, x);
    return false;
}

/* Only what somebody asked for keeps the order: what has failed is not kept alive for others. */
static bool may_stop(struct wk *w)
{
    const struct wk *x = goes_before(w);

    if (w->reason != WK_WHY_REQUESTED && w->reason != WK_WHY_RESTARTED && w->reason != WK_WHY_DEPENDENCY)
        return true;
    if (x)
        say_waits(w, x);
    return !x && known;
}

void order_known(bool begin)
{
    struct wk *w;

    known = true;
    TAILQ_FOREACH (w, &sup_workers, link)
        if (begin && w->stop_waits && !goes_before(w))
            wk_stop_now(w);
}

static void note(struct wk *w)
{
    budget_note(w);
    if (w->order)
        set_dirty(w->order);
}

void order_init(void)
{
    wk_host.may_start = may_start;
    wk_host.may_stop = may_stop;
    wk_host.stepped = note;
    wk_host.redefined = order_rebuild_soon;
}

void order_set_budget(const struct cfg_agent *a)
{
    budget_set(a);
}

bool order_pull(const struct wk *w)
{
    bool any = false;

    for (unsigned i = 0; w->order && i < w->order->n_on; i++) {
        struct wk *x = w->order->on[i].w;
        if (!(w->order->on[i].kinds & (NEEDED | WANTS)) || x->order->pulling)
            continue;
        x->order->pulling = true; /* Wants= may lead back */
        any = order_pull(x) || any;
        x->order->pulling = false;
        if (x->goal == WK_GOAL_UP)
            continue;
        op_want_for(x, w->def->alias);
        any = true;
    }
    return any;
}

void order_stop_all(void)
{
    stopping_all = true;
    /* what waits to stop may have been put off until all is cleared: that is not waited for */
    order_hold(false);
}

static void forget_edge(struct edge *edges, unsigned *n, const struct wk *w)
{
    unsigned left = 0;

    for (unsigned i = 0; i < *n; i++)
        if (edges[i].w != w)
            edges[left++] = edges[i];
    *n = left;
}

void order_forget(struct wk *w)
{
    budget_forget(w);
    for (unsigned i = 0; w->order && i < w->order->n_on; i++) {
        struct order *o = w->order->on[i].w->order;
        if (o)
            forget_edge(o->by, &o->n_by, w);
        set_dirty(o);
    }
    for (unsigned i = 0; w->order && i < w->order->n_by; i++) {
        struct order *o = w->order->by[i].w->order;
        if (o)
            forget_edge(o->on, &o->n_on, w);
        set_dirty(o);
    }
    drop(w);
}

void order_resume(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->state == WK_STARTING && !w->waiting)
            budget_admitted(w);
    review_all();
}
