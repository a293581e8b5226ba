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
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/calls.h"
#include "agentd/listen.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "agentd/reap.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/spawn.h"

#define RESPAWN_FAST 5 /* deaths within RESPAWN_WINDOW_US that are answered at once */
#define RESPAWN_WINDOW_US 1000000
#define RESPAWN_SLOW_US 500000
#define STOP_WAIT_US 2000000 /* it says goodbye to whom it still holds */
#define PUSH_US 1000
#define PACKETS_A_ROUND 64
#define FRAME_ROOM (LIMIT_WIRE_PACKET - 12288) /* a packet is sent before a record could overflow it */

struct packet {
    STAILQ_ENTRY(packet) link;
    size_t len;
    int pass_fd; /* travels with it, or -1 */
    char bytes[];
};

static struct {
    char *path;
    const struct cfg *cfg;
    int fd;
    struct pidref ref;
    struct spawn_job job;
    struct spawn_spec spec;
    struct loop_watch *io, *out_io, *status, *respawn, *push;
    char *argv[2], *env[8], *env_text[8];
    struct buf out; /* frames of this round */
    unsigned deaths;
    uint64_t window;   /* monotonic */
    unsigned failures; /* to execute it, in a row */
    bool unrunnable;
    uint64_t agent_update_us;
    bool stopping;
    unsigned n_queued;
    uid_t uid;
    gid_t gid;
    STAILQ_HEAD(, packet) queue;
} self = {.fd = -1, .ref = PIDREF_NULL, .out = BUF_INIT(LIMIT_WIRE_PACKET)};

static TAILQ_HEAD(, wk) dirty_workers = TAILQ_HEAD_INITIALIZER(dirty_workers);

static void on_wire(int fd, short what, void *arg);
static void drop_listener(const char *why);

/* --- sending ------------------------------------------------------------------------------------ */

