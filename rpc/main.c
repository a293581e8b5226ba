/* SPDX-License-Identifier: Apache-2.0 */
/* agentd-rpc: started by agentd, with the wire as descriptor 3, under a user of its own. It serves HTTP on
 * the sockets it is handed and ends with agentd. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "rpc/audit.h"
#include "rpc/auth.h"
#include "rpc/call.h"
#include "rpc/events.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "rpc/request.h"
#include "rpc/sandbox.h"
#include "rpc/stats.h"
#include "rpc/stream.h"
#include "rpc/tls.h"

#define WIRE_FD 3
#define LAST_LOOK_US 20000
#define LAST_LOOKS 25 /* half a second: then it ends, whoever still reads */

static struct event_base *base;
static struct event *last_look;
static int looks;

static void on_last_look(evutil_socket_t fd, short what, void *arg)
{
    if (listen_idle() || ++looks >= LAST_LOOKS)
        event_base_loopbreak(base);
}

/* agentd has gone: nobody may think that this table is alive. */
static void on_wire_end(void)
{
    struct timeval tv = {0, LAST_LOOK_US};

    log_info("main", "agentd has closed the wire: ending");
    events_end_all();
    listen_stop();
    request_refuse_all();
    auth_cancel_all();
    call_lose_all();
    event_add(last_look, &tv);
}

static void end_loop(void)
{
    event_base_loopbreak(base);
}

/* Another listener accepts from the same sockets by now. */
static void on_drain(uint32_t grace_ms)
{
    struct timeval tv = {grace_ms / 1000, (suseconds_t)(grace_ms % 1000) * 1000};

    log_info("main", "another listener takes over: finishing what is held");
    event_base_loopexit(base, &tv);
    events_end_all();
    listen_drain(end_loop);
}

static void on_event_log(int severity, const char *message)
{
    log_debug("libevent", "%s", message);
}

static void on_event_fatal(int code)
{
    log_error("libevent", "a fatal error");
    _exit(1);
}

static struct event_base *make_base(void)
{
    struct event_config *cfg = event_config_new();
    struct event_base *b = NULL;

    /* the change list: an interest that comes and goes within one turn costs no system call */
    if (cfg && event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST) == 0)
        b = event_base_new_with_config(cfg);
    if (cfg)
        event_config_free(cfg);
    return b;
}

static int is_wire(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int start(void)
{
    int r;

    if (!is_wire(WIRE_FD))
        return -ENOTSOCK;
    if ((r = sandbox_early()) < 0)
        return r;
    tzset(); /* reads the zone now: files are out of reach later */
    signal(SIGPIPE, SIG_IGN);
    event_set_log_callback(on_event_log);
    event_set_fatal_callback(on_event_fatal);
    if (!(base = make_base()) || !(last_look = event_new(base, -1, EV_PERSIST, on_last_look, NULL)))
        return -ENOMEM;
    reply_init();
    stats_init();
    stream_init(base);
    if ((r = listen_init(base, request_serve)) < 0 || (r = call_init(base)) < 0 ||
        (r = auth_init(base)) < 0 || (r = audit_init(base)) < 0 || (r = events_init(base)) < 0 ||
        (r = link_init(base, WIRE_FD, on_wire_end, on_drain)) < 0)
        return r;
    return sandbox_close();
}

/* --check-tls: frames of what TLS is made of on standard input, a line for each thing that is wrong on
 * standard output: "e" or "w", the part's number, a tab, why. */
static int n_errors;

static void print_wrong(bool error, enum wire_tls_part part, const char *why)
{
    n_errors += error;
    printf("%c%d\t%s\n", error ? 'e' : 'w', part, why);
}

static int take_frames(const char *text, size_t n)
{
    const uint8_t *at = (const uint8_t *)text;
    struct wire_frame f;
    struct wire_tls v;
    int r;

    tls_begin();
    while ((r = wire_next(&at, &n, &f)) > 0)
        if (f.type != WIRE_TLS || wire_get_tls(&f, &v) < 0 || (r = tls_take(&v)) < 0)
            return r < 0 ? r : -EBADMSG;
    return r;
}

static int check_tls(void)
{
    char *text = NULL;
    ssize_t n = fd_read_all(STDIN_FILENO, LIMIT_TLS_FRAMES, &text);
    int r = n < 0 ? (int)n : take_frames(text, (size_t)n);

    if (n > 0)
        explicit_bzero(text, (size_t)n);
    free(text);
    if (r < 0) {
        log_error("main", "--check-tls: %s", strerror(-r));
        return EXIT_FAILURE;
    }
    tls_judge(print_wrong);
    tls_begin(); /* wipes it */
    return n_errors ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc == 2 && str_eq(argv[1], "--check-tls"))
        return check_tls();

    int r = start();

    if (r < 0) {
        log_error("main", "start: %s%s", strerror(-r),
                  r == -ENOTSOCK ? " (agentd-rpc is started by agentd only)" : "");
        return EXIT_FAILURE;
    }
    return event_base_dispatch(base) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
