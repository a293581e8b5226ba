/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_read: in a helper, reads a file that may be rotated meanwhile, line after line as they were
 * written. A place in it counts all that was ever written: the offset, and what was collapsed away before. */
#ifndef AGENTD_ROTATE_READ_H
#define AGENTD_ROTATE_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agentd/cfg.h"

struct rotate_read {
    const char *path;
    const struct cfg_ids *ids;
    int fd;      /* of path */
    bool anew;   /* when the file becomes shorter than what was read: from its beginning */
    uint64_t at; /* the place of the next byte */
};

/* At place from; UINT64_MAX: last bytes before the end. What is not there any more is left out: r->at tells.
 * *size: the place of the end. 0 or -errno. */
int rotate_read_begin(struct rotate_read *r, uint64_t from, uint64_t last, uint64_t *size);
/* How many bytes; 0: the end, for now; -errno. What was rotated away before it was read comes out of NAME.1
 * and those behind it, as long as they are not compressed. */
ssize_t rotate_read(struct rotate_read *r, char *buf, size_t n);

#endif
