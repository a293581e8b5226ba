/* SPDX-License-Identifier: Apache-2.0 */
/* Operations in the journal: one slot each, in RuntimeDirectory/operations, and one for each Idempotency-Key.
 * A key is written before its operation, and the operation before it acts: a key whose operation is not there
 * belongs to a request that nobody was answered and nothing was done for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agentd/audit.h"
#include "agentd/journal.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define OPERATIONS "operations"
#define KEYS "keys"
#define HOUR_US 3600000000ll

struct op_list op_all = TAILQ_HEAD_INITIALIZER(op_all);

/* Contents of the slots. New fields take room from the end: read as zero from what an older agentd wrote. */
struct op_slot {
    char id[24];
    uint8_t verb, result, queued, durable, wants_disk, reached;
    uint16_t error;
    int64_t created_us, ended_us;
    uint64_t began_mono, phase_mono[OP_PHASE_MAX];
    struct op_identity before, after;
    char alias[LIMIT_ALIAS + 1], actor[128], source[128], reason[LIMIT_HTTP_REASON + 1];
    char message[1024], killed[768], leftovers[768], affected[512];
    uint8_t turned, cancelled;
};
struct key_slot {
    char id[24];
    int64_t created_us;
    char key[LIMIT_KEY + 1], request[65], actor[128];
};
union op_block {
    struct op_slot s;
    char bytes[4080]; /* the size on disk is for good */
};
union key_block {
    struct key_slot s;
    char bytes[560];
};
_Static_assert(sizeof(union op_block) == 4080 && sizeof(union key_block) == 560, "there is room to grow");

static struct journal operations = JOURNAL_NULL, keys = JOURNAL_NULL;
static bool failing;
static unsigned n_all;
static bool late; /* some could not be written */

static const char *const verb_names[WIRE_VERB_MAX] = {
    [WIRE_VERB_START] = "start",          [WIRE_VERB_STOP] = "stop",
    [WIRE_VERB_RESTART] = "restart",      [WIRE_VERB_RELOAD] = "reload",
    [WIRE_VERB_ADOPT] = "adopt",          [WIRE_VERB_RELEASE] = "release",
    [WIRE_VERB_UPGRADE] = "upgrade",      [WIRE_VERB_SIGNAL] = "signal",
    [WIRE_VERB_RELOAD_WORKER] = "reload", [WIRE_VERB_AGENT_START] = "start-all",
    [WIRE_VERB_AGENT_STOP] = "stop-all",  [WIRE_VERB_AGENT_RESTART] = "restart-all",
};

const char *op_verb_name(enum wire_verb v)
{
    return v < WIRE_VERB_MAX && verb_names[v] ? verb_names[v] : "?";
}

bool op_is_durable(void)
{
    return operations.fd >= 0 && keys.fd >= 0 && !failing;
}

static char *copy(const char *s)
{
    return s[0] ? strdup(s) : NULL;
}

#define PUT(to, from) str_copy(to, sizeof(to), (from) ? (from) : "")

static void note_failure(int r)
{
    if (r < 0 && !failing)
        log_error("op",
                  "the journal of operations can't be written (%s): operations go on, but are forgotten if "
                  "agentd dies",
                  strerror(-r));
    if (r >= 0 && failing)
        log_info("op", "the journal of operations is written again");
    failing = r < 0;
}

static int save_key(const struct op *o, struct op_key *k)
{
    union key_block b = {{.created_us = k->created_us}};
    int r;

    PUT(b.s.id, o->id);
    PUT(b.s.key, k->key);
    PUT(b.s.actor, k->actor);
    PUT(b.s.request, k->request);
    if ((r = journal_put(&keys, k->slot, &b)) >= 0)
        k->slot = r;
    return r;
}

static int save_keys(const struct op *o)
{
    struct op_key *k;
    int r = 0;

    SLIST_FOREACH(k, &o->keys, link)
    if (k->slot < 0 && r >= 0)
        r = save_key(o, k);
    return r;
}

void op_save(struct op *o)
{
    union op_block b = {{.verb = 0}};
    struct op_slot s = {
        .verb = (uint8_t)o->verb,
        .result = (uint8_t)o->result,
        .queued = o->queued,
        .durable = o->durable,
        .wants_disk = o->wants_disk,
        .reached = o->reached,
        .error = (uint16_t)o->error,
        .created_us = o->created_us,
        .ended_us = o->ended_us,
        .began_mono = o->began_mono,
        .before = o->before,
        .after = o->after,
        .turned = o->turned,
        .cancelled = o->cancelled,
    };
    int r;

    memcpy(s.phase_mono, o->phase_mono, sizeof(s.phase_mono));
    PUT(s.id, o->id);
    PUT(s.alias, o->alias);
    PUT(s.actor, o->actor);
    PUT(s.source, o->source);
    PUT(s.reason, o->reason);
    PUT(s.message, o->message);
    PUT(s.killed, o->killed);
    PUT(s.leftovers, o->leftovers);
    PUT(s.affected, o->affected);
    b.s = s;
    if ((r = save_keys(o)) >= 0 && (r = journal_put(&operations, o->slot, &b)) >= 0)
        o->slot = r;
    note_failure(r);
    o->forgetful = r < 0;
    late = late || r < 0;
}

