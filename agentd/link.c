/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/link.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "agentd/facts.h"
#include "agentd/link_creds.h"
#include "agentd/link_records.h"
#include "agentd/listen.h"
#include "agentd/loop.h"
#include "agentd/peer.h"
#include "agentd/reap.h"
#include "agentd/state.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/upgrade.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/feature.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/spawn.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#define RESPAWN_FAST 5 /* deaths within RESPAWN_WINDOW_US that are answered at once */
#define RESPAWN_WINDOW_US 1000000
#define RESPAWN_SLOW_US 500000
#define STOP_WAIT_US 2000000 /* it says goodbye to whom it still holds */
#define LOOK_US 1000         /* at a new listener, until it has read what it serves by */
#define READ_US 5000000      /* until then it has done so, or is ended */
#define CLOSED_US 2000000    /* one that has closed its wire ends, or is ended */

static struct {
    char *path;
    const struct cfg *cfg;
    struct peer *current; /* the listener that serves; NULL: none */
    struct spawn_job job; /* its start, until its exec was seen */
    struct spawn_spec spec;
    int theirs; /* its end of the wire, until its exec was seen */
    struct loop_watch *status, *respawn;
    char *argv[2], *env[8], *env_text[8];
    unsigned deaths, n_listeners;
    uint64_t window;   /* monotonic */
    unsigned failures; /* to execute it, in a row */
    bool unrunnable;
    uint64_t agent_update_us;
    int64_t begun_us;
    bool stopping;
    uid_t uid;
    gid_t gid;
} self = {.job = SPAWN_JOB_NULL};

struct peer *link_current(void)
{
    return self.current;
}

struct wk *link_find_worker(const char *alias)
{
    return sup_find_alias(alias);
}

/* --- what the listener has to know ---------------------------------------------------------------- */

static int64_t group_id(const char *name)
{
    struct group *g = name && name[0] ? getgrnam(name) : NULL;

    return g ? (int64_t)g->gr_gid : -1;
}

static int64_t manager_gid = -1, viewer_gid = -1;

static void put_hello(struct peer *p)
{
    const struct cfg *c = self.cfg;
    struct wire_hello h = {
        .version = PACKAGE_VERSION,
        .host_id = c->agent.host_id,
        .agent_id = c->agent.agent_id,
        .install_home = c->agent.install_home,
        .log_home = c->agent.log_dir,
        .host_ip = c->agent.host_ip,
        .create_us = store_created_us(),
        .update_us = (int64_t)self.agent_update_us,
        .own_uid = geteuid(),
        .manager_gid = manager_gid,
        .viewer_gid = viewer_gid,
        .sample_max_age_ms = (uint32_t)c->agent.sample_max_age_ms,
        .reply_deadline_ms = (uint32_t)c->rpc.reply_deadline_ms,
        .request_deadline_ms = (uint32_t)c->rpc.request_deadline_ms,
        .max_connections = c->rpc.max_connections,
        .max_per_source = c->rpc.max_per_source,
        .request_rate = c->rpc.request_rate,
        .max_request_bytes = c->rpc.max_request_bytes,
        .max_header_bytes = c->rpc.max_header_bytes,
        .max_headers = c->rpc.max_headers,
        .max_requests = c->rpc.max_requests,
        .max_log_streams = c->rpc.max_log_streams,
        .max_event_streams = c->rpc.max_event_streams,
        .max_operations = c->rpc.max_operations,
        .idle_ms = (uint32_t)c->rpc.idle_ms,
        .heartbeat_ms = (uint32_t)c->rpc.heartbeat_ms,
        .plaintext_credentials = c->rpc.plaintext_credentials,
        .wire = WIRE_VERSION,
        .pid = (uint32_t)getpid(),
        .begun_us = self.begun_us,
        .first = store_is_new() && self.n_listeners == 1,
    };

    wire_put_hello(&p->out, &h);
}

static void put_listeners(struct peer *p)
{
    const struct listen_socket *l;

    for (unsigned i = 0; (l = listen_get(i)); i++) {
        peer_send(p);
        wire_put_listener(&p->out, &(struct wire_listener_frame){.kind = l->tls   ? WIRE_LISTEN_TLS
                                                                         : l->tcp ? WIRE_LISTEN_TCP
                                                                                  : WIRE_LISTEN_UNIX,
                                                                 .loopback = l->loopback,
                                                                 .address = l->text});
        peer_send_fd(p, fcntl(l->fd, F_DUPFD_CLOEXEC, 3));
    }
}

static void end_table(struct peer *p)
{
    wire_put_synced(&p->out, &(struct wire_synced){sup_count()});
    peer_send(p);
    explicit_bzero(p->out.p, p->out.size);
}

