/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/link_creds: the lines of the credentials file, handed to a listener. Knows which of them are well
 * made; never knows who they let in. */
#ifndef AGENTD_LINK_CREDS_H
#define AGENTD_LINK_CREDS_H

struct peer;

void link_put_credentials(struct peer *p, const char *path);

#endif
