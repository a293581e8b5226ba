/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/call: what agentd was asked and has not answered yet. Each call ends in one callback: its reply, a
 * stream, the deadline, or agentd's end. Knows numbers and deadlines, never HTTP. */
#ifndef RPC_CALL_H
#define RPC_CALL_H

#include <stdint.h>

#include "wire/wire.h"

struct event_base;

enum call_end {
    CALL_REPLIED,  /* reply is set */
    CALL_STREAMED, /* fd is set and the callback's */
    CALL_LATE, /* the deadline has passed, or the call is at_once; reply is agentd's first answer, with the
                  operation, or NULL */
    CALL_LOST, /* agentd has gone: what became of it is not known */
};

typedef void (*call_fn)(void *arg, enum call_end end, const struct wire_reply *reply, int fd);

int call_init(struct event_base *base);

/* Sends v (its number is filled in). 0; -EINVAL a text in it is not sound (wire_call_is_sound); -EBUSY too
 * many are open; or -errno: nothing was sent, fn is not called. */
int call_send(struct wire_call *v, uint32_t deadline_ms, call_fn fn, void *arg);

void call_replied(const struct wire_reply *reply, const struct wire_frame *frame);
void call_streamed(uint64_t number, int fd);
void call_lose_all(void);
unsigned call_count(void); /* those that agentd has not ended */

#endif
