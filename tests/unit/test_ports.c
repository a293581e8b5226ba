/* SPDX-License-Identifier: Apache-2.0 */
/* ports: the test's own sockets are found, by process and by cgroup, and both ways to look agree. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "proc/cgroup.h"
#include "proc/ports.h"

enum { TCP4, TCP6, UDP4, UDP6, UDP_CONNECTED, N_SHOWN, TCP_BOUND = N_SHOWN, TCP_CLIENT, N_SOCKETS };

struct sock {
    int fd;
    uint16_t port;
    uint32_t inode;
};

static struct sock socks[N_SOCKETS];
static bool have_v6 = true;

static int open_one(struct sock *s, int family, int type, bool listening)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six;
    socklen_t len = family == AF_INET ? sizeof(four) : sizeof(six);
    struct stat st;

    s->fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, sa, len) < 0 || (listening && listen(s->fd, 5) < 0) ||
        getsockname(s->fd, sa, &len) < 0 || fstat(s->fd, &st) < 0)
        return -errno;
    s->port = ntohs(family == AF_INET ? four.sin_port : six.sin6_port);
    s->inode = (uint32_t)st.st_ino;
    return 0;
}

static int connect_to(int fd, uint16_t port)
{
    struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};

    return connect(fd, (struct sockaddr *)&four, sizeof(four));
}

static int open_sockets(void **state)
{
    if (open_one(&socks[TCP4], AF_INET, SOCK_STREAM, true) < 0 ||
        open_one(&socks[UDP4], AF_INET, SOCK_DGRAM, false) < 0 ||
        open_one(&socks[UDP_CONNECTED], AF_INET, SOCK_DGRAM, false) < 0 ||
        connect_to(socks[UDP_CONNECTED].fd, socks[UDP4].port) < 0 ||
        open_one(&socks[TCP_BOUND], AF_INET, SOCK_STREAM, false) < 0 ||
        open_one(&socks[TCP_CLIENT], AF_INET, SOCK_STREAM, false) < 0 ||
        connect_to(socks[TCP_CLIENT].fd, socks[TCP4].port) < 0)
        return -1;
    if (open_one(&socks[TCP6], AF_INET6, SOCK_STREAM, true) < 0 ||
        open_one(&socks[UDP6], AF_INET6, SOCK_DGRAM, false) < 0) {
        printf("# no IPv6 here\n");
        have_v6 = false;
        socks[TCP6].fd = fd_close(socks[TCP6].fd);
        socks[UDP6].fd = fd_close(socks[UDP6].fd);
    }
    return 0;
}

static int close_sockets(void **state)
{
    for (int i = 0; i < N_SOCKETS; i++)
        fd_close(socks[i].fd);
    return 0;
}

static bool is_shown(int i)
{
    return i < N_SHOWN && (have_v6 || (i != TCP6 && i != UDP6));
}

static const struct ports_socket *find(const struct ports_table *t, const struct sock *s)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->sockets[i].inode == s->inode)
            return &t->sockets[i];
    return NULL;
}

static void check_table(int (*dump)(struct ports_table *ret))
{
    struct ports_table t;

    assert_int_equal(dump(&t), 0);
    for (int i = 0; i < N_SOCKETS; i++) {
        const struct ports_socket *s = socks[i].fd >= 0 ? find(&t, &socks[i]) : NULL;
        if (!s != !is_shown(i))
            fail_msg("socket %d: %s", i, s ? "is in the table" : "is not in the table");
        if (s)
            assert_int_equal(s->port, socks[i].port);
        if (s)
            assert_int_equal(s->tcp, i == TCP4 || i == TCP6);
    }
    ports_done(&t);
    assert_int_equal(t.n, 0);
    ports_done(&t);
}

static void test_dump(void **state)
{
    check_table(ports_dump);
    check_table(ports_dump); /* again, over the same netlink socket */
}

static void test_dump_proc(void **state)
{
    check_table(ports_dump_proc);
}

/* --- by process --- */

