/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker may use of processor, memory and tasks: its leaf is given it before anything runs there,
 * again when agentd comes back (who restarts agentd may have put it back), and while it runs when its file
 * changes. And what it ran into: who is killed for lack of memory is told so, with the limit.
 * systemd.resource-control(5). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define APPLY_TIMEOUT_US 10000000 /* making room for a lower limit */
#define AGAIN_US 50000            /* all helpers are at work */
#define PAUSE_US 1000000          /* a worker at its limits changes memory.events a hundred times a second */

/* One file of the leaf that tells what it ran into. */
struct teller {
    struct loop_watch *watch;
    int fd;
    uint64_t text; /* as it was last, as a number */
};

/* Only for a worker that has such limits, and while it runs or they are being changed. */
struct wk_res {
    struct helper *applying;
    struct loop_watch *again, *pause;
    struct teller memory, tasks;
    uint64_t kills;              /* that were told */
    uint64_t tasks_before, hits; /* of TasksMax=; hits: that were told */
};

/* --- what has no effect ----------------------------------------------------------------------------------
 */

const char *wk_res_lost(const struct wk *w, const char *end, char *text, size_t size)
{
    const char *last = "";
    size_t n = 0;

    *text = 0;
    for (unsigned i = 0; i < CGROUP_RES_MAX; i++) {
        if (!(w->res_lost >> i & 1) || str_eq(cgroup_res_key(i), last))
            continue;
        last = cgroup_res_key(i);
        n += (size_t)snprintf(text + n, n < size ? size - n : 0, "%s%s%s", n ? "," : "", last, end);
    }
    return text;
}

static void tell_lost(const struct wk *w, int error)
{
    char keys[200];

    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "without effect: %s: %s%s",
              wk_res_lost(w, "=", keys, sizeof(keys)),
              wk_host.cgroups.fd < 0 ? "workers are tracked without cgroups"
              : error                ? strerror(-error)
                                     : "there is no such controller in ",
              wk_host.cgroups.fd < 0 || error ? "" : wk_host.cgroups.path);
}

static unsigned lost(const struct wk *w, unsigned failed)
{
    unsigned set = cgroup_res_lost(w->def->res, 0);

    return cgroup_res_lost(w->def->res, wk_host.cgroups.controllers) | (failed & set);
}

/* A definition is new. Controllers are handed down once a worker needs them, and not before: they cost each
 * process a little. */
void wk_res_load(struct wk *w)
{
    unsigned needs = cgroup_res_needs(w->def->res), before = w->res_lost;
    int r = 0;

    if (needs & ~wk_host.cgroups.controllers)
        r = cgroup_res_enable(&wk_host.cgroups, needs);
    w->res_lost = (uint16_t)lost(w, before); /* what is lost stays so until it was tried again */
    if (w->res_lost != lost(w, 0))
        w->res_hash = WK_RES_UNKNOWN;
    if (w->res_lost && w->res_lost != before)
        tell_lost(w, r);
}

/* --- giving it --------------------------------------------------------------------------------------------
 */

static void take_result(struct wk *w, const struct cgroup_res_result *r)
{
    unsigned before = w->res_lost;

    w->res_lost = (uint16_t)lost(w, r->failed);
    w->res_hash = cgroup_res_hash(w->def->res);
    if (w->res_lost && w->res_lost != before)
        tell_lost(w, r->error);
}

bool wk_res_fits(const struct wk *w)
{
    return w->res_hash == cgroup_res_hash(w->def->res);
}

static uint64_t counted(const struct wk *w, unsigned controller, const char *file, const char *name)
{
    uint64_t v;

    if (controller && !(wk_host.cgroups.controllers & controller))
        return 0;
    return cgroup_res_read(&w->leaf, file, name, &v) == 0 ? v : 0;
}

static struct wk_res *get(struct wk *w)
{
    if (!w->res && (w->res = calloc(1, sizeof(*w->res))))
        w->res->memory.fd = w->res->tasks.fd = -1;
    return w->res;
}

/* The leaf is empty; if it does not have them yet it is new, so that writing them waits for nothing. */
void wk_res_begin(struct wk *w)
{
    struct cgroup_res_result r;

    wk_res_done(w);
    if (w->leaf.fd < 0)
        return;
    if (!wk_res_fits(w)) {
        cgroup_res_apply(&w->leaf, w->def->res, wk_host.cgroups.controllers, &r);
        take_result(w, &r);
    }
    w->oomed = false;
    w->cpu_from = counted(w, 0, "cpu.stat", "usage_usec") + 1;
    w->ooms_before = counted(w, CGROUP_MEMORY, "memory.events", "oom");
    w->kills_before = counted(w, CGROUP_MEMORY, "memory.events", "oom_kill");
    wk_res_watch(w);
}

