/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/sup_left.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/sup.h"
#include "agentd/sup_plan.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define SWEEPS 16 /* in one helper */
#define SWEEP_TIMEOUT_US 20000000
#define SWEEP_AGAIN_US 100000
#define SWEEP_TRIES 3
#define KILL_AGAIN_MS 100
#define KILL_WAIT_MS 5000
#define CLEAR_TRIES 3

static struct facts *old_facts;
static size_t n_old;
static const struct cfg *first; /* the configuration until sup_left_forget */

static void remember(const struct facts *f, void *arg)
{
    struct facts *p = realloc(old_facts, (n_old + 1) * sizeof(*p));

    if (!p)
        return;
    old_facts = p;
    old_facts[n_old++] = *f;
}

const struct facts *sup_left_of(const char *alias)
{
    for (size_t i = 0; i < n_old; i++)
        if (str_eq(old_facts[i].alias, alias))
            return &old_facts[i];
    return NULL;
}

int sup_left_open(const struct cfg *cfg)
{
    first = cfg;
    return facts_open(cfg->agent.runtime_dir, remember, NULL);
}

bool sup_left_is_broken(const char *alias)
{
    return first && sup_cfg_breaks(first, alias);
}

/* A broken one stays on its last good definition, also if it never ran; one that is gone is stopped by it. */
static bool wants_stored(const char *alias)
{
    const struct facts *f = sup_left_of(alias);

    return !sup_cfg_has(first, alias) &&
           (sup_cfg_breaks(first, alias) || (f && f->phase != FACTS_NONE && f->phase != FACTS_RESTED));
}

void sup_recall(struct cfg *cfg)
{
    bool any = first->n_broken > 0;

    for (size_t i = 0; i < n_old; i++)
        any = any || wants_stored(old_facts[i].alias);
    if (any)
        cfg_stored_read(cfg, wants_stored);
}

/* --- leftovers of a dead agentd -------------------------------------------------------------------- */

static void (*cleared)(void);

/* A worker whose file was wrong at our start: what runs of it runs on, until the file is right. */
static bool is_put_off(const char *alias)
{
    return first && sup_cfg_breaks(first, alias) && !sup_find_alias(alias);
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
        if ((w->main.pid || w->held.pid || w->state == WK_UP) &&
            leaf_number(w->def->alias, name) == w->leaf_no)
            return true;
    return false;
}

/* What KillMode=process left alone is left alone by the next agentd too, unless it is of a start that nobody
 * finished. */
static bool leaf_is_left_alone(const char *name)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        const struct facts *f = sup_left_of(w->def->alias);
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

void sup_left_remove_empty(void)
{
    enum caps_scope scope;

    if (wk_host.cgroups.fd < 0)
        return;
    scope = caps_enter(CAPS_FILES);
    cgroup_root_list(&wk_host.cgroups, remove_if_leaf, NULL);
    caps_enter(scope);
}

static bool is_used(const char *name)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (cfg_stored_is_of(name, w->def))
            return true;
    return false;
}

void sup_left_forget(void)
{
    size_t n = 0;

    cfg_stored_prune(wk_host.runtime_dir, sup_count(), is_used);
    for (size_t i = 0; i < n_old; i++)
        if (is_put_off(old_facts[i].alias))
            old_facts[n++] = old_facts[i];
        else if (!sup_find_alias(old_facts[i].alias))
            facts_free_alias(old_facts[i].alias); /* not configured any more, and cleared */
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
    const struct facts *f = sup_left_of(alias);
    bool unfinished = f && (f->phase == FACTS_INTENT || f->phase == FACTS_SPAWNED);

    if (is_put_off(alias) || (w && (w->main.pid || w->held.pid || w->state == WK_UP)))
        return true;
    /* As in leaf_is_left_alone. */
    return w && w->def->kill_mode == CFG_KILL_PROCESS && !(unfinished && f->generation == generation);
}

static int waited_ms;
static struct loop_watch *sweep_again;
static unsigned sweep_failures;

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

