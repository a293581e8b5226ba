/* SPDX-License-Identifier: Apache-2.0 */
/* Ending a tree, and knowing that nothing of it is left. With a cgroup: the leaf is empty. Without: the
 * processes that were known are gone, and a look at all environments found no cookie of ours. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/tail.h"
#include "agentd/wk_hook.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define SWEEP_TIMEOUT_US 10000000
#define KILLED_TEXT_MAX 1500
#define LOOK_AGAIN_US 20000    /* doubled by each failure */
#define SWEEP_FAILURES 8       /* in a row, 5 s of them: then it is taken for clean */
#define WITHOUT_PIDFD_US 20000 /* kernels before 5.3: looks at members that are not our children */

static void free_member(struct wk_member *m)
{
    LIST_REMOVE(m, link);
    loop_free(&m->watch);
    pidref_done(&m->ref);
    free(m);
}

void wk_stop_done(struct wk *w)
{
    struct wk_stop *s = w->stop;

    if (!s)
        return;
    while (!LIST_EMPTY(&s->members))
        free_member(LIST_FIRST(&s->members));
    loop_free(&s->events);
    fd_close(s->events_fd);
    helper_cancel(&s->sweep);
    helper_cancel(&s->tail);
    loop_free(&s->again);
    free(s);
    w->stop = NULL;
}

static struct wk_stop *get_stop(struct wk *w)
{
    if (!w->stop && (w->stop = calloc(1, sizeof(*w->stop)))) {
        LIST_INIT(&w->stop->members);
        w->stop->events_fd = -1;
    }
    return w->stop;
}

/* For the operation that wants to know; as much of it as an answer holds. */
static void note_killed(struct wk *w, pid_t pid)
{
    char *text;

    if (w->killed && strlen(w->killed) > KILLED_TEXT_MAX)
        return;
    if (asprintf(&text, "%s%s%d", w->killed ? w->killed : "", w->killed ? "," : "", (int)pid) < 0)
        return;
    free(w->killed);
    w->killed = text;
}

static void signal_member(struct wk_member *m, int sig)
{
    if (sig == SIGKILL && !m->killed)
        note_killed(m->w, m->ref.pid);
    m->killed = m->killed || sig == SIGKILL;
    pidref_signal(&m->ref, sig);
}

static void on_member(int fd, short what, void *arg)
{
    struct wk_member *m = arg;
    struct wk *w = m->w;

    if (m->ref.fd < 0 && pidref_check(&m->ref) != PIDREF_GONE) {
        loop_rearm(m->watch, WITHOUT_PIDFD_US);
        return;
    }
    free_member(m);
    reap_sweep(); /* we are its reaper if its parent is gone */
    wk_stop_check(w);
}

static bool is_watched(const struct wk_stop *s, pid_t pid)
{
    struct wk_member *m;

    LIST_FOREACH (m, &s->members, link)
        if (m->ref.pid == pid)
            return true;
    return false;
}

/* Takes hold of a member and waits for its end. 0, -ESRCH if it is gone already, or -errno. */
static int watch_member(struct wk *w, pid_t pid, struct wk_member **ret)
{
    struct wk_member *m = calloc(1, sizeof(*m));
    int r;

    if (!m)
        return -ENOMEM;
    m->w = w;
    if ((r = (w->leaf.fd >= 0 ? pidref_hold : pidref_open)(&m->ref, pid)) < 0) {
        free(m);
        return r;
    }
    m->watch = m->ref.fd >= 0 ? loop_io(m->ref.fd, LOOP_READ, on_member, m)
                              : loop_timer(WITHOUT_PIDFD_US, on_member, m);
    LIST_INSERT_HEAD(&w->stop->members, m, link);
    *ret = m;
    return 0;
}

/* As snap.h has it: free the tree in any case. */
static int tree_of(struct wk *w, struct snap_tree *tree)
{
    int r;

    if (w->leaf.fd >= 0)
        return snap_tree_of_leaf(&w->leaf, tree);
    *tree = (struct snap_tree){0};
    if (!w->session)
        return 0;
    r = snap_tree_of_session(w->session, tree);
    if (w->main.pid || (r < 0 && r != -EAGAIN))
        return r;
    /* While a session has members the kernel gives its id to no new process. Once it has none, or the id is
     * a process again, it is ours no more: it is never looked at again. */
    if ((r == 0 && tree->n == 0) || snap_tree_has(tree, w->session)) {
        snap_tree_done(tree);
        w->session = 0;
        return 0;
    }
    return r;
}

