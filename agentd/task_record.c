/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks in two journals: one slot a task, one slot a step, each written before what it speaks of is done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/journal.h"
#include "agentd/op.h"
#include "agentd/task.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define TASKS "tasks"
#define STEPS "steps"

/* Contents of the slots. New fields take room from the end: read as zero from what an older agentd wrote. */
struct task_slot {
    uint32_t number, n, n_hosts;
    uint8_t verb, status, batch;
    int64_t created_us, ended_us;
    char op[24], actor[128];
};
struct step_slot {
    uint32_t number, index;
    uint8_t kind, status;
    int64_t began_us, ended_us;
    char name[LIMIT_ALIAS + 1], op[24], message[160];
};
union task_block {
    struct task_slot s;
    char bytes[512]; /* the size on disk is for good */
};
union step_block {
    struct step_slot s;
    char bytes[384];
};
_Static_assert(sizeof(union task_block) == 512 && sizeof(union step_block) == 384, "there is room to grow");

struct task_list task_all = TAILQ_HEAD_INITIALIZER(task_all);

static struct journal tasks = JOURNAL_NULL, steps = JOURNAL_NULL;
static bool failing;

static void note_failure(int r)
{
    if (r < 0 && !failing)
        log_error("task", "the journal of tasks can't be written (%s): a task is forgotten if agentd dies",
                  strerror(-r));
    failing = failing || r < 0;
}

void task_save(struct task *t)
{
    union task_block b = {{.number = t->number,
                           .n = t->n,
                           .n_hosts = t->n_hosts,
                           .verb = (uint8_t)t->verb,
                           .status = (uint8_t)t->status,
                           .batch = t->batch,
                           .created_us = t->created_us,
                           .ended_us = t->ended_us}};
    int r;

    str_copy(b.s.op, sizeof(b.s.op), t->op);
    str_copy(b.s.actor, sizeof(b.s.actor), t->actor);
    if ((r = journal_put(&tasks, t->slot, &b)) >= 0)
        t->slot = r;
    t->late = r < 0;
    note_failure(r);
}

void task_save_step(const struct task *t, uint32_t i)
{
    struct task_step *s = &t->steps[i];
    union step_block b = {{.number = t->number,
                           .index = i,
                           .kind = (uint8_t)s->kind,
                           .status = (uint8_t)s->status,
                           .began_us = s->began_us,
                           .ended_us = s->ended_us}};
    int r;

    str_copy(b.s.name, sizeof(b.s.name), s->name);
    str_copy(b.s.op, sizeof(b.s.op), s->op);
    str_copy(b.s.message, sizeof(b.s.message), s->message);
    if ((r = journal_put(&steps, s->slot, &b)) >= 0)
        s->slot = r;
    s->late = r < 0;
    note_failure(r);
}

bool task_save_again(void)
{
    struct task *t;
    bool all = true;

    TAILQ_FOREACH (t, &task_all, link) {
        for (uint32_t i = 0; i < t->n; i++)
            if (t->steps[i].late)
                task_save_step(t, i);
        if (t->late)
            task_save(t);
        for (uint32_t i = 0; i < t->n; i++)
            all = all && !t->steps[i].late;
        all = all && !t->late;
    }
    failing = failing && !all;
    return all;
}

void task_free(struct task *t, bool on_disk)
{
    TAILQ_REMOVE(&task_all, t, link);
    for (uint32_t i = 0; i < t->n; i++) {
        if (on_disk)
            journal_drop(&steps, t->steps[i].slot);
        free(t->steps[i].before);
    }
    if (on_disk)
        journal_drop(&tasks, t->slot);
    free(t->steps);
    free(t);
}

/* The oldest that have ended make room. */
static bool make_room(uint32_t n_steps)
{
    struct task *t, *next;
    uint32_t n_tasks = 1, n = n_steps;

    TAILQ_FOREACH (t, &task_all, link) {
        n_tasks++;
        n += t->n;
    }
    for (t = TAILQ_FIRST(&task_all); t && (n_tasks > LIMIT_TASKS || n > LIMIT_TASK_STEPS); t = next) {
        next = TAILQ_NEXT(t, link);
        if (t->status == TASK_RUNNING)
            continue;
        n_tasks--;
        n -= t->n;
        task_free(t, true);
    }
    return n_tasks <= LIMIT_TASKS && n <= LIMIT_TASK_STEPS;
}

static struct task *allocate(uint32_t n_steps)
{
    struct task *t = calloc(1, sizeof(*t));

    if (!t || !(t->steps = calloc(n_steps ? n_steps : 1, sizeof(*t->steps)))) {
        free(t);
        return NULL;
    }
    t->slot = -1;
    t->n = n_steps;
    for (uint32_t i = 0; i < n_steps; i++)
        t->steps[i].slot = -1;
    TAILQ_INSERT_TAIL(&task_all, t, link);
    return t;
}

