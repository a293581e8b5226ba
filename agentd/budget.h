/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/budget: how many starts are under way at once on this host, and how fast they follow each other, so
 * that a thousand workers after a reboot do not fall over each other. First come, first served; an operator's
 * request goes ahead. Knows numbers and a queue; never knows who waits for whom. */
#ifndef AGENTD_BUDGET_H
#define AGENTD_BUDGET_H

#include <stdbool.h>

struct cfg_agent;
struct wk;

void budget_set(const struct cfg_agent *a);
/* It wants to start now: true if it may, and is counted; else it is in the queue. */
bool budget_ask(struct wk *w);
void budget_queue(struct wk *w); /* unless it is there */
void budget_unqueue(struct wk *w);
void budget_note(struct wk *w);     /* its state may be another */
void budget_admitted(struct wk *w); /* it is being started already */
void budget_forget(struct wk *w);   /* before it is freed */
void budget_round(void);            /* starts those whose turn it is */

#endif