/* What those hear who are still there after main is gone. */
static int signal_of_rest(const struct wk *w)
{
    return w->state == WK_KILLING || w->def->kill_mode == CFG_KILL_MIXED ? SIGKILL : w->def->kill_signal;
}

/* A pid that a leaf has listed may be somebody else's by the time it is held: who is not listed any more is
 * let go. 0 or -errno: they can't be told now, and all are let go. */
static int forget_strangers(struct wk *w)
{
    struct snap_tree tree = {0};
    int r = tree_of(w, &tree);
    struct wk_member *m, *next;

    for (m = LIST_FIRST(&w->stop->members); m; m = next) {
        next = LIST_NEXT(m, link);
        if (m->fresh && (r < 0 || !snap_tree_has(&tree, m->ref.pid)))
            free_member(m);
    }
    snap_tree_done(&tree);
    return r < 0 ? r : 0;
}

/* How many; or -errno: not all of them could be taken hold of. */
static int watch_new(struct wk *w, const struct snap_tree *tree)
{
    int n = 0, error = 0;

    for (size_t i = 0; i < tree->n; i++) {
        struct wk_member *m;
        int r;
        if (tree->pids[i] == w->main.pid || is_watched(w->stop, tree->pids[i]))
            continue;
        r = watch_member(w, tree->pids[i], &m);
        if (r == 0) {
            m->fresh = true;
            n++;
        } else if (r != -ESRCH) {
            error = r;
        }
    }
    return error ? error : n;
}

static void signal_fresh(struct wk *w, int sig)
{
    enum caps_scope scope = caps_enter(sig ? CAPS_SIGNAL : CAPS_NONE);
    struct wk_member *m;

    LIST_FOREACH (m, &w->stop->members, link) {
        if (m->fresh && sig)
            signal_member(m, sig);
        m->fresh = false;
    }
    caps_enter(scope);
}

/* Watches every member that is not watched yet (the main process has its own watch), and signals each. 0, or
 * -errno: they can't be told now. */
static int watch_tree(struct wk *w, int sig)
{
    struct snap_tree tree = {0};
    int n, r, whole = get_stop(w) ? tree_of(w, &tree) : -ENOMEM;

    n = whole == 0 || whole == -EAGAIN ? watch_new(w, &tree) : 0;
    snap_tree_done(&tree);
    if (n == 0)
        return whole;
    r = w->leaf.fd >= 0 ? forget_strangers(w) : 0;
    signal_fresh(w, sig);
    return r < 0 ? r : n < 0 ? n : whole;
}

static void signal_members(struct wk *w, int sig)
{
    struct wk_member *m;
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    if (w->stop)
        LIST_FOREACH (m, &w->stop->members, link)
            signal_member(m, sig);
    caps_enter(scope);
}

static void signal_main(struct wk *w, int sig)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    if (sig == SIGKILL && w->main.pid && w->stop && !w->stop->main_killed) {
        w->stop->main_killed = true;
        note_killed(w, w->main.pid);
    }
    pidref_signal(&w->main, sig);
    caps_enter(scope);
}

static bool needs_cont(int sig)
{
    return sig != SIGKILL && sig != SIGCONT;
}

/* A stopped process has to go on to follow the signal. systemd sends SIGCONT behind it; but who ends at once
 * is met in its exit then, and both wait for the same locks. */
static void tell_main(struct wk *w, int sig)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    if (needs_cont(sig))
        pidref_signal(&w->main, SIGCONT);
    pidref_signal(&w->main, sig);
    caps_enter(scope);
}

static void tell_members(struct wk *w, int sig)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    if (needs_cont(sig))
        signal_members(w, SIGCONT);
    signal_members(w, sig);
    caps_enter(scope);
}

/* After an exec of agentd it may be that its leaf could not be opened. 1: it is open, 0: there is none, or
 * -errno: that can't be told. */
