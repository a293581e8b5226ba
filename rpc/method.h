/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/method: the table of calls without their handlers: what both ends of HTTP know. */
#ifndef RPC_METHOD_H
#define RPC_METHOD_H

enum method_id {
#define METHOD(name, verb, path, role, handler, flags, reply, help) METHOD_##name,
#include "rpc/method.def"
#undef METHOD
    METHOD_COUNT,
};

enum method_role { METHOD_NONE, METHOD_VIEWER, METHOD_MANAGER };

#define METHOD_OCP 1
#define METHOD_PLAIN 2
#define METHOD_STREAM 4
#define METHOD_SSE 8
#define METHOD_CHANGE 16

#define METHOD_PREFIX "/api/v2"

struct method_info {
    const char *name, *verb, *path, *reply, *help;
    enum method_role role;
    unsigned flags;
};

extern const struct method_info method_table[METHOD_COUNT];

const char *method_role_name(enum method_role role); /* HOST_VIEWER ... */

#endif
