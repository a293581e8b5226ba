/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/audit_file.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "agentd/state.h"
#include "agentd/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "wire/wire.h"

#define SECOND 1000000ull

static uint64_t lost; /* records that could not be written */
static char dir[512];
static bool is_open;

/* The call that is being taken. */
static struct {
    const struct wire_call *call; /* NULL: none is */
    const char *alias;
    bool told; /* what became of it is written */
    bool answered;
    enum wire_error error;
    char message[LIMIT_AUDIT_WORDS];
} asked;

/* So many may be written one by one. */
struct budget {
    unsigned left; /* LIMIT_AUDIT_REFUSALS at most */
    uint64_t filled_us;
};

/* Refusals: beyond a budget they are counted. Who is nobody uses up his own, not that of those who are known.
 */
static struct {
    struct budget of_nobody, of_known;
    uint64_t summed_us, more;
    struct loop_watch *timer; /* until the sum is written */
} refusals = {.of_nobody.left = LIMIT_AUDIT_REFUSALS, .of_known.left = LIMIT_AUDIT_REFUSALS};

/* --- a record ----------------------------------------------------------------------------------------- */

/* Cut between two characters, not in one. */
static size_t cut(const char *s)
{
    size_t n = strnlen(s, LIMIT_AUDIT_WORDS + 1), whole = 0;

    if (n <= LIMIT_AUDIT_WORDS)
        return n;
    for (;;) {
        size_t len = str_utf8_len(s + whole, n - whole);
        len = len ? len : 1;
        if (whole + len > LIMIT_AUDIT_WORDS)
            return whole;
        whole += len;
    }
}

static void put(struct buf *b, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    buf_printf(b, ",\"%s\":", name);
    buf_json(b, value, cut(value));
}

static void put_number(struct buf *b, const char *name, uint64_t value)
{
    buf_printf(b, ",\"%s\":%" PRIu64, name, value);
}

static void begin(struct buf *b, const char *event)
{
    char now[CLOCK_TEXT_MAX];

    put(b, "time", clock_iso(clock_wall_us(), 1, now));
    put(b, "event", event);
}

static void append_count(const char *event, const char *what, const char *message, uint64_t n)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);

    begin(&b, event);
    put(&b, "what", what);
    put(&b, "message", message);
    put_number(&b, "count", n);
    if (b.error || audit_file_append(b.p) < 0)
        lost++;
    buf_free(&b);
}

static void say_left(const struct audit_file_left *left)
{
    if (left->torn)
        append_count("trail", "torn", "bytes of a line that was not written whole are cut off", left->torn);
    if (left->missing)
        append_count("trail", "missing", "records before this one are missing", left->missing);
    if (left->unknown)
        append_count("trail", "unknown",
                     "records before this one are not known to audit.head: forged, or the host went down",
                     left->unknown);
    if (left->altered)
        append_count("trail", "altered", "the record before this one is not what it was", 1);
    if (left->headless)
        append_count("trail", "headless", "audit.head was missing: whether records are, too, is not known",
                     1);
    if (left->missing || left->unknown || left->altered || left->headless)
        log_error("audit", "the audit trail is not what it was: agentctl audit verify tells where");
}

static int open_files(const struct chain_at *known)
{
    struct audit_file_left left;
    int r = audit_file_open(dir, LIMIT_AUDIT_FILE, known, &left);

    is_open = r == 0;
    if (is_open)
        say_left(&left);
    return r;
}

static void say_lost(void)
{
    uint64_t n = lost;

    lost = 0;
    append_count("trail", "lost", "records could not be written and are lost", n);
    if (lost)
        lost = n;
    else
        log_info("audit", "the audit trail is written again: %" PRIu64 " records are lost", n);
}

