/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/reload.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/event.h"
#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/manager.h"
#include "agentd/op.h"
#include "agentd/sup.h"
#include "agentd/sup_plan.h"
#include "agentd/tls_check.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"

#define RESOLVE_TIMEOUT_US 60000000
#define MAX_CALLS 64
#define ROWS_MAX (4 << 20) /* bytes of all rows; more are not shown */

/* Who wants the same, from one reading of the files. */
struct wishes {
    uint64_t calls[MAX_CALLS]; /* 0: nobody waits */
    char ops[MAX_CALLS][24];   /* of each; "": none */
    unsigned n;
    bool any; /* a HUP is no call */
};

/* started: what agentd was started with; it tells what only a start can change. */
static struct cfg *current, *next, *started;
static struct cfg_report report;
static struct helper *resolver, *planner;
/* Those who came while the files were read wait for the next reading: this one may be older than their wish.
 */
static struct wishes to_apply, applying, to_plan, planning;
static bool over;
static char listener[600]; /* its program */

static void next_round(void);

void reload_init(struct cfg *c, const char *rpc)
{
    current = started = c;
    str_copy(listener, sizeof(listener), rpc);
}

const struct cfg *reload_current(void)
{
    return current;
}

void reload_forget_secrets(void)
{
    const struct cfg *all[] = {current, started, next};

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i])
            cfg_tls_forget(&all[i]->rpc);
}

static void log_lines(int level, const struct buf *b)
{
    char *text = b->p ? strdup(b->p) : NULL, *save = NULL;

    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        log_write(level, "reload", NULL, "%s", line);
    free(text);
}

/* --- wishes and answers --------------------------------------------------------------------------- */

static void end_op(const char *id, enum wire_error error, const char *message)
{
    struct op *o = id[0] ? (struct op *)op_find(id) : NULL;

    if (o)
        op_end(o, error == WIRE_OK, error, message);
}

static void wish(struct wishes *w, uint64_t call, const char *op)
{
    enum wire_error error = over ? WIRE_E_NOT_READY : WIRE_E_TOO_MANY;

    if ((call || op[0]) && (over || w->n == MAX_CALLS)) {
        end_op(op, error, wire_error_text(error));
        link_reply(&(struct wire_reply){.call = call, .error = (uint8_t)error});
        return;
    }
    if (call || op[0]) {
        w->calls[w->n] = call;
        str_copy(w->ops[w->n++], sizeof(w->ops[0]), op);
    }
    w->any = true;
}

static bool take(struct wishes *from, struct wishes *ret)
{
    *ret = *from;
    *from = (struct wishes){0};
    return ret->any;
}

static void answer(uint64_t call, const char *op, enum wire_error error, const char *message,
                   const char *rows)
{
    link_reply_long(&(struct wire_reply){
        .call = call, .error = (uint8_t)error, .message = message, .items = rows, .operation = op});
}

static void answer_all(struct wishes *w, enum wire_error error, const char *message, const char *rows)
{
    for (unsigned i = 0; i < w->n; i++) {
        end_op(w->ops[i], error, message);
        answer(w->calls[i], w->ops[i], error, message, rows);
    }
    *w = (struct wishes){0};
}

/* --- rows of agentd.conf -------------------------------------------------------------------------- */

static void put_agent(const struct cfg *cfg, struct buf *rows, bool log)
{
    struct buf keys = BUF_INIT(SUP_KEYS_MAX);
    enum cfg_cost most = cfg_diff_agent(current, started, cfg, &keys);
    bool restart = most == CFG_COST_AGENTD;

    if (most != CFG_COST_NONE)
        sup_plan_line(rows, "", "update", restart ? "in force whole when agentd is restarted" : "in force",
                      keys.p);
    if (log && restart)
        log_warn("reload", "agentd.conf changed: %s", keys.p);
    buf_free(&keys);
}

static void put_broken_agent(const struct cfg_report *r, struct buf *rows)
{
    char *why = cfg_report_why(r, 0, r->n_agent_errors); /* agentd.conf is read first */

    sup_plan_line(rows, "", "refuse", why ? why : "agentd.conf is wrong", "");
    free(why);
}

/* --- apply ---------------------------------------------------------------------------------------- */

static void finish(const struct buf *rows)
{
    bool wrong = report.n_errors > 0;

    log_lines(LOG_ERR, &report.errors);
    log_lines(LOG_WARNING, &report.warnings);
    answer_all(&applying, wrong ? WIRE_E_RELOAD_FAILED : WIRE_OK, wrong ? report.errors.p : report.warnings.p,
               rows->p ? rows->p : "");
    cfg_report_free(&report);
    manager_ready(wrong ? "the last reload found errors" : "");
    next_round();
}

