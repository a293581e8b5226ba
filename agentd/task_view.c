/* SPDX-License-Identifier: Apache-2.0 */
/* A task as it is told: lines, see WIRE_VERB_TASK. */
#include <string.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/sup.h"
#include "agentd/task.h"
#include "agentd/wk.h"
#include "base/str.h"

#define ROWS_MAX (8 << 20)
#define SECOND_US 1000000u

static const char *const kind_names[] = {"worker", "agentd", "host"};
static const char *const status_names[] = {"PENDING", "RUNNING", "SUCCESSFUL", "FAILED"};

/* READY: nothing but its turn is awaited. */
static const char *status_of(const struct task *t, const struct task_step *s)
{
    if (s->status != TASK_PENDING || t->status != TASK_RUNNING)
        return status_names[s->status];
    for (unsigned i = 0; i < s->n_before; i++)
        if (t->steps[s->before[i]].status != TASK_SUCCESSFUL)
            return status_names[TASK_PENDING];
    return "READY";
}

static uint64_t seconds(uint64_t us)
{
    return us == STR_USEC_INFINITY ? 0 : (us + SECOND_US - 1) / SECOND_US;
}

/* Seconds that the step may take; 0: not bounded, or not known. */
static uint64_t timeout_of(const struct task *t, const struct wk *w)
{
    uint64_t start = w ? seconds(w->def->start_timeout_us) : 0,
             stop = w ? seconds(w->def->stop_timeout_us) : 0;

    if (t->verb == WIRE_VERB_AGENT_START)
        return start;
    if (t->verb == WIRE_VERB_AGENT_STOP)
        return stop;
    return start && stop ? start + stop : 0;
}

static void put_step(struct buf *b, const struct task *t, const struct task_step *s, struct wk **at)
{
    const struct wk *w = s->kind == TASK_WORKER ? task_worker(at, s) : NULL;

    buf_printf(b, "%s\t%s\t%s\t%llu\t%s\t", kind_names[s->kind], s->name, status_of(t, s),
               (unsigned long long)timeout_of(t, w), s->message);
    for (unsigned i = 0; i < s->n_before; i++)
        buf_printf(b, "%s%u", i ? "," : "", s->before[i]);
    buf_char(b, '\n');
}

static void send(struct buf *b, const struct task *t, uint64_t call)
{
    if (b->error)
        link_reply(&(struct wire_reply){
            .call = call, .error = WIRE_E_INTERNAL, .message = "the answer is too large"});
    else
        link_reply_long(&(struct wire_reply){.call = call, .items = b->p, .operation = t->op});
    buf_free(b);
}

void task_answer_times(const struct task *t, uint64_t call)
{
    struct buf b = BUF_INIT(ROWS_MAX);

    buf_printf(&b, "%u\t%s\t%s\t%lld\t%lld\n", t->number, op_verb_name(t->verb), status_names[t->status],
               (long long)t->created_us, (long long)t->ended_us);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct task_step *s = &t->steps[i];
        buf_printf(&b, "%s\t%s\t%s\t%lld\t%lld\t%s\n", kind_names[s->kind], s->name, status_of(t, s),
                   (long long)s->began_us, (long long)s->ended_us, s->message);
    }
    send(&b, t, call);
}

void task_answer(const struct task *t, uint64_t call)
{
    struct buf b = BUF_INIT(ROWS_MAX);
    struct wk *at = TAILQ_FIRST(&sup_workers);
    char actor[160];

    buf_printf(&b, "%u\t%s\t%s\t%lld\t%s\t%d\n", t->number, op_verb_name(t->verb), status_names[t->status],
               (long long)t->created_us, str_escape(actor, sizeof(actor), t->actor), t->batch);
    for (uint32_t i = 0; i < t->n; i++)
        put_step(&b, t, &t->steps[i], &at);
    send(&b, t, call);
}
