/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_secret: the credentials of an incarnation, in a folder that only its user can read, from before
 * its first command until nothing of it is left. Never knows what they are for. */
#ifndef AGENTD_WK_SECRET_H
#define AGENTD_WK_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wk;

/* The folder of one incarnation, as $CREDENTIALS_DIRECTORY has it: two may overlap. */
void wk_secret_path(const struct wk *w, uint32_t generation, char *path, size_t size);
/* Makes it with what the files say now, then calls done with NULL, or with how that failed. False: the worker
 * has none; then done is not called. */
bool wk_secret_make(struct wk *w, void (*done)(struct wk *w, const char *why));
void wk_secret_stop(struct wk *w); /* done is not called any more */
void wk_secret_remove(struct wk *w);
/* Those of workers that do not run are removed: an agentd has died. */
void wk_secret_sweep(void);

#endif
