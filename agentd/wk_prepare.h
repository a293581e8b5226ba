/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_prepare: what is looked at and made before a start: conditions, RuntimeDirectory= and its like.
 * In a helper, since it may wait for a disk. systemd.exec(5), systemd.unit(5). */
#ifndef AGENTD_WK_PREPARE_H
#define AGENTD_WK_PREPARE_H

#include <stdbool.h>

#include "agentd/wk.h"

bool wk_prepare_is_needed(const struct wk *w);
/* done hears nothing if the start is over before. met: false: a condition is not, and why says which. why: ""
 * or what failed. */
typedef void (*wk_prepare_fn)(struct wk *w, bool met, const char *why);
void wk_prepare(struct wk *w, wk_prepare_fn done);
/* It makes something that goes when it is at rest: RuntimeDirectory=, the file of a unix socket. */
bool wk_prepare_leaves(const struct wk_def *d);
void wk_prepare_note(struct wk *w);   /* before that is made: on record, since agentd may die */
void wk_prepare_clear(struct wk *w);  /* it is at rest: all of it goes, and is off the record then */
void wk_prepare_forget(struct wk *w); /* before it is freed */

#endif
