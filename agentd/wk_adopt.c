/* SPDX-License-Identifier: Apache-2.0 */
/* After agentd was killed: a main process that runs on is taken over if it is proven to be the one on record.
 * It is not our child any more, so how it ends can be learned from its pidfd only, where the kernel tells
 * (6.15). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <string.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "agentd/notify.h"
#include "agentd/op.h"
#include "agentd/reap.h"
#include "agentd/wk_keep.h"
#include "agentd/wk_sock.h"
#include "agentd/wk_adopt.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"
#include "proc/sys.h"

#define WITHOUT_PIDFD_US 1000000
#define LOOK_US 1000 /* for the status, until its new parent has reaped it */
#define LOOKS 20
#define MAIN_LOOKS 3 /* what fails once need not fail again */

/* A zombie of ours: its status comes by the way of every child. */
static bool is_left_to_us(const struct wk *w)
{
    struct pidref_stat st;

    return pidref_read_stat(w->main.pid, &st) == 0 && st.start == w->main.start && st.ppid == getpid();
}

static void on_adopted_end(int fd, short what, void *arg)
{
    struct wk *w = arg;
    int st = 0, r;

    if (is_left_to_us(w)) {
        loop_free(&w->main_watch);
        reap_sweep();
        return;
    }
    if (w->main.fd < 0 && pidref_check(&w->main) != PIDREF_GONE) {
        loop_rearm(w->main_watch, WITHOUT_PIDFD_US);
        return;
    }
    r = w->main.fd < 0 ? 0 : sys_pidfd_exit_status(w->main.fd, &st);
    if (r == -EAGAIN && w->looks++ < LOOKS) {
        loop_free(&w->main_watch);
        w->main_watch = loop_timer(LOOK_US, on_adopted_end, w);
        return;
    }
    w->looks = 0;
    reap_remove(w->main.pid, w);
    if (r != 1)
        wk_main_exited(w, WK_END_UNKNOWN, 0);
    else if (WIFEXITED(st))
        wk_main_exited(w, WK_END_EXITED, WEXITSTATUS(st));
    else
        wk_main_exited(w, WCOREDUMP(st) ? WK_END_DUMPED : WK_END_SIGNALLED, WTERMSIG(st));
}

void wk_adopt_watch(struct wk *w)
{
    wk_start_hear(w);
    w->main_watch = w->main.fd >= 0 ? loop_io(w->main.fd, LOOP_READ, on_adopted_end, w)
                                    : loop_timer(WITHOUT_PIDFD_US, on_adopted_end, w);
}

/* The main process must be in the worker's own leaf: else somebody else has moved or replaced it. 1, 0, or
 * -errno: it can't be told. */
static int is_in_leaf(const struct wk *w, pid_t pid)
{
    struct snap_tree tree;
    bool found;
    int r;

    if (w->leaf.fd < 0)
        return 1;
    if ((r = snap_tree_of_leaf(&w->leaf, &tree)) < 0)
        return r;
    found = snap_tree_has(&tree, pid);
    snap_tree_done(&tree);
    return found;
}

/* It runs what it ran when it became ready, and that is still the file of that name. (The count of links
 * tells it not, on overlayfs.) */
static bool is_same_program(const struct facts *f)
{
    static const char deleted[] = " (deleted)";
    char path[32], target[1024];
    struct stat st;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)f->pid);
    if (!f->program_ino || stat(path, &st) < 0)
        return true; /* not known to be another */
    n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = 0;
    if ((size_t)n > strlen(deleted) && str_eq(target + (size_t)n - strlen(deleted), deleted))
        return false;
    return st.st_ino == f->program_ino && st.st_dev == f->program_dev;
}