static int compare(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* The ports that are to be shown, ascending, each once. */
static void wanted(char *text, size_t size)
{
    uint16_t ports[N_SHOWN];
    size_t n = 0, at = 0;

    for (int i = 0; i < N_SHOWN; i++)
        if (is_shown(i))
            ports[n++] = socks[i].port;
    qsort(ports, n, sizeof(*ports), compare);
    for (size_t i = 0; i < n; i++)
        if (!i || ports[i] != ports[i - 1])
            at += (size_t)snprintf(text + at, size - at, "%s%u", at ? "," : "", ports[i]);
}

static void test_of_pids(void **state)
{
    int (*dumps[])(struct ports_table * ret) = {ports_dump, ports_dump_proc};
    pid_t pids[] = {getpid(), getpid(), 0x3fffffff};
    char text[256], want[256];

    wanted(want, sizeof(want));
    for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
        struct ports_table t;
        assert_int_equal(dumps[i](&t), 0);
        assert_string_equal(ports_of_pids(&t, pids, 1, text, sizeof(text)), want);
        assert_string_equal(ports_of_pids(&t, pids, 3, text, sizeof(text)), want);
        assert_string_equal(ports_of_pids(&t, pids + 2, 1, text, sizeof(text)), "");
        assert_string_equal(ports_of_pids(&t, pids, 0, text, sizeof(text)), "");
        ports_done(&t);
    }
}

/* --- printing --- */

static void test_print(void **state)
{
    struct ports_socket s[] = {{7, 1, 443, true},    {7, 2, 80, false},  {8, 3, 22, true}, {7, 4, 80, true},
                               {7, 5, 65535, false}, {0, 6, 9999, true}, {7, 7, 1, true}};
    struct ports_table t = {s, ARRAY_LEN(s), ARRAY_LEN(s), false};
    char text[64];
    const uint64_t seven = 7, eight = 8, nine = 9, none = 0, both[] = {7, 8};

    assert_string_equal(ports_of_cgroups(&t, &seven, 1, text, sizeof(text)), "1,80,443,65535");
    assert_string_equal(ports_of_cgroups(&t, &eight, 1, text, sizeof(text)), "22");
    assert_string_equal(ports_of_cgroups(&t, both, 2, text, sizeof(text)), "1,22,80,443,65535");
    assert_string_equal(ports_of_cgroups(&t, &nine, 1, text, sizeof(text)), "");
    assert_string_equal(ports_of_cgroups(&t, &none, 1, text, sizeof(text)), ""); /* 0 is nobody's cgroup */
    for (size_t size = 1; size < sizeof(text); size++) {                         /* cut at whole numbers */
        memset(text, 'x', sizeof(text));
        ports_of_cgroups(&t, &seven, 1, text, size);
        assert_true(strlen(text) < size);
        assert_true(str_starts("1,80,443,65535", text));
        assert_true(strchr(",", "1,80,443,65535"[strlen(text)]) || !text[0]);
        assert_int_equal(text[size], 'x');
    }
}

/* None of thousands is left out, as long as the text has room. */
static void test_print_many(void **state)
{
    static struct ports_socket s[65535];
    struct ports_table t = {s, ARRAY_LEN(s), ARRAY_LEN(s), false};
    static char text[65536 * 6], want[65536 * 6];
    const uint64_t five = 5;
    size_t at = 0;

    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        s[i] = (struct ports_socket){5, (uint32_t)i, (uint16_t)(ARRAY_LEN(s) - i), true};
        at += (size_t)snprintf(want + at, sizeof(want) - at, "%s%zu", i ? "," : "", i + 1);
    }
    assert_string_equal(ports_of_cgroups(&t, &five, 1, text, sizeof(text)), want);
}

/* --- is it listened on? --- */

static void test_listen(void **state)
{
    struct ports_socket s[] = {{7, 1, 80, true}, {7, 2, 53, false}, {8, 3, 22, true}, {0, 4, 99, true}};
    struct ports_table t = {s, ARRAY_LEN(s), ARRAY_LEN(s), false};
    const uint64_t seven = 7, both[] = {7, 8}, none = 0;

    assert_true(ports_cgroups_listen(&t, &seven, 1, 80));
    assert_false(ports_cgroups_listen(&t, &seven, 1, 53)); /* UDP */
    assert_false(ports_cgroups_listen(&t, &seven, 1, 22));
    assert_false(ports_cgroups_listen(&t, &seven, 1, 80 + 65536));
    assert_true(ports_cgroups_listen(&t, both, 2, 22));
    assert_false(ports_cgroups_listen(&t, &none, 1, 99));
    assert_false(ports_cgroups_listen(&t, &seven, 0, 80));
}

