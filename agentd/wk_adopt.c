/* SPDX-License-Identifier: Apache-2.0 */
/* After agentd was killed: a main process that runs on is taken over if it is proven to be the one on record.
 * It is not our child any more, so how it ends can be learned from its pidfd only, where the kernel tells
 * (6.15). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proc/snap.h"
#include "proc/sys.h"

#define WITHOUT_PIDFD_US 1000000

static void on_adopted_end(int fd, short what, void *arg)
{
    struct wk *w = arg;
    int st = 0;

    if (w->main.fd < 0 && pidref_check(&w->main) != PIDREF_GONE) {
        loop_rearm(w->main_watch, WITHOUT_PIDFD_US);
        return;
    }
    if (w->main.fd < 0 || !sys_pidfd_exit_status(w->main.fd, &st))
        wk_main_exited(w, WK_END_UNKNOWN, 0);
    else if (WIFEXITED(st))
        wk_main_exited(w, WK_END_EXITED, WEXITSTATUS(st));
    else
        wk_main_exited(w, WCOREDUMP(st) ? WK_END_DUMPED : WK_END_SIGNALLED, WTERMSIG(st));
}

/* The main process must be in the worker's own leaf: else somebody else has moved or replaced it. */
static bool is_in_leaf(const struct wk *w, pid_t pid)
{
    struct snap_tree tree;
    bool found = false;

    if (w->leaf.fd < 0)
        return true;
    if (snap_tree_of_leaf(&w->leaf, &tree) < 0)
        return false;
    for (size_t i = 0; i < tree.n; i++)
        found = found || tree.pids[i] == pid;
    snap_tree_done(&tree);
    return found;
}

bool wk_adopt(struct wk *w, const struct facts *f)
{
    char name[LIMIT_ALIAS + 8];
    struct pidref ref;
    int r;

    w->generation = f->generation;
    w->leaf_no = f->leaf == FACTS_NO_LEAF ? 0 : f->leaf;
    if (f->phase < FACTS_READY || f->pid <= 0)
        return false; /* a half-made one is cleared, not taken over */
    if (f->leaf == FACTS_NO_LEAF && wk_host.cgroups.fd >= 0)
        return false; /* of an agentd that could not use cgroups: its end could not be told by a leaf */
    wk_leaf_name(w, w->leaf_no, name);
    if (wk_host.cgroups.fd >= 0 && cgroup_leaf_open(&wk_host.cgroups, name, &w->leaf) < 0)
        return false;
    w->leaf_spoiled = true; /* who knows what was done to it */
    r = pidref_reopen(&ref, f->pid, f->start);
    if (r == 0 && !is_in_leaf(w, f->pid)) {
        pidref_done(&ref);
        r = -EXDEV;
    }
    if (r < 0) {
        log_write(r == -ESRCH ? LOG_INFO : LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "process %d of an earlier agentd is %s", f->pid,
                  r == -ESRCH ? "gone" : "not taken over: it can't be proven to be the worker's");
        w->last = (struct wk_exit){WK_END_UNKNOWN, 0, f->pid, clock_wall_us()};
        cgroup_leaf_done(&w->leaf); /* it is cleared by its name, and the next start makes it anew */
        return false;
    }
    w->main = ref;
    w->session = ref.pid;
    w->adopted = true;
    w->started_us = f->started_us;
    w->stale = f->def_hash != w->def->hash;
    w->exec_mono_us = clock_mono_us() - (clock_boot_us() - pidref_start_us(ref.start));
    if (snap_uid(ref.pid, &w->uid) < 0)
        w->uid = w->def->ids.set ? w->def->ids.uid : 0;
    w->main_watch = ref.fd >= 0 ? loop_io(ref.fd, LOOP_READ, on_adopted_end, w)
                                : loop_timer(WITHOUT_PIDFD_US, on_adopted_end, w);
    return true;
}
