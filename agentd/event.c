/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/event.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/state.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/limits.h"

/* Its strings are its own. */
static struct wire_event ring[LIMIT_EVENTS];
static uint64_t first, last; /* numbers of those that are there; last < first: none */

static struct wire_event *at(uint64_t seq)
{
    return &ring[seq % LIMIT_EVENTS];
}

#define free_str(s) free((char *)(uintptr_t)(s))
#define free_u32(v)
#define free_u64(v)
#define free_i64(v)
#define FIELD(type, name) free_##type(e->name);
#define LATER(type, name) free_##type(e->name);
#define WIRE_EVENT_FIELDS
static void clear(struct wire_event *e)
{
#include "wire/fields.def"
    *e = (struct wire_event){0};
}
#undef WIRE_EVENT_FIELDS
#undef FIELD
#undef LATER

static const char *own(const char *s)
{
    return s && s[0] ? strdup(s) : NULL;
}

#define own_str(s) own(s)
#define own_u32(v) v
#define own_u64(v) v
#define own_i64(v) v
#define FIELD(type, name) to->name = own_##type(e->name);
#define LATER(type, name) to->name = own_##type(e->name);
#define WIRE_EVENT_FIELDS
static void copy(struct wire_event *to, const struct wire_event *e)
{
#include "wire/fields.def"
}
#undef WIRE_EVENT_FIELDS
#undef FIELD
#undef LATER

static void append(const struct wire_event *e)
{
    if (last >= first && last - first + 1 >= LIMIT_EVENTS)
        clear(at(first++));
    copy(at(e->seq), e);
    last = e->seq;
    link_happened();
}

static void put(struct wire_event *e)
{
    e->seq = last + 1;
    e->time_us = clock_wall_us();
    append(e);
}

/* A number that no earlier agentd can have come to: they count events, this counts microseconds. */
void event_init(void)
{
    if (last)
        return;
    last = (uint64_t)clock_wall_us();
    first = last + 1;
}

void event_done(void)
{
    while (first <= last)
        clear(at(first++));
    first = last = 0;
}

void event_worker(const struct wk *w)
{
    put(&(struct wire_event){.kind = "worker",
                             .alias = w->def->alias,
                             .state = wk_fsm_state_name(w->state),
                             .reason = wk_fsm_reason_name(w->reason),
                             .pid = (uint32_t)w->main.pid,
                             .generation = w->generation,
                             .message = w->message});
}

void event_operation(const struct op *o)
{
    put(&(struct wire_event){.kind = "operation",
                             .alias = o->alias,
                             .operation = o->id,
                             .verb = op_verb_name(o->verb),
                             .state = op_result_name(o),
                             .actor = o->actor,
                             .message = o->message});
}

void event_log(const struct wk *w, const char *what, const char *message)
{
    put(&(struct wire_event){.kind = "log", .alias = w->def->alias, .state = what, .message = message});
}

void event_agentd(const char *what, const char *message)
{
    put(&(struct wire_event){.kind = "agentd", .state = what, .message = message});
}

uint64_t event_last(void)
{
    return last;
}

const struct wire_event *event_next(uint64_t seq)
{
    uint64_t next = seq + 1 < first ? first : seq + 1;

    return next <= last ? at(next) : NULL;
}

#define save_str(b, name, v) state_put_text(b, name, v)
#define save_u32(b, name, v) state_put_u64(b, name, v)
#define save_u64(b, name, v) state_put_u64(b, name, v)
#define save_i64(b, name, v) state_put(b, name, v)
#define FIELD(type, name) save_##type(b, #name, e->name);
#define LATER(type, name) save_##type(b, #name, e->name);
#define WIRE_EVENT_FIELDS
static void save_one(struct buf *b, const struct wire_event *e)
{
    state_begin(b, "event");
#include "wire/fields.def"
    state_end(b);
}
#undef WIRE_EVENT_FIELDS
#undef FIELD
#undef LATER

void event_save(struct buf *b)
{
    for (uint64_t seq = first; seq <= last; seq++)
        save_one(b, at(seq));
    state_begin(b, "events");
    state_put_u64(b, "last", last);
    state_end(b);
}

#define load_str(s, l, name) state_get_text(s, l, name)
#define load_u32(s, l, name) (uint32_t) state_get_u64(s, l, name)
#define load_u64(s, l, name) state_get_u64(s, l, name)
#define load_i64(s, l, name) state_get(s, l, name)
#define FIELD(type, name) e->name = load_##type(s, l, #name);
#define LATER(type, name) e->name = load_##type(s, l, #name);
#define WIRE_EVENT_FIELDS
static void load_one(struct wire_event *e, const struct state *s, const char *l)
{
#include "wire/fields.def"
}
#undef WIRE_EVENT_FIELDS
#undef FIELD
#undef LATER

void event_restore(const struct state *s)
{
    const char *end = state_next(s, "events", NULL);

    for (const char *l = state_next(s, "event", NULL); l; l = state_next(s, "event", l)) {
        uint64_t seq = state_get_u64(s, l, "seq");
        if (last && seq != last + 1)
            event_done(); /* only without a hole */
        if (!last)
            first = seq;
        load_one(at(seq), s, l);
        last = seq;
    }
    if (!last && end) {
        last = state_get_u64(s, end, "last");
        first = last + 1;
    }
}
