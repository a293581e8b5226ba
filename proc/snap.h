/* SPDX-License-Identifier: Apache-2.0 */
/* proc/snap: what a tree of processes is and uses now, as values. Reads /proc/PID/stat and status only:
 * cmdline and environ of a live process can hang on its memory lock. proc(5). */
#ifndef PROC_SNAP_H
#define PROC_SNAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proc/cgroup.h"

struct snap_tree {
    pid_t *pids; /* malloc'ed */
    size_t n;
};

struct snap_usage {
    uint32_t processes;
    uint64_t cpu_us, memory; /* bytes resident */
};

/* The members of a leaf. 0 or -errno. Free with snap_tree_done. */
int snap_tree_of_leaf(const struct cgroup_leaf *leaf, struct snap_tree *ret);

/* Without a cgroup: the session of main, and everything below main or below a member of the session.
 * A process that left both is not found by this (see the sweep by cookie). 0: the whole tree. -EAGAIN:
 * they come and go too fast to say so, and these were met; or another -errno if a process could not be looked
 * at, and none. Free with snap_tree_done, in any case. */
int snap_tree_of_session(pid_t main, struct snap_tree *ret);
/* The same from one look, for who counts: who comes and goes meanwhile may be missing. 0 or -errno. */
int snap_tree_seen(pid_t main, struct snap_tree *ret);
/* main and all that descends from it by its living parents: not its session, which may be a shell's. */
int snap_tree_below(pid_t main, struct snap_tree *ret);
bool snap_tree_has(const struct snap_tree *t, pid_t pid);
void snap_tree_done(struct snap_tree *t);

/* Sums over the members that still live. */
void snap_usage(const struct snap_tree *t, struct snap_usage *ret);

/* Real uid of a process. 0, -ESRCH or -errno. */
int snap_uid(pid_t pid, uid_t *ret);

/* False: that process has ended meanwhile. */
typedef bool (*snap_match_fn)(pid_t pid, const char *rest, void *arg);

/* Blocks on the memory locks of all processes: in a helper only. Calls fn for every process (but us) whose
 * environment has NAME=value with this prefix of value; the rest of the value is handed over. 0: there is no
 * other, but for children of those that fn was called for. -EAGAIN: that can't be said, they come and go too
 * fast; or -errno. */
int snap_sweep_cookie(const char *name, const char *prefix, snap_match_fn fn, void *arg);
/* Has that process NAME=PREFIX... in its environment? 1, 0, or -errno: it can't be told. It may wait for the
 * process's memory lock: in a helper only. */
int snap_carries(pid_t pid, const char *name, const char *prefix);

#endif
