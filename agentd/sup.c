/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/sup.h"

#include <errno.h>
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
#define KILL_AGAIN_MS 100
#define CLEAR_TRIES 3

struct sup_list sup_workers = TAILQ_HEAD_INITIALIZER(sup_workers);

#define N_BUCKETS 1024 /* by id: 10,000 workers at most */
static LIST_HEAD(, wk) buckets[N_BUCKETS];
static unsigned n_workers;

/* What an earlier agentd left, until sup_apply has used it. */
static struct facts *old_facts;
static size_t n_old;
static const struct cfg *first; /* the configuration until sup_start_wanted */
static bool initial = true;     /* the first sup_apply: nothing restarts, facts are looked at */

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
    first = cfg;
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
    TAILQ_REMOVE(&sup_workers, w, link);
    LIST_REMOVE(w, by_id);
    n_workers--;
    facts_free_slot(w->slot);
    remove_leaves(w);
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

    if (!f || !wk_adopt(w, f))
        return;
    wk_event(w, WK_EV_ADOPT);
    if (f->phase == FACTS_ENDING && w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_RESTART); /* nobody knows what of its tree has heard of its end already */
}

static void clear_unproven(const struct wk *w);

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
    adopt_if_it_runs(w);
    if (!initial && !w->main.pid)
        clear_unproven(w);
    if (!initial && !w->main.pid && w->goal == WK_GOAL_UP)
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

static bool again; /* a file waits for the id of a worker that is still stopping */

bool sup_wants_reload(void)
{
    bool wants = again && !n_removed;

    again = again && !wants;
    return wants;
}

/* A file's Id= is in other hands, or not what the running worker goes by. */
static bool is_refused(const struct wk_def *def, const struct wk *w, struct buf *plan)
{
    const struct wk *holder = def->id ? sup_find(def->id) : NULL;
    const char *why = NULL;

    if (holder && holder != w && holder->removed) {
        again = true; /* a file that was renamed */
        why = "waits for the worker that had its Id= to stop";
    } else if (holder && holder != w) {
        why = "its Id= is another worker's";
    } else if (w && def->id && def->id != w->id) {
        why = "its Id= changed: restart agentd to renumber";
    }
    if (why) {
        plan_line(plan, def->alias, "refuse", why);
        if (initial)
            log_write(LOG_ERR, "sup", &(struct log_about){.worker = def->alias}, "left out: %s", why);
    }
    return why != NULL;
}

static void apply_one(struct wk_def *def, struct buf *plan)
{
    struct wk *w = sup_find_alias(def->alias);

    if (is_refused(def, w, plan)) {
        cfg_def_free(def);
    } else if (w) {
        update(w, def, plan);
    } else {
        plan_line(plan, def->alias, "add", "");
        add(def);
    }
}

void sup_apply(struct cfg *cfg, struct buf *plan)
{
    drop_missing(cfg, plan);
    /* Those with Id= first: the others take what is left. */
    for (int with_id = 1; with_id >= 0; with_id--)
        for (unsigned i = 0; i < cfg->n_workers; i++)
            if (cfg->workers[i] && (cfg->workers[i]->id != 0) == with_id)
                apply_one(TAKE_PTR(cfg->workers[i]), plan);
    for (unsigned i = 0; i < cfg->n_nameless; i++)
        if (!sup_find_alias(cfg->nameless[i]->alias))
            apply_one(TAKE_PTR(cfg->nameless[i]), plan);
    if (!initial)
        for (unsigned i = 0; plan && i < cfg->n_broken; i++)
            if (!sup_find_alias(cfg->broken[i]))
                plan_line(plan, cfg->broken[i], "refuse", "its file is wrong");
    initial = false;
    store_changed();
}

/* --- leftovers of a dead agentd -------------------------------------------------------------------- */

static void (*cleared)(void);

/* A worker whose file was wrong at our start: what runs of it runs on, until the file is right. */
static bool is_put_off(const char *alias)
{
    return first && is_broken(first, alias) && !sup_find_alias(alias);
}

/* The number of the alias's leaf that has this name, or -1. An alias has no '~'. */
static int leaf_number(const char *alias, const char *name)
{
    size_t n = strlen(alias);
    unsigned long no;
    char *end;

    if (!str_starts(name, "w-") || strncmp(name + 2, alias, n) != 0)
        return -1;
    name += 2 + n;
    if (!*name)
        return 0;
    if (name[0] != '~' || !strchr("123456789", name[1]))
        return -1;
    no = strtoul(name + 1, &end, 10);
    return *end || no >= FACTS_NO_LEAF ? -1 : (int)no;
}

