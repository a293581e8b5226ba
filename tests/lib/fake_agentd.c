/* SPDX-License-Identifier: Apache-2.0 */
/* A test double of agentd: opens listeners in a folder, starts agentd-rpc on one end of the wire and answers
 * its calls by the worker's alias. Driven by lines on standard input, tells what happens in lines on standard
 * output, so that a test waits for events only.
 *   usage: fake_agentd AGENTD-RPC DIR [key=value...]     keys: see set_option
 *   in:  finish | append TEXT | endlog | forget ID | hello | streams | quiet 0|1 | close | quit
 *   out: ready PORT PID | call VERB WORKER REASON ACTOR FROM LIMIT FOLLOW NAME | exited STATUS */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/logstream.h"
#include "wire/wire.h"

#define WORKERS 5
#define CREDENTIALS 8

static struct wire_hello hello = {.version = "0.1.0",
                                  .wire = WIRE_VERSION,
                                  .host_id = 20,
                                  .agent_id = 20,
                                  .install_home = "/opt/agentd",
                                  .log_home = "/var/log/agentd",
                                  .host_ip = "10.0.0.1",
                                  .create_us = 1700000000000000,
                                  .update_us = 1700000001000000,
                                  .own_uid = 0,
                                  .manager_gid = -1,
                                  .viewer_gid = -1,
                                  .sample_max_age_ms = 1000,
                                  .reply_deadline_ms = 5000,
                                  .request_deadline_ms = 5000,
                                  .max_connections = 128,
                                  .max_request_bytes = 65536};

static struct wire_record workers[WORKERS] = {
    {.id = 1, .alias = "web", .alive = 1, .operable = 1, .pid = 812, .ports = "80,443"},
    {.id = 2, .alias = "slow", .alive = 1, .operable = 1, .pid = 900, .ports = ""},
    {.id = 3, .alias = "down", .alive = 0, .operable = 1, .ports = ""},
    {.id = 4, .alias = "broken", .alive = 0, .operable = 1, .ports = ""},
    {.id = 5, .alias = "locked", .alive = 1, .operable = 0, .pid = 950, .ports = "22"},
};

static const char *credentials[CREDENTIALS];
static const char *description = "a \"quoted\" \xe2\x82\xac thing";
static unsigned credential_count, extra_workers;
static uint64_t pending_call;
static int64_t pending_worker;
static uint8_t pending_verb;
static int wire_fd = -1, log_fd = -1, tcp_loopback = 1;
static uint64_t late_calls[64];
static unsigned late_count;
static bool quiet, stale_samples;
static struct buf out = BUF_INIT(LIMIT_WIRE_PACKET);

static void fill_worker(struct wire_record *w)
{
    w->description = description;
    w->state = w->alive ? "UP" : "DOWN";
    w->goal = w->alive ? "UP" : "DOWN";
    w->goal_by = "config";
    w->reason = w->alive ? "ready" : "stopped";
    w->ready = w->alive;
    w->ownership = w->alive ? "child" : "";
    w->generation = w->generation ? w->generation : 1;
    w->user = "www";
    w->uid = 33;
    w->start_ticks = 1234;
    w->start_boot_us = clock_boot_us() > 5000000 ? clock_boot_us() - 5000000 : 0;
    w->start_command = "/usr/bin/web --serve\t\"x\"";
    w->log_pattern = "/var/log/web/*.log";
    w->output = "/var/log/agentd/web.log";
    w->processes = 3;
    w->cpu_us = 123456;
    w->memory = 7 << 20;
    w->sampled_us = clock_mono_us();
    w->since_us = w->create_us = w->update_us = w->goal_us = 1700000002345678;
    w->active_us = 1700000003456789;
    w->exit_kind = w->generation > 1 ? "killed" : "";
    w->exit_status = 15;
    w->exit_us = 1700000004000000;
    w->stale = "definition";
}

