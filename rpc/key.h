/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/key: an Idempotency-Key and what it was used for, as agentd compares it: a digest of method, path and
 * body. */
#ifndef RPC_KEY_H
#define RPC_KEY_H

#include "rpc/request.h"

#define KEY_DIGEST 65

/* The key of r, NULL if it has none; digest is filled then. -EINVAL if it is too long or not plain text. */
int key_of(const struct request *r, const char **ret_key, char digest[KEY_DIGEST]);

#endif
