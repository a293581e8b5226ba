/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/link: the wire to agentd: takes its packets apart and hands each frame to whom it belongs, sends calls.
 * Knows frames, never HTTP. */
#ifndef RPC_LINK_H
#define RPC_LINK_H

#include "base/buf.h"
#include "wire/wire.h"

struct event_base;

/* on_end is called once, when agentd has gone or talks nonsense. */
int link_init(struct event_base *base, int fd, void (*on_end)(void), void (*on_drain)(uint32_t grace_ms));

/* What agentd said of itself; its strings stay until the next HELLO. Never NULL. */
const struct wire_hello *link_hello(void);
unsigned link_epoch(void); /* counts HELLOs */

int link_send(const struct buf *packet); /* 0 or -errno; never blocks */

#endif