static void tell_everything(struct peer *p)
{
    put_hello(p);
    put_listeners(p);
    link_put_secrets(p, &self.cfg->rpc);
    link_put_table(p);
    end_table(p);
}

/* --- its process ---------------------------------------------------------------------------------- */

/* On record, so that a successor waits for their end before it opens a socket. */
static void note_listeners(void)
{
    struct facts_process list[FACTS_LISTENERS];
    const struct peer *p;
    unsigned n = 0;

    TAILQ_FOREACH_REVERSE(p, &peer_all, peer_list, link)
    if (p->ref.pid && n < FACTS_LISTENERS)
        list[n++] = (struct facts_process){p->ref.pid, p->ref.start};
    facts_set_listeners(list, n);
}

static void on_respawn(int fd, short what, void *arg)
{
    loop_free(&self.respawn);
    link_start();
}

static void report_failure(const struct spawn_failure *f)
{
    self.unrunnable = true;
    log_error("link", "agentd-rpc: %s %s failed: %s", spawn_stage_name(f->stage), self.path,
              strerror(f->error));
}

static void respawn_later(uint64_t us)
{
    if (!self.respawn)
        self.respawn = loop_timer(us, on_respawn, NULL);
}

/* One that can't even be executed is tried ever more rarely. */
static void replace_dead(void)
{
    uint64_t now = clock_mono_us();

    if (now - self.window > RESPAWN_WINDOW_US) {
        self.window = now;
        self.deaths = 0;
    }
    self.failures = self.unrunnable ? self.failures + (self.failures < 6) : 0;
    if (++self.deaths <= RESPAWN_FAST && !self.unrunnable)
        link_start();
    else
        respawn_later((uint64_t)RESPAWN_SLOW_US << self.failures);
}

static void on_exit_of_listener(pid_t pid, int code, int status, void *arg)
{
    struct peer *p = arg;
    struct spawn_failure f;
    bool served = p == self.current;

    if (served && self.job.status_fd >= 0 && spawn_poll(&self.job, &f) < 0)
        report_failure(&f);
    else if (served && !self.stopping && !self.unrunnable)
        log_warn("link", "agentd-rpc (%d) %s %d: a new one takes over", (int)pid,
                 code == CLD_EXITED ? "exited with" : "was killed by signal", status);
    peer_bury(p);
    note_listeners();
    if (!served)
        return;
    self.current = NULL;
    loop_free(&self.status);
    spawn_done(&self.job);
    if (!self.stopping)
        replace_dead();
}

static void drop_listener(struct peer *p, const char *why)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    log_warn("link", "agentd-rpc (%d) is ended: %s", (int)p->ref.pid, why);
    if (p->ref.pid)
        pidref_signal(&p->ref, SIGKILL);
    caps_enter(scope);
    peer_deafen(p); /* its end is met by reap */
}

static void on_closed_late(int fd, short what, void *arg)
{
    drop_listener(arg, "it has closed its wire and goes on");
}

/* End of file: it is going, its exit follows. */
static void on_wire_end(struct peer *p, const char *broken)
{
    if (broken) {
        drop_listener(p, broken);
        return;
    }
    loop_free(&p->timer);
    p->timer = loop_timer(CLOSED_US, on_closed_late, p);
}

/* For what is asked last to be answered, and for an idle connection to end. */
static uint32_t drain_ms(void)
{
    uint64_t reply = self.cfg->rpc.reply_deadline_ms + 10000;

    return (uint32_t)(reply > LIMIT_DRAIN_SEC * 1000ull ? reply : LIMIT_DRAIN_SEC * 1000ull);
}

static void on_drained_late(int fd, short what, void *arg)
{
    drop_listener(arg, "it does not finish what it holds");
}

/* Too many at once, and the oldest has had its time. */
static void bound_draining(void)
{
    struct peer *p, *oldest = NULL;
    unsigned n = 0;

    TAILQ_FOREACH (p, &peer_all, link)
        if (p->kind == PEER_DRAINING && p->io) {
            oldest = oldest ? oldest : p;
            n++;
        }
    if (n > LIMIT_DRAINING)
        drop_listener(oldest, "too many earlier ones still hold connections");
}

static void drain(struct peer *p)
{
    if (p->kind == PEER_DRAINING)
        return;
    p->kind = PEER_DRAINING;
    peer_make_room(p);
    wire_put_drain(&p->out, &(struct wire_drain){drain_ms()});
    if (!p->timer)
        p->timer = loop_timer((drain_ms() + 2000ull) * 1000, on_drained_late, p);
    bound_draining();
}

static void drain_others(void)
{
    struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link)
        if (link_is_listener(p) && p != self.current)
            drain(p);
}

/* It reads only once it is through with its start, and serves once it has read the whole table. What a dead
 * one has not read is thrown away by the kernel, after its end of the wire was: in this order one can't be
 * taken for the other. */
