/* SPDX-License-Identifier: Apache-2.0 */
/* What the listener does in a second, beside an evhttp program that answers a constant of the same size. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "bench/bench.h"

#define ROUNDS 15
#define REQUESTS 2000
#define PATH "/compute/hosts/1/agent/processes/1"
#define SHA256_OF_T "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8"
#define ROOM 65536

static size_t constant_size;

static void on_request(struct evhttp_request *r, void *arg)
{
    struct evbuffer *out = evbuffer_new();
    char *text = calloc(1, constant_size);

    memset(text, 'x', constant_size);
    evbuffer_add(out, text, constant_size);
    evhttp_add_header(evhttp_request_get_output_headers(r), "Content-Type", "application/json");
    evhttp_send_reply(r, 200, "OK", out);
    evbuffer_free(out);
    free(text);
}

static pid_t start_constant(int listener)
{
    pid_t pid = fork();
    struct event_base *base;
    struct evhttp *http;

    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    base = event_base_new();
    http = evhttp_new(base);
    evhttp_set_gencb(http, on_request, NULL);
    evhttp_accept_socket(http, listener);
    event_base_dispatch(base);
    _exit(1);
}

static int listen_at(int tcp, const char *path, int *port)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *sa = tcp ? (void *)&in : (void *)&un;
    socklen_t len = tcp ? sizeof(in) : sizeof(un);
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (path)
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    if (fd < 0 || bind(fd, sa, len) < 0 || listen(fd, 16) < 0 || (tcp && getsockname(fd, sa, &len) < 0))
        bench_die("listen: %s", strerror(errno));
    if (port)
        *port = ntohs(in.sin_port);
    return fd;
}

static int connect_to(int tcp, const char *path, int port)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    if (fd < 0 || connect(fd, tcp ? (void *)&in : (void *)&un, tcp ? sizeof(in) : sizeof(un)) < 0)
        bench_die("connect: %s", strerror(errno));
    if (tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* One request and its whole answer; the length of the body. */
static size_t ask(int fd, const char *request, size_t len, char *body)
{
    size_t n = 0, want = 0;
    char *end, *length;

    if (write(fd, request, len) != (ssize_t)len)
        bench_die("write: %s", strerror(errno));
    while (!want || n < want) {
        ssize_t r = read(fd, body + n, ROOM - 1 - n);
        if (r <= 0)
            bench_die("the connection was closed");
        n += (size_t)r;
        body[n] = 0;
        if (!want && (end = strstr(body, "\r\n\r\n"))) {
            length = strcasestr(body, "content-length:");
            want = (size_t)(end + 4 - body) + (length ? strtoul(length + 15, NULL, 10) : 0);
        }
    }
    if (strncmp(body, "HTTP/1.1 200", 12) != 0)
        bench_die("%s", body);
    return strtoul(strcasestr(body, "content-length:") + 15, NULL, 10);
}

/* Microseconds of one request in the mean of a round. */
static void run_round(int fd, const char *request, struct series *s)
{
    static char body[ROOM];
    size_t len = strlen(request);
    uint64_t t0 = bench_now();

    for (int i = 0; i < REQUESTS; i++)
        ask(fd, request, len, body);
    bench_add(s, (bench_now() - t0) / REQUESTS);
}

static void compare_on(struct host *h, int tcp, int port)
{
    char path[128], own[128];
    static char body[ROOM];
    struct series ours = {0}, base = {0};
    const char *request = "GET " PATH " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n";
    int constant_port = 0, listener, fd, constant;
    pid_t pid;

    snprintf(own, sizeof(own), "%s/sock", h->dir);
    snprintf(path, sizeof(path), "%s/constant", h->dir);
    fd = connect_to(tcp, own, port);
    constant_size = ask(fd, request, strlen(request), body);
    listener = listen_at(tcp, path, &constant_port);
    pid = start_constant(listener);
    constant = connect_to(tcp, path, constant_port);
    for (int i = 0; i < ROUNDS; i++) {
        run_round(fd, request, &ours);
        run_round(constant, request, &base);
    }
    double a = bench_percentile(&ours, 0.5), b = bench_percentile(&base, 0.5);
    printf("GET of one process, kept alive, %-24s %7.0f a second   constant of %zu bytes by evhttp %7.0f   "
           "ratio %4.2f"
           "  (at least 0.80: %s)\n",
           tcp ? "TCP and a token" : "unix socket", 1e6 / a, constant_size, 1e6 / b, b / a,
           b / a >= 0.8 ? "yes" : "NO");
    close(fd);
    close(constant);
    close(listener);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* A port that nobody has now. */
static int free_port(void)
{
    int port, fd = listen_at(1, NULL, &port);

    close(fd);
    return port;
}

void bench_http(const char *bin)
{
    struct host h;
    char path[128], text[256];
    int port = free_port();
    FILE *f;

    host_open(&h, bin);
    snprintf(path, sizeof(path), "%s/credentials", h.dir);
    if (!(f = fopen(path, "w")))
        bench_die("%s: %s", path, strerror(errno));
    fputs("bearer t HOST_VIEWER " SHA256_OF_T "\n", f);
    fclose(f);
    chmod(path, 0600);
    snprintf(text, sizeof(text), "Credentials=%s\nListenStream=127.0.0.1:%d\n", path, port);
    host_append(&h, text);
    host_add_worker(&h, 0, 1, "");
    host_start(&h, bin);
    host_wait_count(&h, 0, 0);
    compare_on(&h, 0, 0);
    compare_on(&h, 1, port);
    host_stop(&h);
    host_close(&h);
}
