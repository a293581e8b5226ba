/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_dir: in a helper, a live file, its folder and the files that were cut off it. All is done
 * relative to the folder's descriptor, with the rights of the worker's user, or as agentd in a folder whose
 * path nobody else can change. Never follows a link, never waits for one who has opened a FIFO. */
#ifndef AGENTD_ROTATE_DIR_H
#define AGENTD_ROTATE_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "agentd/cfg.h"
#include "agentd/rotate_cut.h"
#include "base/limits.h"

/* A cut that moved what stays to the front: in memory that agentd and the helper share, since the helper may
 * stay for a while. It is there before the cut is made. */
#define ROTATE_GOING UINT64_MAX
struct rotate_gone {
    uint64_t at_us; /* when it was done, clock_mono_us; ROTATE_GOING: it is being made */
    uint64_t shift; /* what was collapsed away in all before it */
};
struct rotate_ring {
    uint32_t n; /* set after what it counts */
    struct rotate_gone gone[LIMIT_LOG_CUTS + 1];
};

/* What is to be done; read by the helper's copy. */
struct rotate_job {
    const struct cfg_output_to *to;
    const struct cfg_ids *ids;
    uint64_t limit; /* bytes of lines from which on it is cut */
    unsigned max_files;
    bool compress;
    struct rotate_ring *ring; /* or NULL */
    uint64_t stay_us;         /* that the helper waits for the next cut, if that is near */
};

struct rotate_dir {
    const struct rotate_job *job;
    const char *name; /* the last component of the live file's path */
    int dir, fd;      /* fd: the live file, for reading and writing, not appending */
    struct stat st;   /* of the live file when it was opened */
    char *why;        /* what went wrong, for people: "PATH: a symbolic link" */
    size_t why_size;
};

/* Becomes who may rotate, opens the folder and the live file, which has to be on a file system of this host.
 * 0 or -errno with why filled in. */
int rotate_dir_open(struct rotate_dir *d, const struct rotate_job *job, char *why, size_t size);
/* Waits for others who rotate the same file, a little, and keeps them out until the process ends. 0 or
 * -errno.
 */
int rotate_dir_lock(struct rotate_dir *d);
void rotate_dir_unlock(struct rotate_dir *d);
/* For who only reads a live file, open for reading: keeps rotation out until fd is closed. Waits for as long
 * as it takes: only in a helper that something ends. 0 or -errno. */
int rotate_dir_hold(int fd);

int rotate_dir_fail(struct rotate_dir *d, int error, const char *name, const char *what); /* -error */

/* A regular file of one name: 1 with st, if it is there; 0 if not; -errno with why: something else is. */
int rotate_dir_look(struct rotate_dir *d, enum rotate_form form, unsigned no, struct stat *st);
/* A new file that the worker's group can read as the live one. Descriptor or -errno with why. */
int rotate_dir_make(struct rotate_dir *d, enum rotate_form form);
int rotate_dir_open_old(struct rotate_dir *d, enum rotate_form form, unsigned no); /* for reading */
int rotate_dir_rename(struct rotate_dir *d, enum rotate_form from, unsigned from_no, enum rotate_form to,
                      unsigned to_no);
int rotate_dir_remove(struct rotate_dir *d, enum rotate_form form, unsigned no); /* also if it is not there */
void rotate_dir_sync(struct rotate_dir *d);                                      /* its names */

/* NAME.rotated becomes NAME.1, the others move up, and the one that would be one too many goes. */
int rotate_dir_shift(struct rotate_dir *d);
int rotate_dir_trim(struct rotate_dir *d); /* those beyond max_files go: more were kept before */
/* The newest file behind NAME.1 that is not compressed; 0: none; -errno with why. */
int rotate_dir_plain(struct rotate_dir *d);

#endif
