/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/event: what happened, in order, for whoever listens: a bounded ring with numbers that only grow,
 * over upgrades without a hole, over agentd's death with one that can be seen. Never knows who listens. */
#ifndef AGENTD_EVENT_H
#define AGENTD_EVENT_H

#include "base/buf.h"
#include "wire/wire.h"

struct op;
struct state;
struct wk;

void event_init(void);
void event_done(void);
void event_worker(const struct wk *w);                                     /* its state has changed */
void event_operation(const struct op *o);                                  /* it begins, or has ended */
void event_log(const struct wk *w, const char *what, const char *message); /* of its captured output */
void event_agentd(const char *what, const char *message);

uint64_t event_last(void); /* 0: none yet */
/* The first event behind seq, or NULL. Valid until the next one happens. */
const struct wire_event *event_next(uint64_t seq);

/* Over an exec of agentd. */
void event_save(struct buf *b);
void event_restore(const struct state *s);

#endif
