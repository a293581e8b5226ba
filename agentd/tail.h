/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/tail: the last lines of a failed start's standard error, read by a helper under the worker's user.
 */
#ifndef AGENTD_TAIL_H
#define AGENTD_TAIL_H

#include "agentd/helper.h"

struct wk;

/* The last LIMIT_STDERR_LINES lines, at most LIMIT_STDERR_TAIL bytes, written since its file was
 * w->error_size long. NULL: nothing to read. */
struct helper *tail_start(struct wk *w, helper_done_fn done, void *arg);

#endif
