/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/stats: what the listener has counted since it started: bumped where it happens, told by rpc/metrics.
 * Knows numbers only. */
#ifndef RPC_STATS_H
#define RPC_STATS_H

#include <stdint.h>

#include "rpc/route.h"
#include "wire/wire.h"

#define STATS_VERBS 6
#define STATS_CLASSES 5

struct stats {
    uint64_t start_us; /* monotonic */
    uint64_t connections, over_cap, over_rate, starved, handshakes, certificates_refused;
    uint64_t requests[STATS_VERBS][STATS_CLASSES]; /* answered, by verb and by 1xx to 5xx */
    uint64_t refused[WIRE_E_MAX];                  /* answered by the listener itself, never routed */
    uint64_t unauthorized, forbidden, busy;        /* of who asks */
    uint64_t frames_in, frames_out, bytes_in, bytes_out;
    uint64_t calls, calls_late;
};

extern struct stats stats;

void stats_init(void);
/* A request was answered with this status. */
void stats_answered(enum route_verb verb, int status);
const char *stats_verb_name(unsigned i); /* of stats.requests[i] */

/* How many starts there were for a reason: told by agentd's events. Reasons are agentd's words. */
void stats_started(const char *reason);
/* The i-th reason and its count; NULL: no more. */
const char *stats_reason(unsigned i, uint64_t *count);

/* An operation that was asked for here has ended: how long its phases took, "stop:1234,spawn:567" in
 * microseconds. */
void stats_phases(const char *phases);
const char *stats_phase(unsigned i, uint64_t *count, uint64_t *sum_us);

#endif
