/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/task: one wish for the whole agent: start, stop or restart every worker, in the order in which they
 * wait for each other. A task is an operation without a worker, and each of its steps one of a worker; it is
 * in a journal of its own, so that it goes on after agentd's death or its exec, which is the last step of a
 * restart. One at a time. Knows steps and their order; never knows how a worker is started or stopped.
 * task.c: admission and life. task_record.c: the journal. task_view.c: how it is told. */
#ifndef AGENTD_TASK_H
#define AGENTD_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/limits.h"
#include "wire/wire.h"

struct op;
struct wk;

enum task_status { TASK_PENDING, TASK_RUNNING, TASK_SUCCESSFUL, TASK_FAILED };
enum task_kind {
    TASK_WORKER, /* name is its alias */
    TASK_AGENTD, /* its own exec */
    TASK_HOST,   /* one that is not this host: it was asked for, and fails */
};

struct task_step {
    bool late; /* it could not be written */
    int slot;  /* of the journal, -1: not there */
    enum task_kind kind;
    enum task_status status;
    char name[LIMIT_ALIAS + 1];
    char op[24];                /* its operation; "": none (yet) */
    int64_t began_us, ended_us; /* wall clock; 0: not yet */
    char message[160];          /* why it failed; "" */
    uint16_t *before, n_before; /* steps that have to be done first */
};

struct task {
    TAILQ_ENTRY(task) link; /* oldest first */
    bool late;              /* it could not be written */
    int slot;
    uint32_t number; /* its name for clients, never used twice */
    char op[24];     /* its own operation */
    enum wire_verb verb;
    enum task_status status;
    bool batch; /* asked for as one of several hosts */
    int64_t created_us, ended_us;
    char actor[128];
    struct task_step *steps;
    uint32_t n, n_hosts; /* the first of them are TASK_HOST */
};

TAILQ_HEAD(task_list, task);
extern struct task_list task_all;

/* WIRE_VERB_AGENT_START and its like: begins one, or joins what is asked for already; answered at once by how
 * it stands. call->name: a comma list of hosts that are not this one; call->from 1: nothing else was asked
 * for; call->follow: it came as a batch. */
void task_request(const struct wire_call *call);
void task_tell(const struct wire_call *call); /* WIRE_VERB_TASK; call->from: its number, or ->name: its key */

/* After each round of events, while agentd is there for its workers. */
void task_round(void);
void task_op_ended(void); /* some operation has: it may be a step */

void task_open(const char *runtime_dir, const char *state_dir);
void task_close(void);
/* What could not be written: tried again, true if there is nothing left. */
bool task_save_again(void);
bool task_is_late(void);    /* something could not be written */
bool task_is_durable(void); /* the journal could be read, and takes what it is given */
/* After agentd's death or exec, once operations are carried on: so is the task that was under way. */
void task_resume(void);
bool task_is_op(const char *id); /* the operation of a task that goes on */
int task_copy_journal(const char *runtime_dir, const char *state_dir); /* in the state helper: 0 or -errno */

/* task_record.c and task_view.c, for task.c */
void task_save(struct task *t);
void task_save_step(const struct task *t, uint32_t i);
struct task *task_new(uint32_t n_steps); /* NULL: no memory, or too many steps */
void task_free(struct task *t, bool on_disk);
struct task *task_find(uint32_t number);
/* The worker of a step, NULL: there is none any more. Steps in their order; *at is the first worker at first.
 */
struct wk *task_worker(struct wk **at, const struct task_step *s);
/* What goes before what, from the order as it is now. False: no memory. */
bool task_arrange(struct task *t);
void task_answer(const struct task *t, uint64_t call);
void task_answer_times(const struct task *t, uint64_t call); /* when each step began and ended */

#endif
