/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_command.h"

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
#include "proc/caps.h"
#include "proc/snap.h"

/* Freed only once nothing of it is left that reads our memory. */
struct wk_command {
    struct wk_def *def; /* held: the child reads it until its exec */
    struct spawn_job job;
    struct spawn_spec spec;
    struct wk_env env;
    char *path, **argv; /* its own: a check is freed before its child has come to read it */
    struct pidref ref;
    struct loop_watch *status, *watch;
    bool spawning, failed;
    struct spawn_failure failure;
    int fds[WK_COMMAND_FDS]; /* that it is passed; ours until its exec */
    unsigned n_fds;
    wk_command_fn done; /* NULL: nobody waits any more */
    void *arg;
};

static void close_fds(struct wk_command *c)
{
    while (c->n_fds)
        fd_close(c->fds[--c->n_fds]);
}

static void free_command(struct wk_command *c)
{
    close_fds(c);
    loop_free(&c->status);
    loop_free(&c->watch);
    spawn_done(&c->job);
    wk_env_done(&c->env);
    free(c->path);
    free(c->argv);
    pidref_done(&c->ref);
    cfg_def_free(c->def);
    free(c);
}

pid_t wk_command_pid(const struct wk_command *c)
{
    return c ? c->ref.pid : 0;
}

static void signal_session(const struct wk_command *c, int sig)
{
    struct snap_tree tree;

    snap_tree_of_session(c->ref.pid, &tree); /* those that it met, if not all */
    for (size_t i = 0; i < tree.n; i++) {
        struct pidref ref = PIDREF_NULL;
        if (tree.pids[i] != c->ref.pid && pidref_open(&ref, tree.pids[i]) == 0)
            pidref_signal(&ref, sig);
        pidref_done(&ref);
    }
    snap_tree_done(&tree);
}

void wk_command_kill_session(const struct wk_command *c)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    signal_session(c, SIGKILL);
    caps_enter(scope);
}

void wk_command_signal(struct wk_command *c, int sig)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    sig = c->spawning ? SIGKILL : sig;
    signal_session(c, sig);
    pidref_signal(&c->ref, sig);
    caps_enter(scope);
}

void wk_command_abandon(struct wk_command **c)
{
    struct wk_command *x = TAKE_PTR(*c);

    if (!x)
        return;
    x->done = NULL;
    wk_command_signal(x, SIGKILL);
}

/* NULL, or how it failed. */
static const char *judge(const struct wk_command *c, int code, int status, char why[WK_COMMAND_WHY])
{
    if (c->failed)
        snprintf(why, WK_COMMAND_WHY, "%s failed: %s", spawn_stage_name(c->failure.stage),
                 strerror(c->failure.error));
    else if (code == CLD_EXITED && status != 0)
        snprintf(why, WK_COMMAND_WHY, "exited with status %d", status);
    else if (code != CLD_EXITED)
        snprintf(why, WK_COMMAND_WHY, "was killed by signal %d (SIG%s)", status,
                 sigabbrev_np(status) ? sigabbrev_np(status) : "?");
    else
        return NULL;
    return why;
}

static void on_exit_of(pid_t pid, int code, int status, void *arg)
{
    struct wk_command *c = arg;
    char text[WK_COMMAND_WHY];
    struct wk_exit end = {code == CLD_EXITED ? WK_END_EXITED : WK_END_SIGNALLED, status, pid, 0};

    if (c->spawning && spawn_poll(&c->job, &c->failure) < 0)
        c->failed = true;
    c->spawning = false;
    if (c->failed) /* whatever its child's status is: it is not the command's */
        end = (struct wk_exit){WK_END_SPAWN_FAILED, c->failure.error, pid, 0};
    if (c->done)
        c->done(&end, judge(c, code, status, text), c->arg);
    free_command(c);
}

static void on_readable(int fd, short what, void *arg)
{
    struct wk_command *c = arg;

    loop_free(&c->watch);
    reap_sweep();
}

static void on_status(int fd, short what, void *arg)
{
    struct wk_command *c = arg;
    int r = spawn_poll(&c->job, &c->failure);

    if (r == 0)
        return;
    c->failed = r < 0;
    c->spawning = false;
    loop_free(&c->status);
    spawn_done(&c->job);
    close_fds(c);
}

static int prepare(struct wk_command *x, const struct wk *w, const struct cfg_command *c, char *const *told)
{
    struct cfg_command copy = *c;
    int r;

    if (!(x->path = strdup(c->path)) || !(x->argv = cfg_expand_hook(w->def, c, w->id, told)))
        return -ENOMEM;
    copy.path = x->path;
    copy.argv = x->argv;
    r = wk_env_make(w, w->generation, told, &x->env);
    wk_env_spec(w, &copy, x->env.v, &x->spec);
    x->spec.pass_fds = x->fds;
    x->spec.n_pass_fds = x->n_fds;
    return r;
}

static void watch(struct wk_command *c)
{
    c->ref = c->job.ref;
    c->job.ref = (struct pidref)PIDREF_NULL;
    c->spawning = true;
    if (reap_add(c->ref.pid, on_exit_of, c) < 0)
        log_error("wk", "%s: no memory to wait for a command's end", c->def->alias);
    if (c->ref.fd >= 0)
        c->watch = loop_io(c->ref.fd, LOOP_READ, on_readable, c);
    spawn_release(&c->job);
    c->status = loop_io(c->job.status_fd, LOOP_READ, on_status, c);
}

static struct wk_command *new_command(struct wk *w, const int *fds, unsigned n_fds, wk_command_fn done,
                                      void *arg)
{
    struct wk_command *x = calloc(1, sizeof(*x));

    for (unsigned i = 0; !x && i < n_fds; i++)
        fd_close(fds[i]);
    if (!x)
        return NULL;
    *x = (struct wk_command){
        .def = w->def, .job = SPAWN_JOB_NULL, .ref = PIDREF_NULL, .done = done, .arg = arg};
    w->def->more_refs++;
    while (x->n_fds < n_fds) {
        x->fds[x->n_fds] = fds[x->n_fds];
        x->n_fds++;
    }
    return x;
}

/* x may be NULL. */
static struct wk_command *start(struct wk *w, struct wk_command *x, const struct cfg_command *c,
                                char *const *told, int *error)
{
    *error = -ENOMEM;
    if (!x)
        return NULL;
    if ((*error = prepare(x, w, c, told)) == 0 &&
        (*error = spawn_start(&x->spec, &x->job, &x->failure)) == 0) {
        w->leaf_empty = false;
        watch(x);
        return x;
    }
    free_command(x);
    return NULL;
}

static char *nothing[] = {NULL};

struct wk_command *wk_command_start(struct wk *w, const struct cfg_command *c, char *const *told,
                                    wk_command_fn done, void *arg, int *error)
{
    return start(w, new_command(w, NULL, 0, done, arg), c, told ? told : nothing, error);
}

struct wk_command *wk_command_start_with(struct wk *w, const struct cfg_command *c, const int *fds,
                                         unsigned n_fds, wk_command_fn done, void *arg, int *error)
{
    return start(w, new_command(w, fds, n_fds, done, arg), c, nothing, error);
}
