/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/change: start, stop and restart: asks agentd, waits, and answers with the record or the operation, on
 * both kinds of paths. */
#ifndef RPC_CHANGE_H
#define RPC_CHANGE_H

#include "rpc/request.h"

/* With a name: of a signal, say. */
void change_start_named(struct request *r, enum wire_verb verb, int64_t worker, const char *name);
void change_start(struct request *r, enum wire_verb verb, int64_t worker);

/* The operation as it is now, with its worker; it goes on: 202, and where it is. */
void change_send(struct request *r, const struct wire_reply *op);
void change_send_late(struct request *r, const struct wire_reply *op);

/* What a call that was not sent, or lost, is answered with. */
void change_unsent(struct request *r, int error);
/* Fills in who asks. 0, or -EINVAL: the reason header is no reason, and r is answered. */
int change_fill(struct request *r, struct wire_call *v);

#endif
