/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_check: how a worker is asked from outside, as ReadyCheck= and HealthCheck= say it. */
#ifndef AGENTD_CFG_CHECK_H
#define AGENTD_CFG_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* One command line of an Exec key. systemd.service(5), "Command lines". */
struct cfg_command {
    char *path;  /* absolute */
    char **argv; /* NULL-terminated; argv[0] differs from path after '@' */
    char **late; /* NULL, or the words before substitution, see cfg_expand_late and cfg_expand_hook */
    char *text; /* the expanded line, for people and for startCommand; a variable of an EnvironmentFile= stays
                   ${NAME} in it, since it may be secret */
    bool ignore_failure; /* '-' before the path */
    bool privileged;     /* '+': as agentd itself, without User= and capabilities */
    bool keeps_user;     /* '!': without User= */
};

enum cfg_check_kind {
    CFG_CHECK_NONE,
    CFG_CHECK_TCP,
    CFG_CHECK_UNIX,
    CFG_CHECK_HTTP,
    CFG_CHECK_EXEC,
    CFG_CHECK_STABLE
};

/* What a kind does not need is 0 or NULL. */
struct cfg_check {
    enum cfg_check_kind kind;
    unsigned port;
    unsigned status; /* http: the one that is right; 0: 200 to 399 */
    uint64_t stable_us;
    char *path;                 /* unix: the socket; http: with its query */
    char *host;                 /* http: a name or an address */
    char *body;                 /* http: what the answer has to contain; NULL: anything */
    struct cfg_command command; /* exec: right is exit status 0 */
};

void cfg_check_free(struct cfg_check *k);                                  /* NULL-safe */
bool cfg_check_same(const struct cfg_check *a, const struct cfg_check *b); /* NULL-safe */
struct cfg_check *cfg_check_dup(const struct cfg_check *k);                /* NULL: no memory */

#endif
