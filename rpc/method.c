/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/method.h"

const struct method_info method_table[METHOD_COUNT] = {
#define METHOD(name, verb, path, role, handler, flags, reply, help) \
    [METHOD_##name] = {#name, verb, path, reply, help, METHOD_##role, flags},
#include "rpc/method.def"
#undef METHOD
};

const char *method_role_name(enum method_role role)
{
    return role == METHOD_MANAGER ? "HOST_MANAGER" : role == METHOD_VIEWER ? "HOST_VIEWER" : "";
}
