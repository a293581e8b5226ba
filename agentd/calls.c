/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/audit.h"
#include "agentd/doctor.h"
#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/host.h"
#include "agentd/link.h"
#include "agentd/logs.h"
#include "agentd/logs_query.h"
#include "agentd/op.h"
#include "agentd/reload.h"
#include "agentd/sup.h"
#include "agentd/task.h"
#include "agentd/upgrade.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "agentd/wk_adopt.h"
#include "agentd/why.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

static void answer(uint64_t call, enum wire_error e, const char *message)
{
    link_reply(&(struct wire_reply){.call = call, .error = (uint8_t)e, .message = message});
}

static void take_change(struct wk *w, const struct wire_call *c)
{
    op_request(w, c);
}

static void take_signal(struct wk *w, const struct wire_call *c)
{
    wk_signal(w, c);
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
    uint64_t *call = helper_spare() ? malloc(sizeof(*call)) : NULL;

    if (call)
        *call = c->call;
    if (!call || !logs_list(w->def, on_list, call)) {
        free(call);
        answer(c->call, WIRE_E_TOO_MANY, "too many helpers are at work");
    }
}

static void take_log_open(struct wk *w, const struct wire_call *c)
{
    struct logs_range range = {c->from, c->limit, c->device, c->inode, c->follow};
    int fd = helper_spare() ? logs_stream(w->id, w->def, c->name, &range) : -EAGAIN;

    if (fd < 0)
        answer(c->call, fd == -EAGAIN ? WIRE_E_TOO_MANY : WIRE_E_LOG_FAILED, strerror(-fd));
    else
        link_stream(c->call, fd);
}

