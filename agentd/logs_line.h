/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_line: when a line of a log was written, and how grave it is, as far as its beginning tells.
 * Pure but for this host's time zone. The forms that are known: OceanBase's, ISO 8601 and what is like it,
 * also in brackets or behind time=, and syslog's of old, which lacks the year. */
#ifndef AGENTD_LOGS_LINE_H
#define AGENTD_LOGS_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGS_LEVEL 16

struct logs_line {
    int64_t us;     /* since 1970, UTC */
    int32_t offset; /* of its zone, seconds east of UTC: as it is written, else this host's at that time */
    char level[LOGS_LEVEL]; /* as logs_line_level has it; "": it says none */
};

/* False: the n bytes at p do not begin with a time, and ret is as before. latest_us: when the file was last
 * written; a time without a year is of the last one in which it is not later than that, and a day. */
bool logs_line_read(const char *p, size_t n, int64_t latest_us, struct logs_line *ret);

/* One word of n bytes: TRACE DEBUG INFO NOTICE WARN ERROR FATAL and the like in capitals, WARN for WARNING
 * and ERROR for ERR; NULL: it is no level that is known. */
const char *logs_line_level(const char *word, size_t n);

#endif