static int hold_leaf(struct wk *w)
{
    char name[LIMIT_ALIAS + 8];
    enum caps_scope scope;
    int r;

    if (w->leaf.fd >= 0 || wk_host.cgroups.fd < 0)
        return w->leaf.fd >= 0;
    scope = caps_enter(CAPS_FILES);
    wk_leaf_name(w, w->leaf_no, name);
    r = cgroup_leaf_find(&wk_host.cgroups, name, &w->leaf);
    caps_enter(scope);
    return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* Kept open while the tree ends: one pread instead of four calls at the moment that counts. */
static void open_events(struct wk *w)
{
    if (w->leaf.fd >= 0 && get_stop(w) && w->stop->events_fd < 0)
        w->stop->events_fd = cgroup_leaf_events(&w->leaf);
}

static int is_populated(struct wk *w)
{
    open_events(w);
    return w->stop && w->stop->events_fd >= 0 ? cgroup_events_populated(w->stop->events_fd)
                                              : cgroup_leaf_populated(&w->leaf);
}

static void on_cgroup_event(int fd, short what, void *arg)
{
    struct wk *w = arg;

    wk_stop_check(w);
}

/* The kernel's notification comes 10 to 20 ms late: it only guards against a member that no pidfd told of. */
static void watch_events(struct wk *w)
{
    struct wk_stop *s = w->stop;

    if (s && !s->events && s->events_fd >= 0)
        s->events = loop_io(s->events_fd, LOOP_READ | LOOP_EDGE, on_cgroup_event, w);
}

void wk_stop_survivors(const struct wk *w, char *text, size_t size)
{
    const struct wk_member *m;
    size_t at = 0;

    text[0] = 0;
    if (!w->stop)
        return;
    if (w->main.pid && w->stop->main_killed)
        at = (size_t)snprintf(text, size, "%d", (int)w->main.pid);
    LIST_FOREACH (m, &w->stop->members, link)
        if (m->killed && at + 12 < size)
            at += (size_t)snprintf(text + at, size - at, "%s%d", at ? "," : "", (int)m->ref.pid);
}

void wk_stop_signal(struct wk *w, int sig)
{
    bool main_gone = w->main.pid == 0;

    /* On the way to exec all signals are blocked: a child that hangs there (a dead file system) hears this
     * one only. */
    if (w->start && w->start->spawning)
        sig = SIGKILL;
    hold_leaf(w);
    tell_main(w, sig); /* it ends while the others are looked for */
    if (w->def->kill_mode == CFG_KILL_CGROUP) {
        watch_tree(w, 0);
        if (w->stop && !LIST_EMPTY(&w->stop->members))
            tell_members(w, sig);
    }
    wk_hook_signal(w, sig);
    open_events(w);
    if (!main_gone && w->requested)
        wk_start_prepare(w); /* while the old one dies */
    if (main_gone)
        wk_stop_check(w);
}

static void on_stop_commands(struct wk *w, const char *why)
{
    if (w->state != WK_STOPPING)
        return;
    wk_arm(w, w->def->stop_timeout_us);
    wk_stop_signal(w, w->def->kill_signal);
}

void wk_stop_begin(struct wk *w)
{
    if (!w->was_ready || !wk_hook_has(w, CFG_HOOK_STOP)) {
        wk_stop_signal(w, w->def->kill_signal);
        return;
    }
    w->was_ready = false;
    wk_arm(w, STR_USEC_INFINITY); /* each command has its own deadline */
    wk_hook_run(w, CFG_HOOK_STOP, on_stop_commands);
}

/* What ExecStopPost= has left goes as the rest went. */
static void on_stop_post(struct wk *w, const char *why)
{
    if (w->state != WK_STOPPING && w->state != WK_KILLING)
        return;
    wk_arm(w, w->def->stop_timeout_us);
    if (w->stop)
        w->stop->swept_clean = false;
    wk_stop_check(w);
}

void wk_stop_kill(struct wk *w)
{
    char still[512];

    if (w->reason == WK_WHY_STOP_TIMEOUT && !w->def->send_sigkill)
        return;
    if ((w->reason == WK_WHY_SPAWN_FAILED || w->reason == WK_WHY_CONDITION) && w->state == WK_KILLING &&
        !w->stop) {
        get_stop(w); /* the child says why and exits by itself; the timer comes back here if it does not */
        wk_stop_check(w);
        return;
    }
    hold_leaf(w);
    wk_stop_survivors(w, still, sizeof(still));
    if (still[0])
        wk_set_message(w, "killed, and still there: %s", still);
    if (w->def->kill_mode != CFG_KILL_PROCESS) {
        watch_tree(w, SIGKILL);
        signal_members(w, SIGKILL);
        if (w->leaf.fd >= 0) {
            enum caps_scope scope = caps_enter(CAPS_SIGNAL);
            cgroup_leaf_kill(&w->leaf); /* also what was forked since */
            w->leaf_spoiled = true;
            caps_enter(scope);
        }
        if (w->stop)
            w->stop->swept_clean = false;
    }
    signal_main(w, SIGKILL);
    wk_hook_signal(w, SIGKILL);
    wk_stop_check(w);
}

void wk_stop_resume(struct wk *w)
{
    watch_tree(w, 0);
    open_events(w);
    wk_stop_check(w);
}

/* --- without a cgroup: who carries our cookie? ------------------------------------------------ */

static bool print_match(pid_t pid, const char *rest, void *arg)
{
    struct pidref_stat st;
    char line[64];
    int n;

    if (pidref_read_stat(pid, &st) < 0 || st.state == 'Z')
        return false;
    n = snprintf(line, sizeof(line), "%d %llu\n", (int)pid, (unsigned long long)st.start);
    fd_write_all(*(int *)arg, line, (size_t)n);
    return true;
}

static int run_sweep(int out, void *arg)
{
    char prefix[LIMIT_ALIAS + 32];

    caps_enter(CAPS_LOOK);
    wk_cookie_prefix(arg, prefix, sizeof(prefix));
    return snap_sweep_cookie("AGENTD_COOKIE", prefix, print_match, &out) < 0;
}

static void on_again(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->stop->again);
    wk_stop_check(w);
}