struct task *task_new(uint32_t n_steps)
{
    struct task *last, *t = make_room(n_steps) ? allocate(n_steps) : NULL;

    if (!t)
        return NULL;
    t->created_us = clock_wall_us();
    t->number = (uint32_t)(t->created_us / 1000000);
    if ((last = TAILQ_PREV(t, task_list, link)) && last->number >= t->number)
        t->number = last->number + 1;
    return t;
}

struct task *task_find(uint32_t number)
{
    struct task *t;

    TAILQ_FOREACH (t, &task_all, link)
        if (t->number == number)
            return t;
    return NULL;
}

/* --- after agentd's death, or the host's
 * ---------------------------------------------------------------------- */

static void insert_by_age(struct task *t)
{
    struct task *at;

    TAILQ_REMOVE(&task_all, t, link);
    TAILQ_FOREACH_REVERSE(at, &task_all, task_list, link)
    if (at->number < t->number) {
        TAILQ_INSERT_AFTER(&task_all, at, t, link);
        return;
    }
    TAILQ_INSERT_HEAD(&task_all, t, link);
}

static void take_task(int slot, const void *content, bool this_boot, void *arg)
{
    const struct task_slot *s = content;
    struct task *t;

    if (s->verb >= WIRE_VERB_MAX || s->status > TASK_FAILED || s->n > LIMIT_TASK_STEPS || s->n_hosts > s->n ||
        task_find(s->number) || !(t = allocate(s->n))) {
        journal_drop(&tasks, slot);
        return;
    }
    t->slot = slot;
    t->number = s->number;
    t->n_hosts = s->n_hosts;
    t->verb = s->verb;
    t->status = s->status;
    t->batch = s->batch;
    t->created_us = s->created_us;
    t->ended_us = s->ended_us;
    str_copy(t->op, sizeof(t->op), s->op);
    str_copy(t->actor, sizeof(t->actor), s->actor);
    insert_by_age(t);
    if (!this_boot && t->status == TASK_RUNNING) {
        t->status = TASK_FAILED;
        t->ended_us = clock_wall_us();
        task_save(t);
    }
}

static void take_step(int slot, const void *content, bool this_boot, void *arg)
{
    const struct step_slot *s = content;
    struct task *t = task_find(s->number);
    struct task_step *to;

    if (!t || s->index >= t->n || t->steps[s->index].slot >= 0 || s->status > TASK_FAILED ||
        s->kind > TASK_HOST) {
        journal_drop(&steps, slot);
        return;
    }
    to = &t->steps[s->index];
    to->slot = slot;
    to->kind = s->kind;
    to->status = s->status;
    to->began_us = s->began_us;
    to->ended_us = s->ended_us;
    str_copy(to->name, sizeof(to->name), s->name);
    str_copy(to->op, sizeof(to->op), s->op);
    str_copy(to->message, sizeof(to->message), s->message);
    if (!this_boot && to->status == TASK_RUNNING) {
        to->status = TASK_FAILED;
        to->ended_us = clock_wall_us();
        str_copy(to->message, sizeof(to->message), "lost: the host went down while it was under way");
        task_save_step(t, s->index);
    }
}

/* Its steps are on record before it is: one that lacks some was torn, and nothing of it has begun. */
static void drop_torn(void)
{
    struct task *t, *next;

    for (t = TAILQ_FIRST(&task_all); t; t = next) {
        bool whole = true;
        next = TAILQ_NEXT(t, link);
        for (uint32_t i = 0; i < t->n; i++)
            whole = whole && t->steps[i].slot >= 0;
        if (!whole)
            task_free(t, true);
    }
}

static void forget_all(void)
{
    while (!TAILQ_EMPTY(&task_all))
        task_free(TAILQ_FIRST(&task_all), false);
}

void task_open(const char *runtime_dir, const char *state_dir)
{
    int r = journal_open(&tasks, runtime_dir, state_dir, TASKS, sizeof(union task_block), LIMIT_TASKS + 1,
                         take_task, NULL);

    if (r >= 0)
        r = journal_open(&steps, runtime_dir, state_dir, STEPS, sizeof(union step_block), LIMIT_TASK_STEPS,
                         take_step, NULL);
    note_failure(r);
    if (r < 0)
        forget_all(); /* what is on record of them stays there */
    else
        drop_torn();
}

bool task_is_late(void)
{
    return failing && tasks.fd >= 0 && steps.fd >= 0;
}

bool task_is_durable(void)
{
    return tasks.fd >= 0 && steps.fd >= 0 && !failing;
}

void task_close(void)
{
    forget_all();
    journal_close(&tasks);
    journal_close(&steps);
}

int task_copy_journal(const char *runtime_dir, const char *state_dir)
{
    int r = journal_copy(runtime_dir, state_dir, TASKS);

    return r < 0 ? r : journal_copy(runtime_dir, state_dir, STEPS);
}
