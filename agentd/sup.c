/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/sup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <signal.h>

#include "agentd/event.h"
#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/order.h"
#include "agentd/reap.h"
#include "agentd/state.h"
#include "agentd/store.h"
#include "agentd/sup_left.h"
#include "agentd/sup_plan.h"
#include "agentd/wk.h"
#include "agentd/wk_keep.h"
#include "agentd/wk_sock.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_prepare.h"
#include "agentd/wk_secret.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

struct sup_list sup_workers = TAILQ_HEAD_INITIALIZER(sup_workers);

#define N_BUCKETS 1024 /* by id: 10,000 workers at most */
static LIST_HEAD(, wk) buckets[N_BUCKETS];
static unsigned n_workers;

static const struct state *image; /* what an earlier image handed over by exec; NULL: nothing */
static bool initial = true;       /* the first sup_apply: nothing restarts, facts are looked at */

struct wk *sup_find(int64_t id)
{
    struct wk *w;

    LIST_FOREACH (w, &buckets[(uint64_t)id % N_BUCKETS], by_id)
        if (w->id == id)
            return w;
    return NULL;
}

struct wk *sup_find_alias(const char *alias)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (str_eq(w->def->alias, alias))
            return w;
    return NULL;
}

unsigned sup_count(void)
{
    return n_workers;
}

/* Brings the entries to what the workers are now; runs before each write. */
static void collect_state(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        struct store_entry *e = store_get(w->def->alias, w->id);
        if (!e)
            continue;
        if (w->removed) /* its stop is the reload's wish, not the operator's */
            continue;
        e->update_us = w->update_us;
        e->goal_up = w->goal == WK_GOAL_UP;
        e->goal_us = w->goal_us;
        e->def_hash_all = w->def->hash_all;
        if (!e->goal_by || !w->goal_by || !str_eq(e->goal_by, w->goal_by)) {
            free(e->goal_by);
            e->goal_by = w->goal_by ? strdup(w->goal_by) : NULL;
        }
    }
}

/* Another instance is this worker from now on. */
static void replace(struct wk *w, struct wk *by)
{
    order_forget(w);
    link_replace_worker(w, by);
    TAILQ_INSERT_AFTER(&sup_workers, w, by, link);
    TAILQ_REMOVE(&sup_workers, w, link);
    LIST_REMOVE(w, by_id);
    LIST_INSERT_HEAD(&buckets[(uint64_t)by->id % N_BUCKETS], by, by_id);
    order_rebuild_soon();
}

static void on_told(struct wk *w, bool failed)
{
    op_told(w, failed);
}

void sup_init(const struct cfg *cfg)
{
    int r = sup_left_open(cfg);

    if (r < 0)
        log_error("sup", "%s/facts: %s: workers can't be found again if agentd dies", cfg->agent.runtime_dir,
                  strerror(-r));
    wk_host.changed = link_changed;
    wk_host.moved = event_worker;
    wk_host.told = on_told;
    wk_host.replaced = replace;
    wk_host.rolled_back = op_rolled_back;
    order_init();
    order_set_budget(&cfg->agent);
    store_set_collect(collect_state);
    store_on_written(op_disk);
}

/* Both lists are sorted by alias, so the next one is mostly the one that is looked for. */
static const char *image_line(const char *alias)
{
    static const char *last;
    const char *from = last, *l = last;

    if (!image)
        return NULL;
    do {
        l = state_next(image, "worker", l);
        if (l && state_is(image, l, "alias", alias))
            return last = l;
    } while (l != from);
    return NULL;
}

void sup_use_image(const struct state *s)
{
    image = s;
}

void sup_save(struct buf *b)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        wk_image_save(w, b);
}

bool sup_misses_image(char *alias, size_t size)
{
    for (const char *l = image ? state_next(image, "worker", NULL) : NULL; l;
         l = state_next(image, "worker", l)) {
        _cleanup_free_ char *name = state_get_text(image, l, "alias");
        if (!name || sup_find_alias(name) ||
            (!state_get(image, l, "main") && state_is(image, l, "state", "DOWN")))
            continue;
        str_copy(alias, size, name);
        return true;
    }
    return false;
}

