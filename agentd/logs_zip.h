/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_zip: an archive that is written as it comes: APPNOTE.TXT of PKWARE, with the sizes behind each
 * member, and those of zip64 where they are needed. Knows bytes only. */
#ifndef AGENTD_LOGS_ZIP_H
#define AGENTD_LOGS_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGS_ZIP_NAME 400

struct logs_zip_member {
    char name[LOGS_ZIP_NAME];
    uint64_t at, size, packed; /* where it begins in the archive; bytes of it, before and after */
    uint32_t crc;
    uint32_t when; /* of MS-DOS: date and time, local */
};

/* May be shared between processes that write one after the other; all of it is plain numbers. */
struct logs_zip {
    uint64_t at; /* bytes written so far */
    uint32_t n, max;
    struct logs_zip_member v[];
};

/* 0, or -errno: a pipe that nobody reads ends the process. out: where to. -E2BIG: there are max members. */
int logs_zip_begin(struct logs_zip *z, int out, const char *name, int64_t wall_us);
int logs_zip_put(struct logs_zip *z, int out, const void *p, size_t n);
int logs_zip_end(struct logs_zip *z, int out);
/* After the last one: what is in it. */
int logs_zip_finish(struct logs_zip *z, int out);

bool logs_zip_has(const struct logs_zip *z, const char *name);

#endif
