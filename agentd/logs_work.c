/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agentd/logs_name.h"
#include "agentd/logs_plan.h"
#include "agentd/logs_read.h"
#include "agentd/logs_scan.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/logstream.h"

#define MARGIN_US 60000000 /* that the times in a file may differ from the times of the file */
#define FLUSH 65536
#define STALE_TRIES 4

struct work {
    const struct logs_work *w;
    const struct logs_source *source;
    struct logs_place place; /* of the source's beginning, and its check */
    struct buf json;
    uint64_t alarmed_us;
    bool in_member; /* one of the archive is being written: of this file */
    dev_t member_dev;
    ino_t member_ino;
};

static void must(int error)
{
    if (error < 0)
        _exit(LOGS_WORK_GONE);
}

/* --- the answer -------------------------------------------------------------------------------------------
 */

char *logs_work_id(const struct logs_place *p, char text[LOGS_WORK_ID])
{
    snprintf(text, LOGS_WORK_ID, "%" PRIu64 "%020" PRIu64 "%09" PRIu32, p->dev, p->ino, p->check);
    return text;
}

int logs_work_head(struct logs_result *r, int out, bool zip)
{
    static const char begin[] = "{\"logEntries\":[";
    struct wire_log_head head = {0};
    int error;

    if (r->head_sent)
        return 0;
    r->head_sent = true;
    error = fd_write_all(out, &head, sizeof(head));
    return error < 0 || zip ? error : fd_write_all(out, begin, sizeof(begin) - 1);
}

static void flush(struct work *k)
{
    must(logs_work_head(k->w->result, k->w->out, false));
    must(fd_write_all(k->w->out, k->json.p, k->json.len));
    buf_reset(&k->json);
}

/* RFC 3339, in the line's own zone. */
static void put_time(struct buf *b, const struct logs_line *line)
{
    int64_t us = line->us + line->offset * INT64_C(1000000);
    time_t t = us >= 0 ? us / 1000000 : (us - 999999) / 1000000;
    int fraction = (int)(us - t * 1000000), minutes = abs(line->offset) / 60;
    char text[40];
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(b, "\"%s.%0*d%c%02d:%02d\"", text, fraction % 1000 ? 6 : 3,
               fraction % 1000 ? fraction : fraction / 1000, line->offset < 0 ? '-' : '+', minutes / 60,
               minutes % 60);
}

static enum logs_go take_entry(const struct logs_entry *e, void *arg)
{
    struct work *k = arg;
    struct logs_result *r = k->w->result;
    struct buf *b = &k->json;
    char id[LOGS_WORK_ID];

    buf_str(b, r->entries++ ? ",{\"logAt\":" : "{\"logAt\":");
    if (e->has_time)
        put_time(b, &e->line);
    else
        buf_str(b, "null");
    buf_printf(b, ",\"logLevel\":\"%s\",\"logLine\":", e->line.level);
    buf_json(b, e->text, e->n);
    buf_str(b, ",\"fileName\":");
    buf_json(b, k->source->name, strlen(k->source->name));
    buf_printf(b, ",\"fileId\":\"%s\",\"fileOffset\":%" PRIu64 "}", logs_work_id(&k->place, id), e->end);
    must(b->error);
    if (b->len > FLUSH)
        flush(k);
    r->full = r->entries >= k->w->query->limit;
    return r->full ? LOGS_GO_STOP : LOGS_GO_ON;
}

/* --- the archive ------------------------------------------------------------------------------------------
 */

static void end_member(struct work *k)
{
    if (k->in_member)
        must(logs_zip_end(&k->w->result->zip, k->w->out));
    k->in_member = false;
}

/* As it is, without what says that it was packed; an archive's names are UTF-8. */
static void plain_name(const struct logs_source *s, char *name, size_t size)
{
    size_t n = strlen(s->name) - (s->packed ? strlen(LOGS_NAME_PACKED) : 0);

    snprintf(name, size, "%.*s", (int)n, s->name);
    for (size_t i = 0, len; name[i]; i += len ? len : 1)
        if (!(len = str_utf8_len(name + i, strlen(name + i))))
            name[i] = '_';
}