/* The leaf of a worker that was adopted, or is put off, holds what belongs there. */
static bool leaf_is_in_use(const char *name)
{
    struct wk *w;

    for (unsigned i = 0; first && i < first->n_broken; i++)
        if (is_put_off(first->broken[i]) && leaf_number(first->broken[i], name) >= 0)
            return true;
    TAILQ_FOREACH (w, &sup_workers, link)
        if (w->main.pid && leaf_number(w->def->alias, name) == w->leaf_no)
            return true;
    return false;
}

/* What KillMode=process left alone is left alone by the next agentd too, unless it is of a start that nobody
 * finished. */
static bool leaf_is_left_alone(const char *name)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        const struct facts *f = old_of(w->def->alias);
        int no = w->def->kill_mode == CFG_KILL_PROCESS ? leaf_number(w->def->alias, name) : -1;
        if (no < 0)
            continue;
        if (!w->main.pid && no > w->leaf_no)
            w->leaf_no = (uint8_t)no; /* so that the next start looks at it again */
        return !f || f->phase == FACTS_NONE || f->phase >= FACTS_READY || f->leaf != no;
    }
    return false;
}

static bool unclear; /* of some leaf it could not be told whether it is empty */

static void end_members(const char *name)
{
    struct cgroup_leaf leaf;
    int waited = 0, populated;

    if (cgroup_leaf_open(&wk_host.cgroups, name, &leaf) < 0) {
        unclear = true;
        return;
    }
    if ((populated = cgroup_leaf_populated(&leaf)) != 0) {
        log_warn("sup", "%s: processes that an earlier agentd left without a proven main process are ended",
                 name);
        for (; populated != 0 && waited < KILL_WAIT_MS; waited++) {
            if (waited % KILL_AGAIN_MS == 0)
                cgroup_leaf_kill(&leaf);
            poll(NULL, 0, 1); /* at start, before READY: nothing else is kept waiting */
            populated = cgroup_leaf_populated(&leaf);
        }
        if (waited == KILL_WAIT_MS)
            log_error("sup", "%s: some of them are killed and still there", name);
    }
    cgroup_leaf_done(&leaf);
}

static void clear_leaf(const char *name, void *arg)
{
    if (!str_starts(name, "w-") || leaf_is_in_use(name))
        return;
    if (!leaf_is_left_alone(name))
        end_members(name);
    wk_leaf_remove_empty(name);
}

static void remove_if_leaf(const char *name, void *arg)
{
    if (str_starts(name, "w-"))
        wk_leaf_remove_empty(name);
}

