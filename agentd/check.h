/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/check: asks a worker from outside, in a helper, as the worker's user: a path may lie on a file
 * system that hangs, a program may never answer. Never knows what the answer is for. */
#ifndef AGENTD_CHECK_H
#define AGENTD_CHECK_H

#include <stdint.h>

#include "agentd/cfg.h"
#include "agentd/helper.h"

/* The status that done is given; any other: it could not be asked. */
#define CHECK_WELL 0
#define CHECK_NOT_WELL 1 /* p says why, in few words */

/* Asks once. NULL: no helper can be started now, half of them are others'; done is not called then. c and ids
 * need not outlive the call. */
struct helper *check_once(const struct cfg_check *c, const struct cfg_ids *ids, uint64_t timeout_us,
                          helper_done_fn done, void *arg);
/* Asks again and again until it is well, but for some seconds only: a helper is not for ever. */
struct helper *check_for_a_while(const struct cfg_check *c, const struct cfg_ids *ids, helper_done_fn done,
                                 void *arg);

#endif
