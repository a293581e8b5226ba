/* SPDX-License-Identifier: Apache-2.0 */
/* Which line of a chain is not what was written. Each line vouches for the one before it, and the head for
 * the last: one that two others vouch against is the altered one. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agentctl/audit_trail.h"
#include "base/str.h"

struct check {
    const struct audit_trail *t;
    audit_found_fn found;
    void *arg;
    struct chain_at before; /* where the chain stands */
    bool knows_seq, knows_hash;
    const struct audit_line *last; /* that is of the chain */
    const struct audit_line *blamed;
};

static void __attribute__((format(printf, 4, 5)))
say(struct check *c, const struct audit_line *l, const char *what, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->found(l ? c->t->names[l->file] : c->t->head_name, l ? l->number : 0, what, text, c->arg);
    c->blamed = l;
}

static const struct audit_line *line_at(const struct check *c, size_t i)
{
    return i < c->t->n_lines ? &c->t->lines[i] : NULL;
}

/* It goes on where the chain stands. */
static bool fits(const struct check *c, const struct audit_line *l)
{
    return l && l->good && (!c->knows_seq || l->seq == c->before.seq + 1) &&
           (!c->knows_hash || str_eq(l->prev, c->before.hash));
}

static bool follows(const struct audit_line *next, const struct audit_line *l)
{
    return next && next->good && l->good && next->seq == l->seq + 1 && str_eq(next->prev, l->hash);
}

/* What comes after it says that it is as it was written. */
static bool is_vouched_for(const struct check *c, size_t i)
{
    const struct audit_line *l = line_at(c, i), *next = line_at(c, i + 1);

    if (next)
        return next->good && str_eq(next->prev, l->hash);
    return !c->t->has_head || str_eq(c->t->head.last.hash, l->hash);
}

static void go_on(struct check *c, const struct audit_line *l, bool knows_hash)
{
    c->before.seq = l->good ? l->seq : c->before.seq + 1;
    str_copy(c->before.hash, sizeof(c->before.hash), l->hash);
    c->knows_seq = c->knows_seq || l->good;
    c->knows_hash = knows_hash;
    c->last = l;
}

static void say_missing(struct check *c, const struct audit_line *l, uint64_t from, uint64_t to)
{
    if (from == to)
        say(c, l, "removed", "record %" PRIu64 " before it is missing", from);
    else
        say(c, l, "removed", "records %" PRIu64 " to %" PRIu64 " before it are missing", from, to);
}

/* No record at all: in the place of one, or between two. */
static void judge_no_record(struct check *c, size_t i)
{
    const struct audit_line *l = line_at(c, i);

    if (!l->whole && !line_at(c, i + 1)) {
        say(c, l, "torn", "it was not written whole");
    } else if (c->last && fits(c, line_at(c, i + 1))) {
        say(c, l, "inserted", "it is no record, and the next line follows the one before it");
    } else {
        say(c, l, "altered", "it is no record");
        go_on(c, l, false);
    }
}

/* It has the number that is due, and names another line before it than stands there. */
static void judge_prev(struct check *c, size_t i)
{
    const struct audit_line *l = line_at(c, i);
    bool vouched = is_vouched_for(c, i);

    if (c->last && vouched && c->blamed != c->last)
        say(c, c->last, "altered", "its hash is not what the next record has of it");
    else if (!vouched || !c->last)
        say(c, l, "altered", "it does not follow the record before it, and the next one does not know it");
    go_on(c, l, vouched);
}

static void judge(struct check *c, size_t i)
{
    const struct audit_line *l = line_at(c, i), *next = line_at(c, i + 1);
    bool instead = c->knows_hash && fits(c, next); /* the next one has its place */
    bool rival = instead && (line_at(c, i + 2) ? follows(line_at(c, i + 2), next) : is_vouched_for(c, i + 1));

    if (fits(c, l) && !rival) {
        go_on(c, l, true);
    } else if (!l->good || !l->whole) {
        judge_no_record(c, i);
    } else if (instead) {
        say(c, l, "inserted", "the next line follows the one before it");
    } else if (c->knows_hash && str_eq(l->prev, c->before.hash)) {
        say(c, l, "altered", "its number is %" PRIu64 ", and %" PRIu64 " is due", l->seq, c->before.seq + 1);
        c->before.seq++;
        c->knows_hash = false;
        c->last = l;
    } else if (l->seq > c->before.seq + 1) {
        say_missing(c, l, c->before.seq + 1, l->seq - 1);
        go_on(c, l, true);
    } else if (l->seq <= c->before.seq) {
        say(c, l, "inserted", "record %" PRIu64 " comes behind record %" PRIu64 ": inserted, or out of order",
            l->seq, c->before.seq);
    } else {
        judge_prev(c, i);
    }
}

static void judge_end(struct check *c)
{
    const struct chain_head *h = &c->t->head;
    const struct audit_line *l = c->last;

    if (!c->t->wants_head)
        return;
    if (!c->t->has_head) {
        say(c, NULL, "removed", "missing or damaged: whether the end of the trail is there is not known");
        return;
    }
    if (!l || c->before.seq < h->last.seq)
        say(c, l, "truncated", "records up to %" PRIu64 " were written behind it, and are missing",
            h->last.seq);
    if (c->t->written && c->before.seq > c->t->written + 1)
        say(c, l, "inserted",
            "audit.head knows no record behind %" PRIu64
            ": forged, or the host went down before it was written",
            c->t->written);
    for (size_t i = 0; i < c->t->n_lines; i++) {
        const struct audit_line *at = line_at(c, i);
        if (at->good && at->seq == h->last.seq && !str_eq(at->hash, h->last.hash) && c->blamed != at)
            say(c, at, "altered", "its hash is not what audit.head has of it");
    }
}

/* Older files go as the trail grows: the head says up to where. */
static void judge_begin(struct check *c)
{
    const struct audit_line *l = line_at(c, 0);
    uint64_t first = c->t->has_head ? c->t->head.first : 0;

    chain_begin(&c->before);
    c->knows_seq = c->knows_hash =
        first == 1 || (l && l->good && (l->seq == 1 || str_eq(l->prev, c->before.hash)));
    if (first && l && l->good && l->seq > first && !c->knows_seq)
        say_missing(c, l, first, l->seq - 1);
}

void audit_check(const struct audit_trail *t, audit_found_fn found, void *arg)
{
    struct check c = {.t = t, .found = found, .arg = arg};

    judge_begin(&c);
    for (size_t i = 0; i < t->n_lines; i++)
        judge(&c, i);
    judge_end(&c);
}
