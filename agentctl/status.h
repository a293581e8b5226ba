/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/status: workers are asked for and shown, once or, by top, again and again. */
#ifndef AGENTCTL_STATUS_H
#define AGENTCTL_STATUS_H

#include "agentctl/options.h"
#include "agentctl/rows.h"

/* Those that o's words name, or all, into rows; with -o json they are printed instead. An exit code; it was
 * told. */
int status_collect(const struct options *o, bool words, struct rows *rows);
int status_print(const struct rows *rows, const struct rows_look *look); /* -1: nobody reads it */
int status_sort(const struct options *o, enum rows_sort otherwise, enum rows_sort *ret); /* -1: it was told */

#endif