void sup_resume_image(void)
{
    struct wk *w;
    const char *line;

    TAILQ_FOREACH (w, &sup_workers, link)
        if ((line = image_line(w->def->alias)))
            wk_image_resume(w, image, line);
    order_resume();
    reap_sweep(); /* who ended during the exec */
}

static void store_definition(struct wk_def *def)
{
    int r = cfg_stored_save(wk_host.runtime_dir, def);

    if (r < 0)
        log_write(LOG_WARNING, "sup", &(struct log_about){.worker = def->alias},
                  "its definition can't be kept in the runtime directory: %s", strerror(-r));
}

static void insert_sorted(struct wk *w)
{
    struct wk *at;

    LIST_INSERT_HEAD(&buckets[(uint64_t)w->id % N_BUCKETS], w, by_id);
    n_workers++;
    TAILQ_FOREACH_REVERSE(at, &sup_workers, sup_list, link)
    if (strcmp(at->def->alias, w->def->alias) < 0) {
        TAILQ_INSERT_AFTER(&sup_workers, at, w, link);
        return;
    }
    TAILQ_INSERT_HEAD(&sup_workers, w, link);
}

static void remove_leaves(const struct wk *w)
{
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;

    if (wk_host.cgroups.fd < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    for (unsigned no = 0; no <= w->leaf_no; no++) {
        wk_leaf_name(w, no, name);
        wk_leaf_remove_empty(name);
    }
    caps_enter(scope);
}

static void forget(struct wk *w)
{
    op_worker_gone(w);
    link_forget(w);
    order_forget(w);
    TAILQ_REMOVE(&sup_workers, w, link);
    LIST_REMOVE(w, by_id);
    n_workers--;
    facts_free_slot(w->slot);
    history_forget(w);
    cfg_stored_forget(wk_host.runtime_dir, w->def);
    remove_leaves(w);
    wk_keep_forget(w);
    wk_free(w);
}

static void take_state(struct wk *w, const struct store_entry *e)
{
    w->create_us = e->create_us;
    w->update_us = e->update_us;
    w->goal_us = e->goal_us;
    w->goal = e->goal_up ? WK_GOAL_UP : WK_GOAL_DOWN;
    if (e->goal_by)
        w->goal_by = strdup(e->goal_by);
    if (e->def_hash_all && e->def_hash_all != w->def->hash_all)
        w->update_us = clock_wall_us();
}

/* It was up, and nobody has asked for its end: then it had come to be wanted, and agentd died before that was
 * on disk. */
static void recall_goal(struct wk *w, const struct facts *f)
{
    if (w->goal == WK_GOAL_UP || f->phase != FACTS_READY || op_stops(w->def->alias))
        return;
    w->goal = WK_GOAL_UP;
    w->goal_us = clock_wall_us();
    w->goal_disk = store_changed();
}

/* changed: its file is another one than when the state was written, so its limits may be. */
static void adopt_if_it_runs(struct wk *w, bool changed)
{
    const struct facts *f = sup_left_of(w->def->alias);
    const char *line = image_line(w->def->alias);
    struct op *o;

    if (line) {
        wk_image_load(w, image, line);
        return;
    }
    if (!f || !wk_adopt(w, f))
        return;
    if ((o = op_aimed(w, &w->main)))
        op_taken(w, o);
    recall_goal(w, f);
    wk_event(w, WK_EV_ADOPT);
    if (f->phase == FACTS_ENDING && w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_RESTART); /* nobody knows what of its tree has heard of its end already */
    else if (changed)
        wk_live_apply(w, NULL);
}

/* Over an exec a running worker keeps its id, whatever its file says since. */
static int64_t id_of(const struct wk_def *def)
{
    const char *line = image_line(def->alias);
    int64_t id = line ? state_get(image, line, "id") : 0;

    return id > 0 ? id : def->id;
}

static struct wk *add(struct wk_def *def)
{
    struct store_entry *e = store_get(def->alias, id_of(def));
    struct wk *w = NULL;

    if (e && cfg_expand_late(def, e->id) == 0) {
        def->id = e->id;
        w = wk_new(def, e->id);
    } else {
        cfg_def_free(def);
    }
    if (!w) {
        log_error("sup", "no memory for a worker");
        return NULL;
    }
    take_state(w, e);
    /* (an upgrade takes nothing away: that is a reload's) */
    w->broken = w->def->stored && (image || sup_left_is_broken(w->def->alias));
    store_definition(w->def);
    insert_sorted(w);
    wk_res_load(w);
    wk_changed(w);
    adopt_if_it_runs(w, e->def_hash_all && e->def_hash_all != w->def->hash_all);
    history_settle(w);
    if (!initial && !w->main.pid)
        sup_left_clear_one(w);
    if (!initial && !w->main.pid && w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_START);
    return w;
}

/* What is to be said of a worker whose definition was taken over. */
static const char *detail_of(const struct wk *w, const char *detail)
{
    static char text[512];
    char keys[200];

    if (w->live_refused && w->message)
        return w->message;
    if (!w->res_lost)
        return detail;
    snprintf(text, sizeof(text), "%s%swithout effect: %s", detail, *detail ? "; " : "",
             wk_res_lost(w, "=", keys, sizeof(keys)));
    return text;
}

static void plan_line(struct buf *plan, const char *alias, const char *action, const char *detail,
                      const char *keys)
{
    if (plan)
        sup_plan_line(plan, alias, action, detail, keys);
    if (!initial)
        log_write(LOG_INFO, "sup", &(struct log_about){.worker = alias}, "reload: %s%s%s", action,
                  detail[0] ? ": " : "", detail);
}

static void update(struct wk *w, struct wk_def *def, struct buf *plan)
{
    struct sup_verdict v;
    bool back = w->removed, restart;

    sup_judge(w, def, &v);
    w->removed = w->broken = false;
    w->def->stored = false;
    def->id = w->id;
    if (cfg_expand_late(def, w->id) < 0) {
        plan_line(plan, def->alias, "keep", "no memory", "");
        cfg_def_free(def);
        return;
    }
    if (back)
        w->goal = WK_GOAL_UP;
    if (def->hash_all != w->def->hash_all)
        store_definition(def);
    restart = wk_set_def(w, def) && w->goal == WK_GOAL_UP;
    if (v.action)
        plan_line(plan, w->def->alias, v.action, detail_of(w, v.detail), v.keys);
    if (restart)
        op_override(w, WIRE_VERB_RESTART);
    if (back)
        op_override(w, WIRE_VERB_START);
}

bool sup_runs_commands(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->hook || w->finding || w->find_again || w->twin || w->secret || w->undo ||
            (w->start && w->start->preparing))
            return true;
    return false;
}

