/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/when: a moment as RFC 3339 writes it. Pure. */
#ifndef RPC_WHEN_H
#define RPC_WHEN_H

#include <stdbool.h>
#include <stdint.h>

/* "2024-01-02T03:04:05Z", with a fraction of any length, with an offset: microseconds since 1970. False: it
 * is none. */
bool when_read(const char *text, int64_t *ret);

#endif
