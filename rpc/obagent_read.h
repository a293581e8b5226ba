/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/obagent_read: the body of a search in logs, as obagent's clients write it, into what travels to agentd
 * (agentd/logs_match.h says how). Pure. */
#ifndef RPC_OBAGENT_READ_H
#define RPC_OBAGENT_READ_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* n bytes at body; zip: of a download, which has a list of logs and no cursor. 0; or -EINVAL with why, which
 * begins with the field's name. */
int obagent_read_search(const char *body, size_t n, bool zip, struct buf *ret, char *why, size_t size);

#endif