static unsigned n_removed; /* workers that only wait to be down */

bool sup_is_removing(void)
{
    return n_removed > 0;
}

void sup_forget_removed(void)
{
    struct wk *w, *next;

    if (!n_removed)
        return;
    n_removed = 0;
    for (w = TAILQ_FIRST(&sup_workers); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->removed && w->state == WK_DOWN && !w->twin)
            forget(w);
        else
            n_removed += w->removed;
    }
}

/* Those that the configuration does not name any more, before new ones may take their ids. */
static void drop_missing(const struct cfg *cfg, struct buf *plan)
{
    struct wk *w, *next;

    for (w = TAILQ_FIRST(&sup_workers); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (sup_cfg_has(cfg, w->def->alias))
            continue;
        if (sup_cfg_breaks(cfg, w->def->alias)) {
            plan_line(plan, w->def->alias, "keep", sup_cfg_why(cfg, w->def->alias), "");
            w->broken = true;
            wk_changed(w);
            continue;
        }
        if (!w->removed)
            plan_line(plan, w->def->alias, "remove", "its file is gone", "");
        w->removed = true;
        n_removed++;
        op_override(w, WIRE_VERB_STOP);
    }
    sup_forget_removed();
}

static bool again; /* a file waits for the id of a worker that is still stopping */

bool sup_wants_reload(void)
{
    bool wants = again && !n_removed;

    again = again && !wants;
    return wants;
}