static bool kill_match(pid_t pid, const char *rest, void *arg)
{
    struct pidref ref;
    char alias[LIMIT_ALIAS + 8];
    size_t n = strcspn(rest, ":");

    snprintf(alias, sizeof(alias), "%.*s", (int)n, rest);
    if (is_kept(alias, rest[n] ? (unsigned)strtoul(rest + n + 1, NULL, 10) : 0))
        return true;
    if (pidref_open(&ref, pid) < 0)
        return false;
    end_process(&ref);
    pidref_done(&ref);
    *(bool *)arg = true;
    return true;
}

/* Members of a dead worker's session that dropped the cookie. While there are any, the session's id is given
 * to no new process: a process that has it now, and is not main itself, means that ours are gone.
 * True in *any: there were some. */
static int end_session(const struct facts *f, bool *any)
{
    uint64_t looked = pidref_ticks(clock_boot_us());
    struct pidref_stat st;
    struct snap_tree tree;
    int r = pidref_read_stat(f->pid, &st);

    if (r < 0 && r != -ESRCH)
        return r;
    if (r == 0 && st.start != f->start)
        return 0;
    r = snap_tree_of_session(f->pid, &tree);
    for (size_t i = 0; i < tree.n; i++) {
        struct pidref ref;
        if (pidref_open(&ref, tree.pids[i]) < 0)
            continue;
        /* Older than main: not of this session. Younger than the look: the pid is somebody else's by now, or
         * the next look tells. */
        if (ref.start >= f->start && ref.start <= looked)
            end_process(&ref);
        *any |= ref.start >= f->start;
        pidref_done(&ref);
    }
    snap_tree_done(&tree);
    return r;
}

static bool end_sessions(bool *any)
{
    bool failed = false;

    for (size_t k = 0; k < n_old; k++)
        if (old_facts[k].phase >= FACTS_SPAWNED && old_facts[k].pid > 1 &&
            !is_kept(old_facts[k].alias, old_facts[k].generation))
            failed |= end_session(&old_facts[k], any) < 0;
    return failed;
}

/* Whoever is ended may have forked just before: until nobody is met. */
static int run_sweep(int out, void *arg)
{
    char prefix[32];
    bool failed = true, any = true;

    snprintf(prefix, sizeof(prefix), "%016llx:", (unsigned long long)wk_host.dir_hash);
    caps_enter(CAPS_LOOK);
    for (int i = 0; (failed || any) && i < SWEEPS; i++) {
        any = false;
        failed = end_sessions(&any);
        failed |= snap_sweep_cookie("AGENTD_COOKIE", prefix, kill_match, &any) < 0;
    }
    return failed || any;
}

/* A worker whose file has become right, and whose main process is gone or not proven to be it. Without
 * cgroups only its session is looked at: a look at all cookies would keep everybody waiting. */
void sup_left_clear_one(const struct wk *w)
{
    const struct facts *f = sup_left_of(w->def->alias);
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;
    bool any = false;

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
            end_session(f, &any);
    }
    caps_enter(scope);
}

static void sweep_without_cgroups(void);

static void on_sweep_again(int fd, short what, void *arg)
{
    loop_free(&sweep_again);
    sweep_without_cgroups();
}

static void on_sweep(int status, const char *p, size_t n, void *arg)
{
    if (status == 0) {
        cleared();
    } else if (++sweep_failures < SWEEP_TRIES) {
        sweep_again = loop_timer(SWEEP_AGAIN_US, on_sweep_again, NULL);
    } else {
        log_error("sup", "the look for leftovers of an earlier agentd failed");
        cleared();
    }
}

/* Nothing is started before: beside a leftover it would run twice. Who can't make a helper can't make a
 * worker either. */
static void sweep_without_cgroups(void)
{
    static bool said;

    if (helper_start(run_sweep, NULL, on_sweep, NULL, SWEEP_TIMEOUT_US, 16))
        return;
    if (!said)
        log_error("sup",
                  "no helper can be started to look for leftovers of an earlier agentd: until one can, "
                  "nothing is started");
    said = true;
    sweep_again = loop_timer(SWEEP_AGAIN_US, on_sweep_again, NULL);
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