static void look_again(struct wk *w)
{
    if (get_stop(w) && !w->stop->again)
        w->stop->again = loop_timer((uint64_t)LOOK_AGAIN_US << w->stop->failures, on_again, w);
}

static void note_look(struct wk_stop *s, bool told)
{
    s->failures = told ? 0 : s->failures < SWEEP_FAILURES ? s->failures + 1 : SWEEP_FAILURES;
}

static void on_sweep(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;
    int pid, used = 0;
    unsigned long long start;
    bool any = false;

    if (!w->stop)
        return;
    w->stop->sweep = NULL;
    /* Who was met may have forked after, even if it is gone by now, or known: nothing is clean yet. */
    for (; sscanf(p, "%d %llu\n%n", &pid, &start, &used) == 2; p += used) {
        struct wk_member *m;
        any = true;
        if (is_watched(w->stop, pid) || pid == w->main.pid || watch_member(w, pid, &m) < 0)
            continue;
        if (m->ref.start != start) /* the pid is somebody else's by now */
            free_member(m);
    }
    if (any)
        signal_members(w, signal_of_rest(w));
    note_look(w->stop, status == 0);
    w->stop->swept_clean = !any && (status == 0 || w->stop->failures >= SWEEP_FAILURES);
    if (status && w->stop->swept_clean)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "it can't be told whether a process of it is left: one on this host shows no environment, "
                  "or they "
                  "come and go too fast");
    if (status && !w->stop->swept_clean)
        look_again(w);
    else
        wk_stop_check(w);
}

/* True once no process that we know of, none of main's session and none with our cookie is left. */
static bool is_gone_without_cgroup(struct wk *w)
{
    struct wk_stop *s = get_stop(w);
    int r;

    if (s && w->def->kill_mode == CFG_KILL_MIXED)
        signal_members(w, signal_of_rest(w)); /* an earlier image may have watched them */
    if (!s || !LIST_EMPTY(&s->members) || s->sweep)
        return false;
    /* Who dropped the cookie may have stayed in the session. */
    r = watch_tree(w, signal_of_rest(w));
    if (r < 0 && (r != -EAGAIN || s->failures < SWEEP_FAILURES)) {
        note_look(s, false);
        look_again(w);
    }
    if (!LIST_EMPTY(&s->members) || s->again) {
        s->swept_clean = false;
        return false;
    }
    if (s->swept_clean)
        return true;
    s->sweep = helper_start(run_sweep, w, on_sweep, w, SWEEP_TIMEOUT_US, 65536);
    if (!s->sweep) /* many stop at once: all helpers are at work */
        look_again(w);
    return false;
}

