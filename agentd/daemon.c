/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/audit.h"
#include "agentd/cfg.h"
#include "agentd/doctor.h"
#include "agentd/event.h"
#include "agentd/facts.h"
#include "agentd/helper.h"
#include "agentd/history.h"
#include "agentd/link.h"
#include "agentd/listen.h"
#include "agentd/loop.h"
#include "agentd/manager.h"
#include "agentd/notify.h"
#include "agentd/op.h"
#include "agentd/order.h"
#include "agentd/passed.h"
#include "agentd/paths.h"
#include "agentd/peer.h"
#include "agentd/private.h"
#include "agentd/reap.h"
#include "agentd/reload.h"
#include "agentd/rotate.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/task.h"
#include "agentd/tls_check.h"
#include "agentd/upgrade.h"
#include "agentd/wk.h"
#include "agentd/wk_drain.h"
#include "agentd/wk_adopt.h"
#include "agentd/wk_sock.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/feature.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/sys.h"
#include "systemd/sdn.h"
#include "wire/wire.h"

#define LISTENER_END_US 1000000

static int lock_fd = -1, signal_fd = -1;
static struct loop_watch *signal_watch;
static bool stopping, started, leave_workers;
static bool decided; /* whether workers end with agentd: systemd may have to be asked */

/* agentd-rpc lies where it was installed; beside agentd in a build tree; or in ../libexec of a relocated
 * installation. */
static void find_rpc(char *path, size_t size)
{
    const char *told = getenv("AGENTD_RPC"); /* by an earlier image, for a program that runs from elsewhere */
    const char *own = *upgrade_program() ? upgrade_program() : "/proc/self/exe";
    _cleanup_free_ char *real = realpath(own, NULL); /* it may be a link */
    char self[512], *slash;

    if (told) {
        str_copy(path, size, told);
        return;
    }
    str_copy(self, sizeof(self), real ? real : own);
    if (self[0]) {
        slash = strrchr(self, '/');
        *slash = 0;
        snprintf(path, size, "%.550s/agentd-rpc", self);
        if (access(path, X_OK) == 0)
            return;
        snprintf(path, size, "%.550s/../libexec/agentd-rpc", self);
        if (access(path, X_OK) == 0)
            return;
    }
    str_copy(path, size, LIBEXECDIR "/agentd-rpc");
}

/* --- configuration -------------------------------------------------------------------------------- */

static int load(const char *file, struct cfg **ret)
{
    struct cfg_report report;
    char rpc[600];
    int r;

    cfg_report_init(&report);
    find_rpc(rpc, sizeof(rpc));
    r = cfg_load(file, &report, ret);
    if (r == 0)
        cfg_resolve(*ret, &report);
    if (r == 0 && (r = tls_check(*ret, rpc, &report)) < 0)
        cfg_free(TAKE_PTR(*ret));
    if (report.errors.len)
        fputs(report.errors.p, stderr);
    if (report.warnings.len)
        fputs(report.warnings.p, stderr);
    r = r < 0 ? r : report.n_errors ? 1 : 0;
    cfg_report_free(&report);
    return r;
}

int daemon_check(const char *file)
{
    struct cfg *cfg = NULL;
    int r = load(file, &cfg);

    cfg_free(cfg);
    return r == 0 ? 0 : 2;
}

int daemon_dump(const char *file)
{
    struct cfg *cfg = NULL;
    struct buf b = BUF_INIT(64 << 20);
    int r = load(file, &cfg);

    if (r < 0)
        return 2;
    cfg_dump(cfg, &b);
    fwrite(b.p ? b.p : "", 1, b.len, stdout);
    buf_free(&b);
    cfg_free(cfg);
    return r == 0 ? 0 : 2;
}

/* --- the ground ----------------------------------------------------------------------------------- */

/* 0, 1 and 2 are there, and nothing that our starter left open reaches a worker. */
static void clean_descriptors(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    while (fd >= 0 && fd < 3)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        fcntl(i, F_SETFD, 0);
    fd_close(fd);
    sys_cloexec_from(3);
}

