/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/passed: descriptors that the service manager hands to agentd at its start: those that an earlier
 * agentd gave it to keep, and sockets of socket units. Sockets are found by their address, others by their
 * name. Never knows what they are for. sd_listen_fds(3). */
#ifndef AGENTD_PASSED_H
#define AGENTD_PASSED_H

#include <stdbool.h>

#include "agentd/cfg.h"

#define PASSED_OWN "listen"     /* the name under which agentd's own are kept */
#define PASSED_WORKER "worker." /* and of a worker, before its id */
#define PASSED_PID "pid."       /* before what tells a process */

void passed_init(void);
/* The one that listens at l's address, now the caller's; *ours: an earlier agentd opened it, so that its path
 * is ours to remove; NULL: only such a one. -ENOENT: there is none. */
int passed_take(const struct cfg_listener *l, bool *ours);
int passed_take_named(const char *name); /* now the caller's; -ENOENT: there is none */
/* Those that are left nobody wants any more: closed, and kept no longer. */
void passed_done(void);

#endif
