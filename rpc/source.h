/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/source: where connections come from: how many each address holds, and how fast its requests come. Knows
 * addresses and numbers; never knows what is asked, or by whom. */
#ifndef RPC_SOURCE_H
#define RPC_SOURCE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct source_ends {
    uid_t uid; /* of a unix socket's peer; else (uid_t)-1 */
    char source[INET6_ADDRSTRLEN],
        server[INET6_ADDRSTRLEN + 8]; /* "unix" or an address; our end, "" for unix */
};
void source_learn(int fd, bool is_unix, struct source_ends *ret);

/* One who comes as one: an IPv4 address, also in IPv6's clothes, or the first 64 bits of an IPv6 one: the
 * rest is its owner's to choose. Of what is no address all zero. */
#define SOURCE_KEY 16
void source_key(uint8_t key[SOURCE_KEY], const char *address);

struct source;
/* One more connection from there; NULL: it has max already, or there are too many sources. max 0: no bound.
 */
struct source *source_enter(const char *address, unsigned max);
void source_leave(struct source *s); /* NULL-safe */
unsigned source_count(void);         /* that are remembered */

/* One more request, of at most rate a second, all of a second's at once if need be; rate 0: no bound. 0, or
 * after how many seconds it may come. */
unsigned source_request(struct source *s, unsigned rate, uint64_t now_us);

#endif