static int make_dir(const char *path, mode_t mode)
{
    struct stat st;

    if (mkdir(path, mode) < 0 && errno != EEXIST) {
        log_error("main", "%s: %s", path, strerror(errno));
        return -errno;
    }
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        log_error("main", "%s: not a directory", path);
        return -ENOTDIR;
    }
    if (st.st_uid != geteuid() || st.st_mode & 022) {
        log_error("main", "%s: must belong to uid %u and be writable by nobody else", path,
                  (unsigned)geteuid());
        return -EPERM;
    }
    return 0;
}

/* A user's own lie in folders that may not be there yet, ~/.local/state and the like. For root a missing one
 * is a name that is wrong. */
static void make_parents(const char *path)
{
    char parent[600];

    if (geteuid() == 0)
        return;
    str_copy(parent, sizeof(parent), path);
    for (char *p = strchr(parent + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(parent, 0700); /* XDG Base Directory Specification; that of the last one tells */
        *p = '/';
    }
}

static int make_dirs(const struct cfg_agent *a)
{
    int r;

    make_parents(a->state_dir);
    make_parents(a->log_dir);
    if ((r = make_dir(a->runtime_dir, 0755)) < 0 || (r = make_dir(a->state_dir, 0700)) < 0)
        return r;
    return make_dir(a->log_dir, 0755);
}

static bool is_same_process(void)
{
    return upgrade_role() == UPGRADE_NEW || upgrade_role() == UPGRADE_BACK;
}

static const struct state *image(void)
{
    return is_same_process() ? upgrade_state() : NULL;
}

/* A record lock belongs to this process alone: no child, however stuck, can hold it after our death.
 * fcntl(2). */
static int take_lock(const char *dir)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const struct state *s = upgrade_state();
    const char *line = s ? state_next(s, "lock", NULL) : NULL;
    char path[600], pid[16];

    snprintf(path, sizeof(path), "%s/lock", dir);
    /* Over an exec it stays ours, but closing any descriptor of that file would give it up. */
    if (line && is_same_process() && (lock_fd = state_get_fd(s, line, "fd")) >= 0)
        return 0;
    lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock_fd < 0) {
        log_error("main", "%s: %s", path, strerror(errno));
        return -errno;
    }
    if (fcntl(lock_fd, F_SETLK, &l) < 0) {
        l.l_type = F_WRLCK;
        fcntl(lock_fd, F_GETLK, &l);
        log_error("main", "%s: another agentd (pid %d) runs on this directory", path,
                  l.l_type == F_UNLCK ? 0 : (int)l.l_pid);
        return -EBUSY;
    }
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(lock_fd, 0) < 0 || write(lock_fd, pid, strlen(pid)) < 0)
        log_warn("main", "%s: %s", path, strerror(errno));
    return 0;
}

/* Descriptors for thousands of workers; the workers get back the limits that we were started with. */
static void raise_limits(void)
{
    struct rlimit l;

    spawn_init();
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

/* A user's manager before systemd 255 leaves no mark on what it delegates. */
static void ask_for_delegation(void)
{
    if (geteuid() != 0 && sdn_is_there() && sdn_is_delegated() > 0)
        cgroup_assume_delegated();
}

static void find_cgroups(const struct cfg_agent *a)
{
    char name[17], why[1200] = "";
    enum caps_scope scope;

    if (getenv("AGENTD_NO_CGROUP")) { /* for tests, and for hosts where the hierarchy is somebody else's */
        feature_note(FEATURE_CGROUP2, false);
        doctor_note_cgroups("AGENTD_NO_CGROUP is set");
        return;
    }
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)wk_host.dir_hash);
    ask_for_delegation();
    scope = caps_enter(CAPS_FILES);
    if (cgroup_root_open(&wk_host.cgroups, name, why, sizeof(why)) < 0) {
        log_warn("main", "workers are tracked without cgroups: %s", why);
        doctor_note_cgroups(why);
    } else
        log_debug("main", "cgroups of workers: %s", wk_host.cgroups.path);
    cgroup_res_enable(&wk_host.cgroups, 0); /* those that an earlier agentd has handed down */
    caps_enter(scope);
}

