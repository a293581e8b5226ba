/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/audit.h"
#include "agentd/event.h"
#include "agentd/history.h"
#include "agentd/link.h"
#include "agentd/loop.h"
#include "agentd/order.h"
#include "agentd/peer.h"
#include "agentd/state.h"
#include "agentd/store.h"
#include "agentd/task.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "agentd/wk_adopt.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define SLOW_US 100000

static struct op_identity identity_of(const struct wk *w)
{
    return (struct op_identity){(uint32_t)w->main.pid, w->generation, w->main.start};
}

static bool add_waiter(struct op *o, uint64_t call)
{
    uint64_t *p;

    if (o->n_waiters >= LIMIT_OPERATION_WAITERS ||
        !(p = realloc(o->waiters, (o->n_waiters + 1) * sizeof(*p))))
        return false;
    p[o->n_waiters++] = call;
    o->waiters = p;
    return true;
}

/* A new one, with its caller and key. NULL: too many, or no memory. */
static struct op *make(const char *alias, const struct wire_call *c)
{
    struct op *o = op_create(alias, c);

    if (o && ((c->call && !add_waiter(o, c->call)) || op_add_key(o, c) < 0)) {
        op_forget(o);
        o = NULL;
    }
    return o;
}

const struct op *op_find(const char *id)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (str_eq(o->id, id))
            return o;
    return NULL;
}

static void forget_waiters_of(struct op *o, uint16_t peer)
{
    unsigned n = 0;

    for (unsigned i = 0; i < o->n_waiters; i++)
        if (peer_number(o->waiters[i]) != peer)
            o->waiters[n++] = o->waiters[i];
    o->n_waiters = n;
}

void op_forget_waiters(uint16_t peer)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        forget_waiters_of(o, peer);
}

static void reply(const struct op *o, uint64_t call, enum wire_error error)
{
    struct wire_reply r = {.call = call, .error = (uint8_t)error, .message = o->message};
    char phases[128];

    op_fill_reply(o, &r, phases, sizeof(phases));
    link_reply(&r);
}

static void refuse(const struct wire_call *c, enum wire_error error, const char *message)
{
    if (!c->call)
        return; /* agentd's own wish */
    link_reply(&(struct wire_reply){.call = c->call, .error = (uint8_t)error, .message = message});
}

/* The listener may have to answer 202 with the id before the end. Most operations end sooner than anybody
 * asks. */
static void on_slow(int fd, short what, void *arg)
{
    struct op *o = arg;

    loop_free(&o->slow);
    for (unsigned i = 0; i < o->n_waiters; i++)
        reply(o, o->waiters[i], WIRE_E_ACCEPTED);
}

static void tell_if_slow(struct op *o, const struct wire_call *c)
{
    if (c->at_once || o->phase_mono[OP_STOP] || clock_mono_us() - o->began_mono > SLOW_US || !o->began_mono)
        reply(o, c->call, WIRE_E_ACCEPTED); /* so wished, or it joins late, or waits behind another */
    else if (!o->slow)
        o->slow = loop_timer(SLOW_US, on_slow, o);
}

static void finish(struct op *o, enum op_result result, enum wire_error error, const char *message)
{
    if (o->result != OP_RUNNING)
        return;
    o->result = result;
    o->error = error;
    o->ended_us = clock_wall_us();
    loop_free(&o->slow);
    if (message) {
        free(o->message);
        o->message = strdup(message);
    }
    audit_ended(o);
    op_save(o); /* before anybody hears of it */
    o->durable = o->durable && !o->forgetful;
    event_operation(o);
    store_changed_soon();
    task_op_ended();
    log_write(result == OP_FAILED ? LOG_WARNING : LOG_INFO, "op",
              &(struct log_about){.worker = o->alias, .operation = o->id}, "%s by %s %s%s%s",
              op_verb_name(o->verb), o->actor, op_result_name(o), message ? ": " : "",
              message ? message : "");
    for (unsigned i = 0; i < o->n_waiters; i++)
        reply(o, o->waiters[i], error);
    o->n_waiters = 0;
}

