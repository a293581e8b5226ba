/* SPDX-License-Identifier: Apache-2.0 */
/* [Rpc] ListenStream=, ListenTls= and Credentials=, and the host's own address. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "agentd/cfg_trust.h"
#include "base/cred.h"
#include "base/fd.h"
#include "base/str.h"

#define LISTENERS_MAX LIMIT_SOCKETS
#define PATH_OF_SOCKET_MAX 107 /* sun_path, unix(7) */

/* Of [Rpc], or of a worker. */
struct list {
    struct cfg_listener **v;
    unsigned *n;
};

static struct list list_of(struct cfg_ctx *c, bool tls)
{
    if (c->def)
        return (struct list){&c->def->sockets, &c->def->n_sockets};
    if (tls)
        return (struct list){&c->cfg->rpc.tls, &c->cfg->rpc.n_tls};
    return (struct list){&c->cfg->rpc.listeners, &c->cfg->rpc.n_listeners};
}

static void forget(struct cfg_listener *x)
{
    free(x->text);
    free(x->path);
    free(x->host);
}

void cfg_listeners_done(struct cfg_listener **v, unsigned *n)
{
    for (unsigned i = 0; i < *n; i++)
        forget(&(*v)[i]);
    free(*v);
    *v = NULL;
    *n = 0;
}

/* The address, judged and rewritten in its shortest form. False if it is none. */
static bool numeric(const char *host, bool six, char text[INET6_ADDRSTRLEN], bool *loopback)
{
    struct in6_addr a6;
    struct in_addr a4;

    if (!six) {
        if (inet_pton(AF_INET, host, &a4) != 1)
            return false;
        *loopback = ntohl(a4.s_addr) >> 24 == 127;
        return inet_ntop(AF_INET, &a4, text, INET6_ADDRSTRLEN);
    }
    if (inet_pton(AF_INET6, host, &a6) != 1)
        return false;
    *loopback = IN6_IS_ADDR_LOOPBACK(&a6) || (IN6_IS_ADDR_V4MAPPED(&a6) && a6.s6_addr[12] == 127);
    return inet_ntop(AF_INET6, &a6, text, INET6_ADDRSTRLEN);
}

/* PORT alone, for a worker: on every address. systemd.socket(5). */
static const char *take_port(struct cfg_ctx *c, const char *value, struct cfg_listener *x)
{
    uint64_t port;

    if (str_to_u64(value, 65535, &port) < 0 || port == 0)
        return "is no port from 1 to 65535";
    x->tcp = true;
    x->port = (unsigned)port;
    x->host = cfg_dup(c, "");
    return NULL;
}

/* ADDRESS:PORT or [V6]:PORT. Why it is neither; NULL if it is one. */
static const char *take_address(struct cfg_ctx *c, const char *value, struct cfg_listener *x)
{
    _cleanup_free_ char *copy = cfg_dup(c, value);
    char *host = copy, *colon, text[INET6_ADDRSTRLEN];
    bool six = *value == '[';
    uint64_t port;

    if (!copy)
        return NULL;
    if (!(colon = strrchr(copy, ':')))
        return "is neither an absolute path nor ADDRESS:PORT";
    *colon = 0;
    if (six) {
        host++;
        if (colon == host || colon[-1] != ']')
            return "has no ']' before its port";
        colon[-1] = 0;
    }
    if (!numeric(host, six, text, &x->loopback))
        return "has no numeric address; IPv6 is written [ADDRESS]:PORT";
    if (str_to_u64(colon + 1, 65535, &port) < 0 || port == 0)
        return "has no port from 1 to 65535";
    x->tcp = true;
    x->port = (unsigned)port;
    x->host = cfg_dup(c, text);
    return NULL;
}

static const char *take_path(struct cfg_ctx *c, const char *value, struct cfg_listener *x)
{
    const char *why = cfg_path_wrong(value);

    if (why)
        return why;
    if (strlen(value) > PATH_OF_SOCKET_MAX)
        return "is too long for a socket's path";
    if ((x->path = cfg_dup(c, value)))
        cfg_path_simplify(x->path);
    return x->path && str_eq(x->path, "/") ? "is a folder" : NULL;
}

static bool same(const struct cfg_listener *a, const struct cfg_listener *b)
{
    if (a->tcp != b->tcp)
        return false;
    if (!a->tcp)
        return a->path && b->path && str_eq(a->path, b->path);
    return a->host && b->host && a->port == b->port && str_eq(a->host, b->host);
}

static bool is_among(struct list list, const struct cfg_listener *x)
{
    for (unsigned i = 0; i < *list.n; i++)
        if (same(&(*list.v)[i], x))
            return true;
    return false;
}

static const char *take(struct cfg_ctx *c, const char *value, struct list list, struct cfg_listener *x)
{
    bool digits = c->def && strspn(value, "0123456789") == strlen(value);
    const char *why = *value == '/' ? take_path(c, value, x)
                      : digits      ? take_port(c, value, x)
                                    : take_address(c, value, x);

    if (why)
        return why;
    if (*list.n == LISTENERS_MAX)
        return "is one more than this version can have";
    return is_among(list, x) || (!c->def && (is_among(list_of(c, true), x) || is_among(list_of(c, false), x)))
               ? "is given twice"
               : NULL;
}

static void append(struct cfg_ctx *c, struct list list, struct cfg_listener *x)
{
    struct cfg_listener *bigger = realloc(*list.v, (*list.n + 1) * sizeof(*bigger));

    if (!bigger) {
        cfg_oom(c);
        forget(x);
        return;
    }
    *list.v = bigger;
    bigger[(*list.n)++] = *x;
}

