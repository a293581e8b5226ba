/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl adopt: a process that agentd did not start becomes a worker's main process. Its pidfd is taken
 * first, so that all that is found out is about that one process; then a helper compares it with what a start
 * would have made; then it is on record; then it and its descendants are moved into the leaf; then its start
 * ticks are looked at again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/reap.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_drain.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/alike.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define JUDGE_TIMEOUT_US 10000000
#define MOVES 16      /* looks for descendants that were forked meanwhile */
#define MOVE_ERRORS 3 /* what stays behind could leave its tree unseen: a refusal that passes is outlived */

/* One at a time of each worker; lives until the helper has answered. */
struct take {
    char alias[LIMIT_ALIAS + 1], op[24];
    uint64_t def_hash; /* that it was compared with */
    pid_t reader;      /* of its output until now, and from now on agentd-drain; 0: nobody */
    struct pidref ref;
};

static void free_take(struct take *t)
{
    pidref_done(&t->ref);
    free(t);
}

void wk_take_refuse(struct wk *w, struct op *o, const char *fmt, ...)
{
    char text[700];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    op_refused(w, o, WIRE_E_ADOPT_REFUSED, text);
}

struct op *wk_take_begin(const struct wire_call *c, struct wk **ret)
{
    struct wk *w = *ret = sup_find_alias(c->name);

    if (op_repeats(c))
        return NULL;
    if (w && !w->op && !w->removed)
        return op_begin_of(w, c);
    link_reply(&(struct wire_reply){.call = c->call,
                                    .error = w ? WIRE_E_CONFLICT : WIRE_E_NO_PROCESS,
                                    .message = w ? "another operation of this worker is under way"
                                                 : "there is no worker of this alias"});
    return NULL;
}

/* --- the proof ------------------------------------------------------------------------------------------ */

struct question {
    const struct wk_def *def;
    pid_t pid;
};

static int run_judge(int out, void *arg)
{
    const struct question *q = arg;
    struct alike_want want = {.uid = q->def->ids.set ? q->def->ids.uid : geteuid(),
                              .gid = q->def->ids.set ? q->def->ids.gid : getegid(),
                              .path = q->def->exec.path,
                              .argv = q->def->exec.argv};
    char why[600];
    int r;

    caps_enter(CAPS_LOOK);
    r = alike_judge(q->pid, &want, why, sizeof(why));
    fd_write_all(out, why, strlen(why));
    return r < 0;
}

/* In a cgroup of another worker of ours, or one of our own processes: then it is not up for taking. */
static const char *owner_of(pid_t pid)
{
    static char text[LIMIT_ALIAS + 32];
    struct wk *w;
    struct snap_tree tree;
    bool found;

    TAILQ_FOREACH (w, &sup_workers, link) {
        if (w->main.pid == pid || w->held.pid == pid) {
            snprintf(text, sizeof(text), "worker %s", w->def->alias);
            return text;
        }
        if (w->leaf.fd < 0 || snap_tree_of_leaf(&w->leaf, &tree) < 0)
            continue;
        found = snap_tree_has(&tree, pid);
        snap_tree_done(&tree);
        if (found) {
            snprintf(text, sizeof(text), "worker %s", w->def->alias);
            return text;
        }
    }
    return pid == getpid() || reap_knows(pid) ? "agentd itself" : NULL;
}

/* --- the move ------------------------------------------------------------------------------------------- */

/* Those below main that are not in the leaf yet: how many were moved, or -errno. What they fork from now on
 * is born in it. */
static int move_others(struct wk *w)
{
    struct snap_tree inside, below;
    int n = 0, error = 0, r;

    if ((r = snap_tree_of_leaf(&w->leaf, &inside)) < 0)
        return r;
    r = snap_tree_below(w->main.pid, &below);
    for (size_t i = 0; i < below.n; i++) {
        if (snap_tree_has(&inside, below.pids[i]))
            continue;
        r = cgroup_leaf_add(&w->leaf, below.pids[i]);
        n += r == 0;
        error = r < 0 && r != -ESRCH ? r : error;
    }
    snap_tree_done(&inside);
    snap_tree_done(&below);
    return error ? error : r < 0 ? r : n;
}

int wk_take_rest(struct wk *w)
{
    enum caps_scope scope = caps_enter(CAPS_FILES);
    int r = 0, errors = 0;

    for (int i = 0; w->leaf.fd >= 0 && i < MOVES; i++)
        if ((r = move_others(w)) == 0 || (r < 0 && ++errors == MOVE_ERRORS))
            break;
    caps_enter(scope);
    return r < 0 ? r : 0;
}

/* Without a leaf its session is what its tree is known by: it has to have one of its own. */
static bool has_own_session(pid_t pid)
{
    struct pidref_stat st;

    return pidref_read_stat(pid, &st) == 0 && st.session == pid;
}

/* --- taking it -------------------------------------------------------------------------------------------
 */

static void hand_over(struct wk *w, struct pidref ref)
{
    wk_adopt_let_go(w);
    w->generation++;
    w->main = ref;
    w->session = has_own_session(ref.pid) ? ref.pid : 0;
    w->adopted = true;
    w->never_ran = w->barked = false;
    w->ran_hash = w->def->hash;
    w->cpu_from = 0; /* what it used before is not in the leaf */
    w->leaf_empty = false;
    w->leaf_spoiled = true; /* its members came from elsewhere: the next start makes a new one */
    w->started_us = clock_wall_us() - (int64_t)(clock_boot_us() - pidref_start_us(ref.start));
    w->exec_mono_us = clock_mono_us() - (clock_boot_us() - pidref_start_us(ref.start));
    if (snap_uid(ref.pid, &w->uid) < 0)
        w->uid = w->def->ids.set ? w->def->ids.uid : geteuid();
}

