/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/budget.h"

#include <stdint.h>
#include <sys/queue.h>
#include <unistd.h>

#include "agentd/cfg.h"
#include "agentd/loop.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "proc/pressure.h"

#define SECOND_US 1000000u
#define AT_ONCE_MIN 32
#define AT_ONCE_PER_CPU 4
#define PRESSED_GAP_US 50000   /* between two starts while the host is short of processors or memory */
#define PRESSURE_AGE_US 200000 /* how long what was read of it is believed */

static TAILQ_HEAD(, wk) queue = TAILQ_HEAD_INITIALIZER(queue);
static unsigned at_once = AT_ONCE_MIN, rate, pressure, under_way;
static uint64_t last_us; /* of the last start; 0: none yet */
static struct loop_watch *timer;

void budget_set(const struct cfg_agent *a)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    at_once = a->start_concurrency;
    if (!at_once)
        at_once = cpus > AT_ONCE_MIN / AT_ONCE_PER_CPU ? (unsigned)cpus * AT_ONCE_PER_CPU : AT_ONCE_MIN;
    rate = a->start_rate;
    pressure = a->start_pressure;
}

/* Others have to wait because of it. */
static bool is_counted(const struct wk *w)
{
    /* Type=oneshot is ready when it has ended, and may take days. */
    bool works = w->def->type == CFG_ONESHOT && w->main.pid && !(w->start && w->start->spawning);

    return w->state == WK_STARTING && !w->waiting && !works;
}

void budget_unqueue(struct wk *w)
{
    if (w->in_queue)
        TAILQ_REMOVE(&queue, w, start_link);
    w->in_queue = false;
}

/* An operator waits for it. */
static bool is_asked_for(const struct wk *w)
{
    return w->op || (w->part == WK_NEXT && w->twin && w->twin->op);
}

void budget_queue(struct wk *w)
{
    if (w->in_queue)
        return;
    if (is_asked_for(w))
        TAILQ_INSERT_HEAD(&queue, w, start_link);
    else
        TAILQ_INSERT_TAIL(&queue, w, start_link);
    w->in_queue = true;
}

void budget_admitted(struct wk *w)
{
    if (!w->admitted)
        under_way++;
    w->admitted = true;
}

void budget_note(struct wk *w)
{
    if (w->in_queue && !w->waiting)
        budget_unqueue(w);
    if (w->admitted && !is_counted(w)) {
        w->admitted = false;
        under_way--;
    }
}

void budget_forget(struct wk *w)
{
    budget_unqueue(w);
    if (w->admitted)
        under_way--;
    w->admitted = false;
}

/* Only starts that follow others closely ask: a lone one costs nothing. */
static bool is_pressed(uint64_t now)
{
    static uint64_t read_us;
    static bool pressed;

    if (!pressure || !last_us || now - last_us > SECOND_US)
        return false;
    if (!read_us || now - read_us > PRESSURE_AGE_US) {
        pressed = pressure_avg10(PRESSURE_CPU) >= (int)pressure * 100 ||
                  pressure_avg10(PRESSURE_MEMORY) >= (int)pressure * 100;
        read_us = now;
    }
    return pressed;
}

/* When the next one may start, as far as time goes. */
static uint64_t next_us(const struct wk *w, uint64_t now)
{
    uint64_t gap = rate ? SECOND_US / rate : 0;

    if (!is_asked_for(w) && gap < PRESSED_GAP_US && is_pressed(now))
        gap = PRESSED_GAP_US;
    return last_us && gap ? last_us + gap : now;
}

static void admit(struct wk *w, uint64_t now)
{
    last_us = now;
    budget_admitted(w);
}

static bool has_room(const struct wk *w, uint64_t now)
{
    return under_way < at_once && next_us(w, now) <= now;
}

bool budget_ask(struct wk *w)
{
    uint64_t now = clock_mono_us();

    if (TAILQ_EMPTY(&queue) && has_room(w, now)) {
        admit(w, now);
        return true;
    }
    budget_queue(w);
    return false;
}

static void on_timer(int fd, short what, void *arg)
{
    loop_free(&timer); /* the round that follows does the rest */
}

void budget_round(void)
{
    struct wk *w;
    uint64_t now = 0;

    while ((w = TAILQ_FIRST(&queue)) && under_way < at_once) {
        now = clock_mono_us();
        if (next_us(w, now) > now)
            break;
        budget_unqueue(w);
        admit(w, now);
        wk_start_now(w);
    }
    loop_free(&timer);
    if (w && under_way < at_once)
        timer = loop_timer(next_us(w, now) - now, on_timer, NULL);
}
