/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_read: in a helper: the bytes of one file of a search, unpacked if it is packed, over agentd's
 * own rotation, by places that count all that was ever written to it. */
#ifndef AGENTD_LOGS_READ_H
#define AGENTD_LOGS_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agentd/rotate_read.h"

struct logs_source;
struct gzFile_s;

struct logs_read {
    const struct logs_source *source;
    uint64_t at;   /* place of the next byte */
    bool may_skip; /* what has gone meanwhile is left out; else it is looked for again */
    struct rotate_read file;
    struct gzFile_s *packed;
    uint64_t packed_end; /* place where it ends */
    char path[4096 + 256];
};

/* At place from, or at the first one behind it that is still there: r->at. 0; -ESTALE: its files have other
 * names by now: plan anew; or -errno with why. logs_read_close in any case. */
int logs_read_open(struct logs_read *r, const struct logs_source *s, uint64_t from, char *why, size_t size);
/* How many bytes; 0: the end, for now; -ESTALE; -EOVERFLOW: what agentd has packed is longer than can be
 * known, so that its places are wrong; -errno. */
ssize_t logs_read(struct logs_read *r, char *buf, size_t n);
void logs_read_close(struct logs_read *r);

/* Of the file's first line: 1 to 999,999,999; 0: it has none that is whole. */
uint32_t logs_read_check(const struct logs_source *s);
#define LOGS_READ_CHECKS 1000000000u

#endif
