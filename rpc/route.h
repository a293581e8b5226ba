/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/route: from a request target to a row of method.def, and its parameters. Pure; the target has passed
 * the gate (ASCII, no dot segments, valid escapes). */
#ifndef RPC_ROUTE_H
#define RPC_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "rpc/method.h"

#define ROUTE_PARAM 256 /* bytes of one decoded parameter */

enum route_verb {
    ROUTE_GET = 1,
    ROUTE_HEAD = 2,
    ROUTE_POST = 4,
    ROUTE_OPTIONS = 8,
    ROUTE_DELETE = 16,
    ROUTE_OTHER = 32, /* known to HTTP, to no row */
};

struct route {
    int method;       /* enum method_id, or -1: the path is known, not with this verb */
    unsigned allowed; /* enum route_verb bits that the path knows */
    char param[2][ROUTE_PARAM];
    const char *query; /* points into the target, "" if none */
};

/* 0 the path is known (ret->method may still be -1), -ENOENT it is not. */
int route_match(const char *target, enum route_verb verb, struct route *ret);

/* "GET, HEAD, OPTIONS" */
const char *route_allow(unsigned allowed, char *buf, size_t size);

/* The value of a query parameter, decoded into buf. 1 found, 0 not there, -EINVAL there twice, or too long.
 */
int route_query(const char *query, const char *name, char *buf, size_t size);

#endif
