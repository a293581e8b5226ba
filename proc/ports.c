/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/array.h"
#include "base/fd.h"
#include "base/feature.h"
#include "base/str.h"

#define ATTR_CGROUP_ID 21   /* INET_DIAG_CGROUP_ID, Linux 5.8 */
#define STATE_UNCONNECTED 7 /* TCP_CLOSE: what a bound UDP socket is in */

static int add(struct ports_table *t, struct ports_socket s)
{
    int r = array_room(&t->sockets, t->n, &t->size, sizeof(*t->sockets));

    if (r == 0)
        t->sockets[t->n++] = s;
    return r;
}

void ports_done(struct ports_table *t)
{
    free(t->sockets);
    *t = (struct ports_table){0};
}

/* One netlink socket for the life of the process: making one for each dump costs more than the dump. */
static int diag_socket(void)
{
    static int fd = -1;

    if (fd < 0)
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    return fd < 0 ? -errno : fd;
}

static int ask(int fd, int family, int protocol, uint32_t states, uint32_t seq)
{
    struct {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
    } m = {
        .h = {.nlmsg_len = sizeof(m),
              .nlmsg_type = SOCK_DIAG_BY_FAMILY,
              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
              .nlmsg_seq = seq},
        .r = {.sdiag_family = (uint8_t)family, .sdiag_protocol = (uint8_t)protocol, .idiag_states = states},
    };

    return send(fd, &m, sizeof(m), 0) < 0 ? -errno : 0;
}

static int take_socket(struct ports_table *t, const struct nlmsghdr *h, bool tcp)
{
    const struct inet_diag_msg *d = NLMSG_DATA(h);
    size_t left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*d));
    struct ports_socket s = {.inode = d->idiag_inode, .port = ntohs(d->id.idiag_sport), .tcp = tcp};

    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*d)))
        return -EBADMSG;
    for (const struct nlattr *a = (const void *)(d + 1); left >= sizeof(*a) && a->nla_len >= sizeof(*a);) {
        size_t step = NLMSG_ALIGN(a->nla_len);
        if ((a->nla_type & NLA_TYPE_MASK) == ATTR_CGROUP_ID && a->nla_len >= sizeof(*a) + 8)
            memcpy(&s.cgroup, a + 1, 8);
        if (step > left)
            break;
        left -= step;
        a = (const void *)((const char *)a + step);
    }
    t->by_cgroup = t->by_cgroup || s.cgroup;
    return s.port ? add(t, s) : 0;
}

/* Reads the answers of one request; the kernel fills them in as we read, so nothing is waited for. */
static int take_dump(int fd, struct ports_table *t, uint32_t seq, bool tcp)
{
    static char buf[32768] __attribute__((aligned(8)));

    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        size_t left = (size_t)n;
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            int r = 0;
            if (h->nlmsg_seq != seq)
                continue; /* the rest of a dump that failed half-way */
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && (r = take_socket(t, h, tcp)) < 0)
                return r;
        }
    }
}

/* What was short for a moment says nothing of the kernel; without a socket on the host there is no cgroup of
 * one. */
static void note_features(const struct ports_table *t, int error)
{
    bool passes =
        error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS || error == -EAGAIN;

    if (!passes)
        feature_note(FEATURE_SOCK_DIAG, error == 0);
    if (error == 0 && t->n)
        feature_note(FEATURE_SOCK_CGROUP, t->by_cgroup);
}

int ports_dump(struct ports_table *ret)
{
    static const struct {
        int family, protocol;
        uint32_t states;
    } dumps[] = {
        {AF_INET, IPPROTO_TCP, 1u << TCP_LISTEN},
        {AF_INET6, IPPROTO_TCP, 1u << TCP_LISTEN},
        {AF_INET, IPPROTO_UDP, 1u << STATE_UNCONNECTED | 1u << TCP_ESTABLISHED},
        {AF_INET6, IPPROTO_UDP, 1u << STATE_UNCONNECTED | 1u << TCP_ESTABLISHED},
    };
    static uint32_t seq;
    int fd = diag_socket();

    *ret = (struct ports_table){0};
    for (size_t i = 0; i < ARRAY_LEN(dumps) && fd >= 0; i++) {
        int r = ask(fd, dumps[i].family, dumps[i].protocol, dumps[i].states, ++seq);
        if (r == 0)
            r = take_dump(fd, ret, seq, dumps[i].protocol == IPPROTO_TCP);
        if (r == -ENOENT && dumps[i].family == AF_INET6)
            continue; /* no IPv6 here */
        if (r < 0) {
            ports_done(ret);
            fd = r;
        }
    }
    note_features(ret, fd < 0 ? fd : 0);
    return fd < 0 ? ports_dump_proc(ret) : 0;
}