/* Also frees b. */
static void finish(struct buf *b)
{
    int r = is_open ? 0 : open_files(NULL);

    if (lost && r == 0)
        say_lost();
    r = r < 0 ? r : lost ? -ENOSPC : b->error ? b->error : audit_file_append(b->p);
    if (r < 0 && lost++ == 0)
        log_error("audit", "the audit trail can't be written: %s; what is asked for is done all the same",
                  strerror(-r));
    if (r == 0)
        store_changed_soon(); /* whose helper takes it to the disk */
    buf_free(b);
}

/* --- who and what ------------------------------------------------------------------------------------- */

static const char *verb_of(const struct wire_call *c)
{
    return c->verb == WIRE_VERB_CANCEL ? "cancel" : c->verb == WIRE_VERB_REFUSED ? "" : op_verb_name(c->verb);
}

static void put_argument(struct buf *b, const struct wire_call *c)
{
    if (c->verb == WIRE_VERB_ADOPT || c->verb == WIRE_VERB_RELEASE)
        put_number(b, "pid", c->pid);
    else if (c->verb == WIRE_VERB_CANCEL)
        put(b, "operation", c->name);
    else if (c->verb == WIRE_VERB_SIGNAL)
        put(b, "signal", c->name);
    else if (c->verb >= WIRE_VERB_AGENT_START && c->verb <= WIRE_VERB_AGENT_RESTART)
        put(b, "otherHosts", c->name);
}

static void put_call(struct buf *b, const struct wire_call *c, const char *alias)
{
    put(b, "actor", c->actor);
    put(b, "source", c->source);
    put(b, "what", c->what);
    put(b, "verb", verb_of(c));
    put(b, "alias", alias);
    put_argument(b, c);
    put(b, "reason", c->reason);
}

static void say_asked(const struct wire_call *c, const char *alias, const char *operation, const char *result)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);

    begin(&b, "request");
    put_call(&b, c, alias);
    put(&b, "result", result);
    if (c->verb != WIRE_VERB_CANCEL)
        put(&b, "operation", operation);
    finish(&b);
}

void audit_accepted(const struct op *o, const struct wire_call *c)
{
    asked.told = true;
    say_asked(c, o->alias, o->id, "accepted");
}

void audit_joined(const struct op *o)
{
    if (!asked.call || asked.told)
        return;
    asked.told = true;
    say_asked(asked.call, o->alias, o->id, "joined");
}

void audit_ended(const struct op *o)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);

    begin(&b, "end");
    put(&b, "operation", o->id);
    put(&b, "verb", op_verb_name(o->verb));
    put(&b, "alias", o->alias);
    put(&b, "actor", o->actor);
    put(&b, "result", op_result_name(o));
    put(&b, "message", o->message);
    finish(&b);
}

void audit_agentd(const char *what, const char *actor, const char *source, const char *message)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);

    begin(&b, "agentd");
    put(&b, "actor", actor);
    put(&b, "source", source);
    put(&b, "what", what);
    put(&b, "message", message);
    finish(&b);
    log_info("audit", "record %" PRIu64 " is %s", audit_file_last()->seq, audit_file_last()->hash);
}

/* --- refusals ----------------------------------------------------------------------------------------- */

static void say_sum(void)
{
    uint64_t n = refusals.more;

    loop_free(&refusals.timer);
    if (!n)
        return;
    refusals.more = 0;
    refusals.summed_us = clock_mono_us();
    if (lost)
        say_lost();
    append_count("refusals", NULL, "more refusals, not written one by one", n);
}

static void on_sum(int fd, short what, void *arg)
{
    say_sum();
}

/* The first sum of a flood comes soon, the next ones seldom. */
static void count_more(uint64_t n)
{
    uint64_t now = clock_mono_us(), next = refusals.summed_us + LIMIT_AUDIT_SUM_SEC * SECOND;

    refusals.more += n;
    if (!refusals.timer)
        refusals.timer =
            loop_timer(refusals.summed_us && next > now + SECOND ? next - now : SECOND, on_sum, NULL);
}

