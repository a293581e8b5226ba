/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl release: the way back from adopt. A worker that agentd did not start runs on, and is agentd's no
 * more: its tree goes into the cgroup of another process, whoever had it before, and the worker is down
 * without a signal. Its main process is moved last: an agentd that dies on the way finds it in the leaf, and
 * has the worker as before, or finds it elsewhere, and touches nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "agentd/reap.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_drain.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define LOOK_TIMEOUT_US 10000000
#define MOVES 16 /* looks for what was forked meanwhile */

struct release {
    char alias[LIMIT_ALIAS + 1], op[24];
    struct pidref to; /* whose cgroup it goes into */
    pid_t main;
    uint64_t start;
};

static void free_release(struct release *t)
{
    pidref_done(&t->to);
    free(t);
}

/* --- the move ------------------------------------------------------------------------------------------- */

/* How many of the leaf were moved, but for main and those of an earlier look: who is still there once it was
 * moved is on its way out. The kernel leaves it where it is and says nothing (or -ESRCH); it forks no more.
 * -errno: one could not be. */
static int move_others(struct wk *w, const struct cgroup_leaf *to, struct snap_tree *earlier)
{
    struct snap_tree tree;
    int n = 0, error = 0, r = snap_tree_of_leaf(&w->leaf, &tree);

    if (r < 0)
        return r;
    for (size_t i = 0; i < tree.n; i++) {
        if (tree.pids[i] == w->main.pid || snap_tree_has(earlier, tree.pids[i]))
            continue;
        r = cgroup_leaf_add(to, tree.pids[i]);
        n += r == 0;
        error = r < 0 && r != -ESRCH ? r : error;
    }
    snap_tree_done(earlier);
    *earlier = tree;
    return error ? error : n;
}

/* Until a look finds none. 0 or -errno. */
static int move_rest(struct wk *w, const struct cgroup_leaf *to)
{
    struct snap_tree earlier = {0};
    int r = 1;

    for (int i = 0; r > 0 && i < MOVES; i++)
        r = move_others(w, to, &earlier);
    snap_tree_done(&earlier);
    return r > 0 ? -EAGAIN : r;
}

static int move_all(struct wk *w, const struct cgroup_leaf *to)
{
    int r = move_rest(w, to);

    if (r < 0 || (r = cgroup_leaf_add(to, w->main.pid)) < 0)
        return r;
    return move_rest(w, to); /* what main has forked before it was moved */
}

static int move_out(struct wk *w, const struct pidref *to)
{
    struct cgroup_leaf dest = CGROUP_LEAF_NULL;
    enum caps_scope scope;
    int r;

    if (w->leaf.fd < 0)
        return 0;
    scope = caps_enter(CAPS_FILES);
    r = cgroup_of(to->pid, &dest);
    if (r == 0 && dest.id == w->leaf.id)
        r = -EINVAL;
    if (r == 0 && pidref_check(to) != PIDREF_SAME)
        r = -ESRCH;
    if (r == 0 && (r = move_all(w, &dest)) < 0) {
        cgroup_leaf_add(&w->leaf, w->main.pid);
        wk_take_rest(w);
    }
    cgroup_leaf_done(&dest);
    caps_enter(scope);
    return r;
}

/* --- letting it go -------------------------------------------------------------------------------------- */

static void let_go(struct wk *w)
{
    loop_free(&w->main_watch);
    reap_remove(w->main.pid, w);
    pidref_done(&w->main);
    w->session = 0;
    w->adopted = false;
    w->was_ready = w->begun = false; /* neither ExecStop= nor ExecStopPost= is for what runs on */
    w->exec_mono_us = 0;
}

static void give(struct wk *w, struct op *o, const struct pidref *to)
{
    pid_t pid = w->main.pid;
    struct snap_tree drains;
    int r;

    wk_drain_find(w, &drains);
    if ((r = move_out(w, to)) < 0) {
        snap_tree_done(&drains);
        wk_take_refuse(w, o, "it can't be moved into the cgroup of process %d: %s", (int)to->pid,
                       strerror(-r));
        return;
    }
    wk_drain_end(&drains); /* its output has another reader again */
    let_go(w);
    wk_put_facts(w, FACTS_NONE);
    history_given(w); /* after the facts: by them it would be the next agentd's again */
    log_write(LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias},
              "process %d runs on, and is agentd's no more: it was given to process %d", (int)pid,
              (int)to->pid);
    op_given(w, o);
    wk_event(w, WK_EV_STOP);
}

/* --- may it? -------------------------------------------------------------------------------------------- */

static int run_look(int out, void *arg)
{
    const struct wk *w = arg;
    char prefix[LIMIT_ALIAS + 32];

    caps_enter(CAPS_LOOK);
    wk_cookie_prefix(w, prefix, sizeof(prefix));
    switch (snap_carries(w->main.pid, "AGENTD_COOKIE", prefix)) {
    case 0:
        return 0;
    case 1:
        return 2;
    default:
        return 1;
    }
}

static void on_looked(int status, const char *p, size_t n, void *arg)
{
    struct release *t = arg;
    struct wk *w = sup_find_alias(t->alias);
    struct op *o = (struct op *)op_find(t->op);

    if (!w || !o || w->op != o) { /* superseded */
        free_release(t);
        return;
    }
    if (status == 2)
        wk_take_refuse(w, o, "agentd has started it: it carries its mark, and would be ended as a leftover");
    else if (status != 0)
        wk_take_refuse(w, o, "its environment could not be looked at");
    else if (w->state != WK_UP || w->main.pid != t->main || w->main.start != t->start)
        wk_take_refuse(w, o, "it is not the same, or not up, any more");
    else
        give(w, o, &t->to);
    free_release(t);
}

static const char *unfit(const struct wk *w, pid_t to)
{
    if (w->state != WK_UP || !w->main.pid || w->twin)
        return "the worker is not up";
    if (!w->adopted)
        return "agentd has started it";
    return to == w->main.pid ? "that is the worker's own process" : NULL;
}

static void begin(struct wk *w, struct op *o, pid_t to)
{
    struct release *t = calloc(1, sizeof(*t));
    const char *why = unfit(w, to);

    if (!t || pidref_open(&t->to, to) < 0) {
        wk_take_refuse(w, o, "there is no process %d", (int)to);
        free(t);
        return;
    }
    str_copy(t->alias, sizeof(t->alias), w->def->alias);
    str_copy(t->op, sizeof(t->op), o->id);
    t->main = w->main.pid;
    t->start = w->main.start;
    if (why)
        wk_take_refuse(w, o, "%s", why);
    else if (helper_start(run_look, w, on_looked, t, LOOK_TIMEOUT_US, 64))
        return;
    else
        wk_take_refuse(w, o, "no helper can be started to look at it");
    free_release(t);
}

void wk_release(const struct wire_call *c)
{
    struct wk *w;
    struct op *o = wk_take_begin(c, &w);

    if (o)
        begin(w, o, (pid_t)c->pid);
}
