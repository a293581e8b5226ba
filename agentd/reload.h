/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/reload: reads the configuration again while workers run. Names are resolved in a helper, since name
 * service may block. Knows when to read and whom to tell; never knows keys.
 */
#ifndef AGENTD_RELOAD_H
#define AGENTD_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "agentd/cfg.h"

/* The configuration in force; reload owns it from here on. */
void reload_init(struct cfg *current, const char *rpc); /* rpc: path of agentd-rpc, copied */
const struct cfg *reload_current(void);
/* In a child only: the private key, of which each configuration in its memory has a copy. */
void reload_forget_secrets(void);
/* call 0: on HUP; else the listener's call, which is answered when it is applied. */
void reload_request(uint64_t call, const char *op); /* op: the id of the operation, "": none */
/* Answers the call with what reload_request would do, and does nothing: a helper reads and compares. While a
 * reload is going on it waits for its end. */
void reload_plan(uint64_t call);
bool reload_is_busy(void);
void reload_cancel(void); /* agentd stops: what is being read is not applied any more */
void reload_done(void);

#endif
