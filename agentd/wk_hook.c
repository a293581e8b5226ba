/* SPDX-License-Identifier: Apache-2.0 */
/* ExecStartPre= and its like: commands of a worker beside its main process, one after the other, in its
 * cgroup, each with a deadline of its own. What their end means is for those who asked. systemd.service(5).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agentd/cfg_parse.h"
#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/wk_command.h"
#include "agentd/wk_hook.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define WHY_MAX 600

/* What runs the commands of one key. */
struct wk_hook {
    struct wk *w;
    enum cfg_hook kind;
    unsigned at; /* which of its commands */
    struct wk_command *command;
    struct loop_watch *timer;
    wk_hook_fn done; /* NULL: nobody waits any more */
    /* Asked for while this one has not ended yet. */
    bool has_next;
    enum cfg_hook next;
    wk_hook_fn next_done;
};

static void run_next(struct wk_hook *h);

bool wk_hook_has(const struct wk *w, enum cfg_hook kind)
{
    return w->def->hooks[kind].n > 0;
}

const char *wk_hook_phase(const struct wk *w)
{
    static const char *const names[CFG_HOOK_MAX] = {"start-pre", "start", "start-post",
                                                    "reload",    "stop",  "stop-post"};

    return w->hook ? names[w->hook->kind] : "";
}

/* --- what it is told ------------------------------------------------------------------------------------ */

/* How the worker fared, in systemd's words. systemd.exec(5), $SERVICE_RESULT. */
static const char *result_of(const struct wk *w)
{
    if (w->oomed)
        return "oom-kill";
    if (w->reason == WK_WHY_START_TIMEOUT || w->reason == WK_WHY_STOP_TIMEOUT)
        return "timeout";
    if (w->barked)
        return "watchdog";
    if (w->reason == WK_WHY_HOOK_FAILED || w->never_ran)
        return "exit-code";
    if (!wk_has_ended(w))
        return "success";
    if (w->last.end == WK_END_DUMPED)
        return "core-dump";
    if (wk_fsm_is_clean(w->def, w->last.end, w->last.status))
        return "success";
    return w->last.end == WK_END_SIGNALLED ? "signal" : "exit-code";
}

static void put(struct cfg_list *out, const char *name, const char *value)
{
    char *s;

    if (asprintf(&s, "%s=%s", name, value) >= 0)
        cfg_list_add(out, s);
}

static void put_exit(struct cfg_list *out, const struct wk *w)
{
    static const char *const codes[] = {
        [WK_END_EXITED] = "exited", [WK_END_SIGNALLED] = "killed", [WK_END_DUMPED] = "dumped"};
    char text[32];
    const char *name = sigabbrev_np(w->last.status);

    if (!wk_has_ended(w) || w->last.end > WK_END_DUMPED)
        return;
    put(out, "EXIT_CODE", codes[w->last.end]);
    snprintf(text, sizeof(text), "%d", w->last.status);
    put(out, "EXIT_STATUS", w->last.end == WK_END_EXITED || !name ? text : name);
}

static void tell(const struct wk_hook *h, struct cfg_list *out)
{
    const struct wk *w = h->w;
    char text[32];

    if (w->main.pid) {
        snprintf(text, sizeof(text), "%d", (int)w->main.pid);
        put(out, "MAINPID", text);
    }
    if (h->kind == CFG_HOOK_STOP || h->kind == CFG_HOOK_STOP_POST) {
        put(out, "SERVICE_RESULT", result_of(w));
        put_exit(out, w);
    }
}

struct wk_command *wk_check_command(struct wk *w, const struct cfg_command *c,
                                    void (*done)(const struct wk_exit *end, const char *why, void *arg),
                                    void *arg, int *error)
{
    struct wk_hook none = {.w = w, .kind = CFG_HOOK_RELOAD};
    struct cfg_list told = {0};
    struct wk_command *x;

    tell(&none, &told);
    x = wk_command_start(w, c, told.v, done, arg, error);
    cfg_list_clear(&told);
    return x;
}

/* --- its end -------------------------------------------------------------------------------------------- */

static const struct cfg_command *command_of(const struct wk_hook *h)
{
    return &h->w->def->hooks[h->kind].v[h->at];
}

/* "ExecStop=/usr/bin/x", for messages. */
static void name_of(const struct wk_hook *h, char *text, size_t size)
{
    snprintf(text, size, "%s=%.200s", cfg_hook_key(h->kind), command_of(h)->path);
}

/* Nothing of it is left. why: NULL, or how it failed. */
static void finish(struct wk_hook *h, const char *why)
{
    struct wk *w = h->w;
    wk_hook_fn done = h->done;
    bool has_next = h->has_next;
    enum cfg_hook next = h->next;
    wk_hook_fn next_done = h->next_done;

    loop_free(&h->timer);
    free(h);
    w->hook = NULL;
    wk_take_next_def(w);
    if (has_next)
        wk_hook_run(w, next, next_done);
    else if (done)
        done(w, why);
    else
        wk_stop_check(w);
    wk_changed(w);
}

