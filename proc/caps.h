/* SPDX-License-Identifier: Apache-2.0 */
/* proc/caps: capabilities, the only room that knows libcap. agentd, when it is root, keeps its permitted set
 * and raises into the effective set only what a named scope needs. capabilities(7). */
#ifndef PROC_CAPS_H
#define PROC_CAPS_H

#include <stdint.h>

/* Why privilege is raised. */
enum caps_scope {
    CAPS_NONE,   /* between scopes */
    CAPS_SPAWN,  /* become another user, set limits, enter a cgroup */
    CAPS_SIGNAL, /* signal another user's process */
    CAPS_LOOK,   /* read another user's /proc/PID/fd */
    CAPS_FILES,  /* create agentd's own folders, sockets and cgroups */
    CAPS_SCOPE_MAX,
};

/* Prepares the sets; without privilege all scopes do nothing. 0 or -errno. */
int caps_init(void);

/* Enters a scope, returns the one before: put it back with caps_enter. Scopes nest. */
enum caps_scope caps_enter(enum caps_scope scope);

int caps_from_name(const char *name, unsigned *ret); /* "CAP_NET_ADMIN" or "net_admin"; -EINVAL */
const char *caps_to_name(unsigned cap);              /* "CAP_...", static until the next call; NULL */
uint64_t caps_all(void);                             /* bit per capability that this kernel has */

/* In a forked child (uses malloc): bounding keeps only the given bits; ambient are kept over the change to
 * uid. Call before the uid changes (bounding) and after it (ambient). 0 or -errno. */
int caps_drop_bounding(uint64_t keep);
int caps_keep_over_uid_change(void);
int caps_set_ambient(uint64_t ambient);

#endif