static int send_packet(int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec v = {out.p, out.len};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

    if (fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t n = out.error ? -1 : sendmsg(wire_fd, &m, MSG_NOSIGNAL);
    buf_reset(&out);
    return n < 0 ? -1 : 0;
}

static void send_extra(void)
{
    char alias[32];

    for (unsigned i = 0; i < extra_workers; i++) {
        struct wire_record w = {.id = 1000 + i, .alive = 1, .operable = 1, .pid = 10000 + i, .ports = "8080"};
        snprintf(alias, sizeof(alias), "extra%u", i);
        w.alias = alias;
        fill_worker(&w);
        wire_put_record(&out, &w);
        if (out.len > LIMIT_WIRE_PACKET - 2048)
            send_packet(-1);
    }
    if (out.len)
        send_packet(-1);
}

static void send_hello(bool records)
{
    struct wire_synced s = {.workers = WORKERS};

    wire_put_hello(&out, &hello);
    for (unsigned i = 0; i < credential_count; i++)
        wire_put_credential(&out, &(struct wire_credential){credentials[i]});
    for (int i = 0; records && i < WORKERS; i++) {
        fill_worker(&workers[i]);
        if (stale_samples)
            workers[i].sampled_us = 0;
        wire_put_record(&out, &workers[i]);
    }
    send_packet(-1);
    if (records)
        send_extra();
    wire_put_synced(&out, &s);
    send_packet(-1);
}

static void send_listener(int fd, uint8_t kind, const char *address)
{
    struct wire_listener_frame l = {kind, (uint8_t)(kind == WIRE_LISTEN_TCP && tcp_loopback), address};

    wire_put_listener(&out, &l);
    send_packet(fd);
    close(fd);
}

static int open_unix(const char *dir, char *path, size_t size)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(path, size, "%s/agentd.sock", dir);
    str_copy(sa.sun_path, sizeof(sa.sun_path), path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0666) < 0 || listen(fd, 128) < 0)
        exit(70);
    return fd;
}

static int open_tcp(unsigned *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
        exit(71);
    *port = ntohs(sa.sin_port);
    return fd;
}

static void put_operation(struct wire_reply *r, const struct wire_record *w, uint8_t verb, const char *result)
{
    r->has_operation = 1;
    r->operation = "op-1";
    r->verb = verb == WIRE_VERB_RESTART ? "restart" : verb == WIRE_VERB_STOP ? "stop" : "start";
    r->alias = w->alias;
    r->actor = "uid:0";
    r->source = "unix";
    r->result = result;
    r->created_us = 1700000005000000;
    r->phases = "stop:1234,spawn:567,ready:8";
    r->before_pid = 812;
    r->before_start = 1234;
    r->before_generation = 1;
    r->after_pid = w->pid;
    r->after_start = w->start_ticks;
    r->after_generation = w->generation;
    r->killed = "812,813";
}

/* What a change does to a worker of ours, and the reply that proves it, in one packet. */
static void finish_change(uint64_t call, int64_t worker, uint8_t verb)
{
    struct wire_record *w = &workers[worker - 1];
    struct wire_reply r = {.call = call};

    w->alive = verb != WIRE_VERB_STOP;
    if (verb == WIRE_VERB_RESTART || !w->pid) {
        w->pid = w->pid ? w->pid + 33 : 812;
        w->generation++;
    }
    fill_worker(w);
    wire_put_record(&out, w);
    put_operation(&r, w, verb, "done");
    r.ended_us = 1700000005012345;
    wire_put_reply(&out, &r);
    send_packet(-1);
}

static void accept_change(const struct wire_call *c)
{
    struct wire_reply r = {.call = c->call, .error = WIRE_E_ACCEPTED};

    put_operation(&r, &workers[c->worker - 1], c->verb, "running");
    wire_put_reply(&out, &r);
    send_packet(-1);
    if (c->worker == 2) {
        pending_call = c->call;
        pending_worker = c->worker;
        pending_verb = c->verb;
    } else {
        finish_change(c->call, c->worker, c->verb);
    }
}

static void refuse(const struct wire_call *c, enum wire_error e, const char *message)
{
    struct wire_reply r = {.call = c->call, .error = (uint8_t)e, .message = message};

    if (e == WIRE_E_START_FAILED)
        put_operation(&r, &workers[c->worker - 1], c->verb, "failed");
    wire_put_reply(&out, &r);
    send_packet(-1);
}

static void write_log(const struct wire_call *c, int to)
{
    struct wire_log_head head = {.device = 1, .inode = 42, .from = c->from == UINT64_MAX ? 100 : c->from};
    char block[65536];

    if (str_eq(c->name, "missing"))
        head.error = ENOENT;
    if (str_eq(c->name, "denied")) {
        head.error = EACCES;
        str_copy(head.message, sizeof(head.message), "denied: Permission denied");
    }
    fd_write_all(to, &head, sizeof(head));
    if (str_eq(c->name, "app.log"))
        fd_write_all(to, "line one\nline two\n", 18);
    if (!str_eq(c->name, "big.log"))
        return;
    memset(block, 'x', sizeof(block));
    if (fork() == 0) {
        signal(SIGPIPE, SIG_DFL);
        close(wire_fd);
        for (int i = 0; i < 256; i++)
            fd_write_all(to, block, sizeof(block));
        _exit(0);
    }
}