static void take_over(struct wk *w, const struct facts *f, struct pidref ref)
{
    enum caps_scope scope;
    int kept = wk_keep_take(w, f, false);

    w->main = ref;
    if (kept >= 0) {
        fd_close(w->main.fd);
        w->main.fd = kept;
        wk_keep_has(w, ref.pid, ref.start);
    }
    w->session = ref.pid;
    w->adopted = true;
    w->was_ready = f->phase == FACTS_READY;
    w->phase = f->phase;
    w->begun = true;
    wk_sock_take_back(w);
    w->started_us = f->started_us;
    w->ran_hash = f->def_hash;
    w->stale = w->ran_hash != w->def->hash;
    wk_res_adopted(w, f);
    scope = caps_enter(CAPS_LOOK);
    w->stale_program = !is_same_program(f);
    caps_enter(scope);
    if (w->stale_program)
        log_write(LOG_NOTICE, "wk", &(struct log_about){.worker = w->def->alias},
                  "process %d runs a program that was replaced since: it is stale until it is restarted",
                  f->pid);
    w->exec_mono_us = clock_mono_us() - (clock_boot_us() - pidref_start_us(ref.start));
    if (snap_uid(ref.pid, &w->uid) < 0)
        w->uid = w->def->ids.set ? w->def->ids.uid : 0;
    if (notify_is_wanted(w->def) && notify_open(w) < 0)
        log_error("wk", "%s: what it says by NOTIFY_SOCKET can't be heard", w->def->alias);
    notify_set_watchdog(w, f->watchdog_us);
    wk_adopt_watch(w);
}

static int open_leaf(struct wk *w)
{
    char name[LIMIT_ALIAS + 8];

    wk_leaf_name(w, w->leaf_no, name);
    w->leaf_spoiled = true; /* who knows what was done to it */
    w->res_hash = WK_RES_UNKNOWN;
    return wk_host.cgroups.fd < 0 ? 0 : cgroup_leaf_open(&wk_host.cgroups, name, &w->leaf);
}

/* With a negative errno ref is set if there is such a process. */
static int open_main(struct wk *w, const struct facts *f, struct pidref *ref)
{
    int r;

    if (open_leaf(w) < 0)
        return -EIO; /* what can't be told is no end */
    if ((r = pidref_reopen(ref, f->pid, f->start)) < 0)
        return r;
    if ((r = is_in_leaf(w, f->pid)) != 0)
        return r < 0 ? -EIO : 0;
    return op_aimed(w, ref) ? cgroup_leaf_add(&w->leaf, f->pid) : -EXDEV; /* it was on its way there */
}

static bool is_no_answer(int r)
{
    return r < 0 && r != -ESRCH && r != -EXDEV;
}

/* What is left of its tree is ended before anything is started; then its policy says what follows. */
static void take_end(struct wk *w)
{
    w->main = w->held;
    w->session = w->held.pid;
    w->held = (struct pidref)PIDREF_NULL;
    wk_adopt_let_go(w);
    w->adopted = true;
    w->exec_mono_us = clock_mono_us() - (clock_boot_us() - pidref_start_us(w->main.start));
    wk_event(w, WK_EV_ADOPT);
    wk_main_exited(w, WK_END_UNKNOWN, 0);
}

static void on_held_end(int fd, short what, void *arg)
{
    struct wk *w = arg;
    enum caps_scope scope;
    int r;

    if (w->held.fd >= 0 || pidref_check(&w->held) == PIDREF_GONE) {
        scope = caps_enter(CAPS_FILES);
        r = open_leaf(w);
        caps_enter(scope);
        if (r >= 0 || r == -ENOENT) { /* without a cgroup there is nobody left */
            take_end(w);
            return;
        }
    }
    loop_free(&w->held_watch);
    w->held_watch = loop_timer(WITHOUT_PIDFD_US, on_held_end, w);
}

void wk_adopt_let_go(struct wk *w)
{
    loop_free(&w->held_watch);
    pidref_done(&w->held);
    w->rested = false;
}

void wk_adopt_hold(struct wk *w)
{
    w->held_watch = w->held.fd >= 0 ? loop_io(w->held.fd, LOOP_READ, on_held_end, w)
                                    : loop_timer(WITHOUT_PIDFD_US, on_held_end, w);
}