static void supersede(struct op **slot, const char *by)
{
    char text[96];

    if (!*slot)
        return;
    snprintf(text, sizeof(text), "superseded by %s", by);
    finish(TAKE_PTR(*slot), OP_SUPERSEDED, WIRE_E_SUPERSEDED, text);
}

/* The proof is complete, and on disk if it has to be. */
static void finish_reached(struct wk *w)
{
    struct op *o = w->op;

    if (!o || !o->reached || (o->wants_disk && !o->durable && store_is_busy()))
        return;
    if (o->verb != WIRE_VERB_ADOPT) /* that has aimed at one process, whatever became of it since */
        o->after = w->main.pid ? identity_of(w) : (struct op_identity){.generation = w->generation};
    w->op = NULL;
    if (o->cancelled) {
        finish(o, OP_SUPERSEDED, WIRE_E_CANCELLED, NULL);
        return;
    }
    finish(o, OP_DONE, WIRE_OK,
           o->wants_disk && !o->durable
               ? "done, but the state directory can't be written: the goal is not durable"
           : o->forgetful ? "done, but the runtime directory can't be written: the operation is not durable"
                          : NULL);
}

/* The goal is wanted by the operation. Its end waits for the disk if that changes anything: else the next
 * agentd would undo by the old goal what was answered to be done. */
static void want(struct wk *w, struct op *o, enum wk_goal goal)
{
    if (w->goal == goal) {
        o->durable = w->goal_disk <= store_written();
        return;
    }
    free(w->goal_by);
    w->goal_by = strdup(o->actor);
    w->goal_us = w->update_us = clock_wall_us();
    w->goal = goal;
    o->wants_disk = o->turned = true;
    o->disk = w->goal_disk = store_changed();
}

/* Begins with the worker as it is now. */
static void begin(struct wk *w, struct op *o)
{
    static const enum wk_event events[] = {
        [WIRE_VERB_START] = WK_EV_START, [WIRE_VERB_STOP] = WK_EV_STOP, [WIRE_VERB_RESTART] = WK_EV_RESTART};

    link_flush_replies(); /* who waited for the one before hears of the worker as that has left it */
    w->op = o;
    o->queued = false;
    if (!o->began_mono) { /* else an earlier agentd began it */
        o->before = identity_of(w);
        o->began_mono = clock_mono_us();
    }
    op_save(o); /* before it acts: the state may be written, and others started, from here on */
    want(w, o, o->verb == WIRE_VERB_STOP ? WK_GOAL_DOWN : WK_GOAL_UP);
    if (o->verb != WIRE_VERB_STOP && order_pull(w))
        o->wants_disk = true;
    if (o->wants_disk)
        op_save(o);
    event_operation(o);
    wk_event(w, events[o->verb]);
}

static void note_leftovers(struct wk *w, struct op *o)
{
    char text[2048];

    view_leftovers(w, text, sizeof(text));
    if (text[0] && !o->leftovers)
        o->leftovers = strdup(text);
}

static void next_queued(struct wk *w)
{
    if (!w->op && w->queued)
        begin(w, TAKE_PTR(w->queued));
}

static void mark(struct op *o, enum op_phase phase)
{
    if (!o->phase_mono[phase])
        o->phase_mono[phase] = clock_mono_us();
}

static bool is_up_anew(const struct wk *w, const struct op *o)
{
    return w->state == WK_UP && !w->twin && /* the earlier one is to be gone, too */
           (o->verb == WIRE_VERB_START || w->generation != o->before.generation || !o->before.pid);
}

