/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/sup: the set of workers: what is defined, what is wanted, which facts of an earlier agentd still
 * hold. Knows all workers; never knows HTTP, frames or /proc. */
#ifndef AGENTD_SUP_H
#define AGENTD_SUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "agentd/cfg.h"
#include "base/buf.h"

struct wk;
TAILQ_HEAD(sup_list, wk);
extern struct sup_list sup_workers; /* by alias */

/* Takes the facts and the state that an earlier agentd left (store and facts must be open). */
void sup_init(const struct cfg *cfg);

/* Over an exec of agentd. use before the first sup_apply: its workers are then loaded from the state instead
 * of adopted; resume after it, when operations and the listener's wires are there again. */
struct state;
void sup_save(struct buf *b);
void sup_use_image(const struct state *s);
void sup_resume_image(void);
/* True if a worker that runs has no definition any more: it could not go on; alias is filled. */
bool sup_misses_image(char *alias, size_t size);

/* Before the first sup_apply: adds to cfg what an earlier agentd ran and whose file is wrong or gone. */
void sup_recall(struct cfg *cfg);

/* Makes the set what cfg says; takes the definitions out of it. New ones start if they are wanted, changed
 * ones restart, those gone from the configuration stop and are forgotten, broken ones stay as they are. One
 * line for each that changed into plan, "alias\taction\tdetail\n" (may be NULL). */
void sup_apply(struct cfg *cfg, struct buf *plan);

/* Ends what an earlier agentd started and nobody adopted. With cgroups: at once; without: by a helper, then
 * done runs. */
void sup_clear_leftovers(void (*done)(void));
/* Starts every worker that is wanted up and not up. */
void sup_start_wanted(void);

struct wk *sup_find(int64_t id);
struct wk *sup_find_alias(const char *alias);
unsigned sup_count(void);

/* Frees those whose file is gone, once they are down; at the end of each round. */
void sup_forget_removed(void);

bool sup_is_removing(void); /* one of them is still stopping */
/* One of them runs an ExecStop= or its like, looks for its main process, or has two at once. */
bool sup_runs_commands(void);

/* True once when a reload now would do what the last one could not: an id has become free. */
bool sup_wants_reload(void);

/* Stops all, leaving what is wanted as it is; sup_all_down tells when they are. */
void sup_stop_all(void);
bool sup_all_down(void);
void sup_done(void);

#endif