static int send_now(const void *p, size_t n, int pass_fd)
{
    char control[CMSG_SPACE(sizeof(int))] = "";
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (pass_fd >= 0) {
        m.msg_control = control;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
    }
    return sendmsg(self.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void on_writable(int fd, short what, void *arg)
{
    struct packet *p;

    while ((p = STAILQ_FIRST(&self.queue))) {
        int r = send_now(p->bytes, p->len, p->pass_fd);
        if (r == -EAGAIN)
            return;
        STAILQ_REMOVE_HEAD(&self.queue, link);
        self.n_queued--;
        fd_close(p->pass_fd);
        free(p);
    }
    loop_free(&self.out_io);
}

static void enqueue(const void *bytes, size_t n, int pass_fd)
{
    struct packet *p;

    if (self.n_queued >= LIMIT_WIRE_REPLIES || !(p = malloc(sizeof(*p) + n))) {
        fd_close(pass_fd);
        drop_listener("it does not read");
        return;
    }
    p->len = n;
    p->pass_fd = pass_fd;
    memcpy(p->bytes, bytes, n);
    STAILQ_INSERT_TAIL(&self.queue, p, link);
    self.n_queued++;
    if (!self.out_io)
        self.out_io = loop_io(self.fd, LOOP_WRITE, on_writable, NULL);
}

/* Sends or queues; takes pass_fd over. Order is kept. */
static void send_packet(const void *p, size_t n, int pass_fd)
{
    int r;

    if (self.fd < 0) {
        fd_close(pass_fd);
        return;
    }
    r = self.n_queued ? -EAGAIN : send_now(p, n, pass_fd);
    if (r == -EAGAIN)
        enqueue(p, n, pass_fd);
    else
        fd_close(pass_fd);
}

static void send_out(void)
{
    if (self.out.len && !self.out.error)
        send_packet(self.out.p, self.out.len, -1);
    buf_reset(&self.out);
}

static void make_frame_room(void)
{
    if (self.out.len > FRAME_ROOM)
        send_out();
}

/* A record that does not fit behind the others starts a packet of its own; one too long even for that is
 * said, not sent. */
static void put_record(struct wk *w)
{
    size_t before = self.out.len;

    view_put_record(w, &self.out);
    if (self.out.error && before) {
        self.out.error = 0;
        self.out.len = before;
        send_out();
        view_put_record(w, &self.out);
    }
    if (self.out.error) {
        log_error("link", "%s: its record is too long for the wire", w->def->alias);
        buf_reset(&self.out);
    }
    make_frame_room();
}

void link_changed(struct wk *w)
{
    if (w->dirty)
        return;
    w->dirty = true;
    TAILQ_INSERT_TAIL(&dirty_workers, w, dirty_link);
}

/* Records first, then the replies that speak of them: they stand in self.out already. A listener that does
 * not keep up gets each worker's newest record later, not every one in between. */
void link_flush(void)
{
    struct buf replies = self.out;
    struct wk *w;

    loop_free(&self.push);
    if (TAILQ_EMPTY(&dirty_workers) || self.fd < 0) {
        send_out();
        return;
    }
    self.out = (struct buf)BUF_INIT(LIMIT_WIRE_PACKET);
    while ((w = TAILQ_FIRST(&dirty_workers)) && (self.n_queued < LIMIT_WIRE_REPLIES / 2 || replies.len)) {
        TAILQ_REMOVE(&dirty_workers, w, dirty_link);
        w->dirty = false;
        put_record(w);
    }
    if (self.out.len + replies.len >= LIMIT_WIRE_PACKET)
        send_out();
    buf_put(&self.out, replies.p ? replies.p : "", replies.len);
    send_out();
    buf_free(&replies);
}

static void on_push(int fd, short what, void *arg)
{
    link_flush();
}

/* A reply goes out at once, and with it all records. Records alone wait up to PUSH_US for more: a restart
 * changes its record four times within a millisecond, and waking the listener each time would take the
 * processor from the worker. */
void link_end_round(void)
{
    if (self.out.len || self.fd < 0)
        link_flush();
    else if (!TAILQ_EMPTY(&dirty_workers) && !self.push)
        self.push = loop_timer(PUSH_US, on_push, NULL);
}

void link_forget(struct wk *w)
{
    if (w->dirty)
        TAILQ_REMOVE(&dirty_workers, w, dirty_link);
    w->dirty = false;
    if (self.fd < 0)
        return;
    make_frame_room();
    wire_put_forget(&self.out, &(struct wire_forget){w->id});
}

void link_reply(const struct wire_reply *r)
{
    if (self.fd < 0)
        return;
    if (self.out.len > FRAME_ROOM)
        link_flush();
    wire_put_reply(&self.out, r);
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

static void put_hello(void)
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
        .max_request_bytes = c->rpc.max_request_bytes,
        .plaintext_credentials = c->rpc.plaintext_credentials,
    };

    wire_put_hello(&self.out, &h);
}

static void put_credentials(void)
{
    _cleanup_free_ char *text = NULL;
    char *save = NULL;
    int fd = open(self.cfg->rpc.credentials, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : fd_read_all(fd, LIMIT_CREDENTIALS * LIMIT_CREDENTIAL_LINE, &text);

    fd_close(fd);
    if (n < 0)
        return; /* the configuration reader has judged file and mode */
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#' || strlen(line) > LIMIT_CREDENTIAL_LINE)
            continue;
        make_frame_room();
        wire_put_credential(&self.out, &(struct wire_credential){line});
    }
    explicit_bzero(text, (size_t)n);
}

static void put_listeners(void)
{
    const struct listen_socket *l;

    for (unsigned i = 0; (l = listen_get(i)); i++) {
        send_out();
        wire_put_listener(&self.out,
                          &(struct wire_listener_frame){.kind = l->tcp ? WIRE_LISTEN_TCP : WIRE_LISTEN_UNIX,
                                                        .loopback = l->loopback,
                                                        .address = l->text});
        send_packet(self.out.p, self.out.len, fcntl(l->fd, F_DUPFD_CLOEXEC, 3));
        buf_reset(&self.out);
    }
}

static void tell_everything(void)
{
    struct wk *w;

    put_hello();
    put_listeners();
    put_credentials();
    TAILQ_FOREACH (w, &sup_workers, link) {
        if (w->dirty)
            TAILQ_REMOVE(&dirty_workers, w, dirty_link);
        w->dirty = false;
        make_frame_room();
        put_record(w);
    }
    wire_put_synced(&self.out, &(struct wire_synced){sup_count()});
    send_out();
    explicit_bzero(self.out.p, self.out.size);
}

/* --- its process ---------------------------------------------------------------------------------- */

static void release(void)
{
    struct packet *p;

    loop_free(&self.io);
    loop_free(&self.out_io);
    loop_free(&self.status);
    self.fd = fd_close(self.fd);
    while ((p = STAILQ_FIRST(&self.queue))) {
        STAILQ_REMOVE_HEAD(&self.queue, link);
        fd_close(p->pass_fd);
        free(p);
    }
    self.n_queued = 0;
    buf_reset(&self.out);
    op_forget_waiters();
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

static void on_exit_of_listener(pid_t pid, int code, int status, void *arg)
{
    uint64_t now = clock_mono_us();
    struct spawn_failure f;

    if (self.job.status_fd >= 0 && spawn_poll(&self.job, &f) < 0)
        report_failure(&f);
    else if (!self.stopping && !self.unrunnable)
        log_warn("link", "agentd-rpc (%d) %s %d: a new one takes over", (int)pid,
                 code == CLD_EXITED ? "exited with" : "was killed by signal", status);
    spawn_done(&self.job);
    pidref_done(&self.ref);
    release();
    if (self.stopping) {
        loop_free(&self.respawn);
        return;
    }
    if (now - self.window > RESPAWN_WINDOW_US) {
        self.window = now;
        self.deaths = 0;
    }
    self.failures = self.unrunnable ? self.failures + (self.failures < 6) : 0;
    if (++self.deaths <= RESPAWN_FAST && !self.unrunnable)
        link_start();
    else /* one that can't even be executed is tried ever more rarely */
        self.respawn = loop_timer((uint64_t)RESPAWN_SLOW_US << self.failures, on_respawn, NULL);
}

static void drop_listener(const char *why)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL);

    log_warn("link", "agentd-rpc is replaced: %s", why);
    if (self.ref.pid)
        pidref_signal(&self.ref, SIGKILL);
    caps_enter(scope);
    loop_free(&self.io); /* nothing of it is heard any more; its end is met by reap */
}

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
}

