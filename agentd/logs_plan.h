/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_plan: in a helper that has become a worker's user: which files a search reads, in which order.
 * Files of one log are together, the oldest first: NAME.2 before NAME.1 before NAME, dates before numbers;
 * logs follow each other by name. The order holds over a rotation, which a cursor relies on. */
#ifndef AGENTD_LOGS_PLAN_H
#define AGENTD_LOGS_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "agentd/cfg.h"
#include "agentd/logs_match.h"

/* A file, whatever its name. Its inode is another file's soon after it was deleted, so it is known by its
 * birth too, where the file system tells that. */
struct logs_file {
    dev_t dev;
    ino_t ino;
    int64_t birth_ns; /* 0: not known */
    uint64_t size;    /* when it was listed */
};

/* What agentd's own rotation cut off a file and may have packed since: a part of that file, with its places.
 */
struct logs_part {
    char name[256];
    struct logs_file file;
    uint64_t start, size; /* of what is packed */
};

struct logs_source {
    char folder[4096], name[256];
    const struct wk_def *def; /* whose it is */
    size_t stem;              /* bytes of name without what a rotation put behind it */
    struct logs_file file;
    int64_t mtime_us; /* last written */
    int64_t born_us;  /* not written before; INT64_MIN: not known */
    bool packed, live;
    bool is_last;    /* of its log: it may grow */
    bool cut;        /* agentd has cut it: its first line is not always the same */
    bool in_numbers; /* what is behind its stem is a number, which grows with each rotation */
    bool dropped;    /* while the plan is made */
    struct logs_part *parts;
    unsigned n_parts; /* the oldest first */
    ino_t *beyond;    /* of the numbered files behind those that were cut off */
    unsigned n_beyond;
    size_t size_parts, size_beyond; /* room, see array_room */
};

/* Of whom, and what. */
struct logs_wanted {
    const struct wk_def *const *defs;
    unsigned n;
    const struct logs_query *query;
    const bool *is_alias; /* of each of the query's types: a worker has it, and only its files are meant */
};

struct logs_plan {
    struct logs_source **v;
    unsigned n;
};

/* 0; -ENOMEM; -E2BIG: more than LIMIT_LOG_SOURCES. logs_plan_free in any case. */
int logs_plan_make(const struct logs_wanted *w, struct logs_plan *ret);
void logs_plan_free(struct logs_plan *p);

/* The number of the file that a place is in, or -1: none. A file that was packed, or copied and emptied, is
 * known by its first line. */
int logs_plan_find(const struct logs_plan *p, const struct logs_place *place);
/* What tells the file from a later one of the same inode: of its first line; 0: it has none yet, or it does
 * not stay. */
uint32_t logs_plan_check(const struct logs_source *s);

/* The names that a search could be for, each handed to tell until that says no. */
void logs_plan_tell(const struct logs_wanted *w, bool (*tell)(const char *name, size_t n, void *arg),
                    void *arg);

/* A file of the source's folder by its name, or by what it is if it was renamed meanwhile. A descriptor,
 * -ENOENT: it is gone, or -errno with why. */
int logs_plan_open(const struct logs_source *s, const char *name, const struct logs_file *file, char *why,
                   size_t size);
/* st is of fd, or of name in the folder dir. */
struct logs_file logs_plan_file(int dir, const char *name, const struct stat *st);

#endif
