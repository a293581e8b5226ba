/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_scan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/logs_plan.h"
#include "agentd/logs_read.h"
#include "base/clock.h"
#include "base/limits.h"

#define PIECE (256 << 10)
#define LOOK_BACK 65536     /* bytes in which the time is looked for that lines without one belong to */
#define LOOK_LINES 64       /* between two looks at the clock */
#define SETTLED_US 10000000 /* a last line that nobody has ended for so long is taken as it is */

/* --- entries -------------------------------------------------------------------------------------------- */

static bool is_in_span(const struct logs_scan *s, const struct logs_entry *e)
{
    const struct logs_query *q = s->query;

    if (e->has_time)
        return e->line.us >= q->start_us && e->line.us <= q->end_us;
    return s->source->mtime_us >= q->start_us && s->source->born_us <= q->end_us;
}

/* What was open ends at this place. */
static enum logs_go close_entry(struct logs_scan *s, uint64_t end)
{
    struct logs_entry e = {.has_time = s->seen, .line = s->line, .end = end};
    enum logs_go go = LOGS_GO_ON;

    if (s->is_open) {
        e.text = s->text.p;
        e.n = s->text.len;
        if (is_in_span(s, &e) && logs_match_level(s->query, e.line.level) &&
            logs_match_text(s->query, e.text, e.n) && !s->query->failed)
            go = s->take(&e, s->arg);
    }
    if (s->query->failed)
        return LOGS_GO_STOP;
    s->is_open = false;
    s->at = end;
    return go;
}

static void append(struct logs_scan *s, const char *p, size_t n)
{
    size_t room = LIMIT_LOG_ENTRY - s->text.len;

    buf_put(&s->text, p, n < room ? n : room);
}

/* A whole line without its end, at its place. */
static enum logs_go take_line(struct logs_scan *s, const char *p, size_t n, uint64_t place)
{
    struct logs_line line;
    bool has_time = logs_line_read(p, n, s->source->mtime_us, &line);
    enum logs_go go;

    if (n && p[n - 1] == '\r')
        n--;
    if (s->is_open && !has_time && s->seen) {
        append(s, "\n", 1);
        append(s, p, n);
        return LOGS_GO_ON;
    }
    go = close_entry(s, place);
    s->seen |= has_time;
    if (has_time)
        s->line = line;
    s->is_open = n > 0;
    buf_reset(&s->text);
    append(s, p, n);
    return go;
}

/* --- lines ---------------------------------------------------------------------------------------------- */

static char piece[PIECE];

struct lines {
    struct logs_scan *s;
    struct logs_read *in;
    uint64_t from;  /* lines before it only say the time */
    size_t n;       /* bytes in piece */
    uint64_t place; /* of the first of them */
    unsigned n_lines, step;
    bool half; /* the first of them are the rest of a line, which is left out */
};

/* n bytes at p, at l->place, are a line; what of it was told before only says the time. */
static enum logs_go place_line(struct lines *l, const char *p, size_t n)
{
    size_t told = l->place < l->from ? (size_t)(l->from - l->place) : 0;

    if (told && !l->half && logs_line_read(p, n, l->s->source->mtime_us, &l->s->line))
        l->s->seen = true;
    if (told ? told >= n : l->half)
        return LOGS_GO_ON;
    return take_line(l->s, p + told, n - told, l->place + told);
}

/* The whole lines of what is there; the rest moves to the front. */
static enum logs_go take_lines(struct lines *l)
{
    const char *p = piece, *end = piece + l->n, *nl;
    enum logs_go go = LOGS_GO_ON;

    while (go == LOGS_GO_ON && (nl = memchr(p, '\n', (size_t)(end - p)))) {
        if (++l->n_lines % l->step == 0 && l->s->look(l->s->arg) == LOGS_GO_STOP)
            return LOGS_GO_STOP;
        go = place_line(l, p, (size_t)(nl - p));
        l->half = false;
        l->place += (uint64_t)(nl + 1 - p);
        p = nl + 1;
    }
    if (go == LOGS_GO_ON && p == piece && l->n == sizeof(piece)) { /* a line without an end */
        go = place_line(l, p, l->n);
        l->half = true;
        l->place += l->n;
        p = end;
    }
    l->n = (size_t)(end - p);
    memmove(piece, p, l->n);
    return go;
}

static bool is_settled(const struct logs_source *s)
{
    return clock_wall_us() - s->mtime_us > SETTLED_US;
}

/* What is left at the end of a file that grows is the beginning of a line. */
static enum logs_go take_rest(struct lines *l)
{
    enum logs_go go = LOGS_GO_ON;

    if (l->n && (l->half || !l->s->source->is_last || is_settled(l->s->source))) {
        go = place_line(l, piece, l->n);
        l->place += l->n;
    }
    return go == LOGS_GO_ON && l->place >= l->from ? close_entry(l->s, l->place) : go;
}

static enum logs_end read_all(struct lines *l)
{
    struct logs_scan *s = l->s;
    enum logs_go go = LOGS_GO_ON;
    ssize_t got = 1;

    while (go == LOGS_GO_ON && got > 0) {
        uint64_t place = l->in->at;
        if (s->look(s->arg) == LOGS_GO_STOP)
            return LOGS_END_STOPPED;
        got = logs_read(l->in, piece + l->n, sizeof(piece) - l->n);
        if (got > 0 && l->in->at - (uint64_t)got != place) { /* there is a gap */
            memmove(piece, piece + l->n, (size_t)got);
            l->n = 0;
            l->place = l->in->at - (uint64_t)got;
            l->half = false;
        }
        if (got > 0) {
            l->n += (size_t)got;
            go = take_lines(l);
        }
    }
    if (got < 0) {
        snprintf(s->why, sizeof(s->why), "%.160s: %.80s", s->source->name, strerror((int)-got));
        return got == -ESTALE ? LOGS_END_STALE : got == -EOVERFLOW ? LOGS_END_WRONG : LOGS_END_FAILED;
    }
    if (go == LOGS_GO_ON)
        go = take_rest(l);
    return go == LOGS_GO_ON ? LOGS_END_DONE : LOGS_END_STOPPED;
}

static bool has_patterns(const struct logs_query *q)
{
    return (q->keys.n && q->keys.v[0].is_pattern) || (q->excludes.n && q->excludes.v[0].is_pattern);
}

enum logs_end logs_scan_run(struct logs_scan *s, bool may_skip)
{
    struct logs_read in = {.may_skip = may_skip};
    struct lines l = {.s = s, .in = &in, .from = s->at, .step = has_patterns(s->query) ? 1 : LOOK_LINES};
    uint64_t back = s->at > LOOK_BACK ? s->at - LOOK_BACK : 0;
    enum logs_end end;
    int error = logs_read_open(&in, s->source, back, s->why, sizeof(s->why));

    s->text = (struct buf)BUF_INIT(LIMIT_LOG_ENTRY + 1);
    s->is_open = s->seen = false;
    s->line = (struct logs_line){0};
    if (error < 0) {
        logs_read_close(&in);
        return error == -ESTALE ? LOGS_END_STALE : LOGS_END_FAILED;
    }
    l.place = in.at;
    l.half = back > 0 && in.at == back; /* it may be in the middle of a line */
    end = read_all(&l);
    logs_read_close(&in);
    buf_free(&s->text);
    return end;
}