/* More than one frame holds. */
static void put_plan(const struct wire_call *c)
{
    static const char first[] = "\tupdate\tin force\tHostId=live,ListenStream=restart of agentd\n";

    struct wire_reply part = {.call = c->call, .items = first, .more = 1};
    struct wire_reply rest = {.call = c->call,
                              .message = "/w/bad.conf:3:1: wrong\n",
                              .items = "bad\tkeep\t/w/bad.conf:3:1: wrong\t\n"};

    wire_put_reply(&out, &part);
    wire_put_reply(&out, &rest);
    send_packet(-1);
}

static void open_log(const struct wire_call *c)
{
    struct wire_stream s = {c->call};
    int ends[2];

    if (str_eq(c->name, "refused")) {
        refuse(c, WIRE_E_NO_LOG, "");
        return;
    }
    if (str_eq(c->name, "late") && late_count < ARRAY_LEN(late_calls)) {
        late_calls[late_count++] = c->call;
        return;
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        exit(72);
    if (str_eq(c->name, "mute"))
        fcntl(ends[1], F_DUPFD_CLOEXEC, 0); /* neither a head nor an end ever comes */
    wire_put_stream(&out, &s);
    send_packet(ends[0]);
    close(ends[0]);
    if (!str_eq(c->name, "mute"))
        write_log(c, ends[1]);
    if (c->follow)
        log_fd = ends[1];
    else
        close(ends[1]);
}

/* The streams of all calls for the log "late", from a helper that still has nothing to say. */
static void send_late(void)
{
    while (late_count) {
        struct wire_stream s = {late_calls[--late_count]};
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0) /* the writing end stays open */
            exit(72);
        wire_put_stream(&out, &s);
        send_packet(ends[0]);
        close(ends[0]);
    }
}

static void sample(const struct wire_call *c)
{
    struct wire_reply r = {.call = c->call};

    for (int i = 0; i < WORKERS; i++)
        if (workers[i].alive && (c->worker == 0 || c->worker == workers[i].id)) {
            fill_worker(&workers[i]);
            wire_put_record(&out, &workers[i]);
        }
    wire_put_reply(&out, &r);
    send_packet(-1);
}

static void answer(const struct wire_call *c)
{
    struct wire_reply r = {.call = c->call};

    switch (c->verb) {
    case WIRE_VERB_SAMPLE:
        sample(c);
        return;
    case WIRE_VERB_LOG_LIST:
        r.items = "app.log\t18\t1700000007000000\nbig.log\t1048576\t1700000006000000\n";
        break;
    case WIRE_VERB_LOG_OPEN:
        open_log(c);
        return;
    case WIRE_VERB_RELOAD:
        r.operation = "op-2";
        r.items = "web\trestart\tchanged\tUser=restart,Nice=live\nnew\tadd\t\t\n";
        break;
    case WIRE_VERB_RELOAD_PLAN:
        put_plan(c);
        return;
    case WIRE_VERB_OPERATION:
        if (str_eq(c->name, "op-1"))
            put_operation(&r, &workers[0], WIRE_VERB_RESTART, "done");
        else
            r.error = WIRE_E_NO_OPERATION;
        break;
    default:
        if (c->worker == 4)
            refuse(c, WIRE_E_START_FAILED, "exec: ENOENT /usr/bin/broken");
        else if (c->worker == 5)
            refuse(c, WIRE_E_NOT_OPERABLE, "");
        else if (c->worker >= 1 && c->worker <= WORKERS)
            accept_change(c);
        else
            refuse(c, WIRE_E_NO_PROCESS, "");
        return;
    }
    wire_put_reply(&out, &r);
    send_packet(-1);
}

static bool on_wire(void)
{
    static uint8_t packet[LIMIT_WIRE_PACKET];
    ssize_t got = recv(wire_fd, packet, sizeof(packet), 0);
    const uint8_t *at = packet;
    size_t n = got > 0 ? (size_t)got : 0;
    struct wire_frame f;
    struct wire_call c;

    if (got <= 0)
        return false;
    while (wire_next(&at, &n, &f) > 0) {
        if (f.type != WIRE_CALL || wire_get_call(&f, &c) < 0)
            exit(73);
        if (c.verb == WIRE_VERB_REFUSED) { /* no question */
            printf("refused %llu %llu [%s] [%s]\n", (unsigned long long)c.from, (unsigned long long)c.limit,
                   c.what, c.name);
            continue;
        }
        if (!quiet)
            answer(&c);
        printf("call %u %lld [%s] [%s] %llu %llu %u [%s] [%s] %u\n", c.verb, (long long)c.worker, c.reason,
               c.actor, (unsigned long long)c.from, (unsigned long long)c.limit, c.follow, c.name,
               c.generations, c.at_once);
    }
    return true;
}