static void apply(void)
{
    struct buf rows = BUF_INIT(ROWS_MAX);

    put_agent(next, &rows, true);
    sup_apply(next, &rows);
    op_set_limit(next->rpc.max_operations);
    link_reconfigure(next);
    if (current != started)
        cfg_free(current);
    current = TAKE_PTR(next);
    event_agentd("reloaded", "");
    log_info("reload", "configuration read: %u workers, %u files with errors", sup_count(),
             current->n_broken);
    finish(&rows);
    buf_free(&rows);
}

static void refuse(const char *why)
{
    struct buf rows = BUF_INIT(ROWS_MAX);

    if (why) {
        buf_printf(&report.errors, "%s\n", why);
        report.n_errors++;
    } else {
        put_broken_agent(&report, &rows);
    }
    cfg_free(TAKE_PTR(next));
    log_write(LOG_ERR, "reload", &(struct log_about){.event = "reload-failed"},
              "the configuration in force stays");
    finish(&rows);
    buf_free(&rows);
}

static int run_resolve(int out, void *arg)
{
    struct buf b = BUF_INIT(16 << 20);
    int r;

    cfg_resolve(next, &report);
    tls_check(next, listener, &report);
    cfg_resolved_put(next, &report, &b);
    r = b.error ? 1 : fd_write_all(out, b.p ? b.p : "", b.len) < 0;
    buf_free(&b);
    return r;
}

static void on_resolved(int status, const char *p, size_t n, void *arg)
{
    resolver = NULL;
    if (status != 0 || cfg_resolved_get(next, &report, p, n) < 0)
        refuse("user and group names could not be resolved");
    else if (report.n_agent_errors)
        refuse(NULL);
    else
        apply();
}

static void begin_apply(void)
{
    sdn_reloading();
    cfg_report_init(&report);
    if (cfg_load(current->file, &report, &next) < 0) {
        refuse(NULL);
        return;
    }
    resolver = helper_start(run_resolve, NULL, on_resolved, NULL, RESOLVE_TIMEOUT_US, 16 << 20);
    if (!resolver)
        refuse("no helper can be started");
}

/* --- plan: whole in a helper, which has all of our memory and can change nothing of it ------------- */

static int run_plan(int out, void *arg)
{
    struct buf rows = BUF_INIT(ROWS_MAX);
    struct cfg_report r;
    struct cfg *cfg;
    const char *errors;

    cfg_report_init(&r);
    if (cfg_load(current->file, &r, &cfg) < 0 || tls_check(cfg, listener, &r) < 0) {
        put_broken_agent(&r, &rows);
    } else {
        cfg_resolve(cfg, &r);
        put_agent(cfg, &rows, false);
        sup_plan(cfg, &rows);
    }
    /* The errors, a NUL, the rows. */
    errors = r.errors.p ? r.errors.p : "";
    return fd_write_all(out, errors, strlen(errors) + 1) < 0 ||
           fd_write_all(out, rows.p ? rows.p : "", rows.len) < 0;
}

static void on_planned(int status, const char *p, size_t n, void *arg)
{
    const char *end = memchr(p, 0, n);

    planner = NULL;
    if (status != 0 || !end)
        answer_all(&planning, WIRE_E_INTERNAL, "the files could not be read and compared", "");
    else
        answer_all(&planning, WIRE_OK, p, end + 1 - p < (ptrdiff_t)n ? end + 1 : "");
    next_round();
}

static void begin_plan(void)
{
    planner = helper_start(run_plan, NULL, on_planned, NULL, RESOLVE_TIMEOUT_US, 2 * ROWS_MAX);
    if (!planner)
        answer_all(&planning, WIRE_E_TOO_MANY, "too many helpers are at work", "");
}

/* --- in turn -------------------------------------------------------------------------------------- */

static void next_round(void)
{
    if (resolver || over)
        return;
    if (take(&to_apply, &applying))
        begin_apply();
    else if (!planner && take(&to_plan, &planning))
        begin_plan();
}

void reload_request(uint64_t call, const char *op)
{
    wish(&to_apply, call, op);
    next_round();
}

void reload_plan(uint64_t call)
{
    wish(&to_plan, call, "");
    next_round();
}

bool reload_is_busy(void)
{
    return resolver || planner;
}

void reload_cancel(void)
{
    over = true;
    if (resolver)
        cfg_report_free(&report);
    helper_cancel(&resolver);
    helper_cancel(&planner);
    cfg_free(TAKE_PTR(next));
}

void reload_done(void)
{
    reload_cancel();
    if (current != started)
        cfg_free(TAKE_PTR(started));
    cfg_free(TAKE_PTR(current));
}
