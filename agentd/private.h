/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/private: RuntimeDirectory/private, a SOCK_SEQPACKET socket on which root (or agentd's own user)
 * speaks frames to agentd itself: for what the listener may not ask for, and for when there is no listener.
 * Knows sockets and credentials; never knows verbs. unix(7). */
#ifndef AGENTD_PRIVATE_H
#define AGENTD_PRIVATE_H

#include "base/buf.h"

struct state;

/* Opens it anew, or takes it from an earlier image (s may be NULL). Who connects waits until it serves. 0 or
 * -errno; it was said. */
int private_open(const char *runtime_dir, const struct state *s);
void private_save(struct buf *b);
/* Hears what is asked, also on the connections of an earlier image (s may be NULL). */
void private_serve(const struct state *s);
void private_repair(void); /* its path was removed: it is made again */
void private_close(void);

#endif