static bool has_read(const struct peer *p)
{
    struct pollfd end = {.fd = p->fd, .events = POLLRDHUP};
    int unread;

    if (p->n_queued || (ioctl(p->fd, SIOCOUTQ, &unread) == 0 && unread))
        return false;
    return p->io && poll(&end, 1, 0) == 0;
}

/* From now on it is the one that accepts. One that dies before this leaves the earlier one at work. */
static void on_look(int fd, short what, void *arg)
{
    if (!has_read(self.current)) {
        loop_rearm(self.status, LOOK_US);
        return;
    }
    loop_free(&self.status);
    loop_free(&self.current->timer);
    drain_others();
    upgrade_confirm();
}

static void on_read_late(int fd, short what, void *arg)
{
    drop_listener(arg, "it does not read what it is to serve by");
}

/* Its program runs. */
static void on_status(int fd, short what, void *arg)
{
    struct spawn_failure f;
    int r = spawn_poll(&self.job, &f);

    if (r == 0)
        return;
    if (r < 0)
        report_failure(&f);
    loop_free(&self.status);
    spawn_done(&self.job);
    if (r < 0)
        return;
    self.status = loop_timer(LOOK_US, on_look, NULL);
    if (!self.current->timer)
        self.current->timer = loop_timer(READ_US, on_read_late, self.current);
}

static struct peer *make_wire(int *ret_theirs)
{
    int fds[2], size = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return NULL;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* a whole table at once, if allowed */
    /* Descriptors go one way: one that a listener sent would be closed by us, for as long as that takes.
     * Linux 6.16. */
    feature_note(FEATURE_PASS_RIGHTS,
                 setsockopt(fds[0], SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int)) == 0);
    *ret_theirs = fds[1];
    return peer_new(PEER_LISTENER, fds[0], 0, on_wire_end);
}

bool link_is_sent(void)
{
    const struct peer *p;

    link_flush();
    peer_end_round(); /* also to those that have no records */
    TAILQ_FOREACH (p, &peer_all, link)
        if ((p->n_queued || !peer_is_read(p)) && !p->gone)
            return false;
    return self.job.status_fd < 0; /* and none is being started */
}

/* Listeners that already drain go on doing so; the one that served is told to when the next one runs. */
void link_save(struct buf *b)
{
    const struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link) {
        if (p->gone || p->fd < 0 || !p->io || p->kind == PEER_PRIVATE)
            continue;
        state_begin(b, "peer");
        state_put(b, "no", p->no);
        state_put(b, "fd", p->fd);
        state_put(b, "pid", p->ref.pid);
        state_put_u64(b, "start", p->ref.start);
        state_put(b, "draining", p->kind == PEER_DRAINING);
        state_put(b, "wire", p->wire);
        state_put_u64(b, "event", p->event);
        state_end(b);
    }
}

void link_restore(const struct state *s)
{
    for (const char *l = state_next(s, "peer", NULL); l; l = state_next(s, "peer", l)) {
        int fd = state_get_fd(s, l, "fd");
        struct peer *p = fd < 0 ? NULL
                                : peer_new(state_get(s, l, "draining") ? PEER_DRAINING : PEER_LISTENER, fd,
                                           (uint16_t)state_get(s, l, "no"), on_wire_end);
        if (!p)
            continue;
        p->wire = (uint32_t)state_get(s, l, "wire");
        p->event = state_get_u64(s, l, "event");
        /* Our child until it is reaped: the pid can't be another's. */
        if (pidref_reopen(&p->ref, (pid_t)state_get(s, l, "pid"), state_get_u64(s, l, "start")) < 0)
            p->ref = (struct pidref){(pid_t)state_get(s, l, "pid"), -1, state_get_u64(s, l, "start")};
        reap_add(p->ref.pid, on_exit_of_listener, p);
        if (p->kind == PEER_DRAINING)
            p->timer = loop_timer((drain_ms() + 2000ull) * 1000, on_drained_late, p);
    }
}

static int spawn_listener(struct peer *p, int theirs)
{
    struct spawn_failure f;
    int r;

    self.theirs = theirs;
    self.spec.pass_fds = &self.theirs;
    self.spec.n_pass_fds = 1;
    if ((r = spawn_start(&self.spec, &self.job, &f)) < 0)
        return r;
    p->wire = WIRE_VERSION;
    p->ref = self.job.ref;
    self.job.ref = (struct pidref)PIDREF_NULL;
    self.unrunnable = false;
    note_listeners();
    reap_add(p->ref.pid, on_exit_of_listener, p);
    self.status = loop_io(self.job.status_fd, LOOP_READ, on_status, NULL);
    spawn_release(&self.job);
    return 0;
}

