/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>

#include "base/log.h"

#define LOOK_US 20000

static struct event_base *base;
static int stopping;

static void on_libevent_log(int severity, const char *msg)
{
    log_write(severity >= EVENT_LOG_WARN ? LOG_WARNING : LOG_DEBUG, "loop", NULL, "libevent: %s", msg);
}

int loop_init(void)
{
    struct event_config *cfg = event_config_new();

    event_set_log_callback(on_libevent_log);
    if (!cfg)
        return -ENOMEM;
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    stopping = 0;
    return base ? 0 : -ENOMEM;
}

void loop_done(void)
{
    if (base)
        event_base_free(base);
    base = NULL;
}

int loop_run(void (*after_round)(void))
{
    while (!stopping) {
        if (after_round)
            after_round();
        if (stopping)
            break;
        if (event_base_loop(base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY) < 0)
            return -EIO;
    }
    return 0;
}

void loop_stop(void)
{
    stopping = 1;
    event_base_loopbreak(base);
}

/* A descriptor that the kernel would not watch: it is looked at again and again. */
struct looked_at {
    struct event *timer;
    int fd;
    short what;
    loop_fn fn;
    void *arg;
};

static void on_look(int fd, short what, void *arg)
{
    struct looked_at *l = arg;
    struct pollfd p = {.fd = l->fd, .events = l->what & LOOP_READ ? POLLIN : POLLOUT};

    loop_rearm((struct loop_watch *)l->timer, LOOK_US); /* first: fn may free it */
    if (poll(&p, 1, 0) > 0)
        l->fn(l->fd, l->what & (LOOP_READ | LOOP_WRITE), l->arg);
}

static struct loop_watch *look_at(int fd, short what, loop_fn fn, void *arg)
{
    struct looked_at *l = malloc(sizeof(*l));

    if (!l || !(l->timer = event_new(base, -1, 0, on_look, l))) {
        free(l);
        return NULL;
    }
    *l = (struct looked_at){l->timer, fd, what, fn, arg};
    loop_rearm((struct loop_watch *)l->timer, LOOK_US);
    return (struct loop_watch *)l->timer;
}

struct loop_watch *loop_io(int fd, short what, loop_fn fn, void *arg)
{
    struct event *ev = event_new(base, fd, (short)(what | EV_PERSIST), fn, arg);

    if (!ev || event_add(ev, NULL) == 0)
        return (struct loop_watch *)ev;
    event_free(ev);
    return look_at(fd, what, fn, arg);
}

void loop_rearm(struct loop_watch *timer, uint64_t us)
{
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

    event_add((struct event *)timer, &tv);
}

struct loop_watch *loop_timer(uint64_t us, loop_fn fn, void *arg)
{
    struct event *ev = event_new(base, -1, 0, fn, arg);

    if (ev)
        loop_rearm((struct loop_watch *)ev, us);
    return (struct loop_watch *)ev;
}

void loop_free(struct loop_watch **w)
{
    struct event *ev = (struct event *)*w;
    struct looked_at *l = ev && event_get_callback(ev) == on_look ? event_get_callback_arg(ev) : NULL;

    if (ev)
        event_free(ev);
    free(l);
    *w = NULL;
}
