/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/audit_file: the audit trail as files of StateDirectory: audit, the newest, audit.1 and so on, and
 * audit.head. One line is one write(2); agentd's death can leave the last one torn, and a full disk none at
 * all. Bounded: the oldest file goes. Knows lines and files; never knows what is in a line. */
#ifndef AGENTD_AUDIT_FILE_H
#define AGENTD_AUDIT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chain.h"

/* What an earlier agentd left that is not whole. */
struct audit_file_left {
    uint64_t torn;    /* bytes of a last line that was not written whole: they are cut off */
    uint64_t missing; /* lines that the head knows of, and that are not there any more */
    uint64_t unknown; /* lines behind those that the head knows of, more than the one that may be */
    bool altered;     /* the last line is not the one that the head knows of */
    bool headless;    /* there are lines, but no head */
};

/* Opens dir/audit and finds the end of the chain. known: what agentd has in mind of it, over an exec; NULL:
 * nothing. max: bytes of one file. 0 or -errno: then nothing can be appended. */
int audit_file_open(const char *dir, size_t max, const struct chain_at *known, struct audit_file_left *ret);
void audit_file_close(void);

/* A line of these fields, `,"name":value` each, after its number and the hash of the one before. 0 or -errno:
 * then nothing of it stands there. */
int audit_file_append(const char *fields);
const struct chain_at *audit_file_last(void);

/* In a helper: what stands in dir's trail is on disk. 0 or -errno. */
int audit_file_sync(const char *dir);

#endif
