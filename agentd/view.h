/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/view: what is told about a worker: values copied out of it and out of the kernel, nothing live.
 * Knows the record's fields; never knows who reads them. */
#ifndef AGENTD_VIEW_H
#define AGENTD_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct wk;

void view_sample(struct wk *w);     /* ports, processes, cpu, memory of one, now */
void view_sample_new(struct wk *w); /* the same for one that has just started */
void view_sample_all(void);         /* of all that run, with one look at the sockets */
/* Does its tree listen there over TCP, now? 1, 0, or -errno: it can't be told. */
int view_listens(struct wk *w, unsigned port);
void view_put_record(struct wk *w, struct buf *b); /* as a wire frame */
/* What KillMode=process left in the leaf: pids, comma list. */
void view_leftovers(const struct wk *w, char *text, size_t size);

#endif