/* Not taken after all: it is left where it is, and nobody's. */
static void give_back(struct wk *w)
{
    pidref_done(&w->main);
    w->main = (struct pidref)PIDREF_NULL;
    w->session = 0;
    w->adopted = false;
    w->exec_mono_us = 0;
    wk_res_done(w);
    wk_put_facts(w, FACTS_NONE);
    wk_changed(w);
}

/* 0 or -errno; once main is in the leaf it is ours: what can't be moved of the rest is said. */
static int move(struct wk *w, char *left, size_t size)
{
    enum caps_scope scope;
    int r;

    if (wk_host.cgroups.fd < 0)
        return 0;
    scope = caps_enter(CAPS_FILES);
    r = cgroup_leaf_add(&w->leaf, w->main.pid);
    caps_enter(scope);
    if (r < 0)
        return r;
    if ((r = wk_take_rest(w)) < 0)
        snprintf(left, size,
                 "taken over, but some of its descendants could not be moved into the worker's cgroup: %s",
                 strerror(-r));
    return 0;
}

static void take(struct wk *w, struct op *o, struct take *t)
{
    char left[200] = "";
    enum pidref_check still;
    pid_t reader = t->reader;
    int r;

    if (wk_host.cgroups.fd >= 0 && (r = wk_start_leaf(w)) < 0) {
        wk_take_refuse(w, o, "its cgroup can't be made: %s", strerror(-r));
        return;
    }
    op_aim(w, o, &t->ref);
    hand_over(w, t->ref);
    t->ref = (struct pidref)PIDREF_NULL;
    /* Before it is moved: an agentd that dies here finds it, in the leaf or not. */
    wk_put_facts(w, FACTS_READY);
    r = move(w, left, sizeof(left));
    still = pidref_check(&w->main);
    if (r < 0 || still != PIDREF_SAME) {
        give_back(w);
        if (r < 0)
            wk_take_refuse(w, o, "it can't be moved into the worker's cgroup: %s", strerror(-r));
        else
            wk_take_refuse(w, o,
                           still == PIDREF_GONE ? "it ended meanwhile"
                                                : "it can't be told whether it is still the same");
        return;
    }
    op_taken(w, o);
    history_begin(w);
    wk_adopt_watch(w);
    wk_event(w, WK_EV_ADOPT);
    log_write(LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias, .event = "adopted"},
              "process %d was taken over%s%s", (int)w->main.pid, left[0] ? ": " : "", left);
    if (reader && (r = wk_drain_start(w, reader)) < 0)
        snprintf(left, sizeof(left),
                 "taken over, but what it writes can't be read on: %s: its next write may end it",
                 strerror(-r));
    op_reached(w, left);
}

static bool is_free(const struct wk *w)
{
    return w->main.pid == 0 && (w->state == WK_DOWN || w->state == WK_BACKOFF || w->state == WK_COOLDOWN);
}

static void on_judged(int status, const char *p, size_t n, void *arg)
{
    struct take *t = arg;
    struct wk *w = sup_find_alias(t->alias);
    struct op *o = (struct op *)op_find(t->op);

    if (!w || !o || w->op != o) { /* superseded */
        free_take(t);
        return;
    }
    if (status != 0)
        wk_take_refuse(w, o, "process %d: %s", (int)t->ref.pid, n ? p : "it could not be looked at");
    else if (!is_free(w))
        wk_take_refuse(w, o, "the worker is not down");
    else if (w->def->hash_all != t->def_hash)
        wk_take_refuse(w, o, "the worker's definition changed meanwhile");
    else if (pidref_check(&t->ref) != PIDREF_SAME)
        wk_take_refuse(w, o, "process %d ended meanwhile", (int)t->ref.pid);
    else
        take(w, o, t);
    free_take(t);
}

static const char *unfit(const struct wk *w, pid_t pid, pid_t reader)
{
    static char text[LIMIT_ALIAS + 64];
    const char *owner;

    if (!is_free(w))
        return "the worker is not down: stop it first, or wait until it is";
    if ((owner = owner_of(pid))) {
        snprintf(text, sizeof(text), "the process belongs to %s", owner);
        return text;
    }
    if (wk_host.cgroups.fd < 0 && reader)
        return "without cgroups nobody can read on what it writes: who does would not be told from it";
    if (wk_host.cgroups.fd < 0 && !has_own_session(pid))
        return "without cgroups only a process with a session of its own can be taken over: its tree could "
               "not be told";
    return NULL;
}

static void begin(struct wk *w, struct op *o, pid_t pid, pid_t reader)
{
    struct take *t = calloc(1, sizeof(*t));
    struct question q = {w->def, pid};
    const char *why;
    int r;

    if (!t || (r = pidref_open(&t->ref, pid)) < 0) {
        wk_take_refuse(w, o, "there is no process %d", (int)pid);
        free(t);
        return;
    }
    str_copy(t->alias, sizeof(t->alias), w->def->alias);
    str_copy(t->op, sizeof(t->op), o->id);
    t->def_hash = w->def->hash_all;
    t->reader = reader;
    if ((why = unfit(w, pid, reader)))
        wk_take_refuse(w, o, "%s", why);
    else if (helper_start(run_judge, &q, on_judged, t, JUDGE_TIMEOUT_US, 1024))
        return;
    else
        wk_take_refuse(w, o, "no helper can be started to look at it");
    free_take(t);
}

void wk_take(const struct wire_call *c)
{
    struct wk *w;
    struct op *o = wk_take_begin(c, &w);

    if (o)
        begin(w, o, (pid_t)c->pid, (pid_t)c->from);
}
