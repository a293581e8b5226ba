/* SPDX-License-Identifier: Apache-2.0 */
/* A signal to the main process on somebody's request: an operation that ends at once. Only signals that ask
 * for something, none that ends or stops a process: what is wanted of a worker says start and stop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/wk_hook.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/str.h"
#include "proc/caps.h"

static const int allowed[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

static void refuse(const struct wire_call *c, enum wire_error e, const char *message)
{
    link_reply(&(struct wire_reply){.call = c->call, .error = (uint8_t)e, .message = message});
}

static bool is_allowed(int sig)
{
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        if (allowed[i] == sig)
            return true;
    return false;
}

/* Why none can be sent now, or NULL. */
static const char *unfit(const struct wk *w)
{
    if (!wk_is_alive(w) || w->state == WK_STOPPING || w->state == WK_KILLING)
        return "the worker does not run";
    if (w->state == WK_STARTING)
        return "the worker is not ready yet: it may not handle the signal, and end by it";
    return NULL;
}

static void send(struct wk *w, struct op *o, int sig)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);
    int r = pidref_signal(&w->main, sig);
    char text[96];

    caps_enter(scope);
    if (r < 0)
        snprintf(text, sizeof(text), "it could not be sent: %s", strerror(-r));
    else
        snprintf(text, sizeof(text), "SIG%s was sent to process %d", sigabbrev_np(sig), (int)w->main.pid);
    op_end(o, r == 0, r == 0 ? WIRE_OK : WIRE_E_CONFLICT, text);
}

void wk_signal_forget(struct wk *w, const char *why)
{
    op_end(TAKE_PTR(w->reloading), false, WIRE_E_CONFLICT, why);
}

static void on_reloaded(struct wk *w, const char *why)
{
    if (w->reloading)
        op_end(TAKE_PTR(w->reloading), !why, why ? WIRE_E_CONFLICT : WIRE_OK,
               why ? why : "ExecReload= is done");
}

/* ExecReload=: done when its commands are. */
static void reload(struct wk *w, const struct wire_call *c)
{
    struct op *o;

    if (w->hook || w->reloading) {
        refuse(c, WIRE_E_CONFLICT, "another command of the worker runs");
    } else if (!(o = op_begin_beside(w, c))) {
        refuse(c, WIRE_E_TOO_MANY, "too many operations are under way");
    } else {
        w->reloading = o;
        wk_hook_run(w, CFG_HOOK_RELOAD, on_reloaded);
        op_goes_on(o, c);
    }
}

void wk_signal(struct wk *w, const struct wire_call *c)
{
    int sig = c->verb == WIRE_VERB_RELOAD_WORKER ? SIGHUP : signals_from_name(c->name ? c->name : "");
    const char *why;
    struct op *o;

    if (op_repeats(c))
        return;
    if (!is_allowed(sig))
        refuse(c, WIRE_E_BAD_REQUEST, "signal is one of HUP, USR1, USR2, WINCH and CONT");
    else if (!w->def->operable)
        refuse(c, WIRE_E_NOT_OPERABLE, "the worker's file says Operable=no");
    else if (op_has_moved(w, c))
        return;
    else if ((why = unfit(w)))
        refuse(c, WIRE_E_CONFLICT, why);
    else if (c->verb == WIRE_VERB_RELOAD_WORKER && wk_hook_has(w, CFG_HOOK_RELOAD))
        reload(w, c);
    else if (!(o = op_begin_beside(w, c)))
        refuse(c, WIRE_E_TOO_MANY, "too many operations are under way");
    else
        send(w, o, sig);
}
