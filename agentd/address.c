/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/address.h"

#include <arpa/inet.h>
#include <string.h>

socklen_t address_of_tcp(const struct cfg_listener *l, bool any_four, union address *a)
{
    *a = (union address){.six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)l->port)}};
    if (inet_pton(AF_INET6, l->host, &a->six.sin6_addr) == 1 || (!*l->host && !any_four))
        return sizeof(a->six); /* any: all zeros */
    *a = (union address){.four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port)}};
    inet_pton(AF_INET, l->host, &a->four.sin_addr);
    return sizeof(a->four);
}

static bool is_tcp_at(const union address *have, const struct cfg_listener *l)
{
    union address want;

    address_of_tcp(l, have->sa.sa_family == AF_INET, &want);
    if (have->sa.sa_family != want.sa.sa_family)
        return false;
    if (have->sa.sa_family == AF_INET)
        return have->four.sin_port == want.four.sin_port &&
               have->four.sin_addr.s_addr == want.four.sin_addr.s_addr;
    return have->six.sin6_port == want.six.sin6_port &&
           memcmp(&have->six.sin6_addr, &want.six.sin6_addr, sizeof(struct in6_addr)) == 0;
}

bool address_is_at(int fd, const struct cfg_listener *l)
{
    union address have = {0};
    socklen_t len = sizeof(have), n = sizeof(int);
    int listening = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening ||
        getsockname(fd, &have.sa, &len) < 0)
        return false;
    if (l->tcp)
        return is_tcp_at(&have, l);
    return have.sa.sa_family == AF_UNIX && strncmp(have.un.sun_path, l->path, sizeof(have.un.sun_path)) == 0;
}
