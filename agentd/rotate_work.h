/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_work: the helper that rotates one file. The worker goes on writing: its descriptor stays what
 * it is, no byte goes through us, and nothing of it waits.
 *
 * The order in which this can be killed at any point, or the host lose its power, without a line being lost
 * or there twice:
 *   1. NAME.rotating, a copy of the head up to a line's end, is written and on disk.
 *   2. A mark is written over the first bytes of the head, which are to go.
 *   3. A filler is written over the end of what was copied, which stays because only whole blocks can go.
 *   4. NAME.rotating becomes NAME.rotated.
 *   5. The head is taken off (FALLOC_FL_COLLAPSE_RANGE) or given back (FALLOC_FL_PUNCH_HOLE), the mark last.
 *   6. NAME.1 and those behind it move up by one, NAME.rotated becomes NAME.1.
 * Whoever comes next finds a mark: goes on at 3. No mark and NAME.rotated: goes on at 6. No mark and
 * NAME.rotating: removes it, nothing has happened yet. */
#ifndef AGENTD_ROTATE_WORK_H
#define AGENTD_ROTATE_WORK_H

#include "agentd/rotate_dir.h"

/* The answer. */
struct rotate_report {
    int32_t error;       /* a positive errno: why says what */
    uint32_t cuts;       /* that were made */
    uint32_t packs;      /* there is something to compress */
    uint64_t size, base; /* of the file that was passed, base as in rotate_head.h */
    char why[256];
};

/* helper_run_fn; arg: struct rotate_job. HELPER_KEPT is a socket: a descriptor of the file goes there
 * (O_PATH: of no use but to look at it). */
int rotate_work_run(int out, void *arg);

#endif