/* state: what a listening TCP socket is in; 0 for UDP, whose bound sockets are in any. */
static int read_proc_net(struct ports_table *t, const char *path, unsigned state)
{
    FILE *f = fopen(path, "re");
    char line[512];
    int r = 0;

    if (!f)
        return errno == ENOENT ? 0 : -errno;
    while (r == 0 && fgets(line, sizeof(line), f)) {
        unsigned port, st, inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %u", &port, &st,
                   &inode) == 3 &&
            port && (state == 0 || st == state))
            r = add(t, (struct ports_socket){0, inode, (uint16_t)port, state != 0});
    }
    fclose(f);
    return r;
}

int ports_dump_proc(struct ports_table *ret)
{
    int r;

    *ret = (struct ports_table){0};
    if ((r = read_proc_net(ret, "/proc/net/tcp", TCP_LISTEN)) < 0 ||
        (r = read_proc_net(ret, "/proc/net/tcp6", TCP_LISTEN)) < 0 ||
        (r = read_proc_net(ret, "/proc/net/udp", 0)) < 0 || (r = read_proc_net(ret, "/proc/net/udp6", 0)) < 0)
        ports_done(ret);
    return r;
}

/* Every port there is, so that no number of sockets is too many, and they come out sorted and once each. */
struct port_set {
    uint64_t bits[65536 / 64];
};

typedef void (*take_fn)(const struct ports_socket *s, void *arg);

static void take_port(const struct ports_socket *s, void *arg)
{
    struct port_set *set = arg;

    set->bits[s->port / 64] |= 1ull << s->port % 64;
}

static char *print_ports(const struct port_set *set, char *text, size_t size)
{
    size_t at = 0;

    text[0] = 0;
    for (unsigned word = 0; word < ARRAY_LEN(set->bits); word++)
        for (uint64_t left = set->bits[word]; left; left &= left - 1) {
            if (at + sizeof(",65535") > size)
                return text;
            at += (size_t)snprintf(text + at, size - at, "%s%u", at ? "," : "",
                                   word * 64 + (unsigned)__builtin_ctzll(left));
        }
    return text;
}

static void each_of_cgroups(const struct ports_table *t, const uint64_t *ids, size_t n, take_fn take,
                            void *arg)
{
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < n; k++)
            if (t->sockets[i].cgroup == ids[k] && ids[k]) {
                take(&t->sockets[i], arg);
                break;
            }
}

/* The sockets among one process's descriptors. */
static int each_of_pid(const struct ports_table *t, pid_t pid, take_fn take, void *arg)
{
    char dir[32], link[64];
    struct dirent *e;
    DIR *d;

    snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
    if (!(d = opendir(dir)))
        return errno == ENOENT || errno == ESRCH || errno == EACCES || errno == EPERM ? 0 : -errno;
    while ((e = readdir(d))) {
        unsigned inode;
        ssize_t len = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);
        if (len <= 0)
            continue;
        link[len] = 0;
        if (sscanf(link, "socket:[%u]", &inode) != 1)
            continue;
        for (size_t i = 0; i < t->n; i++)
            if (t->sockets[i].inode == inode)
                take(&t->sockets[i], arg);
    }
    closedir(d);
    return 0;
}

char *ports_of_cgroups(const struct ports_table *t, const uint64_t *ids, size_t n, char *text, size_t size)
{
    struct port_set set = {{0}};

    each_of_cgroups(t, ids, n, take_port, &set);
    return print_ports(&set, text, size);
}

char *ports_of_pids(const struct ports_table *t, const pid_t *pids, size_t n, char *text, size_t size)
{
    struct port_set set = {{0}};

    for (size_t i = 0; i < n; i++)
        each_of_pid(t, pids[i], take_port, &set);
    return print_ports(&set, text, size);
}

struct sought {
    unsigned port;
    bool found;
};

static void compare_port(const struct ports_socket *s, void *arg)
{
    struct sought *sought = arg;

    sought->found = sought->found || (s->tcp && s->port == sought->port);
}

bool ports_cgroups_listen(const struct ports_table *t, const uint64_t *ids, size_t n, unsigned port)
{
    struct sought sought = {port, false};

    each_of_cgroups(t, ids, n, compare_port, &sought);
    return sought.found;
}

int ports_pids_listen(const struct ports_table *t, const pid_t *pids, size_t n, unsigned port)
{
    struct sought sought = {port, false};
    int error = 0, r;

    for (size_t i = 0; i < n && !sought.found; i++)
        if ((r = each_of_pid(t, pids[i], compare_port, &sought)) < 0)
            error = r;
    return sought.found ? 1 : error;
}