static bool may_say(struct budget *b)
{
    uint64_t now = clock_mono_us(), gained = (now - b->filled_us) / (LIMIT_AUDIT_REFUSAL_SEC * SECOND);

    if (gained) {
        b->left = gained > LIMIT_AUDIT_REFUSALS - b->left ? LIMIT_AUDIT_REFUSALS : b->left + (unsigned)gained;
        b->filled_us = now;
    }
    if (!b->left)
        return false;
    b->left--;
    return true;
}

static void say_refused(const struct wire_call *c, const char *alias, unsigned status, const char *message)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);

    if (!may_say(c->actor && c->actor[0] ? &refusals.of_known : &refusals.of_nobody)) {
        count_more(1);
        return;
    }
    begin(&b, "request");
    put_call(&b, c, alias);
    put(&b, "result", "refused");
    put_number(&b, "status", status);
    put(&b, "message", message);
    finish(&b);
}

void audit_refusal(const struct wire_call *c)
{
    if (c->from >= 400 && c->from <= 599)
        say_refused(c, "", (unsigned)c->from, c->name);
    if (c->limit)
        count_more(c->limit < UINT32_MAX ? c->limit : UINT32_MAX);
}

void audit_begin_call(const struct wire_call *c, const char *alias)
{
    asked.call = c;
    asked.alias = alias;
    asked.told = asked.answered = false;
}

void audit_answered(const struct wire_reply *r)
{
    if (!asked.call || asked.told || r->call != asked.call->call)
        return;
    asked.answered = true;
    asked.error = r->error < WIRE_E_MAX ? (enum wire_error)r->error : WIRE_E_INTERNAL;
    str_copy(asked.message, sizeof(asked.message), r->message ? r->message : "");
}

/* A cancellation makes no operation: it is accepted if it was not refused. */
void audit_end_call(void)
{
    const struct wire_call *c = asked.call;
    bool refused = asked.answered && asked.error != WIRE_OK && asked.error != WIRE_E_ACCEPTED &&
                   asked.error != WIRE_E_CANCELLED;

    asked.call = NULL;
    if (asked.told)
        return;
    if (refused)
        say_refused(c, asked.alias, (unsigned)wire_error_status(asked.error),
                    asked.message[0] ? asked.message : wire_error_text(asked.error));
    else
        say_asked(c, asked.alias, "", "accepted");
}

/* --- life --------------------------------------------------------------------------------------------- */

static bool recall(const struct state *image, struct chain_at *ret)
{
    const char *l = image ? state_next(image, "audit", NULL) : NULL;
    char *hash = l ? state_get_text(image, l, "hash") : NULL;
    bool good = hash && strlen(hash) == CHAIN_HEX - 1;

    if (good) {
        ret->seq = state_get_u64(image, l, "seq");
        str_copy(ret->hash, sizeof(ret->hash), hash);
        lost = state_get_u64(image, l, "lost");
        refusals.more = state_get_u64(image, l, "more");
    }
    free(hash);
    return good;
}

/* What can't be opened now is tried again with each record. */
void audit_open(const char *state_dir, const struct state *image)
{
    struct chain_at known;
    bool has = recall(image, &known);
    int r;

    str_copy(dir, sizeof(dir), state_dir);
    if ((r = open_files(has ? &known : NULL)) < 0)
        log_error("audit", "%s/audit can't be opened: %s", dir, strerror(-r));
    if (refusals.more)
        count_more(0);
}

void audit_close(void)
{
    say_sum();
    audit_file_close();
    is_open = false;
}

void audit_save(struct buf *b)
{
    const struct chain_at *at = audit_file_last();

    state_begin(b, "audit");
    state_put_u64(b, "seq", at->seq);
    state_put_text(b, "hash", at->hash);
    state_put_u64(b, "lost", lost);
    state_put_u64(b, "more", refusals.more);
    state_end(b);
}

int audit_sync(const char *state_dir)
{
    return audit_file_sync(state_dir);
}

uint64_t audit_lost(void)
{
    return lost;
}
