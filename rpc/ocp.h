/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/ocp: what OCP's calls share. */
#ifndef RPC_OCP_H
#define RPC_OCP_H

#include <stdbool.h>

#include "rpc/request.h"

/* True if the path names this host; else r is answered. */
bool ocp_is_our_host(struct request *r);
bool ocp_has_host(struct request *r); /* the same of HostId= being set */

#endif
