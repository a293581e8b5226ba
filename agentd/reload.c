/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/reload.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/sup.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"

#define RESOLVE_TIMEOUT_US 60000000
#define MAX_CALLS 64

static struct cfg *current, *next;
static struct cfg_report report;
static struct helper *resolver;
static uint64_t calls[MAX_CALLS];
static unsigned n_calls;
static bool again;

void reload_init(struct cfg *c)
{
    current = c;
}

const struct cfg *reload_current(void)
{
    return current;
}

static void log_lines(int level, const struct buf *b)
{
    char *text = b->p ? strdup(b->p) : NULL, *save = NULL;

    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        log_write(level, "reload", NULL, "%s", line);
    free(text);
}

static void answer_all(const struct buf *plan)
{
    bool wrong = report.n_errors > 0;

    for (unsigned i = 0; i < n_calls; i++)
        link_reply(&(struct wire_reply){.call = calls[i],
                                        .error = wrong ? WIRE_E_RELOAD_FAILED : WIRE_OK,
                                        .message = wrong ? report.errors.p : report.warnings.p,
                                        .items = plan->p});
    n_calls = 0;
}

static void finish(const struct buf *plan)
{
    log_lines(LOG_ERR, &report.errors);
    log_lines(LOG_WARNING, &report.warnings);
    answer_all(plan);
    cfg_report_free(&report);
    sdn_ready(report.n_errors ? "Running; the last reload found errors" : "Running");
    if (again) {
        again = false;
        reload_request(0);
    }
}

static void warn_if(bool differs, const char *key)
{
    if (differs)
        log_warn("reload", "%s changed: it takes effect when agentd is restarted", key);
}

static bool same_listeners(const struct cfg_rpc *a, const struct cfg_rpc *b)
{
    bool same = a->n_listeners == b->n_listeners;

    for (unsigned i = 0; same && i < a->n_listeners; i++)
        same = str_eq(a->listeners[i].text, b->listeners[i].text);
    return same;
}

static void apply(void)
{
    struct buf plan = BUF_INIT(LIMIT_WIRE_STRING);

    warn_if(!str_eq(current->agent.runtime_dir, next->agent.runtime_dir), "RuntimeDirectory=");
    warn_if(!str_eq(current->agent.state_dir, next->agent.state_dir), "StateDirectory=");
    warn_if(!str_eq(current->rpc.user, next->rpc.user), "User= of [Rpc]");
    warn_if(!same_listeners(&current->rpc, &next->rpc), "ListenStream=");
    sup_apply(next, &plan);
    link_reconfigure(next);
    cfg_free(current);
    current = TAKE_PTR(next);
    log_info("reload", "configuration read: %u workers, %u files with errors", sup_count(),
             current->n_broken);
    finish(&plan);
    buf_free(&plan);
}

static void refuse(const char *why)
{
    struct buf none = BUF_INIT(16);

    if (why) {
        buf_printf(&report.errors, "%s\n", why);
        report.n_errors++;
    }
    cfg_free(TAKE_PTR(next));
    log_error("reload", "the configuration in force stays");
    finish(&none);
}

static int run_resolve(int out, void *arg)
{
    struct buf b = BUF_INIT(16 << 20);
    int r;

    cfg_resolve(next, &report);
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
    else
        apply();
}

void reload_request(uint64_t call)
{
    if (call && n_calls < MAX_CALLS)
        calls[n_calls++] = call;
    if (resolver) { /* what is being read may be older than this wish */
        again = true;
        return;
    }
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

bool reload_is_busy(void)
{
    return resolver != NULL;
}

void reload_cancel(void)
{
    if (resolver)
        cfg_report_free(&report);
    helper_cancel(&resolver);
    cfg_free(TAKE_PTR(next));
    again = false;
}

void reload_done(void)
{
    reload_cancel();
    cfg_free(TAKE_PTR(current));
}
