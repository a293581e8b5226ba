/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_older: in a helper: the files that a log's name stood for earlier, as others rotate: renamed to
 * NAME.1, NAME.20260101 and the like. Where a reader was who knew one of them by device and inode, and what
 * comes behind it. agentd's own rotation keeps the inode: that is rotate_read's. */
#ifndef AGENTD_LOGS_OLDER_H
#define AGENTD_LOGS_OLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "agentd/cfg.h"

struct logs_older {
    struct {
        char name[256];
        dev_t dev;
        ino_t ino;
        uint64_t size;
        int64_t mtime_ns;
    } v[LIMIT_LOG_OLDER]; /* last written to first */
    unsigned n, next;     /* next: the one that is read next, n: none, the log itself follows */
    uint64_t at;          /* offset in it */
    char folder[4096];
    int fd; /* of the one that is read; -1 */
};

/* Looks for the file of that device and inode beside path (live: what is open of it). True: offset *from of
 * it is found: o reads from there on to the end of the newest, and *from is where the log itself is to be
 * begun, after that. An offset behind a file's end, which grows no more, goes on in the one behind it. */
bool logs_older_find(struct logs_older *o, const char *path, const char *pattern, const struct stat *live,
                     uint64_t dev, uint64_t ino, uint64_t *from);
/* In the middle of a rotation nothing has the name: what had it last stands in for it. Its descriptor, or
 * -ENOENT. */
int logs_older_newest(struct logs_older *o, const char *path, const char *pattern, const struct cfg_ids *ids);
/* The next bytes of them; 0: there are no more. One that can't be opened any more is left out. */
ssize_t logs_older_read(struct logs_older *o, const struct cfg_ids *ids, char *buf, size_t n);

#endif