/* --- signals -------------------------------------------------------------------------------------- */

static void end_workers(bool for_good)
{
    decided = true;
    if (for_good)
        sup_stop_all();
    else
        leave_workers = true;
}

static void begin_stop(const char *why, const char *actor)
{
    const struct cfg *cfg = reload_current();

    if (stopping)
        return;
    stopping = true;
    log_info("main", "stopping: %s", why);
    audit_agentd("stop", actor, "signal", why);
    manager_stopping();
    upgrade_stop();
    reload_cancel();
    link_stop();
    if (cfg->agent.stop_workers == CFG_STOP_AUTO && manager_ask(end_workers))
        return;
    end_workers(cfg->agent.stop_workers != CFG_STOP_NO);
}

static void reload_by_signal(const char *actor)
{
    const struct wire_call call = {
        .verb = WIRE_VERB_RELOAD, .actor = actor, .source = "signal", .what = "SIGHUP"};
    const struct op *o;

    audit_begin_call(&call, "");
    o = op_begin_own(&call);
    reload_request(0, o ? o->id : "");
    audit_end_call();
}

static void upgrade_by_signal(const char *actor)
{
    const struct wire_call call = {
        .verb = WIRE_VERB_UPGRADE, .actor = actor, .source = "signal", .what = "SIGUSR2"};

    audit_begin_call(&call, "");
    upgrade_request(&call);
    audit_end_call();
}

static void repair_sockets(void)
{
    if (!started || stopping)
        return;
    private_repair();
    if (listen_repair() > 0)
        link_replace();
}

static void on_signal(int fd, short what, void *arg)
{
    struct signalfd_siginfo si;
    char actor[24];

    while (read(fd, &si, sizeof(si)) == sizeof(si)) {
        snprintf(actor, sizeof(actor), "uid:%u", si.ssi_uid);
        switch (si.ssi_signo) {
        case SIGTERM:
        case SIGINT:
            begin_stop(si.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT", actor);
            break;
        case SIGHUP:
            if (started && !stopping)
                reload_by_signal(actor);
            break;
        case SIGUSR1:
            repair_sockets();
            rotate_again();
            break;
        case SIGUSR2:
            if (started && !stopping)
                upgrade_by_signal(actor);
            break;
        }
    }
}

static int catch_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    signal_watch = signal_fd < 0 ? NULL : loop_io(signal_fd, LOOP_READ, on_signal, NULL);
    return signal_watch ? 0 : -errno;
}

/* --- life ----------------------------------------------------------------------------------------- */

#define AGAIN_US 1000000
static struct loop_watch *again; /* while something could not be written */

static void on_again(int fd, short what, void *arg)
{
    bool facts = facts_put_again(), operations = op_save_again(), tasks = task_save_again();

    if (facts && operations && tasks)
        loop_free(&again);
    else
        loop_rearm(again, AGAIN_US);
}

static void after_round(void)
{
    if ((facts_are_late() || op_is_late() || task_is_late()) && !again)
        again = loop_timer(AGAIN_US, on_again, NULL);
    if (started && !stopping)
        task_round();
    order_round();
    wk_overlap_round();
    sup_forget_removed();
    if (started && !stopping)
        upgrade_end_round();
    if (sup_wants_reload() && !stopping)
        reload_request(0, "");
    if (stopping && decided && link_ended() && (leave_workers || sup_all_down()))
        loop_stop();
    else
        link_end_round();
    manager_end_round();
}

/* In the state helper. */
static int copy_journal(void)
{
    const struct cfg_agent *a = &reload_current()->agent;
    int r = op_copy_journal(a->runtime_dir, a->state_dir);

    r = r < 0 ? r : task_copy_journal(a->runtime_dir, a->state_dir);
    r = r < 0 ? r : audit_sync(a->state_dir);
    return r < 0 ? r : history_sync(a->state_dir);
}