static void take_log_query(struct wk *w, const struct wire_call *c)
{
    int fd = helper_spare() ? logs_query_start(c->query) : -EAGAIN;

    if (fd == -EAGAIN)
        answer(c->call, WIRE_E_TOO_MANY, "too many searches in logs are under way");
    else if (fd < 0)
        answer(c->call, WIRE_E_LOG_FAILED, strerror(-fd));
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

#define LIST_ROOM 512 /* of a reply, for one more line */

/* The newest first, as many as a reply holds. */
static void take_operations(struct wk *w, const struct wire_call *c)
{
    struct buf b = BUF_INIT(LIMIT_WIRE_STRING);
    const struct op *o;
    uint64_t n = 0;

    TAILQ_FOREACH_REVERSE(o, &op_all, op_list, link)
    if (n++ >= c->from && b.len < LIMIT_WIRE_STRING - LIST_ROOM)
        op_put_line(o, &b);
    link_reply(&(struct wire_reply){.call = c->call, .items = b.p});
    buf_free(&b);
}

static void put_incarnation(struct buf *b, const struct history_entry *e)
{
    char actor[200];

    buf_printf(b, "%u\t%d\t%d\t%lld\t%lld\t%lld\t%s\t%s\t%s\t%s\t%d\t%s\n", e->generation,
               !history_is_this_boot(e), (int)e->pid, (long long)e->begun_us, (long long)e->ready_us,
               (long long)e->ended_us, e->how, str_escape(actor, sizeof(actor), e->actor), e->operation,
               history_end_name(e->end), (int)e->status, e->why);
}

static void take_history(struct wk *w, const struct wire_call *c)
{
    struct history_entry v[LIMIT_HISTORY];
    struct buf b = BUF_INIT(64 << 10);
    unsigned n = history_read(w, v);

    for (unsigned i = 0; i < n; i++)
        if (i >= c->from)
            put_incarnation(&b, &v[i]);
    link_reply_long(&(struct wire_reply){.call = c->call, .items = b.p ? b.p : ""});
    buf_free(&b);
}

static void take_why(struct wk *w, const struct wire_call *c)
{
    struct buf b = BUF_INIT(64 << 10);

    why_tell(w, &b);
    link_reply_long(&(struct wire_reply){.call = c->call, .items = b.p ? b.p : ""});
    buf_free(&b);
}

static void take_doctor(struct wk *w, const struct wire_call *c)
{
    doctor_request(c->call);
}

static void take_reload(struct wk *w, const struct wire_call *c)
{
    struct wire_call silent = *c;
    const struct op *o;

    if (op_repeats(c))
        return;
    silent.call = 0; /* its answer has rows */
    if ((o = op_begin_own(&silent)))
        reload_request(c->call, o->id);
    else
        answer(c->call, WIRE_E_TOO_MANY, "too many operations are under way");
}

static void take_reload_plan(struct wk *w, const struct wire_call *c)
{
    reload_plan(c->call);
}

static void take_cancel(struct wk *w, const struct wire_call *c)
{
    op_cancel(c);
}

static void take_adopt(struct wk *w, const struct wire_call *c)
{
    wk_take(c);
}

static void take_release(struct wk *w, const struct wire_call *c)
{
    wk_release(c);
}

static void take_upgrade(struct wk *w, const struct wire_call *c)
{
    upgrade_request(c);
}

static void take_task(struct wk *w, const struct wire_call *c)
{
    task_request(c);
}

static void take_tell_task(struct wk *w, const struct wire_call *c)
{
    task_tell(c);
}

static void take_host(struct wk *w, const struct wire_call *c)
{
    host_tell(c->call);
}

static void take_real_path(struct wk *w, const struct wire_call *c)
{
    host_real_path(c->call, c->name);
}

static void take_refused(struct wk *w, const struct wire_call *c)
{
    audit_refusal(c);
}

static const struct {
    void (*take)(struct wk *w, const struct wire_call *c);
    enum { NEEDS_WORKER, MAY_HAVE_WORKER, NO_WORKER } worker;
    bool administrator; /* over the private socket only */
    bool changes;       /* it is audited */
} verbs[WIRE_VERB_MAX] = {
    [WIRE_VERB_START] = {take_change, NEEDS_WORKER, false, true},
    [WIRE_VERB_STOP] = {take_change, NEEDS_WORKER, false, true},
    [WIRE_VERB_RESTART] = {take_change, NEEDS_WORKER, false, true},
    [WIRE_VERB_SIGNAL] = {take_signal, NEEDS_WORKER, false, true},
    [WIRE_VERB_RELOAD_WORKER] = {take_signal, NEEDS_WORKER, false, true},
    [WIRE_VERB_SAMPLE] = {take_sample, MAY_HAVE_WORKER, false, false},
    [WIRE_VERB_LOG_LIST] = {take_log_list, NEEDS_WORKER, false, false},
    [WIRE_VERB_LOG_OPEN] = {take_log_open, NEEDS_WORKER, false, false},
    [WIRE_VERB_OPERATION] = {take_operation, NO_WORKER, false, false},
    [WIRE_VERB_OPERATIONS] = {take_operations, NO_WORKER, false, false},
    [WIRE_VERB_CANCEL] = {take_cancel, NO_WORKER, false, true},
    [WIRE_VERB_ADOPT] = {take_adopt, NO_WORKER, true, true},
    [WIRE_VERB_RELEASE] = {take_release, NO_WORKER, true, true},
    [WIRE_VERB_UPGRADE] = {take_upgrade, NO_WORKER, true, true},
    [WIRE_VERB_DOCTOR] = {take_doctor, NO_WORKER, false, false},
    [WIRE_VERB_RELOAD] = {take_reload, NO_WORKER, false, true},
    [WIRE_VERB_RELOAD_PLAN] = {take_reload_plan, NO_WORKER, false, false},
    [WIRE_VERB_AGENT_START] = {take_task, NO_WORKER, false, true},
    [WIRE_VERB_AGENT_STOP] = {take_task, NO_WORKER, false, true},
    [WIRE_VERB_AGENT_RESTART] = {take_task, NO_WORKER, false, true},
    [WIRE_VERB_TASK] = {take_tell_task, NO_WORKER, false, false},
    [WIRE_VERB_WHY] = {take_why, NEEDS_WORKER, false, false},
    [WIRE_VERB_HISTORY] = {take_history, NEEDS_WORKER, false, false},
    [WIRE_VERB_REFUSED] = {take_refused, NO_WORKER, false, false},
    [WIRE_VERB_HOST] = {take_host, NO_WORKER, false, false},
    [WIRE_VERB_REAL_PATH] = {take_real_path, NO_WORKER, false, false},
    [WIRE_VERB_LOG_QUERY] = {take_log_query, NO_WORKER, false, false},
};

/* A newer listener may know more verbs than we do. */
static bool may_ask(unsigned verb, bool administrator)
{
    return verb < WIRE_VERB_MAX && verbs[verb].take && (administrator || !verbs[verb].administrator);
}

static void take(const struct wire_call *c, struct wk *w)
{
    if (!w && (verbs[c->verb].worker == NEEDS_WORKER || c->worker))
        answer(c->call, WIRE_E_NO_PROCESS, "no worker has this id");
    else
        verbs[c->verb].take(w, c);
}

/* Each change is two records, and what is pushed out of the trail by them is gone: so the listener, in whose
 * name it may be, has not as many as it can ask for. */
static bool may_change(void)
{
    static const uint64_t each = 1000000 / LIMIT_CHANGES_SEC;
    static uint64_t due; /* when the next one would come if they came evenly */
    uint64_t now = clock_mono_us();

    due = due < now ? now : due;
    if (due - now > (LIMIT_CHANGES - 1) * each)
        return false;
    due += each;
    return true;
}

static bool has_alias(unsigned verb)
{
    return verb == WIRE_VERB_ADOPT || verb == WIRE_VERB_RELEASE;
}

bool calls_may(unsigned verb)
{
    return may_ask(verb, false);
}

void calls_take(const struct wire_call *c, bool administrator)
{
    struct wk *w;

    if (!may_ask(c->verb, administrator)) {
        answer(c->call, WIRE_E_NOT_IMPLEMENTED, NULL);
        return;
    }
    w = verbs[c->verb].worker == NO_WORKER || !c->worker ? NULL : sup_find(c->worker);
    if (!verbs[c->verb].changes) {
        take(c, w);
        return;
    }
    audit_begin_call(c, w ? w->def->alias : has_alias(c->verb) ? c->name : "");
    if (administrator || may_change())
        take(c, w);
    else
        answer(c->call, WIRE_E_TOO_MANY, "more changes are asked for than the audit trail keeps");
    audit_end_call();
}