void op_told(struct wk *w, bool failed)
{
    _cleanup_free_ char *killed = TAKE_PTR(w->killed);
    struct op *o = w->op;
    bool down = o && (o->verb == WIRE_VERB_STOP || o->verb == WIRE_VERB_RELEASE || o->cancelled);
    bool up = o && !down && (o->verb == WIRE_VERB_START || o->verb == WIRE_VERB_RESTART);

    if (!o)
        return;
    if (killed && !o->killed)
        o->killed = TAKE_PTR(killed);
    if (w->state != WK_UP)
        mark(o, OP_STOP);
    if (down && w->state == WK_DOWN && !w->twin) {
        note_leftovers(w, o);
        o->reached = true;
    } else if (up && is_up_anew(w, o)) {
        if (w->exec_mono_us > o->began_mono)
            o->phase_mono[OP_SPAWN] = w->exec_mono_us;
        mark(o, OP_READY);
        note_leftovers(w, o);
        view_sample_new(w);
        o->reached = true;
    } else if (up && failed &&
               (o->verb == WIRE_VERB_START || w->generation != o->before.generation || !w->begun)) {
        w->op = NULL;
        finish(o, OP_FAILED, WIRE_E_START_FAILED, w->message ? w->message : "it did not come up");
    }
    finish_reached(w);
    next_queued(w);
}

void op_disk(bool ok)
{
    struct op *o, *next;

    for (o = TAILQ_FIRST(&op_all); o; o = next) {
        struct wk *w;
        next = TAILQ_NEXT(o, link);
        if (o->result != OP_RUNNING || (ok && o->disk > store_written()))
            continue;
        o->durable = ok;
        if ((w = link_find_worker(o->alias)) && w->op == o) {
            finish_reached(w);
            next_queued(w);
        }
    }
}

/* The operation that this request may share, or NULL. */
static struct op **joinable(struct wk *w, enum wire_verb verb)
{
    struct op *o = w->op;

    if (w->queued && verb != WIRE_VERB_STOP)
        return &w->queued;
    if (!o || o->cancelled)
        return NULL;
    if (o->verb == verb && verb != WIRE_VERB_RESTART)
        return &w->op;
    if (o->verb == WIRE_VERB_RESTART && verb == WIRE_VERB_START)
        return &w->op;
    if (o->verb == WIRE_VERB_RESTART && verb == WIRE_VERB_RESTART && !w->twin &&
        w->generation == o->before.generation)
        return &w->op;
    return NULL;
}

void op_goes_on(struct op *o, const struct wire_call *c)
{
    if (o->result == OP_RUNNING && c->call)
        tell_if_slow(o, c);
}

/* The caller hears its end, now or later. */
static void attach(struct op *o, const struct wire_call *c)
{
    bool waits = c->call && o->result == OP_RUNNING;

    if (waits && !add_waiter(o, c->call)) {
        refuse(c, WIRE_E_TOO_MANY, "too many callers wait for this operation");
        return;
    }
    audit_joined(o);
    if (waits)
        tell_if_slow(o, c);
    else if (c->call)
        reply(o, c->call, o->error);
}

static void join(struct op *o, const struct wire_call *c)
{
    if (op_add_key(o, c) < 0) {
        refuse(c, WIRE_E_TOO_MANY, "no memory");
        return;
    }
    if (c->key && c->key[0])
        op_save(o);
    attach(o, c);
}

static void queue(struct wk *w, struct op *o)
{
    w->queued = o;
    o->queued = true;
    op_save(o);
}

static struct op *admit(struct wk *w, const struct wire_call *c)
{
    struct op *o, **shared = joinable(w, c->verb);
    bool opposite = w->op && (w->op->verb == WIRE_VERB_STOP) != (c->verb == WIRE_VERB_STOP);

    if (shared) {
        o = *shared;
        join(o, c);
        return o;
    }
    if (!(o = make(w->def->alias, c))) {
        refuse(c, WIRE_E_TOO_MANY, "too many operations are under way");
        return NULL;
    }
    if (opposite) {
        supersede(&w->op, op_verb_name(c->verb));
        supersede(&w->queued, op_verb_name(c->verb));
    }
    if (w->op)
        queue(w, o);
    else
        begin(w, o);
    op_goes_on(o, c);
    return o;
}

struct op *op_command(struct wk *w, const struct wire_call *c)
{
    return admit(w, c);
}

/* Why it can't be cancelled any more, or NULL. */
static const char *unfit_to_cancel(const struct wk *w, const struct op *o)
{
    if (o->result != OP_RUNNING)
        return "it has ended";
    if (!w || (w->op != o && w->queued != o))
        return "it is under way";
    if (w->queued == o || o->cancelled)
        return NULL;
    if (w->state != WK_STARTING || !w->waiting)
        return "it is under way: what it has begun is carried to its end";
    if (!o->turned)
        return "it is under way: the worker was wanted up before it, and waits for its turn";
    return NULL;
}