/* After an exec: those who waited for the earlier image wait for us, and what was under way goes on. */
static void go_on(void)
{
    link_restore(image());
    op_restore_waiters(image());
    sup_resume_image();
}

static void save(struct buf *b)
{
    state_begin(b, "lock");
    state_put(b, "fd", lock_fd);
    state_end(b);
    listen_save(b);
    private_save(b);
    link_save(b);
    op_save_waiters(b);
    audit_save(b);
    event_save(b);
    sup_save(b);
}

static void watch_paths(void)
{
    const struct listen_socket *l;
    char path[700];

    paths_init(repair_sockets);
    for (unsigned i = 0; (l = listen_get(i)); i++)
        if (l->path)
            paths_watch(l->path);
    snprintf(path, sizeof(path), "%s/private", wk_host.runtime_dir);
    paths_watch(path);
}

/* For the next agentd, should the service manager start one. */
static void keep_sockets(void)
{
    const struct wk *w;

    passed_done();
    listen_keep();
    TAILQ_FOREACH (w, &sup_workers, link)
        wk_sock_keep(w);
}

static void on_cleared(void)
{
    if (stopping)
        return;
    started = true;
    watch_paths();
    event_agentd(image() ? "upgraded" : "started", PACKAGE_VERSION);
    audit_agentd(image() ? "upgraded" : "started", NULL, NULL, PACKAGE_VERSION);
    private_serve(image());
    if (image())
        go_on();
    op_resume();
    upgrade_verdict();
    if (!image())
        op_lose_own();
    task_resume();
    sup_start_wanted();
    if (!image())
        keep_sockets();
    link_start();
    manager_init();
    manager_ready("");
    log_write(LOG_INFO, "main", &(struct log_about){.event = "ready"}, "agentd %s is ready: %u workers",
              PACKAGE_VERSION, sup_count());
    wk_host.pidfds = NULL;
    sup_use_image(NULL);
    upgrade_release();
}

/* The listeners of an agentd that was killed end within a second of its death; one that does not is ended.
 * Before a socket is opened, and before READY: nothing is kept waiting. */
static void end_dead_listeners(void)
{
    struct facts_process list[FACTS_LISTENERS];
    unsigned n = facts_listeners(list);
    uint64_t patience = clock_mono_us() + LISTENER_END_US;
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    for (unsigned i = 0; i < n; i++) {
        struct pidref ref;
        if (pidref_reopen(&ref, list[i].pid, list[i].start) < 0)
            continue;
        for (int ms = 0; pidref_check(&ref) == PIDREF_SAME && ms < 2 * LISTENER_END_US / 1000; ms += 5) {
            if (clock_mono_us() >= patience)
                pidref_signal(&ref, SIGKILL);
            poll(&(struct pollfd){.fd = ref.fd, .events = POLLIN}, 1, 5);
        }
        pidref_done(&ref);
    }
    caps_enter(scope);
}

static void recall_facts(const struct cfg *cfg)
{
    const struct cfg_agent *a = &cfg->agent;

    str_copy(wk_host.runtime_dir, sizeof(wk_host.runtime_dir), a->runtime_dir);
    wk_host.dir_hash = str_hash(STR_HASH_INIT, a->runtime_dir, strlen(a->runtime_dir));
    sup_init(cfg);
    if (image())
        event_restore(image());
    event_init();
    if (image())
        return;
    end_dead_listeners();
    notify_clear();
}