/* What stands there as running would be done again after a crash. */
bool op_save_again(void)
{
    struct op *o;
    bool all = true;

    TAILQ_FOREACH (o, &op_all, link) {
        if (o->forgetful)
            op_save(o);
        all = all && !o->forgetful;
    }
    late = !all;
    return all;
}

bool op_is_late(void)
{
    return late;
}

static void free_key(struct op_key *k)
{
    free(k->key);
    free(k->actor);
    free(k->request);
    free(k);
}

static void free_keys(struct op *o, bool on_disk)
{
    while (!SLIST_EMPTY(&o->keys)) {
        struct op_key *k = SLIST_FIRST(&o->keys);
        SLIST_REMOVE_HEAD(&o->keys, link);
        if (on_disk)
            journal_drop(&keys, k->slot);
        free_key(k);
    }
}

void op_unsave(struct op *o)
{
    free_keys(o, true);
    journal_drop(&operations, o->slot);
}

static bool is_young(const struct op_key *k)
{
    return clock_wall_us() - k->created_us < LIMIT_KEY_AGE_H * HOUR_US;
}

bool op_has_young_key(const struct op *o)
{
    const struct op_key *k;

    SLIST_FOREACH(k, &o->keys, link)
    if (is_young(k))
        return true;
    return false;
}

struct op *op_of_key(const char *key, const struct op_key **ret)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        SLIST_FOREACH(*ret, &o->keys, link)
    if (str_eq((*ret)->key, key) && is_young(*ret))
        return o;
    return NULL;
}

/* Room for one more: those past their time go, else the oldest. */
static void make_room_for_key(void)
{
    struct op *o, *oldest = NULL;
    unsigned n = 0;

    TAILQ_FOREACH (o, &op_all, link) {
        struct op_key *k;
        SLIST_FOREACH(k, &o->keys, link)
        n++;
        if (!SLIST_EMPTY(&o->keys) && o->result != OP_RUNNING && !oldest)
            oldest = o;
    }
    if (n >= LIMIT_KEYS && oldest)
        free_keys(oldest, true);
}

static struct op_key *new_key(struct op *o, const char *key, const char *actor, const char *request)
{
    struct op_key *k = calloc(1, sizeof(*k));

    if (!k)
        return NULL;
    k->slot = -1;
    k->key = strdup(key);
    k->actor = strdup(actor);
    k->request = strdup(request);
    if (!k->key || !k->actor || !k->request) {
        free_key(k);
        return NULL;
    }
    SLIST_INSERT_HEAD(&o->keys, k, link);
    return k;
}

int op_add_key(struct op *o, const struct wire_call *c)
{
    struct op_key *k;

    if (!c->key || !c->key[0])
        return 0;
    make_room_for_key();
    if (!(k = new_key(o, c->key, c->actor, c->request)))
        return -ENOMEM;
    k->created_us = clock_wall_us();
    return 0;
}

struct op *op_new(void)
{
    struct op *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->slot = -1;
    SLIST_INIT(&o->keys);
    TAILQ_INSERT_TAIL(&op_all, o, link);
    n_all++;
    return o;
}

bool op_stops(const char *alias)
{
    const struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (o->verb == WIRE_VERB_STOP && o->result == OP_RUNNING && str_eq(o->alias, alias))
            return true;
    return false;
}

unsigned op_count(void)
{
    return n_all;
}

void op_free(struct op *o)
{
    TAILQ_REMOVE(&op_all, o, link);
    n_all--;
    free_keys(o, false);
    free(o->alias);
    free(o->actor);
    free(o->source);
    free(o->reason);
    free(o->message);
    free(o->killed);
    free(o->leftovers);
    free(o->affected);
    free(o->waiters);
    loop_free(&o->slow);
    free(o);
}

/* --- a new one, and room for it --- */

static void make_id(char id[24])
{
    static uint32_t counter;
    uint32_t r = 0;

    if (getrandom(&r, sizeof(r), GRND_NONBLOCK) < 0)
        r = (uint32_t)clock_mono_us();
    snprintf(id, 24, "%011llx%04x%04x", (unsigned long long)(clock_wall_us() / 1000) & 0xfffffffffffull,
             ++counter & 0xffff, r & 0xffff);
}

void op_forget(struct op *o)
{
    op_unsave(o);
    op_free(o);
}

static bool is_old(const struct op *o, int64_t now)
{
    return o->result != OP_RUNNING && now - o->ended_us > LIMIT_OPERATION_AGE_H * HOUR_US;
}

/* Those past their time go; then the oldest that has ended and has no key that may come again makes room, or
 * the oldest that has ended. Mostly one look at the oldest is enough: this is on the way of every restart.
 * *slot: its place in the journal, which the next one is written over; or -1. */