static void listen_value(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l,
                         const char *value, bool tls)
{
    const struct cfg_line **at = tls ? &c->listen_tls_at : &c->listen_at;
    struct list list = list_of(c, tls);
    struct cfg_listener x = {0};
    const char *why;

    if (!*value) {
        cfg_listeners_done(list.v, list.n);
        *at = NULL;
        return;
    }
    why = tls && *value == '/' ? "is a path: TLS is for ADDRESS:PORT" : take(c, value, list, &x);
    if (why) {
        cfg_error(c, l, 0, "%s=%s %s", k->name, value, why);
        forget(&x);
        return;
    }
    x.text = cfg_dup(c, value);
    if (x.tcp && !*at)
        *at = l;
    append(c, list, &x);
}

CFG_PARSER(cfg_value_listen)
{
    listen_value(c, k, l, value, false);
}

CFG_PARSER(cfg_value_listen_tls)
{
    listen_value(c, k, l, value, true);
}

/* The default socket, where none is configured. */
void cfg_listen_finish(struct cfg_ctx *c)
{
    struct cfg_listener x = {0};
    char path[4200];

    if (c->cfg->rpc.n_listeners)
        return;
    snprintf(path, sizeof(path), "%s/agentd.sock", c->cfg->agent.runtime_dir);
    if (strlen(path) > PATH_OF_SOCKET_MAX) {
        cfg_error_in(c, c->file, 1, 1,
                     "RuntimeDirectory=%s is too long for the socket in it; set ListenStream=",
                     c->cfg->agent.runtime_dir);
        return;
    }
    x.text = cfg_dup(c, path);
    x.path = cfg_dup(c, path);
    append(c, list_of(c, false), &x);
}

/* --- credentials; no message quotes a line of them --- */

/* 1 if the line is a credential, 0 if it is a comment, empty or wrong. */
static unsigned check_line(struct cfg_ctx *c, const char *path, unsigned number, char *line)
{
    struct cred cred;
    struct cred_wrong wrong;
    int r = cred_parse(line, &cred, &wrong);

    if (r < 0)
        cfg_error_in(c, path, number, wrong.column, "%s", wrong.why);
    return r > 0;
}

static unsigned check_text(struct cfg_ctx *c, const char *path, char *text)
{
    unsigned count = 0, number = 1;

    for (char *line = text, *end; *line; line = end, number++) {
        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = 0;
        count += check_line(c, path, number, line);
    }
    if (count > LIMIT_CREDENTIALS)
        cfg_error_in(c, path, 1, 1, "more than %u credentials", LIMIT_CREDENTIALS);
    return count;
}

/* The credentials in the file; what is wrong is reported. */
static unsigned count_credentials(struct cfg_ctx *c, const char *path)
{
    struct err e = {0};
    _cleanup_close_ int fd = cfg_trust_open(AT_FDCWD, path, 0, &e);
    struct stat st;
    char *text = NULL;
    unsigned count = 0;
    ssize_t n;

    if (fd == -ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0) {
        cfg_error_in(c, path, 1, 1, "%s", fd < 0 ? e.text : strerror(errno));
        return 0;
    }
    if (S_ISREG(st.st_mode) && (st.st_mode & 077)) {
        cfg_error_in(c, path, 1, 1, "others than its owner may use it (mode %04o); chmod 0600",
                     st.st_mode & 07777);
        return 0;
    }
    n = fd_read_all(fd, LIMIT_CONFIG_FILE, &text);
    if (n < 0)
        cfg_error_in(c, path, 1, 1, "%s", strerror((int)-n));
    else if (strlen(text) != (size_t)n)
        cfg_error_in(c, path, 1, 1, "a NUL byte");
    else
        count = check_text(c, path, text);
    if (n >= 0)
        explicit_bzero(text, (size_t)n);
    free(text);
    return count;
}

void cfg_credentials_check(struct cfg_ctx *c)
{
    unsigned errors = c->n_errors, count = count_credentials(c, c->cfg->rpc.credentials);
    const struct cfg_line *at = c->listen_at ? c->listen_at : c->listen_tls_at;

    if (at && count == 0 && c->n_errors == errors)
        cfg_error(
            c, at, 0,
            "a TCP listener is refused while %s has no credential; make one with `agentctl credential add`",
            c->cfg->rpc.credentials);
}

/* --- the host's address --- */

/* The address that the kernel would send from to a documentation address: connect(2) of a datagram socket
 * asks the routing table and sends nothing. */
static bool route_address(int family, char text[INET6_ADDRSTRLEN])
{
    _cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } a = {0};
    socklen_t len = family == AF_INET ? sizeof(a.in) : sizeof(a.in6);

    a.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET)
        inet_pton(AF_INET, "192.0.2.1", &a.in.sin_addr);
    else
        inet_pton(AF_INET6, "2001:db8::1", &a.in6.sin6_addr);
    a.in.sin_port = htons(9); /* at the same place in sockaddr_in6 */
    if (fd < 0 || connect(fd, &a.sa, len) < 0 || getsockname(fd, &a.sa, &len) < 0)
        return false;
    if (family == AF_INET)
        return inet_ntop(AF_INET, &a.in.sin_addr, text, INET6_ADDRSTRLEN);
    return inet_ntop(AF_INET6, &a.in6.sin6_addr, text, INET6_ADDRSTRLEN);
}

char *cfg_listen_host_ip(void)
{
    char text[INET6_ADDRSTRLEN];

    if (!route_address(AF_INET, text) && !route_address(AF_INET6, text))
        return strdup("127.0.0.1");
    return strdup(text);
}
