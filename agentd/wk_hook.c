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
#include "agentd/wk_hook.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define WHY_MAX 600

/* What is told only once nothing of it is left that reads our memory. */
struct wk_hook {
    struct wk *w;
    enum cfg_hook kind;
    unsigned at; /* which of its commands */
    struct spawn_job job;
    struct spawn_spec spec;
    struct wk_env env;
    struct cfg_command command; /* argv is its own, the rest is the definition's */
    struct pidref ref;
    struct loop_watch *status, *watch, *timer;
    bool spawning, failed;
    struct spawn_failure failure;
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

/* --- its end -------------------------------------------------------------------------------------------- */

static void release(struct wk_hook *h)
{
    loop_free(&h->status);
    loop_free(&h->watch);
    loop_free(&h->timer);
    spawn_done(&h->job);
    wk_env_done(&h->env);
    free(TAKE_PTR(h->command.argv));
    pidref_done(&h->ref);
}

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

    release(h);
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

/* Its own session: who has left it is the worker's. */
static void signal_session(const struct wk_hook *h, int sig)
{
    struct snap_tree tree;

    if (snap_tree_of_session(h->ref.pid, &tree) < 0)
        return;
    for (size_t i = 0; i < tree.n; i++) {
        struct pidref ref = PIDREF_NULL;
        if (tree.pids[i] != h->ref.pid && pidref_open(&ref, tree.pids[i]) == 0)
            pidref_signal(&ref, sig);
        pidref_done(&ref);
    }
    snap_tree_done(&tree);
}

void wk_hook_signal(struct wk *w, int sig)
{
    struct wk_hook *h = w->hook;
    enum caps_scope scope;

    if (!h || !h->ref.pid)
        return;
    scope = caps_enter(CAPS_SIGNAL);
    signal_session(h, h->spawning ? SIGKILL : sig); /* on the way to exec it hears nothing else */
    pidref_signal(&h->ref, h->spawning ? SIGKILL : sig);
    caps_enter(scope);
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

/* NULL, or how it failed. */
static const char *judge(const struct wk_hook *h, int code, int status, char why[WHY_MAX])
{
    char name[256];

    name_of(h, name, sizeof(name));
    if (h->failed)
        snprintf(why, WHY_MAX, "%s: %s failed: %s", name, spawn_stage_name(h->failure.stage),
                 strerror(h->failure.error));
    else if (code == CLD_EXITED && status != 0)
        snprintf(why, WHY_MAX, "%s exited with status %d", name, status);
    else if (code != CLD_EXITED)
        snprintf(why, WHY_MAX, "%s was killed by signal %d (SIG%s)", name, status,
                 sigabbrev_np(status) ? sigabbrev_np(status) : "?");
    else
        return NULL;
    return why;
}

static void on_exit_of(pid_t pid, int code, int status, void *arg)
{
    struct wk_hook *h = arg;
    struct wk *w = h->w;
    char text[WHY_MAX];
    const char *why;
    bool tolerated;

    if (h->spawning && spawn_poll(&h->job, &h->failure) < 0)
        h->failed = true;
    h->spawning = false;
    why = judge(h, code, status, text);
    tolerated = why && command_of(h)->ignore_failure;
    if (why)
        log_write(tolerated ? LOG_INFO : LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "%s%s", why, tolerated ? ", which it may" : "");
    if (h->kind == CFG_HOOK_START_PRE || h->kind == CFG_HOOK_START)
        signal_session(h, SIGKILL); /* systemd.service(5): what it left does not live beside the worker */
    w->hook_end = (struct wk_exit){code == CLD_EXITED ? WK_END_EXITED : WK_END_SIGNALLED, status, pid, 0};
    release(h);
    if ((why && !tolerated) || !h->done || h->has_next) {
        finish(h, why);
        return;
    }
    h->at++;
    run_next(h);
}

static void on_readable(int fd, short what, void *arg)
{
    struct wk_hook *h = arg;

    loop_free(&h->watch);
    reap_sweep();
}

static void on_status(int fd, short what, void *arg)
{
    struct wk_hook *h = arg;
    int r = spawn_poll(&h->job, &h->failure);

    if (r == 0)
        return;
    h->failed = r < 0;
    h->spawning = false;
    loop_free(&h->status);
    spawn_done(&h->job);
}

/* --- its start ------------------------------------------------------------------------------------------ */

static uint64_t timeout_of(const struct wk_hook *h)
{
    const struct wk_def *d = h->w->def;

    return h->kind == CFG_HOOK_STOP || h->kind == CFG_HOOK_STOP_POST ? d->stop_timeout_us
                                                                     : d->start_timeout_us;
}

static int prepare(struct wk_hook *h)
{
    const struct wk *w = h->w;
    const struct cfg_command *c = command_of(h);
    struct cfg_list told = {0};
    static char *nothing[] = {NULL};
    int r;

    tell(h, &told);
    h->command = *c;
    h->command.argv = cfg_expand_hook(w->def, c, w->id, told.v ? told.v : nothing);
    r = h->command.argv ? wk_env_make(w, w->generation, told.v ? told.v : nothing, &h->env) : -ENOMEM;
    cfg_list_clear(&told);
    wk_env_spec(w, &h->command, h->env.v, &h->spec);
    return r;
}

static void watch(struct wk_hook *h)
{
    h->ref = h->job.ref;
    h->job.ref = (struct pidref)PIDREF_NULL;
    h->spawning = true;
    h->w->leaf_empty = false;
    if (reap_add(h->ref.pid, on_exit_of, h) < 0)
        log_error("wk", "%s: no memory to wait for a command's end", h->w->def->alias);
    if (h->ref.fd >= 0)
        h->watch = loop_io(h->ref.fd, LOOP_READ, on_readable, h);
    spawn_release(&h->job);
    h->status = loop_io(h->job.status_fd, LOOP_READ, on_status, h);
    if (timeout_of(h) != STR_USEC_INFINITY)
        h->timer = loop_timer(timeout_of(h), on_time, h);
}

static void run_next(struct wk_hook *h)
{
    char name[256], why[WHY_MAX];
    int r;

    if (h->at >= h->w->def->hooks[h->kind].n) {
        finish(h, NULL);
        return;
    }
    h->failed = false;
    h->job = (struct spawn_job)SPAWN_JOB_NULL;
    h->ref = (struct pidref)PIDREF_NULL;
    if ((r = prepare(h)) == 0 && (r = spawn_start(&h->spec, &h->job, &h->failure)) == 0) {
        watch(h);
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
    struct wk_hook *h = w->hook;

    if (!h || h->spawning) /* its child reads our memory */
        return;
    reap_remove(h->ref.pid);
    release(h);
    free(TAKE_PTR(w->hook));
}
