/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/sup_plan: what a reload would do, or does, to each worker: looks and compares, and changes nothing.
 * sup.c does it. */
#ifndef AGENTD_SUP_PLAN_H
#define AGENTD_SUP_PLAN_H

#include <stdbool.h>

#include "agentd/cfg.h"
#include "base/buf.h"

struct wk;

#define SUP_KEYS_MAX 4096 /* bytes of the list of all keys, with room */

struct sup_verdict {
    const char *action; /* NULL: nothing differs */
    const char *detail;
    char keys[SUP_KEYS_MAX]; /* "Key=cost,Key=cost" */
};

/* A worker that is there, and what its files say now. */
void sup_judge(const struct wk *w, const struct wk_def *def, struct sup_verdict *ret);

/* Why def can't be taken: its Id= is in other hands, or not what the running worker w (NULL: none) goes by.
 * NULL: it can. *waits: only until the worker that had the id has stopped. */
const char *sup_refusal(const struct cfg *cfg, const struct wk_def *def, const struct wk *w, bool *waits);

bool sup_cfg_has(const struct cfg *cfg, const char *alias);
bool sup_cfg_breaks(const struct cfg *cfg, const char *alias);
/* What is wrong with its file. */
const char *sup_cfg_why(const struct cfg *cfg, const char *alias);

/* One line: "alias\taction\tdetail\tkeys\n". */
void sup_plan_line(struct buf *plan, const char *alias, const char *action, const char *detail,
                   const char *keys);

/* The lines that sup_apply(cfg) would write, had it been called now. Ids in cfg's definitions are filled in.
 */
void sup_plan(struct cfg *cfg, struct buf *plan);

#endif
