/* SPDX-License-Identifier: Apache-2.0 */
/* An operation as it is told: in replies and lists. */
#include <stdio.h>
#include <string.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/wk.h"
#include "base/str.h"

static const char *const result_names[] = {"running", "done", "failed", "superseded"};
static const char *const phase_names[] = {"stop", "spawn", "ready"};

/* In the journal it is a superseded one, so that an earlier agentd can read it, too. */
const char *op_result_name(const struct op *o)
{
    return o->result == OP_SUPERSEDED && o->error == WIRE_E_CANCELLED ? "cancelled" : result_names[o->result];
}

/* Each phase lasts from the end of the one before. */
static void print_phases(const struct op *o, char *text, size_t size)
{
    uint64_t last = o->began_mono;
    size_t at = 0;

    text[0] = 0;
    for (int i = 0; i < OP_PHASE_MAX; i++)
        if (o->phase_mono[i] && at < size) {
            at += (size_t)snprintf(text + at, size - at, "%s%s:%llu", at ? "," : "", phase_names[i],
                                   (unsigned long long)(o->phase_mono[i] - last));
            last = o->phase_mono[i];
        }
}

/* What was killed and is still there, now. */
static const char *survivors_of(const struct op *o)
{
    static char text[2048];
    struct wk *w = o->result == OP_RUNNING ? link_find_worker(o->alias) : NULL;

    if (!w || w->op != o)
        return NULL;
    if (w->twin && w->twin->part == WK_OLD)
        w = w->twin;
    if (w->state != WK_KILLING)
        return NULL;
    wk_stop_survivors(w, text, sizeof(text));
    return text;
}

void op_fill_reply(const struct op *o, struct wire_reply *r, char *phases, size_t size)
{
    print_phases(o, phases, size);
    r->has_operation = 1;
    r->operation = o->id;
    r->verb = op_verb_name(o->verb);
    r->alias = o->alias;
    r->actor = o->actor;
    r->source = o->source;
    r->reason = o->reason;
    r->result = op_result_name(o);
    r->durable = o->durable;
    r->created_us = o->created_us;
    r->ended_us = o->ended_us;
    r->phases = phases;
    r->before_pid = o->before.pid;
    r->before_start = o->before.start;
    r->before_generation = o->before.generation;
    r->after_pid = o->after.pid;
    r->after_start = o->after.start;
    r->after_generation = o->after.generation;
    r->killed = o->killed;
    r->survivors = survivors_of(o);
    r->leftovers = o->leftovers;
    r->affected = o->affected;
}

void op_put_line(const struct op *o, struct buf *b)
{
    char actor[160];

    buf_printf(b, "%s\t%s\t%s\t%s\t%s\t%lld\t%lld\n", o->id, op_verb_name(o->verb), o->alias,
               str_escape(actor, sizeof(actor), o->actor), op_result_name(o), (long long)o->created_us,
               (long long)o->ended_us);
}
