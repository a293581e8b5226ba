/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/link_creds: what a listener needs to tell who is there: the lines of the credentials file, and what
 * TLS is made of. Knows which lines are well made; never knows who they let in. */
#ifndef AGENTD_LINK_CREDS_H
#define AGENTD_LINK_CREDS_H

struct buf;
struct cfg_rpc;
struct peer;

void link_put_secrets(struct peer *p, const struct cfg_rpc *rpc);

/* The frames of what TLS is made of; make_room runs before each, unless it is NULL. */
void link_put_tls(const struct cfg_rpc *rpc, struct buf *b, void (*make_room)(struct peer *p),
                  struct peer *p);

#endif
