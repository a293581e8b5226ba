/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/daemon: the composition: which room is opened after which, what signals do, when it is over. Each
 * returns the exit status: 0, 1 a failure at run time, 2 a wrong configuration. */
#ifndef AGENTD_DAEMON_H
#define AGENTD_DAEMON_H

int daemon_check(const char *file);
int daemon_dump(const char *file);
int daemon_run(const char *file);

#endif
