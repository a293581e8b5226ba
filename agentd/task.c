/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/audit.h"
#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/order.h"
#include "agentd/sup.h"
#include "agentd/upgrade.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define ROLLING 10 /* a restart of all has at most the Nth part of them down at once */
#define AGAIN_MAX 1000

static bool dirty; /* a step may have ended */

/* --- what is there ------------------------------------------------------------------------------------ */

static struct task *under_way(void)
{
    struct task *t;

    TAILQ_FOREACH_REVERSE(t, &task_all, task_list, link)
    if (t->status == TASK_RUNNING)
        return t;
    return NULL;
}

/* Workers and steps both stand by alias: they are walked side by side. *at: where to go on, at first the
 * first. */
struct wk *task_worker(struct wk **at, const struct task_step *s)
{
    while (*at && strcmp((*at)->def->alias, s->name) < 0)
        *at = TAILQ_NEXT(*at, link);
    return *at && str_eq((*at)->def->alias, s->name) ? *at : NULL;
}

static struct op *op_of(const char *id)
{
    return id[0] ? (struct op *)op_find(id) : NULL;
}

bool task_is_op(const char *id)
{
    const struct task *t = under_way();

    return t && str_eq(t->op, id);
}

void task_op_ended(void)
{
    dirty = true;
}

static void refuse(const struct wire_call *c, enum wire_error e, const char *message)
{
    link_reply(&(struct wire_reply){.call = c->call, .error = (uint8_t)e, .message = message});
}

static void source_of(const struct task *t, char *text, size_t size)
{
    snprintf(text, size, "task:%u", t->number);
}

