/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/sup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <signal.h>

#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/store.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define SWEEP_TIMEOUT_US 20000000
#define KILL_WAIT_MS 5000

struct sup_list sup_workers = TAILQ_HEAD_INITIALIZER(sup_workers);

#define N_BUCKETS 1024 /* by id: 10,000 workers at most */
static LIST_HEAD(, wk) buckets[N_BUCKETS];
static unsigned n_workers;

/* What an earlier agentd left, until sup_apply has used it. */
static struct facts *old_facts;
static size_t n_old;
static bool initial = true; /* the first sup_apply: nothing restarts, facts are looked at */

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

static void remember(const struct facts *f, void *arg)
{
    struct facts *p = realloc(old_facts, (n_old + 1) * sizeof(*p));

    if (!p)
        return;
    old_facts = p;
    old_facts[n_old++] = *f;
}

static const struct facts *old_of(const char *alias)
{
    for (size_t i = 0; i < n_old; i++)
        if (str_eq(old_facts[i].alias, alias))
            return &old_facts[i];
    return NULL;
}

/* Brings the entries to what the workers are now; runs before each write. */
static void collect_state(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        struct store_entry *e = store_get(w->def->alias, w->id);
        if (!e)
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

static void on_told(struct wk *w, bool failed)
{
    op_told(w, failed);
}

void sup_init(const struct cfg *cfg)
{
    int r = facts_open(cfg->agent.runtime_dir, remember, NULL);

    if (r < 0)
        log_error("sup", "%s/facts: %s: workers can't be found again if agentd dies", cfg->agent.runtime_dir,
                  strerror(-r));
    wk_host.changed = link_changed;
    wk_host.told = on_told;
    store_set_collect(collect_state);
    store_on_written(op_disk);
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

static void remove_leaf(const struct wk *w)
{
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;

    if (wk_host.cgroups.fd < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    wk_leaf_name(w, w->leaf_no, name);
    cgroup_leaf_remove(&wk_host.cgroups, name);
    caps_enter(scope);
}

static void forget(struct wk *w)
{
    op_worker_gone(w);
    link_forget(w);
    TAILQ_REMOVE(&sup_workers, w, link);
    LIST_REMOVE(w, by_id);
    n_workers--;
    facts_free_slot(w->slot);
    remove_leaf(w);
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

static void adopt_if_it_runs(struct wk *w)
{
    const struct facts *f = old_of(w->def->alias);

    if (f && wk_adopt(w, f))
        wk_event(w, WK_EV_ADOPT);
}

static struct wk *add(struct wk_def *def)
{
    struct store_entry *e = store_get(def->alias, def->id);
    struct wk *w = NULL;

    if (e && cfg_expand_late(def, e->id) == 0)
        w = wk_new(def, e->id);
    else
        cfg_def_free(def);
    if (!w) {
        log_error("sup", "no memory for a worker");
        return NULL;
    }
    take_state(w, e);
    insert_sorted(w);
    wk_changed(w);
    if (initial)
        adopt_if_it_runs(w);
    else if (w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_START);
    return w;
}

static void plan_line(struct buf *plan, const char *alias, const char *action, const char *detail)
{
    if (plan)
        buf_printf(plan, "%s\t%s\t%s\n", alias, action, detail);
    if (!initial)
        log_write(LOG_INFO, "sup", &(struct log_about){.worker = alias}, "reload: %s%s%s", action,
                  detail[0] ? ": " : "", detail);
}

static void update(struct wk *w, struct wk_def *def, struct buf *plan)
{
    bool differs = def->hash_all != w->def->hash_all, back = w->removed;

    w->removed = w->broken = false;
    if (cfg_expand_late(def, w->id) < 0) {
        plan_line(plan, def->alias, "keep", "no memory");
        cfg_def_free(def);
        return;
    }
    if (back)
        w->goal = WK_GOAL_UP;
    if (wk_set_def(w, def)) {
        plan_line(plan, w->def->alias, "restart", "the definition changed");
        if (w->goal == WK_GOAL_UP)
            op_override(w, WIRE_VERB_RESTART);
    } else if (differs) {
        plan_line(plan, w->def->alias, "update", "in force");
    }
    if (back)
        op_override(w, WIRE_VERB_START);
}

static bool is_in(const struct cfg *cfg, const char *alias)
{
    for (unsigned i = 0; i < cfg->n_workers; i++)
        if (cfg->workers[i] && str_eq(cfg->workers[i]->alias, alias))
            return true;
    return false;
}

static bool is_broken(const struct cfg *cfg, const char *alias)
{
    for (unsigned i = 0; i < cfg->n_broken; i++)
        if (str_eq(cfg->broken[i], alias))
            return true;
    return false;
}

static unsigned n_removed; /* workers that only wait to be down */

void sup_forget_removed(void)
{
    struct wk *w, *next;

    if (!n_removed)
        return;
    n_removed = 0;
    for (w = TAILQ_FIRST(&sup_workers); w; w = next) {
        next = TAILQ_NEXT(w, link);
        if (w->removed && w->state == WK_DOWN)
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
        if (is_in(cfg, w->def->alias))
            continue;
        if (is_broken(cfg, w->def->alias)) {
            plan_line(plan, w->def->alias, "keep", "its file is wrong: it stays on its last good definition");
            w->broken = true;
            wk_changed(w);
            continue;
        }
        plan_line(plan, w->def->alias, "remove", "its file is gone");
        w->removed = true;
        n_removed++;
        op_override(w, WIRE_VERB_STOP);
    }
    sup_forget_removed();
}

/* An id that a file now claims may be held by a worker whose file said nothing: ids given by files win, and
 * only at start. */
static bool id_is_taken(const struct wk_def *def)
{
    struct wk *w = def->id ? sup_find(def->id) : NULL;

    return w && !str_eq(w->def->alias, def->alias);
}

void sup_apply(struct cfg *cfg, struct buf *plan)
{
    drop_missing(cfg, plan);
    for (unsigned i = 0; i < cfg->n_workers; i++) {
        struct wk_def *def = TAKE_PTR(cfg->workers[i]);
        struct wk *w;
        if (!def)
            continue;
        w = sup_find_alias(def->alias);
        if (id_is_taken(def) || (w && def->id && def->id != w->id)) {
            plan_line(plan, def->alias, "refuse",
                      "its Id= is another worker's, or changed: restart agentd to renumber");
            cfg_def_free(def);
        } else if (w) {
            update(w, def, plan);
        } else {
            plan_line(plan, def->alias, "add", "");
            add(def);
        }
    }
    if (!initial)
        for (unsigned i = 0; plan && i < cfg->n_broken; i++)
            if (!sup_find_alias(cfg->broken[i]))
                plan_line(plan, cfg->broken[i], "refuse", "its file is wrong");
    initial = false;
    store_changed();
}

/* --- leftovers of a dead agentd -------------------------------------------------------------------- */

static void (*cleared)(void);

/* The number of w's leaf that has this name, or -1. */
static int leaf_number(const struct wk *w, const char *name)
{
    char own[LIMIT_ALIAS + 8];

    for (unsigned no = 0; no < 256; no++) {
        wk_leaf_name(w, no, own);
        if (str_eq(own, name))
            return (int)no;
    }
    return -1;
}

/* The leaf of a worker that was adopted holds what belongs there. What KillMode=process left alone is left
 * alone by the next agentd too, unless it is of a start that nobody finished. */
static bool leaf_is_in_use(const char *name)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        const struct facts *f = old_of(w->def->alias);
        int no = strncmp(name + 2, w->def->alias, strlen(w->def->alias)) == 0 ? leaf_number(w, name) : -1;
        if (no < 0)
            continue;
        if (w->main.pid && no == w->leaf_no)
            return true;
        if (w->def->kill_mode == CFG_KILL_PROCESS)
            return !f || f->phase == FACTS_NONE || f->phase == FACTS_READY || f->leaf != no;
    }
    return false;
}

static void clear_leaf(const char *name, void *arg)
{
    struct cgroup_leaf leaf;
    int waited = 0;

    if (!str_starts(name, "w-") || leaf_is_in_use(name) ||
        cgroup_leaf_open(&wk_host.cgroups, name, &leaf) < 0)
        return;
    if (cgroup_leaf_populated(&leaf) == 1) {
        log_warn("sup", "%s: processes that an earlier agentd left without a proven main process are ended",
                 name);
        cgroup_leaf_kill(&leaf);
        for (; cgroup_leaf_populated(&leaf) == 1 && waited < KILL_WAIT_MS; waited++)
            poll(NULL, 0, 1); /* at start, before READY: nothing else is kept waiting */
    }
    cgroup_leaf_done(&leaf);
}

struct sweep_kill {
    const char *keep; /* " pid pid ": mains that were adopted, with all that carries their cookie's alias */
};

static void kill_match(pid_t pid, const char *rest, void *arg)
{
    struct pidref ref;
    char alias[LIMIT_ALIAS + 8];
    const struct sweep_kill *s = arg;

    snprintf(alias, sizeof(alias), "\n%.*s\n", (int)strcspn(rest, ":"), rest);
    if (strstr(s->keep, alias) || pidref_open(&ref, pid) < 0)
        return;
    caps_enter(CAPS_SIGNAL);
    pidref_signal(&ref, SIGKILL);
    caps_enter(CAPS_LOOK);
    pidref_done(&ref);
}

static int run_sweep(int out, void *arg)
{
    char prefix[32];

    snprintf(prefix, sizeof(prefix), "%016llx:", (unsigned long long)wk_host.dir_hash);
    caps_enter(CAPS_LOOK);
    /* Twice: a process that was forked while we looked is met by the second look. */
    for (int i = 0; i < 2; i++)
        if (snap_sweep_cookie("AGENTD_COOKIE", prefix, kill_match, arg) < 0)
            return 1;
    return 0;
}

static void on_sweep(int status, const char *p, size_t n, void *arg)
{
    if (status != 0)
        log_error("sup", "the look for leftovers of an earlier agentd failed");
    cleared();
}

static void sweep_without_cgroups(void)
{
    static struct buf keep = BUF_INIT(1 << 20);
    static struct sweep_kill args;
    struct wk *w;

    buf_char(&keep, '\n');
    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->main.pid)
            buf_printf(&keep, "%s\n", w->def->alias);
    args.keep = keep.p ? keep.p : "";
    if (!helper_start(run_sweep, &args, on_sweep, NULL, SWEEP_TIMEOUT_US, 16))
        cleared();
    buf_free(&keep);
}

void sup_clear_leftovers(void (*done)(void))
{
    enum caps_scope scope;

    cleared = done;
    if (wk_host.cgroups.fd < 0) {
        sweep_without_cgroups();
        return;
    }
    scope = caps_enter(CAPS_FILES);
    cgroup_root_list(&wk_host.cgroups, clear_leaf, NULL);
    caps_enter(scope);
    done();
}

void sup_start_wanted(void)
{
    struct wk *w;

    free(old_facts);
    old_facts = NULL;
    n_old = 0;
    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->goal == WK_GOAL_UP && w->state == WK_DOWN)
            wk_event(w, WK_EV_START);
}

/* --- the end ----------------------------------------------------------------------------------------- */

void sup_stop_all(void)
{
    struct wk *w;

    collect_state();
    store_set_collect(NULL); /* stopping with agentd is no wish of the operator's: it is not written down */
    TAILQ_FOREACH (w, &sup_workers, link)
        op_override(w, WIRE_VERB_STOP);
}

bool sup_all_down(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->state != WK_DOWN)
            return false;
    return true;
}

void sup_done(void)
{
    struct wk *w;

    while ((w = TAILQ_FIRST(&sup_workers))) {
        TAILQ_REMOVE(&sup_workers, w, link);
        if (w->state == WK_DOWN)
            remove_leaf(w);
        wk_free(w);
    }
    facts_close();
}