/* A name that none has yet: NAME, ALIAS/NAME, ALIAS/2/NAME ... */
static void name_member(const struct work *k, char *name, size_t size)
{
    const char *alias = k->source->def->alias;
    char plain[256];

    plain_name(k->source, plain, sizeof(plain));
    str_copy(name, size, plain);
    for (unsigned i = 1; logs_zip_has(&k->w->result->zip, name) && i < LIMIT_LOG_SOURCES; i++)
        if (i == 1)
            snprintf(name, size, "%s/%s", alias, plain);
        else
            snprintf(name, size, "%s/%u/%s", alias, i, plain);
}

static enum logs_go take_line(const struct logs_entry *e, void *arg)
{
    struct work *k = arg;
    struct logs_result *r = k->w->result;
    char name[LOGS_ZIP_NAME];

    must(logs_work_head(r, k->w->out, true));
    if (k->in_member && (k->member_dev != k->source->file.dev || k->member_ino != k->source->file.ino))
        end_member(k);
    if (!k->in_member) {
        name_member(k, name, sizeof(name));
        must(logs_zip_begin(&r->zip, k->w->out, name, k->source->mtime_us));
        k->in_member = true;
        k->member_dev = k->source->file.dev;
        k->member_ino = k->source->file.ino;
    }
    must(logs_zip_put(&r->zip, k->w->out, e->text, e->n));
    must(logs_zip_put(&r->zip, k->w->out, "\n", 1));
    r->entries++;
    return LOGS_GO_ON;
}

/* --- the scan ---------------------------------------------------------------------------------------------
 */

static enum logs_go look(void *arg)
{
    struct work *k = arg;
    uint64_t now = clock_mono_us();

    if (now > k->alarmed_us + 1000000) { /* not once more for each line */
        k->alarmed_us = now;
        alarm(LIMIT_LOG_HUNG_SEC);
    }
    if (k->w->deadline_us && now > k->w->deadline_us) {
        k->w->result->late = true;
        return LOGS_GO_STOP;
    }
    return LOGS_GO_ON;
}

/* No line of it can be of the time that is asked for. */
static bool is_past(const struct logs_source *s, const struct logs_query *q)
{
    return s->mtime_us < q->start_us - MARGIN_US ||
           (s->born_us != INT64_MIN && q->end_us < INT64_MAX - MARGIN_US &&
            s->born_us > q->end_us + MARGIN_US);
}

static void note_failure(struct logs_result *r, const char *why)
{
    if (!r->unreadable++)
        str_copy(r->message, sizeof(r->message), why);
}

static enum logs_end scan(struct work *k, const struct logs_source *s, uint64_t *at, bool may_skip)
{
    struct logs_scan scan = {.query = k->w->query,
                             .source = s,
                             .take = k->w->query->zip ? take_line : take_entry,
                             .look = look,
                             .arg = k,
                             .at = *at};
    struct logs_result *r = k->w->result;
    enum logs_end end;

    alarm(LIMIT_LOG_OPEN_SEC);
    k->alarmed_us = 0;
    k->source = s;
    k->place = (struct logs_place){s->file.dev, s->file.ino, logs_plan_check(s), *at};
    end = logs_scan_run(&scan, may_skip);
    if (k->w->query->failed) {
        r->error = EINVAL;
        str_copy(r->message, sizeof(r->message),
                 "keyword: a pattern wants more memory than a search may take");
    }
    if (end == LOGS_END_WRONG) {
        r->error = EIO;
        str_copy(r->message, sizeof(r->message), scan.why);
        return end;
    }
    if (end == LOGS_END_FAILED) {
        note_failure(r, scan.why);
        return end;
    }
    *at = k->place.at = scan.at;
    r->where = k->place;
    r->has_where = true;
    return end;
}

/* The file that was being read, or the one behind it, in a plan that was made anew. */
static unsigned find_again(const struct work *k, const struct logs_plan *old, unsigned i,
                           const struct logs_plan *p, uint64_t *at)
{
    int found = logs_plan_find(p, &k->place);

    for (unsigned n = i + 1; found < 0 && n < old->n; n++) {
        struct logs_place place = {old->v[n]->file.dev, old->v[n]->file.ino, 0, 0};
        found = logs_plan_find(p, &place);
        *at = 0;
    }
    return found < 0 ? p->n : (unsigned)found;
}

