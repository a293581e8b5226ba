/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_head: where the lines of a file begin that may have been rotated, for those who read it. */
#ifndef AGENTD_ROTATE_HEAD_H
#define AGENTD_ROTATE_HEAD_H

#include "agentd/rotate_cut.h"

struct rotate_head {
    uint64_t size;
    uint64_t data; /* behind the hole that a punch leaves */
    uint64_t base; /* the first byte of a line that was not copied away */
    uint64_t shift;
    struct rotate_mark mark;
};

/* Of a regular file, open for reading. 0 or -errno. */
int rotate_head_read(int fd, struct rotate_head *ret);

#endif
