/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/change: start, stop and restart: asks agentd, waits, and answers with the record or the operation, on
 * both kinds of paths. */
#ifndef RPC_CHANGE_H
#define RPC_CHANGE_H

#include "rpc/call.h"
#include "rpc/request.h"

/* With a name: of a signal, say. */
void change_start_named(struct request *r, enum wire_verb verb, int64_t worker, const char *name);
void change_start(struct request *r, enum wire_verb verb, int64_t worker);

/* The operation as it is now, with its worker; it goes on: 202, and where it is. */
void change_send(struct request *r, const struct wire_reply *op);
void change_send_late(struct request *r, const struct wire_reply *op);

/* Any call that is no change of one worker: asks, and fn answers r; what could not be sent is answered. */
void change_ask(struct request *r, struct wire_call *v, call_fn fn);
/* True if that is agentd's own good answer; else r is answered. Closes fd. */
bool change_is_good(struct request *r, enum call_end end, const struct wire_reply *reply, int fd);

#endif
