/* SPDX-License-Identifier: Apache-2.0 */
/* Making a process, and finding out when it is ready. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "agentd/check.h"
#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/loop.h"
#include "agentd/notify.h"
#include "agentd/reap.h"
#include "agentd/rotate.h"
#include "agentd/view.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_command.h"
#include "agentd/wk_fds.h"
#include "agentd/wk_hook.h"
#include "agentd/wk_prepare.h"
#include "agentd/wk_secret.h"
#include "agentd/wk_sock.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

#define PROBE_FIRST_MS 2
#define PROBE_MAX_MS 100

void wk_start_done(struct wk *w)
{
    struct wk_start *s = w->start;

    if (!s || s->spawning) /* a half-made child reads our memory: only its end frees it */
        return;
    loop_free(&s->status);
    loop_free(&s->probe_timer);
    helper_cancel(&s->probe);
    helper_cancel(&s->preparing);
    wk_command_abandon(&s->asking);
    spawn_done(&s->job);
    cfg_check_free(s->ready);
    wk_env_done(&s->env);
    free(s);
    w->start = NULL;
}

/* Nobody is in it, and nothing below it that the last incarnation made and the next one would trip over. */
static bool leaf_is_clean(const struct wk *w)
{
    struct stat st;

    return w->leaf.fd >= 0 && !w->leaf_spoiled && wk_res_fits(w) && fstat(w->leaf.fd, &st) == 0 &&
           st.st_nlink <= 2 && (w->leaf_empty || cgroup_leaf_populated(&w->leaf) == 0);
}

/* Leaves with numbers below n that have become empty are removed; true if all of them are. */
static bool remove_retired(const struct wk *w, unsigned n)
{
    char name[LIMIT_ALIAS + 8];
    bool all = true;

    for (unsigned no = 0; no < n; no++) {
        wk_leaf_name(w, no, name);
        all = wk_leaf_remove_empty(name) && all;
    }
    return all;
}

/* The leaf is kept from the last incarnation, unless it is not known to be clean: after a write to
 * cgroup.kill, kernels from 6.14 on kill every process that is cloned into that cgroup from outside (they
 * compare its kill count with that of the parent's cgroup); so such a leaf, one found at our start, and one
 * with cgroups below it, is made anew. One that still holds leftovers (KillMode=process) is retired, and the
 * next number taken. */
static int make_leaf(struct wk *w)
{
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;
    bool clean;
    int r;

    if (wk_host.cgroups.fd < 0)
        return 0;
    clean = leaf_is_clean(w);
    if (clean && w->leaf_no == 0)
        return 0;
    scope = caps_enter(CAPS_FILES);
    if (clean) {
        remove_retired(w, w->leaf_no);
        caps_enter(scope);
        return 0;
    }
    cgroup_leaf_done(&w->leaf);
    if (remove_retired(w, w->leaf_no + 1u))
        w->leaf_no = 0;
    for (unsigned tries = 0; tries < 255; tries++) {
        wk_leaf_name(w, w->leaf_no, name);
        if (wk_leaf_remove_empty(name))
            break;
        w->leaf_no++;
    }
    r = cgroup_leaf_open(&wk_host.cgroups, name, &w->leaf);
    if (r == -ENOENT && cgroup_root_repair(&wk_host.cgroups) == 0) {
        cgroup_res_enable(&wk_host.cgroups, wk_host.cgroups.controllers);
        r = cgroup_leaf_open(&wk_host.cgroups, name, &w->leaf);
    }
    w->leaf_spoiled = false;
    w->res_hash = 0;
    caps_enter(scope);
    return r;
}

int wk_start_leaf(struct wk *w)
{
    int r = make_leaf(w);

    if (r == 0)
        wk_res_begin(w);
    return r;
}

