/* SPDX-License-Identifier: Apache-2.0 */
/* The main process is not always the one that was started: Type=forking leaves it behind and names it in
 * PIDFile=, and MAINPID= of sd_notify(3) names another. Both are a worker's own words: only a process of its
 * own is taken for it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/wk_hook.h"
#include "agentd/wk_adopt.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/snap.h"

#define LOOK_MS 20
#define ASK_AGAIN_US 100000

/* --- what is its own ------------------------------------------------------------------------------------ */

/* Without a cgroup another worker's orphans look the same. */
static bool has_its_user(const struct wk *w, pid_t pid)
{
    uid_t uid;

    return !w->def->ids.set || (snap_uid(pid, &uid) == 0 && uid == w->def->ids.uid);
}

/* 1, 0, or -errno: it can't be told. A command of ours in there (a hook, a check) is awaited by whoever has
 * started it: taken for the main process its end would be heard of by nobody else. */
static int is_own(const struct wk *w, pid_t pid)
{
    struct pidref_stat st;
    struct snap_tree tree;
    int r;

    if (pid <= 1 || pid == getpid() || reap_knows(pid))
        return 0;
    if (w->leaf.fd < 0) /* an orphan of ours with its user, or of its session */
        return pidref_read_stat(pid, &st) == 0 && has_its_user(w, pid) &&
               ((w->session && st.session == w->session) || st.ppid == getpid());
    if ((r = snap_tree_of_leaf(&w->leaf, &tree)) < 0)
        return r;
    r = snap_tree_has(&tree, pid);
    snap_tree_done(&tree);
    return r;
}

static void let_go(struct wk *w)
{
    loop_free(&w->main_watch);
    if (w->main.pid)
        reap_remove(w->main.pid, w);
    pidref_done(&w->main);
}

void wk_main_watch(struct wk *w)
{
    struct pidref_stat st;

    if (!w->adopted && pidref_read_stat(w->main.pid, &st) == 0 && st.ppid == getpid())
        wk_start_watch(w);
    else
        wk_adopt_watch(w);
}

int wk_main_set(struct wk *w, pid_t pid)
{
    struct pidref ref = PIDREF_NULL;
    struct pidref_stat st;
    int r;

    if (pid == w->main.pid)
        return 0;
    if ((r = pidref_open(&ref, pid)) < 0)
        return r;
    /* After the pidfd is held: the number is that process's. */
    if ((r = is_own(w, pid)) <= 0 || pidref_check(&ref) != PIDREF_SAME || pidref_read_stat(pid, &st) < 0 ||
        st.state == 'Z') {
        pidref_done(&ref);
        return r < 0 ? r : r == 0 ? -EPERM : -ESRCH;
    }
    let_go(w);
    w->main = ref;
    w->ended = false;
    if (w->leaf.fd >= 0 || st.session == pid)
        w->session = st.session;
    wk_main_watch(w);
    wk_put_facts(w, w->state == WK_UP ? FACTS_READY : FACTS_SPAWNED);
    wk_changed(w);
    return 0;
}

/* --- Type=forking --------------------------------------------------------------------------------------- */

/* With a cgroup anybody may have written it: only a process in there is taken. Without, its owner is the
 * worker's user or root (a daemon that changes its user writes it as either). */
static pid_t read_pid_file(const char *path, bool any, uid_t uid)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    char text[32];
    struct stat st;
    ssize_t n;
    long pid;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
        (!any && st.st_uid != 0 && st.st_uid != uid) || (n = read(fd, text, sizeof(text) - 1)) <= 0)
        return 0;
    text[n] = 0;
    pid = strtol(text, NULL, 10);
    return pid > 1 && pid < 1 << 22 ? (pid_t)pid : 0;
}

static int run_find(int out, void *arg)
{
    const struct wk *w = arg;
    const struct wk_def *d = w->def;
    uid_t uid = d->ids.set ? d->ids.uid : geteuid();
    struct pollfd gone = {.fd = out}; /* POLLERR: agentd does not read any more */
    char line[32];
    pid_t pid;

    caps_enter(CAPS_FILES);
    while ((pid = read_pid_file(d->pid_file, w->leaf.fd >= 0, uid)) == 0)
        if (poll(&gone, 1, LOOK_MS) != 0)
            return 1;
    snprintf(line, sizeof(line), "%d", (int)pid);
    return fd_write_all(out, line, strlen(line)) < 0;
}

void wk_main_find_stop(struct wk *w)
{
    helper_cancel(&w->finding);
    loop_free(&w->find_again);
}

static void take(struct wk *w)
{
    log_write(LOG_INFO, "wk", &(struct log_about){.worker = w->def->alias}, "its main process is %d",
              (int)w->main.pid);
    wk_start_ask(w);
}

static void on_again(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->find_again);
    wk_main_find(w);
}

/* Once for a start: it is asked for again and again. */
static void say_not_own(struct wk *w, pid_t pid)
{
    if (w->message && strstr(w->message, "PIDFile="))
        return;
    wk_set_message(w, "PIDFile=%s names process %d, which is not this worker's", w->def->pid_file, (int)pid);
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s", w->message);
    wk_changed(w);
}

static void on_found(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;
    pid_t pid = status == 0 ? (pid_t)strtol(p, NULL, 10) : 0;
    int r = pid ? wk_main_set(w, pid) : -ESRCH;

    w->finding = NULL;
    if (r == 0) {
        take(w);
        return;
    }
    if (r == -EPERM)
        say_not_own(w, pid);
    w->find_again = loop_timer(ASK_AGAIN_US, on_again, w); /* one of an earlier run is still to be replaced */
}

/* systemd.service(5), GuessMainPID=: of the orphans that it has left to us the first. A daemon forks twice,
 * so the first that is seen may be on its way out: it has to be there for two looks. 0: nobody is there;
 * NOT_YET: somebody is, who is another's child yet: between two reads that one may have ended. */
#define NOT_YET (-1)
static pid_t guess(const struct wk *w)
{
    struct pidref_stat st;
    struct snap_tree tree;
    uint64_t first = 0;
    pid_t pid = 0;
    bool alive = false;

    if (w->leaf.fd < 0 || snap_tree_of_leaf(&w->leaf, &tree) < 0)
        return 0;
    for (size_t i = 0; i < tree.n; i++) {
        if (pidref_read_stat(tree.pids[i], &st) < 0 || st.state == 'Z')
            continue;
        alive = true;
        if (st.ppid == getpid() && (!pid || st.start < first)) {
            pid = tree.pids[i];
            first = st.start;
        }
    }
    snap_tree_done(&tree);
    return pid ? pid : alive ? NOT_YET : 0;
}

static void on_guessed(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->find_again);
    if (w->guessed != NOT_YET && guess(w) == w->guessed && wk_main_set(w, w->guessed) == 0)
        take(w);
    else
        wk_main_find(w);
}

void wk_main_find(struct wk *w)
{
    pid_t pid;

    if (*w->def->pid_file) {
        w->finding = helper_start(run_find, w, on_found, w, 0, sizeof("4194304"));
        if (!w->finding)
            w->find_again = loop_timer(ASK_AGAIN_US, on_again, w);
    } else if (w->leaf.fd >= 0 && (pid = guess(w))) {
        w->guessed = pid;
        w->find_again = loop_timer(LOOK_MS * 1000, on_guessed, w);
    } else {
        wk_set_message(w, w->leaf.fd < 0 ? "Type=forking without PIDFile= needs cgroups"
                                         : "Type=forking: the program has ended and left no process");
        wk_event(w, WK_EV_EXIT);
    }
}