static bool make_room(int *slot)
{
    struct op *o, *first = NULL;
    int64_t now = clock_wall_us();

    while ((o = TAILQ_FIRST(&op_all)) && is_old(o, now))
        op_forget(o);
    if (op_count() < LIMIT_OPERATIONS)
        return true;
    TAILQ_FOREACH (o, &op_all, link) {
        if (o->result == OP_RUNNING)
            continue;
        first = first ? first : o;
        if (!op_has_young_key(o))
            break;
    }
    o = o ? o : first;
    if (!o)
        return false;
    *slot = o->slot;
    o->slot = -1;
    op_forget(o);
    return true;
}

static unsigned max_running = LIMIT_OPERATIONS;

void op_set_limit(unsigned n)
{
    max_running = n;
}

static bool is_full(void)
{
    const struct op *o;
    unsigned n = 0;

    if (op_count() < max_running)
        return false;
    TAILQ_FOREACH (o, &op_all, link)
        n += o->result == OP_RUNNING;
    return n >= max_running;
}

struct op *op_create(const char *alias, const struct wire_call *c)
{
    int slot = -1;
    struct op *o = !is_full() && make_room(&slot) ? op_new() : NULL;

    if (!o)
        return NULL;
    o->slot = slot;
    make_id(o->id);
    o->verb = c->verb;
    o->alias = strdup(alias);
    o->actor = strdup(c->actor ? c->actor : "");
    o->source = strdup(c->source ? c->source : "");
    o->reason = strdup(c->reason ? c->reason : "");
    o->created_us = clock_wall_us();
    audit_accepted(o, c);
    return o;
}

/* --- after agentd's death, or the host's ------------------------------------------------------------- */

static void insert_by_age(struct op *o)
{
    struct op *at;

    TAILQ_REMOVE(&op_all, o, link);
    TAILQ_FOREACH_REVERSE(at, &op_all, op_list, link)
    if (at->created_us <= o->created_us) {
        TAILQ_INSERT_AFTER(&op_all, at, o, link);
        return;
    }
    TAILQ_INSERT_HEAD(&op_all, o, link);
}

static void take_slot(int slot, const void *content, bool this_boot, void *arg)
{
    const struct op_slot *s = content;
    struct op *o;

    if (s->verb >= WIRE_VERB_MAX || s->result > OP_SUPERSEDED || !(o = op_new()))
        return;
    o->slot = slot;
    str_copy(o->id, sizeof(o->id), s->id);
    o->verb = s->verb;
    o->result = s->result;
    o->queued = s->queued;
    o->durable = s->durable;
    o->wants_disk = s->wants_disk;
    o->reached = s->reached;
    o->turned = s->turned;
    o->cancelled = s->cancelled;
    o->error = s->error < WIRE_E_MAX ? s->error : WIRE_E_INTERNAL;
    o->created_us = s->created_us;
    o->ended_us = s->ended_us;
    o->began_mono = this_boot ? s->began_mono : 0;
    for (int i = 0; this_boot && i < OP_PHASE_MAX; i++)
        o->phase_mono[i] = s->phase_mono[i];
    o->before = s->before;
    o->after = s->after;
    o->alias = strdup(s->alias);
    o->actor = strdup(s->actor);
    o->source = strdup(s->source);
    o->reason = strdup(s->reason);
    o->message = copy(s->message);
    o->killed = copy(s->killed);
    o->leftovers = copy(s->leftovers);
    o->affected = copy(s->affected);
    insert_by_age(o);
    if (!this_boot && o->result == OP_RUNNING) {
        o->result = OP_FAILED;
        o->error = WIRE_E_LOST;
        o->ended_us = clock_wall_us();
        free(o->message);
        o->message = strdup("lost: the host went down while it was under way");
        audit_ended(o);
        op_save(o);
    }
}

static void take_key(int slot, const void *content, bool this_boot, void *arg)
{
    const struct key_slot *s = content;
    struct op *o = (struct op *)op_find(s->id);
    struct op_key *k;

    if (!o || clock_wall_us() - s->created_us >= LIMIT_KEY_AGE_H * HOUR_US ||
        !(k = new_key(o, s->key, s->actor, s->request))) {
        journal_drop(&keys, slot);
        return;
    }
    k->slot = slot;
    k->created_us = s->created_us;
}

void op_open(const char *runtime_dir, const char *state_dir)
{
    int r = journal_open(&operations, runtime_dir, state_dir, OPERATIONS, sizeof(union op_block),
                         LIMIT_OPERATIONS, take_slot, NULL);

    if (r >= 0)
        r = journal_open(&keys, runtime_dir, state_dir, KEYS, sizeof(union key_block), LIMIT_KEYS, take_key,
                         NULL);
    note_failure(r);
}

void op_close(void)
{
    while (!TAILQ_EMPTY(&op_all))
        op_free(TAILQ_FIRST(&op_all));
    journal_close(&operations);
    journal_close(&keys);
}

int op_copy_journal(const char *runtime_dir, const char *state_dir)
{
    int r = journal_copy(runtime_dir, state_dir, OPERATIONS);

    return r < 0 ? r : journal_copy(runtime_dir, state_dir, KEYS);
}