static void on_again(int fd, short what, void *arg);

static int run_apply(int out, void *arg)
{
    const struct wk *w = arg;
    struct cgroup_leaf leaf = {.fd = HELPER_KEPT};
    struct cgroup_res_result r;

    cgroup_res_apply(&leaf, w->def->res, wk_host.cgroups.controllers, &r);
    return fd_write_all(out, &r, sizeof(r)) < 0;
}

static void on_applied(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;
    struct cgroup_res_result r;

    w->res->applying = NULL;
    if (status != 0 || n != sizeof(r)) { /* what it was held up by is in force; the rest comes now */
        w->res->again = loop_timer(AGAIN_US, on_again, w);
        return;
    }
    memcpy(&r, p, sizeof(r));
    log_write(LOG_DEBUG, "wk", &(struct log_about){.worker = w->def->alias}, "its limits are in force");
    take_result(w, &r);
    wk_res_watch(w);
    wk_changed(w);
}

static void on_again(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->res->again);
    wk_res_live(w);
}

/* In a helper: to lower a limit of memory the kernel may have to write pages out first. */
void wk_res_live(struct wk *w)
{
    struct wk_res *s = w->res;

    if (s) {
        helper_cancel(&s->applying);
        loop_free(&s->again);
    }
    if (w->leaf.fd < 0 || wk_res_fits(w) || (w->state != WK_STARTING && w->state != WK_UP))
        return;
    if (!cgroup_res_differs(&w->leaf, w->def->res, wk_host.cgroups.controllers)) {
        take_result(w, &(struct cgroup_res_result){0});
        return;
    }
    w->res_hash = WK_RES_UNKNOWN;
    if (!(s = get(w)))
        return;
    if (helper_count() < LIMIT_CHECKS)
        s->applying = helper_start_keeping(&w->leaf.fd, 1, run_apply, w, on_applied, w, APPLY_TIMEOUT_US,
                                           sizeof(struct cgroup_res_result));
    if (!s->applying)
        s->again = loop_timer(AGAIN_US, on_again, w);
}

/* --- what it ran into -------------------------------------------------------------------------------------
 */

/* "64M" */
static const char *put_size(uint64_t v, char text[32])
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    unsigned unit = 0;

    while (v && v % 1024 == 0 && unit < 4) {
        v /= 1024;
        unit++;
    }
    snprintf(text, 32, "%" PRIu64 "%s", v, units[unit]);
    return text;
}

const char *wk_res_oom_text(const struct wk_oom *o, char *text, size_t size)
{
    char limit[32];
    const char *who = o->main ? "" : "a process of it was ";

    if (!o->kills)
        *text = 0;
    else if (o->limit)
        snprintf(text, size, "%skilled for lack of memory: MemoryMax=%s was hit (memory.events oom_kill %u)",
                 who, put_size(o->limit, limit), o->kills);
    else
        snprintf(text, size,
                 "%skilled for lack of memory, the host's or an outer cgroup's (memory.events oom_kill %u)",
                 who, o->kills);
    return text;
}

/* Since this incarnation began. */
static struct wk_oom look_at_memory(const struct wk *w)
{
    uint64_t kills = counted(w, CGROUP_MEMORY, "memory.events", "oom_kill");
    uint64_t ooms = counted(w, CGROUP_MEMORY, "memory.events", "oom");
    struct wk_oom o = {0};
    uint64_t limit;

    if (kills > w->kills_before)
        o.kills = (unsigned)(kills - w->kills_before);
    if (ooms > w->ooms_before && cgroup_res_read(&w->leaf, "memory.max", NULL, &limit) == 0)
        o.limit = limit;
    return o;
}

/* An event of its own, and the record. */
static void tell(struct wk *w)
{
    if (w->part == WK_ONLY)
        wk_host.moved(w);
    wk_changed(w);
}

static void tell_oom(struct wk *w, const struct wk_oom *o)
{
    char text[200];

    wk_set_message(w, "%s", wk_res_oom_text(o, text, sizeof(text)));
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s",
              w->message ? w->message : text);
    tell(w);
}

/* systemd.service(5), OOMPolicy=: with kill the kernel has killed them all. */
static void take_kills(struct wk *w)
{
    struct wk_oom o = look_at_memory(w);

    if (!w->res || o.kills <= w->res->kills)
        return;
    w->res->kills = o.kills;
    tell_oom(w, &o);
    if (w->def->oom_policy == CFG_OOM_CONTINUE)
        return;
    w->oomed = true;
    wk_event(w, WK_EV_OOM);
}

