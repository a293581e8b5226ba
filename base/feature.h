/* SPDX-License-Identifier: Apache-2.0 */
/* base/feature: which of the kernel's features this process has found, what the lack of each costs, and what
 * cures it: one table, feature.def. The file that makes a system call, or does without it, says here what it
 * has seen; nobody guesses from the kernel's version. Makes no system call itself. */
#ifndef BASE_FEATURE_H
#define BASE_FEATURE_H

#include <stdbool.h>
#include <stddef.h>

enum feature_id {
#define FEATURE(id, name, since, severity, cost, cure) FEATURE_##id,
#include "base/feature.def"
#undef FEATURE
    FEATURE_MAX,
};

/* In the order of their weight: of two processes that know one, the later word here counts. */
enum feature_state { FEATURE_UNTRIED, FEATURE_THERE, FEATURE_LACKING, FEATURE_STATE_MAX };

struct feature_row {
    const char *name, *since, *severity, *cost, *cure;
};

extern const struct feature_row feature_table[FEATURE_MAX];

void feature_note(enum feature_id id, bool there); /* the last word counts */
enum feature_state feature_state(enum feature_id id);
const char *feature_state_name(enum feature_state s);    /* "untried", "there", "lacking" */
enum feature_state feature_state_from(const char *name); /* UNTRIED if it is none */

#endif