/* --------------------------------------------------------------------------------------------- */

bool wk_leaf_remove_empty(const char *name)
{
    struct cgroup_leaf leaf;
    int populated;

    if (unlinkat(wk_host.cgroups.fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return true;
    if (cgroup_leaf_open(&wk_host.cgroups, name, &leaf) < 0)
        return false;
    populated = cgroup_leaf_populated(&leaf);
    cgroup_leaf_done(&leaf);
    /* Empty cgroups below one that is in use are its members' business. */
    return populated == 0 && cgroup_leaf_remove(&wk_host.cgroups, name) == 0;
}

/* What can't be told is looked at again: a leaf is taken for empty only if the kernel says so, or says that
 * it was removed, which takes an empty one. */
static bool leaf_is_empty(struct wk *w)
{
    int populated = is_populated(w);

    w->leaf_empty = populated == 0;
    if (populated < 0 && populated != -ENODEV && populated != -ENOENT) {
        look_again(w);
        return false;
    }
    return populated <= 0;
}

/* The last one of those that we wait for tells us to look for more. */
static bool waits_for_members(const struct wk_stop *s)
{
    const struct wk_member *m;

    if (s)
        LIST_FOREACH (m, &s->members, link)
            if (m->watch)
                return true;
    return false;
}

/* KillMode=mixed, and main is gone. */
static void kill_rest(struct wk *w)
{
    enum caps_scope scope;

    watch_tree(w, SIGKILL);
    signal_members(w, SIGKILL); /* an earlier image may have watched them */
    scope = caps_enter(CAPS_SIGNAL);
    cgroup_leaf_kill(&w->leaf);
    w->leaf_spoiled = true;
    caps_enter(scope);
}

static bool is_gone(struct wk *w)
{
    bool mixed;
    int r;

    if (w->main.pid)
        return false;
    if (w->def->kill_mode == CFG_KILL_PROCESS)
        return true; /* the rest is none of our business; its leaf is retired at the next start */
    if (w->leaf.fd < 0 && wk_host.cgroups.fd < 0)
        return is_gone_without_cgroup(w);
    if ((r = hold_leaf(w)) <= 0) {
        if (r < 0)
            look_again(w);
        return r == 0;
    }
    mixed = w->def->kill_mode == CFG_KILL_MIXED && w->state == WK_STOPPING;
    if (!mixed && waits_for_members(w->stop)) {
        watch_events(w);
        return false;
    }
    if (leaf_is_empty(w))
        return true;
    if (mixed)
        kill_rest(w);
    if (watch_tree(w, signal_of_rest(w)) < 0)
        look_again(w);
    watch_events(w);
    return leaf_is_empty(w);
}

static void be_gone(struct wk *w)
{
    w->session = 0;
    wk_gone(w);
}

static void on_tail(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;
    _cleanup_free_ char *message = w->message;

    w->message = NULL;
    w->stop->tail = NULL;
    if (status == 0 && n)
        wk_set_message(w, "%s\n%s", message ? message : "", p);
    else
        wk_set_message(w, "%s", message ? message : "");
    be_gone(w);
}

void wk_stop_check(struct wk *w)
{
    if ((w->state != WK_STOPPING && w->state != WK_KILLING) || (w->stop && w->stop->after_started) ||
        w->n_queue)
        return;
    if ((w->start && w->start->spawning) || w->hook)
        return;
    if (!is_gone(w))
        return;
    /* Once only: a look for more may come while the last lines are read. */
    if (!get_stop(w))
        return;
    if (!w->stop->post_begun && w->begun && wk_hook_has(w, CFG_HOOK_STOP_POST)) {
        w->stop->post_begun = true;
        wk_arm(w, STR_USEC_INFINITY);
        wk_hook_run(w, CFG_HOOK_STOP_POST, on_stop_post);
        return;
    }
    w->stop->after_started = true;
    if (w->reason == WK_WHY_START_TIMEOUT)
        wk_set_message(w, "it was not ready within TimeoutStartSec=");
    if (w->start_failed && w->error_size >= 0 &&
        (w->reason == WK_WHY_HOOK_FAILED || w->last.end != WK_END_SPAWN_FAILED))
        w->stop->tail = tail_start(w, on_tail, w);
    if (!w->stop->tail)
        be_gone(w);
}
