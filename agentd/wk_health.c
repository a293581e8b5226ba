/* SPDX-License-Identifier: Apache-2.0 */
/* HealthCheck=: a worker that is up is asked from outside, one question at a time; what it answers so often
 * in a row is believed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/check.h"
#include "agentd/loop.h"
#include "agentd/view.h"
#include "agentd/wk_command.h"
#include "agentd/wk_hook.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define BUSY_US 1000000 /* it could not be asked: nothing is known, it is asked again */
#define INTERVAL_MIN_US 10000
#define WHY_MAX 200

enum verdict { UNKNOWN, HEALTHY, UNHEALTHY };

struct wk_health {
    struct loop_watch *timer;
    struct helper *asking;
    struct wk_command *command; /* the same, exec: */
    enum verdict verdict;
    unsigned in_a_row; /* answers that differ from the verdict */
    char why[WHY_MAX]; /* it was not well, the last time that it was not */
};

const char *wk_health_name(const struct wk *w)
{
    static const char *const names[] = {"unknown", "healthy", "unhealthy"};

    return w->health ? names[w->health->verdict] : "";
}

const char *wk_health_why(const struct wk *w)
{
    return w->health && w->health->verdict == UNHEALTHY ? w->health->why : "";
}

static void on_time(int fd, short what, void *arg);

static void wait_until_next(struct wk *w, uint64_t us)
{
    loop_free(&w->health->timer);
    w->health->timer = loop_timer(us > INTERVAL_MIN_US ? us : INTERVAL_MIN_US, on_time, w);
}

/* The worker may be on its way down when this returns. */
static void become(struct wk *w, enum verdict v)
{
    bool bad = v == UNHEALTHY;

    w->health->verdict = v;
    w->health->in_a_row = 0;
    log_write(bad ? LOG_WARNING : LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias}, "%s%s%s",
              bad ? "unhealthy" : "healthy", bad ? ": " : "", bad ? w->health->why : "");
    wk_changed(w);
    if (!bad || w->def->health_action != CFG_HEALTH_RESTART)
        return;
    wk_set_message(w, "unhealthy: %s", w->health->why);
    w->barked = true;
    wk_event(w, WK_EV_UNHEALTHY);
}

static void take_answer(struct wk *w, bool well, const char *why)
{
    struct wk_health *h = w->health;
    enum verdict v = well ? HEALTHY : UNHEALTHY;

    if (!well)
        str_copy(h->why, sizeof(h->why), why);
    wait_until_next(w, w->def->health_interval_us);
    if (v == h->verdict)
        h->in_a_row = 0;
    else if (++h->in_a_row >= w->def->health_retries || (well && h->verdict == UNKNOWN))
        become(w, v);
}

static void on_answer(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;

    w->health->asking = NULL;
    if (status == CHECK_WELL || status == CHECK_NOT_WELL)
        take_answer(w, status == CHECK_WELL, p);
    else
        wait_until_next(w, BUSY_US);
}

static void on_command_end(const struct wk_exit *end, const char *why, void *arg)
{
    struct wk *w = arg;

    w->health->command = NULL;
    take_answer(w, !why, why ? why : "");
}

static void on_command_late(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->health->timer);
    wk_command_abandon(&w->health->command);
    take_answer(w, false, "it was not finished within HealthTimeout=");
}

static void ask_by_command(struct wk *w)
{
    int r;

    w->health->command = wk_check_command(w, &w->def->health->command, on_command_end, w, &r);
    if (w->health->command)
        w->health->timer = loop_timer(w->def->health_timeout_us, on_command_late, w);
    else
        wait_until_next(w, BUSY_US);
}

static void on_time(int fd, short what, void *arg)
{
    struct wk *w = arg;
    struct wk_health *h = w->health;
    const struct cfg_check *c = w->def->health;
    char why[64];
    int r;

    loop_free(&h->timer);
    if (c->kind == CFG_CHECK_TCP) { /* no question that it could leave open */
        snprintf(why, sizeof(why), "it does not listen on port %u", c->port);
        if ((r = view_listens(w, c->port)) < 0)
            wait_until_next(w, BUSY_US);
        else
            take_answer(w, r, why);
        return;
    }
    if (c->kind == CFG_CHECK_EXEC) {
        ask_by_command(w);
        return;
    }
    h->asking = check_once(c, &w->def->ids, w->def->health_timeout_us, on_answer, w);
    if (!h->asking)
        wait_until_next(w, BUSY_US);
}

static void forget(struct wk *w)
{
    struct wk_health *h = TAKE_PTR(w->health);

    if (!h)
        return;
    loop_free(&h->timer);
    helper_cancel(&h->asking);
    wk_command_abandon(&h->command);
    free(h);
}

void wk_health_watch(struct wk *w, bool on)
{
    if (!on || !w->def->health) {
        forget(w);
        return;
    }
    if (w->health || !(w->health = calloc(1, sizeof(*w->health))))
        return;
    wait_until_next(w, w->def->health_interval_us);
}
