/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/handlers: one function for each row of method.def. Each owns the request it is given. */
#ifndef RPC_HANDLERS_H
#define RPC_HANDLERS_H

#include "rpc/request.h"

#define METHOD(name, verb, path, role, handler, flags, reply, help) void handler(struct request *r);
#include "rpc/method.def"
#undef METHOD

#endif