/* A file's Id= is in other hands, or not what the running worker goes by. */
static bool is_refused(const struct cfg *cfg, const struct wk_def *def, const struct wk *w, struct buf *plan)
{
    bool waits;
    const char *why = sup_refusal(cfg, def, w, &waits);
    struct sup_verdict v = {.keys = ""};

    again = again || waits;
    if (why && w)
        sup_judge(w, def, &v);
    if (why) {
        plan_line(plan, def->alias, waits ? "add" : "refuse", why, v.keys);
        if (initial)
            log_write(LOG_ERR, "sup", &(struct log_about){.worker = def->alias}, "left out: %s", why);
    }
    return why != NULL;
}

static void apply_one(const struct cfg *cfg, struct wk_def *def, struct buf *plan)
{
    struct wk *w = sup_find_alias(def->alias);

    if (is_refused(cfg, def, w, plan)) {
        cfg_def_free(def);
    } else if (w) {
        update(w, def, plan);
    } else {
        w = add(def);
        if (w)
            plan_line(plan, w->def->alias, "add",
                      detail_of(w, w->def->fault ? sup_cfg_why(cfg, w->def->alias) : ""), "");
    }
}

void sup_apply(struct cfg *cfg, struct buf *plan)
{
    order_hold(true);
    order_set_budget(&cfg->agent);
    drop_missing(cfg, plan);
    for (unsigned i = 0; i < cfg->n_workers; i++) /* those that run keep their ids */
        if (cfg->workers[i] && cfg->workers[i]->stored)
            apply_one(cfg, TAKE_PTR(cfg->workers[i]), plan);
    /* Those with Id= first: the others take what is left. */
    for (int with_id = 1; with_id >= 0; with_id--)
        for (unsigned i = 0; i < cfg->n_workers; i++)
            if (cfg->workers[i] && (cfg->workers[i]->id != 0) == with_id)
                apply_one(cfg, TAKE_PTR(cfg->workers[i]), plan);
    for (unsigned i = 0; i < cfg->n_nameless; i++)
        if (!sup_find_alias(cfg->nameless[i]->alias))
            apply_one(cfg, TAKE_PTR(cfg->nameless[i]), plan);
    if (!initial)
        for (unsigned i = 0; plan && i < cfg->n_broken; i++)
            if (!sup_find_alias(cfg->broken[i]))
                plan_line(plan, cfg->broken[i], "refuse", sup_cfg_why(cfg, cfg->broken[i]), "");
    order_rebuild();
    if (initial)
        order_known(!image); /* over an exec it goes on where it was, later */
    order_hold(initial);     /* at first until it is known what is left of an earlier agentd */
    initial = false;
    store_changed();
}

/* Those whose file is gone run on a definition from the store only until they are stopped by it. */
static void remove_stored(struct wk *w)
{
    w->removed = true;
    n_removed++;
    op_override(w, WIRE_VERB_STOP);
}

void sup_start_wanted(void)
{
    struct wk *w, *next;

    sup_left_forget();
    wk_secret_sweep();
    for (w = TAILQ_FIRST(&sup_workers); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->def->stored && !w->broken)
            remove_stored(w);
        if (w->state == WK_DOWN && !w->held.pid && (w->goal != WK_GOAL_UP || w->rested) &&
            !image_line(w->def->alias))
            wk_prepare_clear(w);
        if (w->goal != WK_GOAL_UP || w->state != WK_DOWN || w->rested || image_line(w->def->alias))
            continue;
        wk_sock_take_kept(w);
        if (w->unobserved)
            wk_adopt_ended(w);
        else
            wk_event(w, WK_EV_START);
    }
    order_hold(false);
    order_round();
}

/* --- the end ----------------------------------------------------------------------------------------- */

void sup_stop_all(void)
{
    struct wk *w;

    collect_state();
    store_set_collect(NULL); /* stopping with agentd is no wish of the operator's: it is not written down */
    order_stop_all();
    TAILQ_FOREACH_REVERSE(w, &sup_workers, sup_list, link)
    op_override(w, WIRE_VERB_STOP);
}

bool sup_all_down(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->state != WK_DOWN || w->twin || w->undo)
            return false;
    return true;
}

void sup_done(void)
{
    struct wk *w;

    while ((w = TAILQ_FIRST(&sup_workers))) {
        TAILQ_REMOVE(&sup_workers, w, link);
        order_forget(w);
        if (w->twin)
            wk_free(w->twin);
        wk_free(w);
    }
    sup_left_remove_empty();
    facts_close();
}
