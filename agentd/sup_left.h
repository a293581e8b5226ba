/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier agentd left behind: its facts, until they are used; processes that nobody adopted, which
 * are ended before anything starts. sup.c is its only caller. */
#ifndef AGENTD_SUP_LEFT_H
#define AGENTD_SUP_LEFT_H

#include <stdbool.h>

#include "agentd/cfg.h"
#include "agentd/facts.h"

struct wk;

int sup_left_open(const struct cfg *cfg); /* 0 or -errno */
/* What is on record of an alias, or NULL. Valid until sup_left_forget. */
const struct facts *sup_left_of(const char *alias);
/* Its file was wrong when agentd started. */
bool sup_left_is_broken(const char *alias);
/* A worker whose file has become right, and whose main process is gone or not proven to be it. */
void sup_left_clear_one(const struct wk *w);
/* All is used, but for those that are still left out. */
void sup_left_forget(void);
void sup_left_remove_empty(void); /* leaves */

#endif
