/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/op: every change is an operation with an id that outlives its caller, and agentd: it is in the
 * journal before anything is done. One at a time per worker; a restart joins a running one only until that
 * one has spawned, later ones share one queued restart; an opposite verb supersedes. Knows verbs, callers and
 * proofs; never knows how a worker is stopped or started. op.c: admission and life. op_words.c: lists in it.
 * op_view.c: how it is told. op_record.c: the journal, keys. */
#ifndef AGENTD_OP_H
#define AGENTD_OP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
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

/* An Idempotency-Key belongs to one actor and request, and leads to its operation. */
struct op_key {
    SLIST_ENTRY(op_key) link;
    int slot;
    int64_t created_us; /* wall clock */
    char *key, *actor, *request;
};

struct op {
    TAILQ_ENTRY(op) link; /* all that are remembered, oldest first */
    int slot;             /* of the journal, -1: not there */
    SLIST_HEAD(, op_key) keys;
    bool queued;    /* it waits behind another of its worker */
    bool forgetful; /* the journal could not take it: it does not outlive agentd */
    char id[24];
    enum wire_verb verb;
    enum op_result result;
    char *alias, *actor, *source, *reason, *message, *killed, *leftovers, *affected;
    enum wire_error error;
    int64_t created_us, ended_us;                  /* wall clock */
    uint64_t began_mono, phase_mono[OP_PHASE_MAX]; /* monotonic: begin, end of each phase; 0: did not come */
    struct op_identity before, after;
    bool durable, wants_disk; /* the goal is on disk; the reply waits for that */
    uint64_t disk;            /* the store's write that has it; 0: any */
    bool reached;             /* the worker is where it was wanted */
    bool turned;              /* it has changed what is wanted of its worker */
    bool cancelled;           /* it ends once its worker is down again, and that is on disk */
    unsigned n_waiters;
    struct loop_watch *slow; /* while it is not slow enough to tell its callers its id */
    uint64_t *waiters;       /* calls of the listener that wait for the end */
};

TAILQ_HEAD(op_list, op);

/* The caller's request on a worker; answers through link at the end, and before (ACCEPTED, with the id) if it
 * is slow. */
void op_request(struct wk *w, const struct wire_call *call);

/* The same for a step of a task, whose call has no number: nobody is answered. The operation that does it;
 * NULL: too many are under way. */
struct op *op_command(struct wk *w, const struct wire_call *call);

/* True if the call is for other generations of the worker than this one: then it is refused. */
bool op_has_moved(const struct wk *w, const struct wire_call *call);

/* The operation that the call names ends without having begun; refused if it has. */
void op_cancel(const struct wire_call *call);

/* agentd's own wish (boot, reload, stop of all): no operation, but a running one it contradicts is
 * superseded. */
void op_override(struct wk *w, enum wire_verb verb);

/* The worker has come to a point where an operation may end; failed: a start just failed. */
void op_told(struct wk *w, bool failed);
void op_worker_gone(struct wk *w); /* it is about to be freed */
/* Another worker is stopped, and started again, along with this one. */
void op_note_affected(struct op *o, const char *alias);
/* Wanted up since by, which an operator wants, needs it. */
void op_want_for(struct wk *w, const char *by);

/* Reads what an earlier agentd left; those that were under way stay so until op_resume. */
void op_open(const char *runtime_dir, const char *state_dir);
void op_set_limit(unsigned n); /* of those that have not ended, at most LIMIT_OPERATIONS */
void op_close(void);
/* Carries on what was under way when agentd died, or ends it with what became of it: workers are adopted, and
 * nothing was started yet. */
void op_resume(void);
/* After a death: what has no worker, and nobody has told the end of, is lost. */
void op_lose_own(void);
/* What has no worker: reload, upgrade. NULL: too many. Ended by op_end. */
struct op *op_begin_own(const struct wire_call *call);
void op_end(struct op *o, bool done, enum wire_error error, const char *message);
/* What is done to a worker beside its other operations, and ended by op_end at once. NULL: too many. */
struct op *op_begin_beside(struct wk *w, const struct wire_call *call);
/* It does not end at once: the caller is told so if it takes long. */
void op_goes_on(struct op *o, const struct wire_call *c);
/* adopt: an operation of a worker that is not for the table of states. NULL: refused, and answered. aim: what
 * it is to be (pid, start ticks) is on record. taken: so are the facts, and only now the worker is wanted up:
 * else an agentd that dies in between leaves one that starts another process beside it. reached: the worker's
 * operation ends, once its goal is on disk. aimed: the operation that an earlier agentd died over, or NULL.
 */
struct pidref;
struct op *op_begin_of(struct wk *w, const struct wire_call *call);
void op_aim(struct wk *w, struct op *o, const struct pidref *target);
void op_taken(struct wk *w, struct op *o);
/* release: its processes run on and are nobody's here; it is wanted down, and the operation ends when it is.
 */
void op_given(struct wk *w, struct op *o);
struct op *op_aimed(const struct wk *w, const struct pidref *target);
void op_reached(struct wk *w, const char *message);
void op_rolled_back(struct wk *w, const char *why); /* a restart, and nothing has changed */
void op_refused(struct wk *w, struct op *o, enum wire_error error, const char *message);
/* True if the call's key is known: then it is answered. */
bool op_repeats(const struct wire_call *call);
/* Tries again what the journal did not take: true if there is nothing left. */
bool op_save_again(void);
bool op_is_late(void); /* there is something left */
/* One that is under way, also of an earlier agentd, stops this worker. */
bool op_stops(const char *alias);
bool op_is_durable(void); /* the journal takes what it is given */
/* In the state helper: 0 or -errno. */
int op_copy_journal(const char *runtime_dir, const char *state_dir);

extern struct op_list op_all;
const struct op *op_find(const char *id);
void op_fill_reply(const struct op *o, struct wire_reply *r, char *phases, size_t size);

/* "id\tverb\talias\tactor\tresult\tcreated_us\tended_us\n" */
void op_put_line(const struct op *o, struct buf *b);

/* A peer has gone: its calls wait no more. */
void op_forget_waiters(uint16_t peer);
/* Every operation that waits for the disk hears that it holds what it holds now (ok) or does not. */
void op_disk(bool ok);
/* A call shares an operation which is known already; false: there is none of this id. */
bool op_join(const char *id, const struct wire_call *c);
/* Over an exec of agentd: who waits for what. The operations themselves are in the journal. */
void op_save_waiters(struct buf *b);
struct state;
void op_restore_waiters(const struct state *s);

/* op_record.c, for op.c */
const char *op_verb_name(enum wire_verb v);
const char *op_result_name(const struct op *o); /* one that was cancelled: "cancelled" */
void op_save(struct op *o);                     /* into the journal, now */
void op_unsave(struct op *o);                   /* it is forgotten */
/* If the call has one; it is written with its operation. 0 or -errno. */
int op_add_key(struct op *o, const struct wire_call *c);
struct op *op_of_key(const char *key, const struct op_key **ret);
bool op_has_young_key(const struct op *o);
struct op *op_new(void); /* at the end of op_all; NULL: no memory */
void op_free(struct op *o);
/* As the call asks, in the place of one that is forgotten if there are too many; NULL: none can be. */
struct op *op_create(const char *alias, const struct wire_call *c);
void op_forget(struct op *o); /* also on disk */
unsigned op_count(void);

#endif