/* As it was before the operation; on record before anything of it is done. by: whose wish that is, NULL: not
 * known any more. */
static void take_back(struct wk *w, struct op *o, const char *by)
{
    w->op = o;
    op_save(o);
    want(w, o, WK_GOAL_DOWN);
    if (by) {
        free(w->goal_by);
        w->goal_by = strdup(by);
    }
    op_save(o);
    wk_event(w, WK_EV_STOP);
}

/* Nothing of it has begun. What it was to start is not wanted any more, which has to be on disk before it is
 * told; workers that it has pulled up stay wanted. */
static void cancel(struct wk *w, struct op *o, const struct wire_call *c)
{
    free(o->message);
    if (asprintf(&o->message, "cancelled by %s%s%s", c->actor, c->reason[0] ? ": " : "", c->reason) < 0)
        o->message = NULL;
    if (w->queued == o) {
        w->queued = NULL;
        finish(o, OP_SUPERSEDED, WIRE_E_CANCELLED, NULL);
        return;
    }
    o->cancelled = true;
    o->durable = false;
    take_back(w, o, c->actor);
}

void op_cancel(const struct wire_call *c)
{
    struct op *o = (struct op *)op_find(c->name);
    struct wk *w = o ? link_find_worker(o->alias) : NULL;
    const char *why;

    if (!o) {
        refuse(c, WIRE_E_NO_OPERATION, "it never was, or is forgotten");
    } else if (o->error == WIRE_E_CANCELLED) {
        reply(o, c->call, WIRE_E_CANCELLED); /* as wished */
    } else if ((why = unfit_to_cancel(w, o))) {
        refuse(c, WIRE_E_CONFLICT, why);
    } else if (!add_waiter(o, c->call)) {
        refuse(c, WIRE_E_TOO_MANY, "too many callers wait for this operation");
    } else {
        if (!o->cancelled)
            cancel(w, o, c);
        op_goes_on(o, c);
    }
}

bool op_repeats(const struct wire_call *c)
{
    const struct op_key *k;
    struct op *o;

    if (!c->key || !c->key[0] || !(o = op_of_key(c->key, &k)))
        return false;
    if (!str_eq(k->actor, c->actor) || !str_eq(k->request, c->request))
        refuse(c, WIRE_E_KEY_REUSED, "this Idempotency-Key was used for another request");
    else
        attach(o, c);
    return true;
}

void op_request(struct wk *w, const struct wire_call *c)
{
    if (op_repeats(c))
        return;
    if (!w->def->operable) {
        refuse(c, WIRE_E_NOT_OPERABLE, "the worker's file says Operable=no");
        return;
    }
    if (!op_has_moved(w, c))
        admit(w, c);
}

void op_override(struct wk *w, enum wire_verb verb)
{
    if (w->op && (w->op->verb == WIRE_VERB_STOP) != (verb == WIRE_VERB_STOP)) {
        supersede(&w->op, "agentd");
        supersede(&w->queued, "agentd");
    }
    wk_event(w, verb == WIRE_VERB_STOP ? WK_EV_STOP : verb == WIRE_VERB_START ? WK_EV_START : WK_EV_RESTART);
}

void op_want_for(struct wk *w, const char *by)
{
    free(w->goal_by);
    if (asprintf(&w->goal_by, "needed by %s", by) < 0)
        w->goal_by = NULL;
    w->goal_us = w->update_us = clock_wall_us();
    w->goal = WK_GOAL_UP;
    w->goal_disk = store_changed();
    op_override(w, WIRE_VERB_START);
}

void op_worker_gone(struct wk *w)
{
    supersede(&w->op, "the worker's removal");
    supersede(&w->queued, "the worker's removal");
}

/* --- those without a worker --------------------------------------------------------------------------- */

struct op *op_begin_own(const struct wire_call *c)
{
    struct op *o = make("", c);

    if (!o)
        return NULL;
    o->began_mono = clock_mono_us();
    op_save(o);
    return o;
}

