/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/calls: what the listener may ask for, a row of the method table on a configured worker, and nothing
 * else: no program, path or pid can be named. Knows the verbs; never knows frames or sockets. */
#ifndef AGENTD_CALLS_H
#define AGENTD_CALLS_H

#include <stdbool.h>

#include "wire/wire.h"

/* administrator: it came over the private socket, where more may be asked for. */
void calls_take(const struct wire_call *c, bool administrator);

/* A listener may ask for it. */
bool calls_may(unsigned verb);

#endif