static void say(struct task_step *s, const char *message)
{
    str_copy(s->message, sizeof(s->message), message ? message : "");
    for (char *p = s->message; *p; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' ';
}

/* --- what goes before what ------------------------------------------------------------------------------ */

struct arranging {
    const struct task *t;
    struct task_step *step;
    bool failed;
};

static bool is_worker(const struct task *t, uint32_t i)
{
    return i < t->n && t->steps[i].kind == TASK_WORKER;
}

/* Workers stand by alias. */
static int find_step(const struct task *t, const char *alias)
{
    uint32_t from = t->n_hosts, to = t->n;

    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int d = is_worker(t, mid) ? strcmp(t->steps[mid].name, alias) : 1;
        if (d == 0)
            return (int)mid;
        if (d < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return -1;
}

static void add_before(struct arranging *a, int i)
{
    struct task_step *s = a->step;
    uint16_t *p = i < 0 ? NULL : realloc(s->before, (s->n_before + 1u) * sizeof(*p));

    if (i < 0)
        return;
    if (!p) {
        a->failed = true;
        return;
    }
    p[s->n_before++] = (uint16_t)i;
    s->before = p;
}

static void on_before(const struct wk *other, void *arg)
{
    struct arranging *a = arg;

    add_before(a, find_step(a->t, other->def->alias));
}

bool task_arrange(struct task *t)
{
    struct arranging a = {.t = t};
    struct wk *at = TAILQ_FIRST(&sup_workers);

    for (uint32_t i = t->n_hosts; i < t->n; i++) {
        struct wk *w = is_worker(t, i) ? task_worker(&at, &t->steps[i]) : NULL;
        a.step = &t->steps[i];
        a.step->n_before = 0;
        if (w)
            order_each_before(w, t->verb == WIRE_VERB_AGENT_STOP, on_before, &a);
        for (uint32_t k = t->n_hosts; a.step->kind == TASK_AGENTD && k < i; k++)
            add_before(&a, (int)k);
    }
    return !a.failed;
}

/* --- admission ---------------------------------------------------------------------------------------------
 */

static uint32_t count_hosts(const char *list)
{
    uint32_t n = 0;

    for (; list && *list; list += strcspn(list, ","), list += *list == ',')
        n++;
    return n;
}

static bool is_meant(const struct wk *w)
{
    return w->def->operable && !w->removed;
}

static uint32_t count_workers(void)
{
    struct wk *w;
    uint32_t n = 0;

    TAILQ_FOREACH (w, &sup_workers, link)
        n += is_meant(w);
    return n;
}

static void put_hosts(struct task *t, const char *list)
{
    int64_t now = clock_wall_us();

    for (uint32_t i = 0; i < t->n_hosts; i++) {
        struct task_step *s = &t->steps[i];
        size_t n = strcspn(list, ",");
        *s = (struct task_step){
            .slot = -1, .kind = TASK_HOST, .status = TASK_FAILED, .began_us = now, .ended_us = now};
        snprintf(s->name, sizeof(s->name), "%.*s", (int)n, list);
        say(s, "this agentd is not the one of that host");
        list += n + (list[n] == ',');
    }
}

static void put_workers(struct task *t)
{
    uint32_t i = t->n_hosts;
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        if (!is_meant(w))
            continue;
        str_copy(t->steps[i++].name, sizeof(t->steps[0].name), w->def->alias);
    }
    if (i < t->n) {
        t->steps[i].kind = TASK_AGENTD;
        str_copy(t->steps[i].name, sizeof(t->steps[i].name), "agentd");
    }
}

/* Its operation, then its steps, then the task: what is there without the next of these has not begun. */
static void put_on_record(struct task *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        task_save_step(t, i);
    task_save(t);
}

static bool begin_op(struct task *t, const struct wire_call *c)
{
    struct wire_call silent = *c;
    struct op *o;

    silent.call = 0; /* it is answered at once, by how it stands */
    if ((o = op_begin_own(&silent)))
        str_copy(t->op, sizeof(t->op), o->id);
    return o != NULL;
}

static struct task *make(const struct wire_call *c)
{
    bool ours = c->from != 1;
    uint32_t hosts = count_hosts(c->name);
    uint32_t n = hosts + (ours ? count_workers() + (c->verb == WIRE_VERB_AGENT_RESTART) : 0);
    struct task *t = task_new(n);

    if (!t)
        return NULL;
    t->n_hosts = hosts;
    t->verb = c->verb;
    t->batch = c->follow;
    t->status = TASK_RUNNING;
    str_copy(t->actor, sizeof(t->actor), c->actor ? c->actor : "");
    put_hosts(t, c->name ? c->name : "");
    if (ours)
        put_workers(t);
    if (!task_arrange(t) || !begin_op(t, c)) {
        task_free(t, true);
        return NULL;
    }
    dirty = true;
    return t;
}

static struct task *task_of(const struct op *o)
{
    struct task *t;

    TAILQ_FOREACH (t, &task_all, link)
        if (str_eq(t->op, o->id))
            return t;
    return NULL;
}

/* A key that is known leads to its task. */
static bool repeats(const struct wire_call *c)
{
    const struct op_key *k;
    const struct op *o = c->key && c->key[0] ? op_of_key(c->key, &k) : NULL;
    struct task *t;

    if (!o)
        return false;
    if (!str_eq(k->actor, c->actor) || !str_eq(k->request, c->request)) {
        refuse(c, WIRE_E_KEY_REUSED, "this Idempotency-Key was used for another request");
        return true;
    }
    if ((t = task_of(o))) {
        audit_joined(o);
        task_answer(t, c->call);
    } else if (o->result == OP_FAILED)
        refuse(c, o->error, o->message);
    else
        refuse(c, WIRE_E_NO_OPERATION, "it is done, and its task is forgotten");
    return true;
}

static void join(struct task *t, const struct wire_call *c)
{
    struct op *o = op_of(t->op);

    if (o && c->key && c->key[0] && op_add_key(o, c) == 0)
        op_save(o);
    if (o)
        audit_joined(o);
    task_answer(t, c->call);
}

static void end_step(struct task *t, uint32_t i, enum task_status status, const char *message)
{
    struct task_step *s = &t->steps[i];

    s->status = status;
    s->ended_us = clock_wall_us();
    say(s, message);
    task_save_step(t, i);
    dirty = true;
}

static void end_task(struct task *t, const char *message)
{
    static const enum wire_error errors[] = {[WIRE_VERB_AGENT_START] = WIRE_E_START_FAILED,
                                             [WIRE_VERB_AGENT_STOP] = WIRE_E_STOP_FAILED,
                                             [WIRE_VERB_AGENT_RESTART] = WIRE_E_START_FAILED};
    struct op *o = op_of(t->op);
    bool good = !message;

    t->status = good ? TASK_SUCCESSFUL : TASK_FAILED;
    t->ended_us = clock_wall_us();
    task_save(t);
    if (o)
        op_end(o, good, good ? WIRE_OK : errors[t->verb], message);
}

static void conclude(struct task *t);

static void supersede(struct task *t, enum wire_verb by)
{
    char text[64];

    snprintf(text, sizeof(text), "superseded by %s", op_verb_name(by));
    for (uint32_t i = 0; i < t->n; i++)
        if (t->steps[i].status == TASK_RUNNING)
            end_step(t, i, TASK_FAILED, text);
    end_task(t, text);
}

void task_request(const struct wire_call *c)
{
    bool ours = c->from != 1;
    struct task *old, *t;

    if (repeats(c))
        return;
    old = ours ? under_way() : NULL;
    if (old && old->verb == c->verb && !count_hosts(c->name)) {
        join(old, c);
    } else if (old && old->verb == c->verb) {
        refuse(c, WIRE_E_CONFLICT, "such a task is under way");
    } else if (!(t = make(c))) {
        refuse(c, WIRE_E_TOO_MANY, "too many tasks or operations are under way");
    } else {
        if (old)
            supersede(old, c->verb);
        put_on_record(t);
        if (!ours)
            conclude(t); /* there is nothing to be done here */
        task_answer(t, c->call);
    }
}

void task_tell(const struct wire_call *c)
{
    const struct op_key *k;
    const struct op *o = c->name && c->name[0] ? op_of_key(c->name, &k) : NULL;
    const struct task *t = o ? task_of(o) : c->from <= UINT32_MAX ? task_find((uint32_t)c->from) : NULL;

    if (t && o)
        task_answer_times(t, c->call);
    else if (t)
        task_answer(t, c->call);
    else
        refuse(c, WIRE_E_NO_OPERATION, "there is no such task, or it is forgotten");
}

/* --- steps
 * ----------------------------------------------------------------------------------------------------- */

/* What an agentd that died has begun and not written down. */
static const struct op *find_op(const struct task *t, const struct task_step *s)
{
    const struct op *o;
    char source[24];

    if (s->op[0])
        return op_find(s->op);
    source_of(t, source, sizeof(source));
    TAILQ_FOREACH_REVERSE(o, &op_all, op_list, link)
    {
        if (s->kind == TASK_AGENTD && o->verb == WIRE_VERB_UPGRADE &&
            (o->created_us >= s->began_us || o->result == OP_RUNNING))
            return o;
        if (s->kind == TASK_WORKER && str_eq(o->alias, s->name) && str_eq(o->source, source))
            return o;
    }
    return NULL;
}

static void note_op(struct task *t, uint32_t i, const struct op *o)
{
    if (!o || t->steps[i].op[0])
        return;
    str_copy(t->steps[i].op, sizeof(t->steps[i].op), o->id);
    task_save_step(t, i);
}

static void look_at(struct task *t, uint32_t i)
{
    struct task_step *s = &t->steps[i];
    const struct op *o = find_op(t, s);

    note_op(t, i, o);
    if (!o && s->op[0])
        end_step(t, i, TASK_FAILED, "its operation is forgotten");
    else if (!o)
        s->status = TASK_PENDING; /* it had not begun */
    else if (o->result == OP_DONE)
        end_step(t, i, TASK_SUCCESSFUL, NULL);
    else if (o->result != OP_RUNNING)
        end_step(t, i, TASK_FAILED, o->message);
}

static struct wire_call call_of(const struct task *t, enum wire_verb verb, char *source, size_t size)
{
    const struct op *o = op_of(t->op);

    source_of(t, source, size);
    return (struct wire_call){
        .verb = (uint8_t)verb, .actor = t->actor, .source = source, .reason = o ? o->reason : ""};
}

static void begin_agentd(struct task *t, uint32_t i)
{
    char source[24];
    struct wire_call c = call_of(t, WIRE_VERB_UPGRADE, source, sizeof(source));
    const struct op *o;

    upgrade_request(&c);
    if ((o = find_op(t, &t->steps[i])))
        note_op(t, i, o);
    else
        end_step(t, i, TASK_FAILED, "too many operations are under way");
}

static void begin_worker(struct task *t, uint32_t i)
{
    static const enum wire_verb verbs[] = {[WIRE_VERB_AGENT_START] = WIRE_VERB_START,
                                           [WIRE_VERB_AGENT_STOP] = WIRE_VERB_STOP,
                                           [WIRE_VERB_AGENT_RESTART] = WIRE_VERB_RESTART};
    struct wk *w = sup_find_alias(t->steps[i].name);
    char source[24];
    struct wire_call c;
    struct op *o;

    if (!w || w->removed) {
        end_step(t, i, TASK_FAILED, "the worker is not configured any more");
        return;
    }
    c = call_of(t, verbs[t->verb], source, sizeof(source));
    if ((o = op_command(w, &c)))
        note_op(t, i, o);
    else
        end_step(t, i, TASK_FAILED, "too many operations are under way");
}

static void begin_step(struct task *t, uint32_t i)
{
    t->steps[i].status = TASK_RUNNING;
    t->steps[i].began_us = clock_wall_us();
    task_save_step(t, i);
    if (t->steps[i].kind == TASK_AGENTD)
        begin_agentd(t, i);
    else
        begin_worker(t, i);
    if (t->steps[i].status == TASK_RUNNING)
        look_at(t, i); /* it may have been so already */
}

static bool may_begin(const struct task *t, const struct task_step *s)
{
    for (unsigned i = 0; i < s->n_before; i++)
        if (t->steps[s->before[i]].status != TASK_SUCCESSFUL)
            return false;
    return s->status == TASK_PENDING;
}

static unsigned count(const struct task *t, enum task_status status)
{
    unsigned n = 0;

    for (uint32_t i = t->n_hosts; i < t->n; i++)
        n += t->steps[i].status == status;
    return n;
}

static unsigned at_once(const struct task *t)
{
    unsigned n = t->verb == WIRE_VERB_AGENT_RESTART ? t->n / ROLLING : LIMIT_TASK_AT_ONCE;

    return n < 1 ? 1 : n > LIMIT_TASK_AT_ONCE ? LIMIT_TASK_AT_ONCE : n;
}

/* After a failure a restart goes no further: what runs is left alone. */
static void begin_more(struct task *t)
{
    unsigned running = count(t, TASK_RUNNING), max = at_once(t);
    bool halts = t->verb == WIRE_VERB_AGENT_RESTART, failed = halts && count(t, TASK_FAILED);

    for (uint32_t i = t->n_hosts; i < t->n && running < max && !failed; i++) {
        if (!may_begin(t, &t->steps[i]))
            continue;
        begin_step(t, i);
        running += t->steps[i].status == TASK_RUNNING;
        failed = halts && t->steps[i].status == TASK_FAILED;
    }
}

static void conclude(struct task *t)
{
    const struct task_step *first = NULL;
    char text[LIMIT_ALIAS + 260];
    unsigned failed = 0;

    for (uint32_t i = 0; i < t->n; i++)
        if (t->steps[i].status == TASK_FAILED) {
            first = first ? first : &t->steps[i];
            failed++;
        }
    if (!failed) {
        end_task(t, NULL);
        return;
    }
    snprintf(text, sizeof(text), "%u of %u steps failed; %s: %s", failed, t->n, first->name, first->message);
    end_task(t, text);
}

static void advance(struct task *t)
{
    for (uint32_t i = t->n_hosts; i < t->n; i++)
        if (t->steps[i].status == TASK_RUNNING)
            look_at(t, i);
    begin_more(t);
    if (!dirty && !count(t, TASK_RUNNING))
        conclude(t);
}

void task_round(void)
{
    struct task *t;

    for (int i = 0; dirty && i < AGAIN_MAX; i++) {
        dirty = false;
        if ((t = under_way()))
            advance(t);
    }
}

/* Its task could not be read: nobody would end it. */
static void lose_orphans(void)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (o->result == OP_RUNNING && !task_is_op(o->id) &&
            (o->verb == WIRE_VERB_AGENT_START || o->verb == WIRE_VERB_AGENT_STOP ||
             o->verb == WIRE_VERB_AGENT_RESTART))
            op_end(o, false, WIRE_E_LOST, "its steps are forgotten: the journal of tasks could not be read");
}

/* The last that was not for other hosts only. */
static const struct task *newest_of_ours(void)
{
    const struct task *t;

    TAILQ_FOREACH_REVERSE(t, &task_all, task_list, link)
    if (!t->n_hosts || t->n > t->n_hosts)
        return t;
    return NULL;
}

void task_resume(void)
{
    const struct task *newest = newest_of_ours();
    struct task *t;

    lose_orphans();
    TAILQ_FOREACH (t, &task_all, link) {
        if (t->status == TASK_RUNNING && t != newest) /* its end could not be written */
            end_task(t, "superseded by a later task");
        if (!task_arrange(t))
            log_error("task", "no memory for the order of task %u", t->number);
    }
    dirty = true;
}
