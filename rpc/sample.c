/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/sample.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "rpc/call.h"
#include "rpc/link.h"
#include "rpc/table.h"

/* One measurement under way and who waits for it. */
struct sample {
    struct sample *next;
    int64_t worker; /* 0: all */
    struct request *waiting;
};

static struct sample *samples;

static void on_end(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct sample *s = arg, **at = &samples;
    struct request *r = s->waiting;

    fd_close(fd);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
    while (r) {
        struct request *next = r->next;
        request_resume(r);
        r = next;
    }
}

static struct sample *find(int64_t worker)
{
    struct sample *s = samples;

    while (s && s->worker != worker && s->worker != 0)
        s = s->next;
    return s;
}

static struct sample *start(int64_t worker)
{
    struct wire_call v = {.verb = WIRE_VERB_SAMPLE, .worker = worker};
    struct sample *s = calloc(1, sizeof(*s));

    if (!s || call_send(&v, LIMIT_HTTP_SAMPLE_MS, on_end, s) < 0) {
        free(s);
        return NULL;
    }
    s->worker = worker;
    s->next = samples;
    samples = s;
    return s;
}

static bool is_stale(const struct table_entry *e, uint64_t now)
{
    uint64_t age = now > e->sampled_us ? now - e->sampled_us : 0;

    return e->alive && (e->sampled_us == 0 || age > link_hello()->sample_max_age_ms * 1000ull);
}

static bool wait_for(struct request *r, int64_t worker)
{
    struct sample *s = find(worker);

    if (!s && !(s = start(worker)))
        return false;
    r->sampled = true;
    r->next = s->waiting;
    s->waiting = r;
    return true;
}

bool sample_wait_one(struct request *r, int64_t worker)
{
    const struct table_entry *e = table_by_id(worker);

    return !r->sampled && e && is_stale(e, clock_mono_us()) && wait_for(r, worker);
}

bool sample_wait(struct request *r, size_t from, size_t to)
{
    const struct table_entry *e;
    uint64_t now = clock_mono_us();
    int64_t stale = 0;
    unsigned n = 0;

    for (size_t i = from; !r->sampled && i < to && n < 2 && (e = table_at(i)); i++)
        if (is_stale(e, now)) {
            stale = e->id;
            n++;
        }
    return n && wait_for(r, n == 1 ? stale : 0);
}
