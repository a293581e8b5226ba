/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/address: a configured address as the kernel has it, and whether a socket listens there. */
#ifndef AGENTD_ADDRESS_H
#define AGENTD_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agentd/cfg.h"

union address {
    struct sockaddr sa;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un un;
};

/* Of a TCP listener; any_four: "any" is IPv4's. The length. */
socklen_t address_of_tcp(const struct cfg_listener *l, bool any_four, union address *ret);
bool address_is_at(int fd, const struct cfg_listener *l);

#endif
