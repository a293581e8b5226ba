/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/order: who starts and stops before whom, and how many start at once. A start that may not be yet
 * waits in STARTING without a process, a stop that may not be yet in STOPPING without a signal. Knows edges
 * between workers, their states and the budget; never knows how a worker is started or stopped.
 *
 * On start: After=, Requires= and BindsTo= wait for the other to be ready; the last two for as long as it
 * takes, After= until it has failed. On stop: the other way round. One that is stopped on request takes those
 * along that Require= it, and they come back with it; what a BindsTo= names takes them along whenever it is
 * not up. */
#ifndef AGENTD_ORDER_H
#define AGENTD_ORDER_H

#include <stdbool.h>
#include <stddef.h>

struct cfg_agent;
struct wk;

void order_init(void);
void order_set_budget(const struct cfg_agent *a);
/* The edges anew, from the definitions of all workers; after the set has changed. */
void order_rebuild(void);
void order_rebuild_soon(void); /* in the next round: what is asked may be in the midst of them */
/* At our start, after the first of these. begin: whose stop has waited for that goes. */
void order_known(bool begin);
/* Nothing is started while it is on: several are about to be wanted, and one may wait for another. */
void order_hold(bool on);
/* After each round of events: starts and stops what has come to be its turn. */
void order_round(void);
/* An operator wants w up: so is what it requires and wants. True if that changes a goal. */
bool order_pull(const struct wk *w);
/* Who is to be up before w is started; stops: who is to be down before it is stopped. */
void order_each_before(const struct wk *w, bool stops, void (*fn)(const struct wk *other, void *arg),
                       void *arg);
/* From now on everything stops: nobody before those who wait for it. */
void order_stop_all(void);
/* Whom w waits for, or goes with, and how: "waits for it to be ready"; NULL: nobody. */
const struct wk *order_cause(const struct wk *w, const char **how);
void order_forget(struct wk *w); /* before it is freed */
void order_resume(void);         /* after an exec of agentd */

#endif