void op_end(struct op *o, bool done, enum wire_error error, const char *message)
{
    o->durable = op_is_durable();
    finish(o, done ? OP_DONE : OP_FAILED, error, message);
}

struct op *op_begin_beside(struct wk *w, const struct wire_call *c)
{
    struct op *o = make(w->def->alias, c);

    if (!o)
        return NULL;
    o->before = o->after = identity_of(w);
    o->began_mono = clock_mono_us();
    op_save(o);
    return o;
}

struct op *op_begin_of(struct wk *w, const struct wire_call *c)
{
    struct op *o = make(w->def->alias, c);

    if (!o) {
        refuse(c, WIRE_E_TOO_MANY, "too many operations are under way");
        return NULL;
    }
    w->op = o;
    o->before = identity_of(w);
    o->began_mono = clock_mono_us();
    op_save(o);
    return o;
}

void op_aim(struct wk *w, struct op *o, const struct pidref *target)
{
    o->after = (struct op_identity){(uint32_t)target->pid, w->generation + 1, target->start};
    op_save(o);
}

void op_taken(struct wk *w, struct op *o)
{
    want(w, o, WK_GOAL_UP);
}

void op_given(struct wk *w, struct op *o)
{
    want(w, o, WK_GOAL_DOWN);
}

struct op *op_aimed(const struct wk *w, const struct pidref *target)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (o->verb == WIRE_VERB_ADOPT && o->result == OP_RUNNING && str_eq(o->alias, w->def->alias) &&
            o->after.pid == (uint32_t)target->pid && o->after.start == target->start)
            return o;
    return NULL;
}

void op_refused(struct wk *w, struct op *o, enum wire_error error, const char *message)
{
    o->after = (struct op_identity){0};
    if (w->op == o)
        w->op = NULL;
    finish(o, OP_FAILED, error, message);
    next_queued(w);
}

void op_rolled_back(struct wk *w, const char *why)
{
    struct op *o = w->op;

    if (!o || o->verb != WIRE_VERB_RESTART)
        return;
    w->op = NULL;
    finish(o, OP_FAILED, WIRE_E_START_FAILED, why);
    next_queued(w);
}

void op_reached(struct wk *w, const char *message)
{
    if (message[0])
        w->op->message = strdup(message);
    w->op->reached = true;
    finish_reached(w);
    next_queued(w);
}

bool op_join(const char *id, const struct wire_call *c)
{
    struct op *o = (struct op *)op_find(id);

    if (!o)
        return false;
    join(o, c);
    return true;
}

static void wait_on(const char *id, uint64_t call)
{
    struct op *o = (struct op *)op_find(id);

    if (!o) {
        link_reply(&(struct wire_reply){.call = call, .error = WIRE_E_LOST});
        return;
    }
    if (o->result == OP_RUNNING)
        add_waiter(o, call);
    else
        reply(o, call, o->error);
}

void op_save_waiters(struct buf *b)
{
    const struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        for (unsigned i = 0; i < o->n_waiters; i++) {
            state_begin(b, "wait");
            state_put_text(b, "op", o->id);
            state_put_u64(b, "call", o->waiters[i]);
            state_end(b);
        }
}

/* They hear (again) that it goes on; before anybody else may end it. */
void op_restore_waiters(const struct state *s)
{
    for (const char *l = state_next(s, "wait", NULL); l; l = state_next(s, "wait", l)) {
        _cleanup_free_ char *id = state_get_text(s, l, "op");
        struct op *o = id ? (struct op *)op_find(id) : NULL;
        wait_on(id ? id : "", state_get_u64(s, l, "call"));
        if (o && o->result == OP_RUNNING)
            reply(o, state_get_u64(s, l, "call"), WIRE_E_ACCEPTED);
    }
}

/* --- after agentd's death ------------------------------------------------------------------------------ */

