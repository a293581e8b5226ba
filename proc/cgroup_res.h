/* SPDX-License-Identifier: Apache-2.0 */
/* proc/cgroup_res: what a leaf may use, and what it used. One table (cgroup_res.def) says which controller
 * and file a setting has and how it is written there. The kernel's cgroup-v2.rst. */
#ifndef PROC_CGROUP_RES_H
#define PROC_CGROUP_RES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proc/cgroup.h"

enum cgroup_res_row {
#define CGROUP_RES(name, key, controller, file, unset, form) CGROUP_RES_##name,
#include "proc/cgroup_res.def"
#undef CGROUP_RES
    CGROUP_RES_MAX,
};

enum { CGROUP_CPU = 1, CGROUP_MEMORY = 2, CGROUP_PIDS = 4 }; /* controllers, as bits */

enum cgroup_amount { CGROUP_UNSET, CGROUP_NUMBER, CGROUP_INFINITE, CGROUP_PARTS };

struct cgroup_res {
    struct {
        enum cgroup_amount kind;
        uint64_t v; /* PARTS: 1/10000 of a processor, of the physical memory, of the system's tasks */
    } row[CGROUP_RES_MAX];
};

const char *cgroup_res_key(enum cgroup_res_row row);
/* What is written for it; "max" and the like included. Returns text. */
#define CGROUP_RES_TEXT 48
const char *cgroup_res_text(const struct cgroup_res *r, enum cgroup_res_row row, char text[CGROUP_RES_TEXT]);
/* As a number, for comparisons; 0: nothing is set. r may be NULL here and below. */
uint64_t cgroup_res_hash(const struct cgroup_res *r);
bool cgroup_res_is_set(const struct cgroup_res *r, enum cgroup_res_row row);
/* The controllers that are needed. */
unsigned cgroup_res_needs(const struct cgroup_res *r);
/* Bit per row that is set and has no effect where only these controllers are handed down. */
unsigned cgroup_res_lost(const struct cgroup_res *r, unsigned controllers);

/* Hands these controllers down to the leaves as well, as far as they can be had; root->controllers are those
 * that are. 0, or -errno of one that was there and was refused (-EBUSY: a process sits in the root itself).
 */
int cgroup_res_enable(struct cgroup_root *root, unsigned controllers);

/* Tells base/feature which controllers can be had now. */
void cgroup_res_find_features(const struct cgroup_root *root);

struct cgroup_res_result {
    unsigned failed; /* bit per row */
    int error;       /* of the first, 0: none */
};
/* Brings the leaf's files to r: what is set, and what is not to what an untouched leaf has. Only what differs
 * is written. Lowering the memory of a leaf in use may take long: the kernel makes room first. */
void cgroup_res_apply(const struct cgroup_leaf *leaf, const struct cgroup_res *r, unsigned controllers,
                      struct cgroup_res_result *ret);
/* There is something to be written; reads only. */
bool cgroup_res_differs(const struct cgroup_leaf *leaf, const struct cgroup_res *r, unsigned controllers);

/* "NAME VALUE" of a flat keyed file, or with name NULL the first number of the file. 0 or -errno. */
int cgroup_res_read(const struct cgroup_leaf *leaf, const char *file, const char *name, uint64_t *ret);

#endif
