/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/op: every change is an operation with an id that outlives its caller. One at a time per worker; a
 * restart joins a running one only until that one has spawned, later ones share one queued restart; an
 * opposite verb supersedes. Knows verbs, callers and proofs; never knows how a worker is stopped or started.
 */
#ifndef AGENTD_OP_H
#define AGENTD_OP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/limits.h"
#include "wire/wire.h"

struct wk;
struct loop_watch;

enum op_result { OP_RUNNING, OP_DONE, OP_FAILED, OP_SUPERSEDED };
enum op_phase { OP_STOP, OP_SPAWN, OP_READY, OP_PHASE_MAX };

struct op_identity {
    uint32_t pid, generation;
    uint64_t start;
};

struct op {
    TAILQ_ENTRY(op) link; /* all that are remembered, oldest first */
    char id[24];
    enum wire_verb verb;
    enum op_result result;
    char *alias, *actor, *source, *reason, *message, *killed, *leftovers;
    enum wire_error error;
    int64_t created_us, ended_us;                  /* wall clock */
    uint64_t began_mono, phase_mono[OP_PHASE_MAX]; /* monotonic: begin, end of each phase; 0: did not come */
    struct op_identity before, after;
    bool durable, wants_disk; /* the goal is on disk; the reply waits for that */
    bool reached;             /* the worker is where it was wanted */
    unsigned n_waiters;
    struct loop_watch *slow; /* while it is not slow enough to tell its callers its id */
    uint64_t *waiters;       /* calls of the listener that wait for the end */
};

/* The caller's request on a worker; answers through link at the end, and before (ACCEPTED, with the id) if it
 * is slow. */
void op_request(struct wk *w, const struct wire_call *call);

/* agentd's own wish (boot, reload, stop of all): no operation, but a running one it contradicts is
 * superseded. */
void op_override(struct wk *w, enum wire_verb verb);

/* The worker has come to a point where an operation may end; failed: a start just failed. */
void op_told(struct wk *w, bool failed);
void op_worker_gone(struct wk *w); /* it is about to be freed */

const struct op *op_find(const char *id);
void op_fill_reply(const struct op *o, struct wire_reply *r, char *phases, size_t size);

/* A peer has gone: its calls wait no more. */
void op_forget_waiters(uint16_t peer);
/* Every operation that waits for the disk hears that it holds what it holds now (ok) or does not. */
void op_disk(bool ok);
unsigned op_running(void);

#endif