/* It may well be the worker: a second one beside it would be worse than none. It is never signalled. */
static void hold(struct wk *w, struct pidref ref)
{
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
              "process %d of an earlier agentd is not taken over: it can't be proven to be the worker's",
              (int)ref.pid);
    wk_set_message(
        w,
        "process %d can't be proven to be this worker's: it was not taken over, and nothing is started "
        "beside it until it ends or a start is asked for",
        (int)ref.pid);
    w->rested = true;
    w->held = ref;
    wk_adopt_hold(w);
}

/* The guardian of an upgrade or the service manager held its pidfd open: its status may still be told. */
static bool know_end(struct wk *w, const struct facts *f)
{
    _cleanup_close_ int kept = wk_keep_take(w, f, true);
    int fd = wk_host.pidfds ? wk_image_main_fd(wk_host.pidfds, w->def->alias, f->pid) : -1, st;

    fd = fd < 0 ? kept : fd;
    if (fd < 0 || sys_pidfd_exit_status(fd, &st) != 1)
        return false;
    w->last = (struct wk_exit){WIFEXITED(st)   ? WK_END_EXITED
                               : WCOREDUMP(st) ? WK_END_DUMPED
                                               : WK_END_SIGNALLED,
                               WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st), f->pid, clock_wall_us()};
    return true;
}

static void note_ended(struct wk *w, const struct facts *f)
{
    log_write(LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias},
              "process %d of an earlier agentd is gone: it ended while nobody watched", f->pid);
    wk_set_message(w, "exited, unobserved: process %d ended while no agentd watched", f->pid);
    w->last_oom = (struct wk_oom){0};
    if (!know_end(w, f))
        w->last = (struct wk_exit){WK_END_UNKNOWN, 0, f->pid, clock_wall_us()};
    w->unobserved = f->phase == FACTS_READY; /* one that was told to end is what its goal says */
    w->exec_mono_us = clock_mono_us() - (clock_boot_us() - pidref_start_us(f->start));
}

/* RemainAfterExit=: it is up without a process, and what else is in its leaf is its own. */
static bool take_without(struct wk *w)
{
    w->was_ready = w->begun = true;
    w->ran_hash = w->def->hash;
    return open_leaf(w) == 0;
}

bool wk_adopt(struct wk *w, const struct facts *f)
{
    struct pidref ref = PIDREF_NULL;
    int r = -EAGAIN;

    w->generation = f->generation;
    w->leaf_no = f->leaf == FACTS_NO_LEAF ? 0 : f->leaf;
    w->secrets_of = f->generation;
    w->restarts = f->restarts;
    w->rested = f->phase == FACTS_RESTED;
    w->traces = f->traces;
    w->phase = w->rested ? FACTS_RESTED : FACTS_NONE;
    w->last = (struct wk_exit){f->last_end, f->last_status, f->last_pid, f->last_us};
    w->last_oom = (struct wk_oom){f->last_kills, f->last_main_killed, f->last_limit};
    if (f->phase == FACTS_READY && f->pid == 0 && w->def->remain_after_exit)
        return take_without(w);
    if (f->phase < FACTS_READY || f->pid <= 0)
        return false; /* a half-made one is cleared, not taken over */
    if (f->leaf == FACTS_NO_LEAF && wk_host.cgroups.fd >= 0)
        return false; /* of an agentd that could not use cgroups: its end could not be told by a leaf */
    for (int i = 0; i < MAIN_LOOKS && is_no_answer(r); i++) {
        pidref_done(&ref);
        if ((r = open_main(w, f, &ref)) < 0)
            cgroup_leaf_done(&w->leaf); /* it is cleared by its name, and the next start makes it anew */
    }
    if (r == 0)
        take_over(w, f, ref);
    else if (r == -ESRCH)
        note_ended(w, f);
    else
        hold(w, ref.pid ? ref : (struct pidref){f->pid, -1, f->start});
    return r == 0;
}

void wk_adopt_ended(struct wk *w)
{
    w->unobserved = false;
    wk_gone(w);
}