static void spawn_failed(struct wk *w, const struct spawn_failure *f)
{
    const struct wk_def *d = w->def;
    const char *path = f->stage == SPAWN_EXEC           ? d->exec.path
                       : f->stage == SPAWN_DIRECTORY    ? d->workdir
                       : f->stage == SPAWN_OUTPUT       ? d->out.path
                       : f->stage == SPAWN_ERROR_OUTPUT ? d->err.path
                       : f->stage == SPAWN_CGROUP       ? wk_host.cgroups.path
                       : f->stage == SPAWN_SOCKETS      ? wk_sock_failed(w)
                       : f->stage == SPAWN_USER         ? d->user_name
                       : f->stage == SPAWN_GROUP        ? d->group_name
                                                        : NULL;

    w->never_ran = true;
    w->last_oom = (struct wk_oom){0};
    w->last = (struct wk_exit){WK_END_SPAWN_FAILED, f->error, w->main.pid, clock_wall_us()};
    if (d->fault)
        wk_set_message(w, "%s failed: %s", spawn_stage_name(f->stage), d->fault);
    else
        wk_set_message(w, "%s%s%s failed: %s (%s)", spawn_stage_name(f->stage), path && path[0] ? " " : "",
                       path && path[0] ? path : "", strerror(f->error),
                       strerrorname_np(f->error) ? strerrorname_np(f->error) : "?");
    log_write(LOG_ERR, "wk", &(struct log_about){.worker = d->alias, .event = "start-failed"}, "%s",
              w->message ? w->message : "no memory");
    wk_event(w, WK_EV_FAILED);
}

/* The child has told all it will: its end of the start is over. */
static void end_spawning(struct wk *w)
{
    struct wk_start *s = w->start;

    w->error_size = s->job.error_size;
    w->error_at_us = s->job.error_at_us;
    w->error_moved = false;
    rotate_note(w);
    w->clamped = s->job.clamped != 0;
    if (w->clamped)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "a limit or score was refused by the kernel and is clamped");
    loop_free(&s->status);
    spawn_done(&s->job);
    s->spawning = false;
}

static void on_main_exit(pid_t pid, int code, int status, void *arg)
{
    struct wk *w = arg;
    enum wk_end end = code == CLD_EXITED   ? WK_END_EXITED
                      : code == CLD_DUMPED ? WK_END_DUMPED
                                           : WK_END_SIGNALLED;
    struct spawn_failure f;

    if (w->start && w->start->spawning && spawn_poll(&w->start->job, &f) < 0) {
        end_spawning(w);
        spawn_failed(w, &f);
    }
    if (w->never_ran) {
        loop_free(
            &w->main_watch); /* the child that told its failure: its status is ours, not the program's */
        pidref_done(&w->main);
        wk_stop_check(w);
        return;
    }
    wk_main_exited(w, end, status);
}

static void on_main_readable(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->main_watch); /* a pidfd stays readable: it leaves the loop at its first event */
    reap_sweep();
}

/* The end of the status pipe: the program runs, or why not. */
static void on_status(int fd, short what, void *arg)
{
    struct wk *w = arg;
    struct wk_start *s = w->start;
    struct spawn_failure f;
    int r = spawn_poll(&s->job, &f);

    if (r == 0)
        return;
    end_spawning(w);
    wk_take_next_def(w);
    if (r > 0) {
        w->exec_mono_us = clock_mono_us();
        w->uid = w->def->ids.set ? w->def->ids.uid : geteuid();
        rotate_watch(w, true);
    }
    if (w->state !=
        WK_STARTING) { /* it is being stopped already, or said READY=1 faster than its exec was seen */
        wk_start_done(w);
        wk_changed(w); /* until now its record had no pid */
        wk_stop_check(w);
        return;
    }
    if (r < 0) {
        spawn_failed(w, &f);
        return;
    }
    reap_sweep(); /* killed on the way to exec, its pipe ends in the same way */
    if (w->main.pid == 0)
        return;
    wk_event(w, WK_EV_EXEC);
}

static int take_ready(const struct wk_def *d, struct wk_start *s)
{
    s->ready = d->ready ? cfg_check_dup(d->ready) : NULL;
    return d->ready && !s->ready ? -ENOMEM : 0;
}

void wk_start_look(struct wk *w)
{
    if (w->start && w->start->spawning)
        on_status(-1, 0, w);
}

/* The held sockets first, then what it has stored. */
static void pass_fds(struct wk *w, struct wk_start *s)
{
    const int *sockets;
    unsigned n = wk_sock_fds(w, &sockets);

    if (n)
        memcpy(s->fds, sockets, n * sizeof(int));
    s->spec.pass_fds = s->fds;
    s->spec.n_pass_fds = n + wk_fds_get(w, s->fds + n);
}

