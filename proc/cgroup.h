/* SPDX-License-Identifier: Apache-2.0 */
/* proc/cgroup: leaves of the unified hierarchy, one a worker. Never knows what runs in them. A leaf is kept
 * over the restarts of its worker: making one costs up to a whole restart. cgroups(7), the kernel's
 * cgroup-v2.rst. */
#ifndef PROC_CGROUP_H
#define PROC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The folder that holds the leaves. */
struct cgroup_root {
    int fd;               /* -1: none to be had; every call then says -EOPNOTSUPP */
    bool delegated;       /* given by systemd; agentd sits in its leaf "supervisor" */
    unsigned controllers; /* handed down to the leaves: cgroup_res.h */
    char path[1024];      /* in the file system, for messages */
};

struct cgroup_leaf {
    int fd;      /* its folder, -1: none */
    uint64_t id; /* inode: the cgroup id that sockets carry */
};

#define CGROUP_ROOT_NULL \
    {                    \
        .fd = -1         \
    }
#define CGROUP_LEAF_NULL \
    {                    \
        .fd = -1         \
    }

/* The service manager says that our cgroup is delegated, and leaves no mark: a user's manager before systemd
 * 255 or so. Before the two below look. */
void cgroup_assume_delegated(void);

/* Takes all controllers back that the delegated cgroup which this process is in, or beside, has handed down
 * to its leaves: with one handed down nothing can be put into it, so that a systemd before 254 could not
 * start the unit's next main process while leaves live (cgroups(7), "no internal processes"). 0, also
 * where none is delegated, or -errno. */
int cgroup_release_controllers(void);

/* Finds the root of the leaves: the cgroup that systemd delegated to us; else, as root, agentd-NAME in the
 * cgroup2 mount; else none (fd -1) and why in reason. Needs CAPS_FILES. 0 or -errno. */
int cgroup_root_open(struct cgroup_root *ret, const char *name, char *reason, size_t reason_size);
/* After a leaf could not be made with -ENOENT: agentd-NAME is made again if somebody has removed it. Needs
 * CAPS_FILES. 0 or -errno. */
int cgroup_root_repair(struct cgroup_root *root);
void cgroup_root_done(struct cgroup_root *root); /* also removes agentd-NAME if it is empty */

/* Opens the leaf, making it if it is not there. 0 or -errno. */
int cgroup_leaf_open(const struct cgroup_root *root, const char *name, struct cgroup_leaf *ret);
/* The same, but -ENOENT if it is not there. */
int cgroup_leaf_find(const struct cgroup_root *root, const char *name, struct cgroup_leaf *ret);
void cgroup_leaf_done(struct cgroup_leaf *leaf);
int cgroup_leaf_remove(const struct cgroup_root *root, const char *name); /* -EBUSY while it has members */

/* The one that a process is in, whoever made it: only to move others there. 0 or -errno. Needs CAPS_FILES. */
int cgroup_of(pid_t pid, struct cgroup_leaf *ret);
int cgroup_leaf_add(const struct cgroup_leaf *leaf, pid_t pid); /* moves it there; 0 or -errno */

/* 1: has members (also in cgroups below), 0: empty, or -errno. */
int cgroup_leaf_populated(const struct cgroup_leaf *leaf);
int cgroup_events_populated(int events_fd); /* the same, from cgroup_leaf_events' descriptor */
/* Descriptor of its cgroup.events, whose notification is EPOLLPRI and comes late: a safety net. -errno. */
int cgroup_leaf_events(const struct cgroup_leaf *leaf);

/* Members of the leaf and of cgroups below it: at most max pids into ret; returns how many there are (maybe
 * more than max) or -errno. */
ssize_t cgroup_leaf_pids(const struct cgroup_leaf *leaf, pid_t *ret, size_t max);

/* The ids of the leaf and of the cgroups below it, which their sockets carry: at most max into ret; returns
 * how many there are (maybe more than max) or -errno. One fstat where there are none below. */
ssize_t cgroup_leaf_ids(const struct cgroup_leaf *leaf, uint64_t *ret, size_t max);

/* SIGKILL to all members and cgroups below, whatever they fork meanwhile: cgroup.kill, before 5.14 freeze and
 * a loop. */
int cgroup_leaf_kill(const struct cgroup_leaf *leaf);
int cgroup_leaf_freeze(const struct cgroup_leaf *leaf, bool on);

/* Calls fn with the name of each leaf that exists. 0 or -errno. */
int cgroup_root_list(const struct cgroup_root *root, void (*fn)(const char *name, void *arg), void *arg);

#endif