static int make_pair(int *ret_theirs)
{
    int fds[2], size = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -errno;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* a whole table at once, if allowed */
    self.fd = fds[0];
    *ret_theirs = fds[1];
    return 0;
}

void link_start(void)
{
    struct spawn_failure f;
    int theirs = -1;

    if (self.stopping || self.ref.pid)
        return;
    if (make_pair(&theirs) < 0)
        goto failed;
    self.spec.pass_fd = theirs;
    if (spawn_start(&self.spec, &self.job, &f) < 0)
        goto failed;
    fd_close(theirs);
    self.ref = self.job.ref;
    self.job.ref = (struct pidref)PIDREF_NULL;
    self.unrunnable = false;
    reap_add(self.ref.pid, on_exit_of_listener, NULL);
    self.status = loop_io(self.job.status_fd, LOOP_READ, on_status, NULL);
    spawn_release(&self.job);
    self.io = loop_io(self.fd, LOOP_READ, on_wire, NULL);
    tell_everything();
    return;
failed:
    fd_close(theirs);
    self.fd = fd_close(self.fd);
    log_error("link", "agentd-rpc can't be started: %m");
    self.respawn = loop_timer(RESPAWN_SLOW_US, on_respawn, NULL);
}

void link_replace(void)
{
    drop_listener("its sockets changed");
}

static void on_stop_late(int fd, short what, void *arg)
{
    loop_free(&self.respawn);
    drop_listener("it does not end");
}

void link_stop(void)
{
    self.stopping = true;
    loop_free(&self.respawn);
    release(); /* end of file tells it to go */
    if (self.ref.pid)
        self.respawn = loop_timer(STOP_WAIT_US, on_stop_late, NULL);
}

bool link_ended(void)
{
    return self.ref.pid == 0;
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
    STAILQ_INIT(&self.queue);
    self.path = strdup(path);
    self.cfg = cfg;
    self.agent_update_us = (uint64_t)clock_wall_us();
    self.argv[0] = (char *)(uintptr_t) "agentd-rpc";
    self.job = (struct spawn_job)SPAWN_JOB_NULL;
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
                                    .pass_fd = -1,
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
    self.cfg = cfg;
    self.agent_update_us = (uint64_t)clock_wall_us();
    if (self.fd < 0)
        return;
    link_flush();
    put_hello();
    put_credentials();
    wire_put_synced(&self.out, &(struct wire_synced){sup_count()});
    send_out();
    explicit_bzero(self.out.p, self.out.size);
}

/* --- what it says --------------------------------------------------------------------------------- */

void link_stream(uint64_t call, int fd)
{
    link_flush();
    wire_put_stream(&self.out, &(struct wire_stream){call});
    send_packet(self.out.p, self.out.len, fd);
    buf_reset(&self.out);
}

static int take_packet(const uint8_t *at, size_t n)
{
    struct wire_frame f;
    struct wire_call c;
    int r;

    while ((r = wire_next(&at, &n, &f)) > 0) {
        if (f.type != WIRE_CALL || wire_get_call(&f, &c) < 0 || c.verb == 0 || c.verb >= WIRE_VERB_MAX)
            return -EBADMSG;
        calls_take(&c);
    }
    return r;
}

/* No control buffer: descriptors that it might send are closed by the kernel. */
static void on_wire(int fd, short what, void *arg)
{
    static uint8_t bytes[LIMIT_WIRE_PACKET];

    for (int i = 0; i < PACKETS_A_ROUND && self.io; i++) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) { /* end of file: it is going; SIGCHLD follows */
            loop_free(&self.io);
            return;
        }
        if ((size_t)n > sizeof(bytes) || take_packet(bytes, (size_t)n) < 0) {
            drop_listener("it sent a broken frame");
            return;
        }
    }
}