/* It is on record before it is moved: it was taken over with all else, or not at all. */
static void resume_adopt(struct wk *w, struct op *o)
{
    bool ours = w->main.pid && (uint32_t)w->main.pid == o->after.pid && w->main.start == o->after.start;

    if (!ours) {
        op_refused(w, o, WIRE_E_ADOPT_REFUSED,
                   "agentd ended before it was taken over: nothing was done to it");
        return;
    }
    if (w->op && w->op != o)
        supersede(&w->op, "adopt");
    w->op = o;
    op_reached(w, wk_take_rest(w) == 0 ? ""
                                       : "taken over, but some of its descendants could not be moved into "
                                         "the worker's cgroup");
}

/* Its main process is moved last: where that is, is where all of it is. */
static void resume_release(struct wk *w, struct op *o)
{
    if (w->main.pid) {
        wk_take_rest(w);
        op_refused(w, o, WIRE_E_ADOPT_REFUSED, "agentd died before it was given away: it is agentd's still");
        return;
    }
    wk_adopt_let_go(w);
    wk_put_facts(w, FACTS_NONE);
    history_given(w);
    w->op = o;
    want(w, o, WK_GOAL_DOWN);
    op_reached(w, "");
}

/* It goes on beside others; so does one that was cancelled before it began. */
static bool is_beside(const struct op *o)
{
    return o->verb == WIRE_VERB_SIGNAL || o->verb == WIRE_VERB_RELOAD_WORKER;
}

/* It can't have gone on beside a later one that has ended: its own end could not be written. */
static bool is_overtaken(const struct op *o)
{
    for (const struct op *later = TAILQ_NEXT(o, link); later; later = TAILQ_NEXT(later, link))
        if (later->result != OP_RUNNING && later->began_mono && !is_beside(later) &&
            str_eq(later->alias, o->alias))
            return true;
    return false;
}

/* What it was to do is done if the worker has come to be another one, ready; else it is done now. */
static void resume(struct wk *w, struct op *o)
{
    bool restarted = w->generation != o->before.generation;

    if (o->verb == WIRE_VERB_ADOPT) {
        resume_adopt(w, o);
        return;
    }
    if (o->verb == WIRE_VERB_RELEASE) {
        resume_release(w, o);
        return;
    }
    if (o->verb == WIRE_VERB_SIGNAL || o->verb == WIRE_VERB_RELOAD_WORKER) {
        finish(o, OP_FAILED, WIRE_E_LOST, "agentd died meanwhile: the signal may have been sent");
        return;
    }
    if (is_overtaken(o) || (w->op && !o->queued)) {
        finish(o, OP_FAILED, WIRE_E_LOST,
               "agentd died before its end was written; a later operation has ended since");
        return;
    }
    if (o->cancelled) {
        take_back(w, o, NULL);
        return;
    }
    if (w->held.pid && o->verb != WIRE_VERB_STOP) {
        finish(o, OP_FAILED, WIRE_E_LOST,
               "agentd died meanwhile, and the process on record can't be proven to be the worker's: nothing "
               "is started beside it");
        return;
    }
    if (o->queued && w->op) {
        w->queued = o;
        return;
    }
    if (w->state == WK_UP && o->verb == WIRE_VERB_RESTART && restarted) {
        w->op = o;
        op_told(w, false);
        return;
    }
    o->reached = false; /* if it was, nobody was told */
    begin(w, o);
}

void op_resume(void)
{
    struct op *o, *next;

    for (o = TAILQ_FIRST(&op_all); o; o = next) {
        struct wk *w = link_find_worker(o->alias);
        next = TAILQ_NEXT(o, link);
        if (o->result != OP_RUNNING)
            continue;
        if (w && (w->op == o || w->queued == o) && o->verb != WIRE_VERB_ADOPT)
            continue; /* an exec has not interrupted it; but whose helper was at work hears of it no more */
        if (w && w->def->stored && !w->broken)
            w = NULL; /* its file is gone: it will be stopped */
        if (w)
            resume(w, o);
        else if (o->alias[0])
            finish(o, OP_FAILED, WIRE_E_LOST,
                   "agentd died meanwhile, and the worker is not configured any more");
    }
}

void op_lose_own(void)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (!o->alias[0] && !task_is_op(o->id))
            finish(o, OP_FAILED, WIRE_E_LOST, "agentd died meanwhile");
}