static int begin(struct wk *w, struct wk_start *s, struct spawn_failure *f)
{
    int r;

    if (w->def->fault) {
        *f = (struct spawn_failure){SPAWN_USER, ENOENT};
        return -ENOENT;
    }
    *f = (struct spawn_failure){SPAWN_CGROUP, 0};
    /* Once an incarnation: what its commands have left is in there, too. */
    if (!s->has_leaf && (r = wk_start_leaf(w)) < 0) {
        f->error = -r;
        return r;
    }
    f->stage = SPAWN_CLONE;
    if (!notify_is_wanted(w->def))
        notify_close(w);
    if ((!s->env.v && (r = wk_env_make(w, w->generation, NULL, &s->env)) < 0) ||
        (notify_is_wanted(w->def) && (r = notify_open(w)) < 0)) {
        f->error = -r;
        return r;
    }
    if ((r = wk_sock_open(w)) < 0) {
        *f = (struct spawn_failure){SPAWN_SOCKETS, -r};
        return r;
    }
    if ((r = take_ready(w->def, s)) < 0) {
        f->error = -r;
        return r;
    }
    wk_env_spec(w, &w->def->exec, s->env.v, &s->spec);
    s->spec.pid_text = s->env.pid_text;
    pass_fds(w, s);
    w->leaf_empty = false;
    wk_put_facts(w, FACTS_INTENT);
    return spawn_start(&s->spec, &s->job, f);
}

void wk_start_hear(struct wk *w)
{
    if (reap_add(w->main.pid, on_main_exit, w) < 0)
        log_error("wk", "%s: no memory to wait for its end", w->def->alias);
}

void wk_start_watch(struct wk *w)
{
    wk_start_hear(w);
    if (w->main.fd >= 0)
        w->main_watch = loop_io(w->main.fd, LOOP_READ, on_main_readable, w);
}

/* On record before it may run anything: pid and start ticks. */
static void record(struct wk *w, struct wk_start *s)
{
    w->main = s->job.ref;
    w->session = w->main.pid;
    s->job.ref = (struct pidref)PIDREF_NULL;
    s->spawning = true;
    w->started_us = clock_wall_us();
    wk_put_facts(w, FACTS_SPAWNED);
    wk_start_watch(w);
    spawn_release(&s->job);
    on_status(-1, 0, w); /* often it runs already: the child had the processor first */
    if (w->start && w->start->spawning)
        s->status = loop_io(s->job.status_fd, LOOP_READ, on_status, w);
}

static struct wk_start *new_start(void)
{
    struct wk_start *s = calloc(1, sizeof(*s));

    if (s)
        s->job = (struct spawn_job)SPAWN_JOB_NULL;
    return s;
}

void wk_start_forget(struct wk *w)
{
    struct wk_start *s = TAKE_PTR(w->ahead);

    if (!s)
        return;
    wk_env_done(&s->env);
    free(s);
}

void wk_start_prepare(struct wk *w)
{
    wk_start_forget(w);
    if ((w->ahead = new_start()) && wk_env_make(w, wk_overlap_generation(w), NULL, &w->ahead->env) < 0)
        wk_start_forget(w);
}

static void spawn_main(struct wk *w)
{
    struct wk_start *s = w->start;
    struct spawn_failure f;

    if (!s || begin(w, s, &f) < 0) {
        if (!s)
            f = (struct spawn_failure){SPAWN_CLONE, ENOMEM};
        spawn_failed(w, &f);
        return;
    }
    record(w, s);
}

static void hook_failed(struct wk *w, const char *why)
{
    wk_set_message(w, "%s", why);
    wk_event(w, WK_EV_HOOK);
}

/* The first of several ExecStart= are through. */
static void on_started(struct wk *w, const char *why)
{
    if (w->state != WK_STARTING)
        return;
    if (why) {
        hook_failed(w, why);
        return;
    }
    wk_arm(w, w->def->start_timeout_us);
    spawn_main(w);
}

static void on_before(struct wk *w, const char *why)
{
    if (w->state == WK_STARTING && why)
        hook_failed(w, why);
    else if (w->state == WK_STARTING)
        wk_hook_run(w, CFG_HOOK_START, on_started);
}

/* ExecStartPre=: in the leaf of the new incarnation, which is on record. */
static void begin_before(struct wk *w)
{
    struct spawn_failure f;
    int r = w->def->fault ? -ENOENT : wk_start_leaf(w);

    if (r < 0) {
        f = (struct spawn_failure){w->def->fault ? SPAWN_USER : SPAWN_CGROUP, -r};
        spawn_failed(w, &f);
        return;
    }
    if (w->start)
        w->start->has_leaf = true;
    wk_put_facts(w, FACTS_INTENT);
    if (w->def->notify_access >= CFG_NOTIFY_EXEC && (r = notify_open(w)) < 0)
        log_error("wk", "%s: NOTIFY_SOCKET can't be made: %s", w->def->alias, strerror(-r));
    wk_arm(w, STR_USEC_INFINITY); /* each command has its own deadline */
    wk_hook_run(w, CFG_HOOK_START_PRE, on_before);
}

