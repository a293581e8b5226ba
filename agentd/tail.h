/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/tail: the last lines of a failed start's standard error, read by a helper under the worker's user.
 */
#ifndef AGENTD_TAIL_H
#define AGENTD_TAIL_H

#include <stdint.h>

#include "agentd/cfg.h"
#include "agentd/helper.h"

/* The last LIMIT_STDERR_LINES lines, at most LIMIT_STDERR_TAIL bytes, written after from. NULL: nothing to
 * read. */
struct helper *tail_start(const struct wk_def *def, uint64_t from, helper_done_fn done, void *arg);

#endif
