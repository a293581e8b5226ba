/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/why: the chain of causes that explains a worker's state, from what agentd knows: state, end of the
 * last incarnation, whom it waits for, how it was started, goal, operations, files. Only looks. */
#ifndef AGENTD_WHY_H
#define AGENTD_WHY_H

#include "base/buf.h"

struct wk;

/* Lines as WIRE_VERB_WHY has them, the newest first. */
void why_tell(const struct wk *w, struct buf *b);

#endif
