/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_check: how a worker is asked from outside, as ReadyCheck= and HealthCheck= say it. */
#ifndef AGENTD_CFG_CHECK_H
#define AGENTD_CFG_CHECK_H

#include <stdbool.h>
#include <stdint.h>

enum cfg_check_kind { CFG_CHECK_NONE, CFG_CHECK_TCP, CFG_CHECK_UNIX, CFG_CHECK_HTTP, CFG_CHECK_STABLE };

/* What a kind does not need is 0 or NULL. */
struct cfg_check {
    enum cfg_check_kind kind;
    unsigned port;
    unsigned status; /* http: the one that is right; 0: 200 to 399 */
    uint64_t stable_us;
    char *path; /* unix: the socket; http: with its query */
    char *host; /* http: a name or an address */
    char *body; /* http: what the answer has to contain; NULL: anything */
};

void cfg_check_free(struct cfg_check *k);                                  /* NULL-safe */
bool cfg_check_same(const struct cfg_check *a, const struct cfg_check *b); /* NULL-safe */
struct cfg_check *cfg_check_dup(const struct cfg_check *k);                /* NULL: no memory */

#endif