static int open_rooms(struct cfg *cfg)
{
    enum caps_scope scope;
    char path[600];
    struct err err;
    int r;

    recall_facts(cfg);
    if ((r = loop_init()) < 0 || (r = catch_signals()) < 0 || (r = reap_init()) < 0) {
        log_error("main", "the event loop can't be made: %s", strerror(-r));
        return r;
    }
    find_cgroups(&cfg->agent);
    find_rpc(path, sizeof(path));
    upgrade_dirs(cfg->agent.runtime_dir, cfg->agent.state_dir, path, (unsigned)cfg->agent.upgrade_timeout_ms);
    scope = caps_enter(CAPS_FILES);
    r = store_open(cfg->agent.state_dir, &err);
    audit_open(cfg->agent.state_dir, image());
    history_open(cfg->agent.state_dir);
    op_open(cfg->agent.runtime_dir, cfg->agent.state_dir);
    op_set_limit(cfg->rpc.max_operations);
    task_open(cfg->agent.runtime_dir, cfg->agent.state_dir);
    if (r == 0 && upgrade_role() == UPGRADE_NEW &&
        !(op_is_durable() && task_is_durable())) /* the earlier image knows them, and its callers wait */
        r = err_set(&err, EIO, "the journal of operations can't be read");
    if (r == 0 && !(upgrade_state() && listen_restore(upgrade_state())))
        r = listen_open(&cfg->rpc, &err);
    if (r == 0)
        private_open(cfg->agent.runtime_dir, upgrade_state());
    caps_enter(scope);
    if (r == 0)
        r = link_init(cfg, path, &err);
    if (r < 0)
        log_error("main", "%s", err.text);
    return r;
}

static void close_rooms(void)
{
    loop_free(&again);
    manager_done();
    if (started)
        audit_agentd("stopped", NULL, NULL, NULL);
    store_flush();
    sup_done();
    op_close();
    audit_close();
    history_close();
    task_close();
    event_done();
    store_close();
    paths_done();
    /* what the manager keeps for the next agentd stays in its place */
    listen_close(!leave_workers || !sdn_is_there());
    private_close();
    peer_end_round();
    enum caps_scope scope = caps_enter(CAPS_FILES);
    cgroup_root_done(&wk_host.cgroups);
    caps_enter(scope);
    reload_done();
    loop_free(&signal_watch);
    fd_close(signal_fd);
    helper_end_all();
    reap_done();
    loop_done();
}

/* What ran under an earlier agentd, and has no good file any more. */
static void recall(struct cfg *cfg)
{
    struct cfg_report quiet;

    cfg_report_init(&quiet);
    sup_recall(cfg);
    cfg_resolve(cfg, &quiet);
    cfg_report_free(&quiet);
}

/* Before anything was changed: the earlier image knows them all. */
static void give_up_if_one_is_missing(void)
{
    char alias[LIMIT_ALIAS + 1], why[LIMIT_ALIAS + 64];

    if (!sup_misses_image(alias, sizeof(alias)))
        return;
    snprintf(why, sizeof(why), "worker %s has no definition any more", alias);
    log_error("main", "%s", why);
    upgrade_give_up(why);
}

int daemon_run(const char *file)
{
    struct cfg *cfg = NULL;
    char rpc[600];
    int r;

    clean_descriptors();
    sys_find_features();
    if (sdn_has_journal())
        log_set_sink(sdn_journal);
    upgrade_init(file, save);
    r = load(file, &cfg);
    if (r < 0) {
        upgrade_give_up("the new program refuses the configuration");
        return 2;
    }
    if (r > 0)
        log_error("main", "workers with errors in their files are left out: see agentd --check-config");
    umask(022);
    prctl(PR_SET_DUMPABLE, 0L);
    raise_limits();
    find_rpc(rpc, sizeof(rpc));
    reload_init(cfg, rpc);
    wk_drain_init(rpc);
    upgrade_look_back(cfg->agent.runtime_dir);
    passed_init();
    if (make_dirs(&cfg->agent) < 0 || take_lock(cfg->agent.runtime_dir) < 0 || caps_init() < 0 ||
        open_rooms(cfg) < 0) {
        upgrade_give_up("the new program can't take over");
        return 1;
    }
    store_also(copy_journal);
    sup_use_image(image());
    wk_host.pidfds = upgrade_state();
    recall(cfg);
    sup_apply(cfg, NULL);
    give_up_if_one_is_missing();
    if (image()) /* nobody has died */
        on_cleared();
    else
        sup_clear_leftovers(on_cleared);
    r = loop_run(after_round);
    close_rooms();
    log_info("main", "stopped");
    return r < 0;
}
