/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_res: what a worker may use of processor, memory and tasks, and what it ran into. */
#ifndef AGENTD_WK_RES_H
#define AGENTD_WK_RES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/wk_fsm.h"

struct facts;
struct wk;
struct wk_res;

/* Processes that the kernel killed for lack of memory. */
struct wk_oom {
    unsigned kills;
    bool main;      /* the main process was one of them */
    uint64_t limit; /* MemoryMax= in bytes, if that was hit; 0: the host had none left, or an outer limit */
};

/* In struct wk: res watches its limits (NULL: it has none that tell, or does not run); res_hash is what its
 * leaf was given; cpu_from cpu.stat's usage_usec when this incarnation began, + 1 (0: not known);
 * kills_before and ooms_before are of memory.events, when it began; res_lost has a bit per enum
 * cgroup_res_row that is set and without effect; oomed: this incarnation ends for lack of memory. */
#define WK_RES_UNKNOWN UINT64_MAX
void wk_res_load(struct wk *w);       /* def is new: what it needs is made ready, what can't be had is told */
bool wk_res_fits(const struct wk *w); /* its leaf has what def says */
void wk_res_begin(struct wk *w);      /* an incarnation, in its empty leaf */
void wk_res_live(struct wk *w);       /* the running tree's leaf is brought to def */
void wk_res_watch(struct wk *w);
void wk_res_done(struct wk *w);
bool wk_res_recall(struct wk *w); /* it ran into TasksMax=: so says its message; else false */
/* Its main process has; true: it was killed for lack of memory. */
bool wk_res_main_exited(struct wk *w, enum wk_end end, int status);
void wk_res_adopted(struct wk *w, const struct facts *f);
/* Keys that have no effect, each with end behind it: "MemoryMax,TasksMax". Returns text. */
const char *wk_res_lost(const struct wk *w, const char *end, char *text, size_t size);
const char *wk_res_oom_text(const struct wk_oom *o, char *text, size_t size);

#endif