/* True if it says something else than before. */
static bool has_news(struct teller *t)
{
    char text[512];
    ssize_t n = fd_read_at(t->fd, text, sizeof(text), 0);
    uint64_t h = n > 0 ? str_hash(STR_HASH_INIT, text, (size_t)n) : 0;
    bool news = h != t->text;

    t->text = h;
    return news;
}

static void on_pause(int fd, short what, void *arg);

static void on_memory(int fd, short what, void *arg)
{
    struct wk *w = arg;

    if (!has_news(&w->res->memory))
        return;
    loop_free(&w->res->memory.watch);
    if (!w->res->pause)
        w->res->pause = loop_timer(PAUSE_US, on_pause, w);
    reap_sweep(); /* the main process tells its own end */
    if (w->state == WK_STARTING || w->state == WK_UP)
        take_kills(w);
}

static void on_pause(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->res->pause);
    w->res->memory.watch = loop_io(w->res->memory.fd, LOOP_READ | LOOP_EDGE, on_memory, w);
}

bool wk_res_recall(struct wk *w)
{
    char limit[CGROUP_RES_TEXT];

    if (!w->res || !w->res->hits)
        return false;
    wk_set_message(w, "TasksMax=%s was hit: it was refused more processes (pids.events max %" PRIu64 ")",
                   cgroup_res_text(w->def->res, CGROUP_RES_TASKS_MAX, limit), w->res->hits);
    return true;
}

/* Told once an incarnation. */
static void take_hits(struct wk *w)
{
    uint64_t hits = counted(w, CGROUP_PIDS, "pids.events", "max");

    if (hits <= w->res->tasks_before || !w->res->tasks.watch)
        return;
    loop_free(&w->res->tasks.watch);
    w->res->hits = hits - w->res->tasks_before;
    wk_res_recall(w);
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s",
              w->message ? w->message : "TasksMax= was hit");
    tell(w);
}

static void on_tasks(int fd, short what, void *arg)
{
    take_hits(arg);
}

bool wk_res_main_exited(struct wk *w, enum wk_end end, int status)
{
    bool killed = end == WK_END_SIGNALLED && status == SIGKILL;
    bool ours = w->state == WK_KILLING || (w->state == WK_STOPPING && w->reason != WK_WHY_OOM);

    w->last_oom = (struct wk_oom){0};
    if (w->res)
        take_hits(w); /* it may have been too quick for its watch */
    if (w->leaf.fd < 0 || !(wk_host.cgroups.controllers & CGROUP_MEMORY))
        return false;
    w->last_oom = look_at_memory(w);
    w->last_oom.main = w->last_oom.kills && killed && !ours;
    w->oomed = w->oomed || w->last_oom.main;
    return w->last_oom.main;
}

static void watch_file(struct wk *w, struct teller *t, const char *file, loop_fn fn)
{
    if (t->fd >= 0 || (t->fd = openat(w->leaf.fd, file, O_RDONLY | O_CLOEXEC)) < 0)
        return;
    has_news(t);
    t->watch = loop_io(t->fd, LOOP_READ | LOOP_EDGE, fn, w);
}

static void unwatch_file(struct teller *t)
{
    loop_free(&t->watch);
    t->fd = fd_close(t->fd);
}

void wk_res_watch(struct wk *w)
{
    unsigned have = cgroup_res_needs(w->def->res) & wk_host.cgroups.controllers;

    if (w->leaf.fd < 0 || !(have & (CGROUP_MEMORY | CGROUP_PIDS)) || !get(w))
        return;
    if (have & CGROUP_MEMORY)
        watch_file(w, &w->res->memory, "memory.events", on_memory);
    if (have & CGROUP_PIDS && w->res->tasks.fd < 0) {
        w->res->tasks_before = counted(w, CGROUP_PIDS, "pids.events", "max");
        watch_file(w, &w->res->tasks, "pids.events", on_tasks);
    }
}

void wk_res_done(struct wk *w)
{
    struct wk_res *s = w->res;

    if (!s)
        return;
    helper_cancel(&s->applying);
    loop_free(&s->again);
    loop_free(&s->pause);
    unwatch_file(&s->memory);
    unwatch_file(&s->tasks);
    free(s);
    w->res = NULL;
}

void wk_res_adopted(struct wk *w, const struct facts *f)
{
    uint64_t kills = counted(w, CGROUP_MEMORY, "memory.events", "oom_kill");
    uint64_t ooms = counted(w, CGROUP_MEMORY, "memory.events", "oom");

    /* Where controllers were taken away meanwhile, they count anew. */
    w->kills_before = kills < f->kills_before ? kills : f->kills_before;
    w->ooms_before = ooms < f->ooms_before ? ooms : f->ooms_before;
    w->cpu_from = f->cpu_from;
}
