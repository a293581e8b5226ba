/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/events: server-sent events: what agentd says happened, to each reader that keeps up, from where it left
 * off. WHATWG HTML, "Server-sent events". Knows frames and JSON; never knows what an event means. */
#ifndef RPC_EVENTS_H
#define RPC_EVENTS_H

#include "rpc/request.h"

struct event_base;

int events_init(struct event_base *base);
int events_take(const struct wire_frame *f); /* one more happened; 0, -EBADMSG or -ENOMEM */
void events_arm(void);                       /* HeartbeatSec= may be another one: from now */
unsigned events_count(void);                 /* readers */
void events_gone(struct request *r);         /* a reader left */
/* Each reader is told the number of the last event that it got, and goes: another listener has them all. */
void events_end_all(void);

#endif