static void test_listen_of_pids(void **state)
{
    int (*dumps[])(struct ports_table * ret) = {ports_dump, ports_dump_proc};
    pid_t pids[] = {0x3fffffff, getpid()};

    for (size_t i = 0; i < ARRAY_LEN(dumps); i++) {
        struct ports_table t;
        assert_int_equal(dumps[i](&t), 0);
        assert_int_equal(ports_pids_listen(&t, pids, 2, socks[TCP4].port), 1);
        assert_int_equal(ports_pids_listen(&t, pids, 1, socks[TCP4].port), 0);
        if (socks[UDP4].port != socks[TCP4].port && socks[UDP4].port != socks[TCP6].port)
            assert_int_equal(ports_pids_listen(&t, pids, 2, socks[UDP4].port), 0);
        ports_done(&t);
    }
}

/* --- by cgroup --- */

/* A process joins the cgroup, listens, tells its port and lives until it is killed. */
static pid_t listen_in(int cgroup, uint16_t *port)
{
    int up[2];
    pid_t pid;

    assert_int_equal(pipe(up), 0);
    if ((pid = fork()) == 0) {
        struct sock s;
        if (fd_write_file(cgroup, "cgroup.procs", "0") < 0 || open_one(&s, AF_INET, SOCK_STREAM, true) < 0 ||
            write(up[1], &s.port, sizeof(s.port)) != sizeof(s.port))
            _exit(1);
        for (;;)
            pause();
    }
    close(up[1]);
    assert_int_equal(read(up[0], port, sizeof(*port)), sizeof(*port));
    close(up[0]);
    return pid;
}

/* One in the leaf, and one two cgroups below it. */
static void test_of_cgroup(void **state)
{
    struct cgroup_root root = CGROUP_ROOT_NULL;
    struct cgroup_leaf leaf = CGROUP_LEAF_NULL;
    char name[32], why[1200], one[64], both[64], want_one[16], want_both[64];
    struct ports_table t;
    uint64_t ids[8];
    uint16_t ports[2];
    pid_t pids[2];
    ssize_t n_one, n_both, n_cut;
    int sub;

    snprintf(name, sizeof(name), "test-%d", (int)getpid());
    if (geteuid() != 0 || cgroup_root_open(&root, name, why, sizeof(why)) < 0)
        skip();
    assert_int_equal(cgroup_leaf_open(&root, "w-ports", &leaf), 0);
    pids[0] = listen_in(leaf.fd, &ports[0]);
    assert_int_equal(ports_dump(&t), 0);
    n_one = cgroup_leaf_ids(&leaf, ids, ARRAY_LEN(ids));
    ports_of_cgroups(&t, ids, n_one > 0 ? (size_t)n_one : 0, one, sizeof(one));
    ports_done(&t);
    assert_int_equal(mkdirat(leaf.fd, "a", 0755) | mkdirat(leaf.fd, "a/b", 0755), 0);
    assert_true((sub = openat(leaf.fd, "a/b", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    pids[1] = listen_in(sub, &ports[1]);
    fd_close(sub);
    assert_int_equal(ports_dump(&t), 0);
    n_both = cgroup_leaf_ids(&leaf, ids, ARRAY_LEN(ids));
    n_cut = cgroup_leaf_ids(&leaf, ids, 2);
    n_both = n_both == n_cut ? cgroup_leaf_ids(&leaf, ids, ARRAY_LEN(ids)) : -1;
    ports_of_cgroups(&t, ids, n_both > 0 ? (size_t)n_both : 0, both, sizeof(both));
    ports_done(&t);
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    cgroup_leaf_remove(&root, "w-ports");
    cgroup_leaf_done(&leaf);
    cgroup_root_done(&root);
    snprintf(want_one, sizeof(want_one), "%u", ports[0]);
    snprintf(want_both, sizeof(want_both), "%u,%u", MIN(ports[0], ports[1]), MAX(ports[0], ports[1]));
    assert_int_equal(n_one, 1);
    assert_int_equal(n_both, 3);
    assert_string_equal(one, want_one); /* Linux 5.7 or later */
    assert_string_equal(both, want_both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump),       cmocka_unit_test(test_dump_proc),
        cmocka_unit_test(test_of_pids),    cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_many), cmocka_unit_test(test_of_cgroup),
        cmocka_unit_test(test_listen),     cmocka_unit_test(test_listen_of_pids),
    };

    return cmocka_run_group_tests_name("ports", tests, open_sockets, close_sockets);
}
