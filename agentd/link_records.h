/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/link_records: what goes to the listeners all the time, as link.h declares it: records, events,
 * replies and streams, and in which order. Knows that there are listeners; never knows how one is started or
 * ended. */
#ifndef AGENTD_LINK_RECORDS_H
#define AGENTD_LINK_RECORDS_H

#include <stdbool.h>

struct peer;

bool link_is_listener(const struct peer *p);
struct peer *link_current(void); /* the listener that serves; NULL: none */

/* All records and all events that the peer has not been told, into p->out. */
void link_put_table(struct peer *p);

#endif
