/* SPDX-License-Identifier: Apache-2.0 */
/* RestartMode=overlap: the next instance is started beside the one that runs, in a cgroup of its own, and
 * takes its place once it is ready; then the earlier one is stopped. If it does not get ready, it never was.
 * Until it takes the place nothing is on record of it: after a crash of agentd it is what is left over, and
 * cleared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/rotate.h"
#include "agentd/wk_prepare.h"
#include "agentd/wk_sock.h"
#include "agentd/wk_adopt.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proc/caps.h"

static TAILQ_HEAD(, wk) over = TAILQ_HEAD_INITIALIZER(over); /* twins that are down, and still on the stack */

static bool can_overlap(const struct wk *w)
{
    return w->def->overlap && w->state == WK_UP && w->part == WK_ONLY && w->leaf.fd >= 0 && !w->def->fault;
}

bool wk_overlap_begin(struct wk *w)
{
    struct wk *n;

    if (w->twin && w->state == WK_UP && w->part == WK_ONLY) {
        w->again = true;
        return true;
    }
    if (!can_overlap(w))
        return false;
    w->def->more_refs++;
    if (!(n = wk_new(w->def, w->id)))
        return false;
    n->part = WK_NEXT;
    n->twin = w;
    w->twin = n;
    w->again = false;
    n->generation = wk_overlap_generation(w) - 1;
    n->restarts = w->restarts;
    n->leaf_no = w->leaf_no == 0;
    n->socks = w->socks;
    n->res_lost = w->res_lost;
    wk_event(n, WK_EV_START);
    return true;
}

/* --- its ends --------------------------------------------------------------------------------------------
 */

static void part_from(struct wk *w, struct wk *gone)
{
    w->twin = gone->twin = NULL;
    TAILQ_INSERT_TAIL(&over, gone, link);
}

static void go_again(struct wk *w)
{
    bool again = w->again;

    w->again = false;
    if (again && w->goal == WK_GOAL_UP)
        wk_event(w, WK_EV_RESTART);
}

static void take_texts(struct wk *n, struct wk *w)
{
    free(n->goal_by);
    n->goal_by = TAKE_PTR(w->goal_by);
    free(n->killed);
    n->killed = TAKE_PTR(w->killed);
}

/* All that is the worker's and not the process's. */
static void take_identity(struct wk *n, struct wk *w)
{
    n->part = WK_ONLY;
    w->part = WK_OLD;
    n->kept = w->kept; /* until n's own is in its place */
    w->kept.pid = 0;
    n->goal = w->goal;
    n->goal_us = w->goal_us;
    n->goal_disk = w->goal_disk;
    n->create_us = w->create_us;
    n->update_us = w->update_us;
    n->broken = w->broken;
    n->removed = w->removed;
    n->again = w->again;
    n->traces = w->traces || wk_prepare_leaves(n->def);
    n->last = w->last;
    n->last_oom = w->last_oom;
    n->op = TAKE_PTR(w->op);
    n->queued = TAKE_PTR(w->queued);
    take_texts(n, w);
    w->socks = NULL; /* they are n's, which had them lent */
    if (!n->fds)     /* what it has stored itself is newer */
        n->fds = TAKE_PTR(w->fds);
    rotate_free(w); /* what was being cut is finished by n */
    rotate_watch(n, true);
    wk_host.replaced(w, n);
}

/* On record first, with one write: from now on the earlier one is what a successor clears. */
static void promote(struct wk *n)
{
    struct wk *w = n->twin;
    struct wk_def *newer = w->next_def ? w->next_def : w->def != n->def ? w->def : NULL;

    take_identity(n, w);
    wk_sock_open(n); /* those that only the earlier one had go */
    wk_put_facts(n, FACTS_READY);
    wk_host.moved(n);
    log_write(LOG_INFO, "wk", &(struct log_about){.worker = n->def->alias},
              "process %d has taken the place of %d, which is stopped", (int)n->main.pid, (int)w->main.pid);
    wk_event(w, WK_EV_STOP);
    if (newer) {
        newer->more_refs++;
        n->again = wk_set_def(n, newer) || n->again;
    }
}

static void next_is_down(struct wk *n)
{
    struct wk *w = n->twin;
    char why[LIMIT_STDERR_TAIL + 640];
    bool lent = n->socks == w->socks;

    if (lent)
        n->socks = NULL;
    else
        wk_sock_close(n);
    part_from(w, n);
    if (w->state == WK_UP && n->goal == WK_GOAL_UP) {
        snprintf(why, sizeof(why), "rolled back, process %d goes on: the new one did not come up: %s",
                 (int)w->main.pid, n->message ? n->message : "it was stopped");
        wk_set_message(w, "%s", why);
        wk_host.rolled_back(w, why);
        wk_changed(w);
    }
    w->generation_used = n->generation;
    wk_host.told(w, false);
    if (w->state == WK_UP)
        go_again(w);
}

uint32_t wk_overlap_generation(const struct wk *w)
{
    uint32_t used = w->twin ? w->twin->generation : w->generation_used;

    return (used > w->generation ? used : w->generation) + 1;
}

/* What runs went by itself, or was told to: there is nothing to overlap. */
static void give_up_next(struct wk *w)
{
    struct wk *n = w->twin;

    if (n->goal != WK_GOAL_UP)
        return;
    w->again = false; /* it comes up anew as it is */
    wk_event(n, WK_EV_STOP);
}

static void old_is_down(struct wk *w)
{
    struct wk *n = w->twin;

    part_from(n, w);
    n->last = w->last;
    n->last_oom = w->last_oom;
    if (!n->killed)
        n->killed = TAKE_PTR(w->killed);
    wk_host.told(n, false);
    wk_changed(n);
    go_again(n);
}

void wk_overlap_moved(struct wk *w)
{
    if (w->part == WK_NEXT && w->state == WK_UP)
        promote(w);
    else if (w->part == WK_NEXT && w->state == WK_DOWN)
        next_is_down(w);
    else if (w->part == WK_OLD && w->state == WK_DOWN)
        old_is_down(w);
    else if (w->part == WK_ONLY && w->twin->part == WK_NEXT && w->state != WK_UP)
        give_up_next(w);
}

void wk_overlap_round(void)
{
    struct wk *w;
    char name[LIMIT_ALIAS + 8];

    while ((w = TAILQ_FIRST(&over))) {
        enum caps_scope scope = caps_enter(CAPS_FILES);
        TAILQ_REMOVE(&over, w, link);
        wk_leaf_name(w, w->leaf_no, name);
        cgroup_leaf_done(&w->leaf);
        if (wk_host.cgroups.fd >= 0)
            wk_leaf_remove_empty(name);
        caps_enter(scope);
        wk_free(w);
    }
}