static bool on_line(char *line)
{
    line[strcspn(line, "\n")] = 0;
    if (str_eq(line, "finish"))
        finish_change(pending_call, pending_worker, pending_verb);
    else if (str_starts(line, "append "))
        fd_write_all(log_fd, line + 7, strlen(line + 7));
    else if (str_eq(line, "endlog"))
        log_fd = fd_close(log_fd);
    else if (str_starts(line, "forget ")) {
        wire_put_forget(&out, &(struct wire_forget){atoll(line + 7)});
        send_packet(-1);
    } else if (str_eq(line, "streams"))
        send_late();
    else if (str_eq(line, "hello"))
        send_hello(false);
    else if (str_starts(line, "quiet "))
        quiet = line[6] == '1';
    else if (str_eq(line, "close"))
        shutdown(wire_fd, SHUT_RDWR);
    printf("did %s\n", line);
    return !str_eq(line, "quit");
}

static void set_option(char *arg)
{
    char *v = strchr(arg, '=');

    if (!v || credential_count == CREDENTIALS)
        exit(64);
    *v++ = 0;
    if (str_eq(arg, "host_id"))
        hello.host_id = atoll(v);
    else if (str_eq(arg, "wire"))
        hello.wire = (uint32_t)atoi(v);
    else if (str_eq(arg, "description"))
        description = v;
    else if (str_eq(arg, "version"))
        hello.version = v;
    else if (str_eq(arg, "manager_gid"))
        hello.manager_gid = atoll(v);
    else if (str_eq(arg, "viewer_gid"))
        hello.viewer_gid = atoll(v);
    else if (str_eq(arg, "sample_max_age_ms"))
        hello.sample_max_age_ms = (uint32_t)atoi(v);
    else if (str_eq(arg, "reply_deadline_ms"))
        hello.reply_deadline_ms = (uint32_t)atoi(v);
    else if (str_eq(arg, "request_deadline_ms"))
        hello.request_deadline_ms = (uint32_t)atoi(v);
    else if (str_eq(arg, "max_connections"))
        hello.max_connections = (uint32_t)atoi(v);
    else if (str_eq(arg, "plaintext"))
        hello.plaintext_credentials = (uint8_t)atoi(v);
    else if (str_eq(arg, "loopback"))
        tcp_loopback = atoi(v);
    else if (str_eq(arg, "stale"))
        stale_samples = atoi(v);
    else if (str_eq(arg, "extra"))
        extra_workers = (unsigned)atoi(v);
    else if (str_eq(arg, "credential"))
        credentials[credential_count++] = v;
    else
        exit(64);
}

static pid_t start_rpc(const char *program)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0)
        exit(74);
    if (pid == 0) {
        /* 3 may be the other end: out of the way first */
        int fd = fcntl(pair[1], F_DUPFD, 10);
        close(pair[0]);
        dup2(fd, 3);
        close(fd);
        execl(program, "agentd-rpc", (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    wire_fd = pair[0];
    return pid;
}

int main(int argc, char **argv)
{
    char path[108], address[32], line[4096];
    unsigned port = 0;
    int status = 0, tcp, un;
    pid_t pid;

    if (argc < 3)
        return 64;
    for (int i = 3; i < argc; i++)
        set_option(argv[i]);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    un = open_unix(argv[2], path, sizeof(path));
    tcp = open_tcp(&port);
    pid = start_rpc(argv[1]);
    snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    send_listener(un, WIRE_LISTEN_UNIX, path);
    send_listener(tcp, WIRE_LISTEN_TCP, address);
    send_hello(true);
    printf("ready %u %d\n", port, (int)pid);
    for (;;) {
        struct pollfd p[2] = {{.fd = wire_fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents && !on_wire())
            break;
        if (p[1].revents && (!fgets(line, sizeof(line), stdin) || !on_line(line)))
            break;
    }
    close(wire_fd);
    waitpid(pid, &status, 0);
    printf("exited %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