static void begin_commands(struct wk *w)
{
    if (wk_hook_has(w, CFG_HOOK_START_PRE) || wk_hook_has(w, CFG_HOOK_START))
        begin_before(w);
    else
        spawn_main(w);
}

static void on_secrets(struct wk *w, const char *why)
{
    if (w->state != WK_STARTING)
        return;
    if (!why) {
        begin_commands(w);
        return;
    }
    w->never_ran = true;
    w->last_oom = (struct wk_oom){0};
    w->last = (struct wk_exit){WK_END_SPAWN_FAILED, EIO, 0, clock_wall_us()};
    wk_set_message(w, "%s", why);
    log_write(LOG_ERR, "wk", &(struct log_about){.worker = w->def->alias, .event = "start-failed"}, "%s",
              why);
    wk_event(w, WK_EV_FAILED);
}

static void begin_incarnation(struct wk *w)
{
    w->begun = true;
    w->restarts += w->generation > 0;
    w->generation = wk_overlap_generation(w);
    w->ran_hash = w->def->hash;
    w->exec_mono_us = 0;
    w->never_ran = w->barked = w->was_ready = w->ended = false;
    w->error_size = -1;
    w->sampled_us = 0;
    history_begin(w);
    if (w->def->n_secrets) /* it takes a while, and the last incarnation is over */
        wk_put_facts(w, FACTS_INTENT);
    if (!wk_secret_make(w, on_secrets))
        begin_commands(w);
}

static void on_prepared(struct wk *w, bool met, const char *why)
{
    if (w->state != WK_STARTING)
        return;
    if (met && !*why) {
        begin_incarnation(w);
        return;
    }
    w->last_oom = (struct wk_oom){0};
    w->last = (struct wk_exit){WK_END_SPAWN_FAILED, met ? EIO : ENOENT, 0, clock_wall_us()};
    wk_set_message(w, "%s%s", met ? "its folders can't be made: " : "", why);
    log_write(met ? LOG_ERR : LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias}, "not started: %s",
              w->message ? w->message : "no memory");
    w->never_ran = true;
    wk_event(w, met ? WK_EV_FAILED : WK_EV_UNMET);
}

void wk_start_spawn(struct wk *w)
{
    w->start = w->ahead ? TAKE_PTR(w->ahead) : new_start();
    wk_prepare_note(w);
    if (w->start && wk_prepare_is_needed(w))
        wk_prepare(w, on_prepared);
    else
        begin_incarnation(w);
}

void wk_start_resume(struct wk *w, int status_fd)
{
    struct wk_start *s = w->start = new_start();

    if (!s || take_ready(w->def, s) < 0)
        return;
    if (status_fd >= 0) {
        s->job.status_fd = status_fd;
        s->spawning = true;
        s->status = loop_io(status_fd, LOOP_READ, on_status, w);
    } else if (w->state == WK_STARTING) {
        wk_start_probe(w);
    }
}

/* --- readiness ------------------------------------------------------------------------------ */

static void on_probe_timer(int fd, short what, void *arg)
{
    struct wk *w = arg;
    const struct cfg_check *c = w->start->ready;

    if (c->kind == CFG_CHECK_UNIX || c->kind == CFG_CHECK_HTTP || c->kind == CFG_CHECK_EXEC) {
        loop_free(&w->start->probe_timer);
        wk_start_ask(w);
        return;
    }
    if (c->kind == CFG_CHECK_STABLE || view_listens(w, c->port) > 0) {
        wk_start_ready(w);
        return;
    }
    if (w->start->probe_ms < PROBE_MAX_MS)
        w->start->probe_ms *= 2;
    loop_rearm(w->start->probe_timer, w->start->probe_ms * 1000u);
}

static void on_probe_answer(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;

    if (!w->start)
        return;
    w->start->probe = NULL;
    if (status == 0)
        wk_start_ready(w);
    else if (w->state == WK_STARTING) /* not yet; others want to ask, too */
        w->start->probe_timer = loop_timer(PROBE_MAX_MS * 1000, on_probe_timer, w);
}

static void ask_again(struct wk *w)
{
    if (w->state == WK_STARTING && w->start)
        w->start->probe_timer = loop_timer(PROBE_MAX_MS * 1000, on_probe_timer, w);
}

