/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/link.h"
#include "agentd/logs.h"
#include "agentd/op.h"
#include "agentd/reload.h"
#include "agentd/sup.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "base/fd.h"

static void (*reload)(uint64_t call);

void calls_on_reload(void (*fn)(uint64_t call))
{
    reload = fn;
}

static void answer(uint64_t call, enum wire_error e, const char *message)
{
    link_reply(&(struct wire_reply){.call = call, .error = (uint8_t)e, .message = message});
}

static void take_change(struct wk *w, const struct wire_call *c)
{
    op_request(w, c);
}

static void take_sample(struct wk *w, const struct wire_call *c)
{
    if (w)
        view_sample(w);
    else
        view_sample_all();
    answer(c->call, WIRE_OK, NULL);
}

static void on_list(int status, const char *p, size_t n, void *arg)
{
    uint64_t *call = arg;

    if (status == 0)
        link_reply(&(struct wire_reply){.call = *call, .items = p});
    else
        answer(*call, WIRE_E_LOG_FAILED, "the folder can't be listed");
    free(call);
}

static void take_log_list(struct wk *w, const struct wire_call *c)
{
    uint64_t *call = malloc(sizeof(*call));

    if (call)
        *call = c->call;
    if (!call || !logs_list(w->def, on_list, call)) {
        free(call);
        answer(c->call, WIRE_E_TOO_MANY, "too many helpers are at work");
    }
}

static void take_log_open(struct wk *w, const struct wire_call *c)
{
    int fd = logs_stream(w->id, w->def, c->name, c->from, c->limit, c->follow);

    if (fd < 0)
        answer(c->call, fd == -EAGAIN ? WIRE_E_TOO_MANY : WIRE_E_LOG_FAILED, strerror(-fd));
    else
        link_stream(c->call, fd);
}

static void take_operation(struct wk *w, const struct wire_call *c)
{
    const struct op *o = op_find(c->name);
    struct wire_reply r = {.call = c->call};
    char phases[128];

    if (!o) {
        answer(c->call, WIRE_E_NO_OPERATION, "it never was, or is forgotten");
        return;
    }
    r.message = o->message;
    op_fill_reply(o, &r, phases, sizeof(phases));
    link_reply(&r);
}

static void take_reload(struct wk *w, const struct wire_call *c)
{
    reload(c->call);
}

static void take_reload_plan(struct wk *w, const struct wire_call *c)
{
    reload_plan(c->call);
}

static const struct {
    void (*take)(struct wk *w, const struct wire_call *c);
    enum { NEEDS_WORKER, MAY_HAVE_WORKER, NO_WORKER } worker;
} verbs[WIRE_VERB_MAX] = {
    [WIRE_VERB_START] = {take_change, NEEDS_WORKER},
    [WIRE_VERB_STOP] = {take_change, NEEDS_WORKER},
    [WIRE_VERB_RESTART] = {take_change, NEEDS_WORKER},
    [WIRE_VERB_SAMPLE] = {take_sample, MAY_HAVE_WORKER},
    [WIRE_VERB_LOG_LIST] = {take_log_list, NEEDS_WORKER},
    [WIRE_VERB_LOG_OPEN] = {take_log_open, NEEDS_WORKER},
    [WIRE_VERB_OPERATION] = {take_operation, NO_WORKER},
    [WIRE_VERB_RELOAD] = {take_reload, NO_WORKER},
    [WIRE_VERB_RELOAD_PLAN] = {take_reload_plan, NO_WORKER},
};

void calls_take(const struct wire_call *c)
{
    struct wk *w = verbs[c->verb].worker == NO_WORKER || !c->worker ? NULL : sup_find(c->worker);

    if (!w && (verbs[c->verb].worker == NEEDS_WORKER || c->worker)) {
        answer(c->call, WIRE_E_NO_PROCESS, "no worker has this id");
        return;
    }
    verbs[c->verb].take(w, c);
}
