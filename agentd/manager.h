/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/manager: the service manager that runs agentd, as far as agentd talks with it in its life: a ping
 * from the loop, a line of how things stand, more time for a long stop, and why it wants agentd to end.
 * Without one all of it does nothing. sd_notify(3), sd_watchdog_enabled(3), org.freedesktop.systemd1(5). */
#ifndef AGENTD_MANAGER_H
#define AGENTD_MANAGER_H

#include <stdbool.h>

void manager_init(void);              /* from now on it is pinged, if it wants to be */
void manager_end_round(void);         /* at the end of each round of the loop: what it has had no room for */
void manager_ready(const char *more); /* READY; more: what the line ends with from now on; not copied */
void manager_changed(void);           /* how things stand: told within a second, if it reads otherwise */
void manager_stopping(void);          /* and as long as that takes it is asked for more time */

/* agentd is asked to end: is that for good, so that workers end with it? A restart of the unit is not. told
 * runs later, once. false: there is nobody to ask. */
bool manager_ask(void (*told)(bool for_good));
void manager_done(void);

#endif
