/* SPDX-License-Identifier: Apache-2.0 */
/* proc/live: what a tree of processes can be given while it runs: limits, nice level, OOM score. Never knows
 * whose tree it is. prlimit(2), setpriority(2), proc_pid_oom_score_adj(5). */
#ifndef PROC_LIVE_H
#define PROC_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "proc/snap.h"

/* What to set; the rest stays as it is. */
struct live_want {
    uint32_t limits_set; /* bit per RLIMIT_* number */
    struct rlimit limits[RLIM_NLIMITS];
    bool has_nice, has_oom;
    int nice, oom_score_adj;
};

/* What came of it: the first refusal is told. A process that went meanwhile is none. */
struct live_result {
    unsigned done; /* processes that were reached */
    unsigned
        refused; /* settings that the kernel refused; a limit is then set as far as the hard one allows */
    pid_t pid;
    int error;       /* positive errno of the first refusal */
    int resource;    /* of the first refusal: RLIMIT_* number, or one of */
#define LIVE_NICE -1 /* these */
#define LIVE_OOM -2
};

/* Lists the tree as it is now; 0 or -errno. */
typedef int (*live_list_fn)(void *arg, struct snap_tree *ret);

/* Gives every member what is wanted, whatever is forked meanwhile: lists until nobody new is found. A member
 * is touched only when it was held (pidref) before a listing that names it and lives after that: so a pid
 * that was given away in between is not taken for it. 0, or -errno when the tree can't be listed or not
 * all of it be held. Needs CAPS_SPAWN. */
int live_apply(live_list_fn list, void *arg, const struct live_want *want, struct live_result *ret);

#endif