static void on_command_end(const struct wk_exit *end, const char *why, void *arg)
{
    struct wk *w = arg;

    w->start->asking = NULL;
    if (!why) {
        wk_start_ready(w);
        return;
    }
    wk_set_message(w, "ReadyCheck=exec: %s", why);
    wk_changed(w);
    ask_again(w);
}

/* As often as it takes: one that hangs is ended with the start. */
static void ask_by_command(struct wk *w)
{
    int r;

    w->start->asking = wk_check_command(w, &w->start->ready->command, on_command_end, w, &r);
    if (!w->start->asking)
        ask_again(w);
}

/* Type=oneshot without RemainAfterExit= has been up, and is over. */
static void say_ready(struct wk *w)
{
    bool over = w->def->type == CFG_ONESHOT && !w->def->remain_after_exit;

    wk_event(w, WK_EV_READY);
    if (over)
        wk_event(w, WK_EV_EXIT);
}

static void on_after(struct wk *w, const char *why)
{
    if (w->state == WK_STARTING && why)
        hook_failed(w, why);
    else if (w->state == WK_STARTING)
        say_ready(w);
}

void wk_start_ready(struct wk *w)
{
    if (w->state != WK_STARTING || !wk_hook_has(w, CFG_HOOK_START_POST)) {
        say_ready(w);
        return;
    }
    if (w->hook)
        return;
    if (w->start) {
        loop_free(&w->start->probe_timer);
        helper_cancel(&w->start->probe);
        wk_command_abandon(&w->start->asking);
    }
    wk_arm(w, STR_USEC_INFINITY);
    wk_hook_run(w, CFG_HOOK_START_POST, on_after);
}

bool wk_start_goes_on(struct wk *w, enum wk_end end, int status)
{
    const struct wk_def *d = w->def;

    if (end != WK_END_EXITED || !wk_fsm_is_clean(d, end, status))
        return false;
    if (w->state == WK_UP && d->remain_after_exit) {
        wk_put_facts(w, FACTS_READY);
        wk_changed(w);
        return true;
    }
    if (w->state != WK_STARTING || (d->type != CFG_ONESHOT && d->type != CFG_FORKING))
        return false;
    wk_set_message(w, "%s", "");
    if (d->type == CFG_ONESHOT)
        wk_start_ready(w);
    else
        wk_main_find(w);
    return true;
}

/* For those who look meanwhile. */
static void say_awaits(struct wk *w)
{
    const struct cfg_check *c = w->start ? w->start->ready : NULL;

    if (w->state != WK_STARTING || (!c && w->def->type != CFG_NOTIFY))
        return;
    if (w->def->type == CFG_NOTIFY)
        wk_set_message(w, "waits for its READY=1");
    else if (c && c->kind == CFG_CHECK_TCP)
        wk_set_message(w, "waits for it to listen on port %u", c->port);
    else if (c && c->kind == CFG_CHECK_UNIX)
        wk_set_message(w, "waits for %s to take connections", c->path);
    else if (c && c->kind == CFG_CHECK_HTTP)
        wk_set_message(w, "waits for an answer of http://%s:%u%s", c->host, c->port, c->path);
    else if (c && c->kind == CFG_CHECK_STABLE)
        wk_set_message(w, "waits until it has lived long enough");
    wk_changed(w);
}

void wk_start_probe(struct wk *w)
{
    if (w->def->type == CFG_NOTIFY || w->def->type == CFG_ONESHOT || w->def->type == CFG_FORKING) {
        say_awaits(w); /* its own READY=1, or its end, says it */
        return;
    }
    wk_start_ask(w);
}

void wk_start_ask(struct wk *w)
{
    struct wk_start *s = w->start;

    say_awaits(w);
    if (!s || !s->ready) {
        wk_start_ready(w);
    } else if (s->ready->kind == CFG_CHECK_TCP) {
        s->probe_ms = PROBE_FIRST_MS;
        s->probe_timer = loop_timer(PROBE_FIRST_MS * 1000, on_probe_timer, w);
    } else if (s->ready->kind == CFG_CHECK_STABLE) {
        s->probe_timer = loop_timer(s->ready->stable_us, on_probe_timer, w);
    } else if (s->ready->kind == CFG_CHECK_EXEC) {
        ask_by_command(w);
    } else {
        s->probe = check_for_a_while(s->ready, &w->def->ids, on_probe_answer, w);
        if (!s->probe) /* many start at once: all helpers are at work */
            s->probe_timer = loop_timer(PROBE_MAX_MS * 1000, on_probe_timer, w);
    }
}