void wk_hook_signal(struct wk *w, int sig)
{
    if (w->hook && w->hook->command)
        wk_command_signal(w->hook->command, sig);
}

pid_t wk_hook_pid(const struct wk *w)
{
    return w->hook ? wk_command_pid(w->hook->command) : 0;
}

void wk_hook_forget(struct wk *w)
{
    if (w->hook) {
        w->hook->done = w->hook->next_done = NULL;
        w->hook->has_next = false;
        loop_free(&w->hook->timer);
    }
}

static void on_time(int fd, short what, void *arg)
{
    struct wk_hook *h = arg;
    struct wk *w = h->w;
    wk_hook_fn done = TAKE_PTR(h->done);
    char name[256], why[WHY_MAX];

    loop_free(&h->timer);
    name_of(h, name, sizeof(name));
    snprintf(why, sizeof(why), "%s was not finished in time", name);
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s", why);
    if (h->kind == CFG_HOOK_RELOAD || h->kind == CFG_HOOK_STOP_POST)
        wk_hook_signal(w, SIGKILL);
    if (done)
        done(w, why);
}

/* systemd.service(5): what it has started does not live beside the worker. Who is quicker than this stays in
 * the worker's leaf, and goes with it. */
static void kill_rest(const struct wk_hook *h)
{
    struct snap_tree tree;
    enum caps_scope scope;

    wk_command_kill_session(h->command);
    if (h->w->leaf.fd < 0 || snap_tree_of_leaf(&h->w->leaf, &tree) < 0)
        return;
    scope = caps_enter(CAPS_SIGNAL);
    for (size_t i = 0; i < tree.n; i++) {
        struct pidref ref = PIDREF_NULL;
        if (pidref_open(&ref, tree.pids[i]) == 0)
            pidref_signal(&ref, SIGKILL);
        pidref_done(&ref);
    }
    caps_enter(scope);
    snap_tree_done(&tree);
}

static void on_end(const struct wk_exit *end, const char *how, void *arg)
{
    struct wk_hook *h = arg;
    char name[256], why[WHY_MAX];
    bool tolerated = how && command_of(h)->ignore_failure;

    name_of(h, name, sizeof(name));
    snprintf(why, sizeof(why), "%s %s", name, how ? how : "");
    if (how)
        log_write(tolerated ? LOG_INFO : LOG_WARNING, "wk", &(struct log_about){.worker = h->w->def->alias},
                  "%s%s", why, tolerated ? ", which it may" : "");
    if (h->kind == CFG_HOOK_START_PRE || h->kind == CFG_HOOK_START)
        kill_rest(h);
    h->w->hook_end = *end;
    h->command = NULL;
    loop_free(&h->timer);
    if ((how && !tolerated) || !h->done || h->has_next) {
        finish(h, how ? why : NULL);
        return;
    }
    h->at++;
    run_next(h);
}

/* --- its start ------------------------------------------------------------------------------------------ */

static uint64_t timeout_of(const struct wk_hook *h)
{
    const struct wk_def *d = h->w->def;

    return h->kind == CFG_HOOK_STOP || h->kind == CFG_HOOK_STOP_POST ? d->stop_timeout_us
                                                                     : d->start_timeout_us;
}

static void run_next(struct wk_hook *h)
{
    char name[256], why[WHY_MAX];
    struct cfg_list told = {0};
    int r;

    if (h->at >= h->w->def->hooks[h->kind].n) {
        finish(h, NULL);
        return;
    }
    tell(h, &told);
    h->command = wk_command_start(h->w, command_of(h), told.v, on_end, h, &r);
    cfg_list_clear(&told);
    if (h->command) {
        if (timeout_of(h) != STR_USEC_INFINITY)
            h->timer = loop_timer(timeout_of(h), on_time, h);
        wk_changed(h->w);
        return;
    }
    name_of(h, name, sizeof(name));
    snprintf(why, sizeof(why), "%s can't be started: %s", name, strerror(-r));
    h->w->hook_end = (struct wk_exit){WK_END_SPAWN_FAILED, -r, 0, 0};
    finish(h, why);
}

/* One that still runs has to go first. */
static void wait_for_end(struct wk *w, enum cfg_hook kind, wk_hook_fn done)
{
    wk_hook_forget(w);
    w->hook->has_next = true;
    w->hook->next = kind;
    w->hook->next_done = done;
    wk_hook_signal(w, SIGKILL);
}

void wk_hook_run(struct wk *w, enum cfg_hook kind, wk_hook_fn done)
{
    struct wk_hook *h;

    if (w->hook) {
        wait_for_end(w, kind, done);
    } else if (!wk_hook_has(w, kind)) {
        done(w, NULL);
    } else if (!(h = w->hook = calloc(1, sizeof(*h)))) {
        done(w, "no memory for a command");
    } else {
        *h = (struct wk_hook){.w = w, .kind = kind, .done = done};
        run_next(h);
    }
}

void wk_hook_free(struct wk *w)
{
    struct wk_hook *h = TAKE_PTR(w->hook);

    if (!h)
        return;
    loop_free(&h->timer);
    wk_command_abandon(&h->command);
    free(h);
}
