/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/audit: tells agentd, which keeps the audit trail, what was refused here; beyond a rate only how much.
 * No secret goes in: no header, and no query. */
#ifndef RPC_AUDIT_H
#define RPC_AUDIT_H

#include "base/limits.h"
#include "rpc/request.h"

struct event_base;

#define AUDIT_WHAT (LIMIT_WIRE_WHAT + 1)

int audit_init(struct event_base *base);

/* "POST /path", cut if it is long. Returns buf. */
const char *audit_what(const struct request *r, char buf[AUDIT_WHAT]);

/* The request is about to be refused; r's caller is who it is known to be, not who it says that it is. */
void audit_refused(const struct request *r, enum wire_error error, const char *why);

#endif