static void remove_empty_leaves(void)
{
    enum caps_scope scope;

    if (wk_host.cgroups.fd < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    cgroup_root_list(&wk_host.cgroups, remove_if_leaf, NULL);
    caps_enter(scope);
}

static void keep_facts_of_broken(void)
{
    size_t n = 0;

    for (size_t i = 0; i < n_old; i++)
        if (is_put_off(old_facts[i].alias))
            old_facts[n++] = old_facts[i];
    n_old = n;
    first = NULL; /* a reload replaces it */
    if (n)
        return;
    free(old_facts);
    old_facts = NULL;
}

/* --- the same without cgroups: in a helper, which has all of our memory -------------------------------- */

static bool is_kept(const char *alias, unsigned generation)
{
    const struct wk *w = sup_find_alias(alias);
    const struct facts *f = old_of(alias);
    bool unfinished = f && (f->phase == FACTS_INTENT || f->phase == FACTS_SPAWNED);

    if (is_put_off(alias) || (w && w->main.pid))
        return true;
    /* As in leaf_is_left_alone. */
    return w && w->def->kill_mode == CFG_KILL_PROCESS && !(unfinished && f->generation == generation);
}

static int waited_ms;

static void end_process(const struct pidref *ref)
{
    struct pollfd gone = {.fd = ref->fd, .events = POLLIN};

    caps_enter(CAPS_SIGNAL);
    pidref_signal(ref, SIGKILL);
    caps_enter(CAPS_LOOK);
    /* So that the next incarnation does not meet it; not for ever. */
    for (; ref->fd >= 0 && waited_ms < KILL_WAIT_MS && poll(&gone, 1, 1) == 0; waited_ms++)
        ;
}

static void kill_match(pid_t pid, const char *rest, void *arg)
{
    struct pidref ref;
    char alias[LIMIT_ALIAS + 8];
    size_t n = strcspn(rest, ":");

    snprintf(alias, sizeof(alias), "%.*s", (int)n, rest);
    if (is_kept(alias, rest[n] ? (unsigned)strtoul(rest + n + 1, NULL, 10) : 0) || pidref_open(&ref, pid) < 0)
        return;
    end_process(&ref);
    pidref_done(&ref);
}

/* Members of a dead worker's session that dropped the cookie. While there are any, the session's id is given
 * to no new process: a process that has it now, and is not main itself, means that ours are gone. */
static void end_session(const struct facts *f)
{
    uint64_t looked = pidref_ticks(clock_boot_us());
    struct pidref_stat st;
    struct snap_tree tree;
    int r = pidref_read_stat(f->pid, &st);

    if (r != -ESRCH && (r < 0 || st.start != f->start))
        return;
    if (snap_tree_of_session(f->pid, &tree) < 0)
        return;
    for (size_t i = 0; i < tree.n; i++) {
        struct pidref ref;
        if (pidref_open(&ref, tree.pids[i]) < 0)
            continue;
        /* Older than main: not of this session. Younger than the look: the pid is somebody else's by now. */
        if (ref.start >= f->start && ref.start <= looked)
            end_process(&ref);
        pidref_done(&ref);
    }
    snap_tree_done(&tree);
}

static int run_sweep(int out, void *arg)
{
    char prefix[32];

    snprintf(prefix, sizeof(prefix), "%016llx:", (unsigned long long)wk_host.dir_hash);
    caps_enter(CAPS_LOOK);
    /* Twice: a process that was forked while we looked is met by the second look. */
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < n_old; k++)
            if (old_facts[k].phase >= FACTS_SPAWNED && old_facts[k].pid > 1 &&
                !is_kept(old_facts[k].alias, old_facts[k].generation))
                end_session(&old_facts[k]);
        if (snap_sweep_cookie("AGENTD_COOKIE", prefix, kill_match, NULL) < 0)
            return 1;
    }
    return 0;
}

/* A worker whose file has become right, and whose main process is gone or not proven to be it. Without
 * cgroups only its session is looked at: a look at all cookies would keep everybody waiting. */
static void clear_unproven(const struct wk *w)
{
    const struct facts *f = old_of(w->def->alias);
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;

    if (!f)
        return;
    if (wk_host.cgroups.fd >= 0 && f->leaf != FACTS_NO_LEAF) {
        scope = caps_enter(CAPS_FILES);
        wk_leaf_name(w, f->leaf, name);
        clear_leaf(name, NULL);
    } else {
        scope = caps_enter(CAPS_LOOK);
        waited_ms = 0;
        if (f->phase >= FACTS_SPAWNED && f->pid > 1 && !is_kept(f->alias, f->generation))
            end_session(f);
    }
    caps_enter(scope);
}

static void on_sweep(int status, const char *p, size_t n, void *arg)
{
    if (status != 0)
        log_error("sup", "the look for leftovers of an earlier agentd failed");
    cleared();
}

static void sweep_without_cgroups(void)
{
    if (!helper_start(run_sweep, NULL, on_sweep, NULL, SWEEP_TIMEOUT_US, 16))
        cleared();
}

/* An earlier agentd could not use cgroups: what it made is in no leaf. */
static bool any_without_leaf(void)
{
    for (size_t i = 0; i < n_old; i++)
        if (old_facts[i].leaf == FACTS_NO_LEAF)
            return true;
    return false;
}

/* True if all leaves were looked at, and those that had to be are empty. */
static bool clear_leaves(void)
{
    enum caps_scope scope = caps_enter(CAPS_FILES);
    int r = -EAGAIN;

    for (int i = 0; i < CLEAR_TRIES && (r < 0 || unclear); i++) {
        unclear = false;
        r = cgroup_root_list(&wk_host.cgroups, clear_leaf, NULL);
    }
    caps_enter(scope);
    return r == 0 && !unclear;
}

void sup_clear_leftovers(void (*done)(void))
{

    cleared = done;
    if (wk_host.cgroups.fd < 0) {
        sweep_without_cgroups();
        return;
    }
    if (!clear_leaves() || any_without_leaf()) /* then their cookies tell */
        sweep_without_cgroups();
    else
        done();
}

void sup_start_wanted(void)
{
    struct wk *w;

    keep_facts_of_broken();
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
        wk_free(w);
    }
    remove_empty_leaves();
    facts_close();
}