void link_start(void)
{
    _cleanup_close_ int theirs = -1;
    struct peer *p;
    int r;

    if (self.stopping || self.current)
        return;
    p = make_wire(&theirs);
    r = p ? spawn_listener(p, theirs) : -errno;
    if (r == 0) {
        self.current = p;
        self.n_listeners++;
        tell_everything(p);
        return;
    }
    if (p)
        peer_bury(p);
    log_error("link", "agentd-rpc can't be started: %s", strerror(-r));
    respawn_later(RESPAWN_SLOW_US);
}

/* The new one comes first: the old one accepts until it runs, then finishes what it holds. */
void link_replace(void)
{
    struct peer *old = self.current;

    if (!old) {
        link_start();
        return;
    }
    loop_free(&self.status);
    if (old->io) /* was it still to read its table: it is not looked at any more, and serves until it drains
                  */
        loop_free(&old->timer);
    spawn_done(&self.job); /* its exec is over or its death is met as any other's */
    self.current = NULL;
    link_start();
}

static void on_stop_late(int fd, short what, void *arg)
{
    struct peer *p;

    loop_free(&self.respawn);
    TAILQ_FOREACH (p, &peer_all, link)
        if (p->ref.pid)
            drop_listener(p, "it does not end");
}

void link_stop(void)
{
    struct peer *p;

    self.stopping = true;
    loop_free(&self.respawn);
    TAILQ_FOREACH (p, &peer_all, link)
        if (p->kind != PEER_PRIVATE)
            peer_close(p); /* end of file tells it to go */
    if (!link_ended())
        self.respawn = loop_timer(STOP_WAIT_US, on_stop_late, NULL);
}

bool link_ended(void)
{
    const struct peer *p;

    TAILQ_FOREACH (p, &peer_all, link)
        if (p->ref.pid && !p->gone)
            return false;
    return true;
}

/* The listener's own user; one that does not exist is replaced by an unused uid from the range that systemd
 * gives to dynamic users (61184 to 65519, systemd.exec(5)), which is nobody else's. */
static void choose_user(const struct cfg *cfg)
{
    struct passwd *pw = getpwnam(cfg->rpc.user);

    if (geteuid() != 0)
        return;
    if (pw) {
        self.uid = pw->pw_uid;
        self.gid = pw->pw_gid;
    } else {
        self.uid = 61184 + (uid_t)(wk_host.dir_hash % (65519 - 61184));
        while (getpwuid(self.uid))
            self.uid++;
        self.gid = self.uid;
        log_info("link", "there is no user %s: agentd-rpc runs as uid %u", cfg->rpc.user, (unsigned)self.uid);
    }
    self.spec.change_ids = true;
    /* nothing in it, where that may be asked for: a container may have taken that away */
    self.spec.has_bounding = prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1;
}

static void choose_environment(void)
{
    static const char *const keep[] = {"TZ", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
                                       "JOURNAL_STREAM"};
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
        const char *v = getenv(keep[i]);
        if (v && asprintf(&self.env_text[n], "%s=%s", keep[i], v) > 0) {
            self.env[n] = self.env_text[n];
            n++;
        }
    }
}

static struct rlimit no_core[RLIM_NLIMITS];

int link_init(const struct cfg *cfg, const char *path, struct err *err)
{
    if (access(path, X_OK) < 0)
        return err_set(err, errno, "%s: %s: the listener can't be run", path, strerror(errno));
    self.path = strdup(path);
    self.cfg = cfg;
    self.begun_us = clock_wall_us();
    self.agent_update_us = (uint64_t)self.begun_us;
    self.argv[0] = (char *)(uintptr_t) "agentd-rpc";
    self.spec = (struct spawn_spec){.path = self.path,
                                    .argv = self.argv,
                                    .envp = self.env,
                                    .umask = 077,
                                    .out = {.kind = SPAWN_OUT_INHERIT},
                                    .err = {.kind = SPAWN_OUT_INHERIT},
                                    .limits = no_core,
                                    .limits_set = 1u << RLIMIT_CORE,
                                    .no_new_privileges = true,
                                    .ignore_sigpipe = true,
                                    .cgroup_fd = -1};
    choose_user(cfg);
    choose_environment();
    self.spec.uid = self.uid;
    self.spec.gid = self.gid;
    manager_gid = group_id(cfg->rpc.manager_group);
    viewer_gid = group_id(cfg->rpc.viewer_group);
    return 0;
}

void link_reconfigure(const struct cfg *cfg)
{
    struct peer *p;

    self.cfg = cfg;
    self.agent_update_us = (uint64_t)clock_wall_us();
    link_flush();
    TAILQ_FOREACH (p, &peer_all, link)
        if (link_is_listener(p)) {
            put_hello(p);
            link_put_secrets(p, &self.cfg->rpc);
            end_table(p);
        }
}