/* From the ith on. True: to the end, or stopped; false: its names have moved, *i and *at say where it was. */
static bool scan_all(struct work *k, const struct logs_plan *p, unsigned *i, uint64_t *at, bool may_skip)
{
    for (; *i < p->n; (*i)++, *at = 0) {
        enum logs_end end = LOGS_END_DONE;
        if (!is_past(p->v[*i], k->w->query))
            end = scan(k, p->v[*i], at, may_skip);
        if (end == LOGS_END_STALE)
            return false;
        if (end == LOGS_END_STOPPED || end == LOGS_END_WRONG)
            return true;
    }
    return true;
}

static int begin(struct work *k, const struct logs_plan *p, uint64_t *at)
{
    const struct logs_query *q = k->w->query;
    int i;

    if (!q->has_cursor || k->w->result->found)
        return 0;
    if ((i = logs_plan_find(p, &q->cursor)) < 0)
        return -1;
    k->w->result->found = true;
    *at = q->cursor.at;
    return i;
}

/* 0 or -errno: then the result has it, too. */
static int plan(struct logs_result *r, const struct logs_wanted *wanted, struct logs_plan *p)
{
    int error;

    alarm(LIMIT_LOG_OPEN_SEC);
    if ((error = logs_plan_make(wanted, p)) == 0)
        return 0;
    r->error = -error;
    str_copy(r->message, sizeof(r->message),
             error == -E2BIG ? "logType: more files than are searched at once" : strerror(-error));
    return error;
}

static void work(struct work *k, const struct logs_wanted *wanted, struct logs_plan *p)
{
    uint64_t at = 0, was_at = UINT64_MAX;
    unsigned i, tries = 0;
    int first = begin(k, p, &at);

    if (first < 0)
        return;
    for (i = (unsigned)first; !scan_all(k, p, &i, &at, tries >= STALE_TRIES);) {
        struct logs_plan old = *p;
        tries = at == was_at ? tries + 1 : 0;
        was_at = at;
        if (plan(k->w->result, wanted, p) == 0)
            i = find_again(k, &old, i, p, &at);
        logs_plan_free(&old);
        if (k->w->result->error)
            return;
    }
}

void logs_work_run(const struct logs_work *w, const struct logs_wanted *wanted)
{
    struct work k = {.w = w, .json = BUF_INIT(FLUSH + 8 * LIMIT_LOG_ENTRY)};
    struct logs_result *r = w->result;
    struct logs_plan p;

    if (logs_match_compile(w->query, r->message, sizeof(r->message)) < 0) {
        r->error = EINVAL;
        return;
    }
    if (plan(r, wanted, &p) == 0) {
        r->files += p.n;
        work(&k, wanted, &p);
    }
    end_member(&k);
    if (k.json.len && !r->error) /* as long as nothing was sent an error can be told */
        flush(&k);
    buf_free(&k.json);
    logs_plan_free(&p);
}

/* --- what there is
 * ------------------------------------------------------------------------------------------ */

static bool is_told(const struct logs_result *r, const char *name, size_t n)
{
    const char *p = r->types;

    while (*p) {
        size_t len = strcspn(p, ",");
        if (len == n && memcmp(p, name, n) == 0)
            return true;
        p += len;
        p += strspn(p, ", ");
    }
    return false;
}

bool logs_work_name(struct logs_result *r, const char *name, size_t n)
{
    if (r->types_len >= sizeof(r->types))
        return false;
    r->types[r->types_len] = 0; /* the part before may have been anybody's */
    if (!n || is_told(r, name, n))
        return true;
    if (n + 3 > sizeof(r->types) - r->types_len)
        return false;
    r->types_len +=
        (size_t)sprintf(r->types + r->types_len, "%s%.*s", r->types_len ? ", " : "", (int)n, name);
    return true;
}

static bool tell(const char *name, size_t n, void *arg)
{
    return logs_work_name(arg, name, n);
}

void logs_work_tell(const struct logs_work *w, const struct logs_wanted *wanted)
{
    logs_plan_tell(wanted, tell, w->result);
}
