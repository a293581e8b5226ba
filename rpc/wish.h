/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/wish: what a caller says of how it is to be answered: If-Match and Accept-Encoding (RFC 9110), Prefer
 * (RFC 7240), read from the values of their headers. Pure. */
#ifndef RPC_WISH_H
#define RPC_WISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The generations that the entity tags of an If-Match name, with commas between, as they travel to agentd: ""
 * any, "-" tags that no worker ever has. 0; -EINVAL: no list of entity tags, or they do not fit. */
int wish_match(const char *value, char *buf, size_t size);

struct wish {
    bool async;    /* respond-async */
    bool has_wait; /* wait=N */
    uint32_t wait_ms;
};

/* Accept-Encoding takes gzip, said so by name or by "*". */
bool wish_gzip(const char *value);

/* What is not known, or not understood, is no wish: a preference is never an error. */
struct wish wish_prefer(const char *value);

#endif
