/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/check: asks a worker from outside, in a helper, as the worker's user: a path may lie on a file
 * system that hangs, a program may never answer. Never knows what the answer is for. */
#ifndef AGENTD_CHECK_H
#define AGENTD_CHECK_H

#include <stdint.h>

#include "agentd/cfg.h"
#include "agentd/helper.h"

/* Asks once; status 0: well, else p says why not, in few words. NULL: no helper can be started now; done is
 * not called then. c and ids need not outlive the call. */
struct helper *check_once(const struct cfg_check *c, const struct cfg_ids *ids, uint64_t timeout_us,
                          helper_done_fn done, void *arg);
/* Asks again and again until it is well, for as long as agentd listens; the same otherwise. */
struct helper *check_until_well(const struct cfg_check *c, const struct cfg_ids *ids, helper_done_fn done,
                                void *arg);

#endif
