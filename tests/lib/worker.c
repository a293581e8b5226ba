/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that does what its arguments say, one after another, and then waits to be ended:
 *   --listen PORT        accept on 127.0.0.1:PORT (TCP)      --udp PORT        bind 127.0.0.1:PORT (UDP)
 *   --unix PATH          listen on a unix socket             --children N      N children that wait
 *   --grandchild         double fork and setsid; it waits    --ignore-term     from here on, children too
 *   --slow-stop MS       on TERM, exit after so long         --delay MS
 *   --gate FIFO          from here on, what takes so long takes no longer than until something is written
 * there
 *   --notify TEXT        to $NOTIFY_SOCKET                   --exit CODE       --kill SIGNAL (itself)
 *   --stderr TEXT        --stdout TEXT                       --pid-file FILE   appends its pid
 *   --log FILE TEXT      appends the line
 *   --hop MS             a process that forks a new self every MS and leaves the old one
 *   --orphans N          N grandchildren that end at once, without a parent
 *   --fds                prints its open descriptors to stdout      --env NAME        prints NAME=VALUE
 *   --at-term TEXT       what --slow-stop sends to $NOTIFY_SOCKET first
 *   --store NAME      a descriptor to $NOTIFY_SOCKET, to be kept under that name
 *   --ping MS N          WATCHDOG=1 to $NOTIFY_SOCKET every MS, N times
 *   --relay PATH         a datagram socket: what comes there goes to $NOTIFY_SOCKET; for ever
 *   --child-relay PATH   the same in a child                 --flood           a child sends STATUS= for ever
 *   --fork-bomb          forks, and its children fork, until no more can be made; then they wait
 *   --hog                takes memory until it is killed     --child-hog       a child does; it is waited for
 *   --spin               wants a processor for itself, for ever
 *   --count MS           prints 1, 2, 3 ... to stdout, one every MS, for ever
 *   --lines N BYTES EACH MS   N numbered lines of BYTES to stdout, EACH in one write(2), MS between those
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t slow_stop_ms;

static void die(const char *what)
{
    perror(what);
    exit(99);
}

static int gate = -1;

/* So long, and once there is a gate no longer than until it is open. */
static void wait_ms(long ms)
{
    poll(&(struct pollfd){gate, POLLIN, 0}, 1, (int)ms);
}

static const char *says_at_term;

static void notify(const char *text);

static void on_term(int sig)
{
    if (says_at_term)
        notify(says_at_term);
    wait_ms(slow_stop_ms);
    _exit(0);
}

static void wait_forever(void)
{
    for (;;)
        pause();
}

static void inet(int type, const char *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type, 0), on = 1;

    sa.sin_port = htons((uint16_t)atoi(port));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0))
        die("bind");
}

static void local(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 16) < 0)
        die(path);
}

static void children(int n)
{
    while (n-- > 0)
        if (fork() == 0)
            wait_forever();
}

static void grandchild(void)
{
    int fds[2];
    char c;

    if (pipe(fds) < 0)
        die("pipe");
    if (fork() == 0) {
        if (fork() == 0) {
            setsid();
            if (write(fds[1], "x", 1) < 0)
                die("write");
            wait_forever();
        }
        _exit(0);
    }
    if (read(fds[0], &c, 1) != 1)
        die("read");
    close(fds[0]);
    close(fds[1]);
}

static void orphans(int n)
{
    while (n-- > 0) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(fork() < 0);
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            die("fork");
    }
}

static void notify(const char *text)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (!path)
        die("NOTIFY_SOCKET");
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die(path);
    close(fd);
}

static void store(const char *name)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), kept = memfd_create(name, MFD_CLOEXEC);
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    char text[128];
    struct iovec iov = {text, (size_t)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name)};
    struct msghdr m = {.msg_name = &sa,
                       .msg_namelen = sizeof(sa),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof(control)};

    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &kept, sizeof(kept));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path ? path : "");
    if (fd < 0 || kept < 0 || sendmsg(fd, &m, 0) < 0)
        die("FDSTORE=1");
    close(fd);
    close(kept);
}

static void ping(long ms, int n)
{
    for (; n > 0; n--) {
        notify("WATCHDOG=1");
        wait_ms(ms);
    }
}

static void relay(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[4096], fresh[108];
    ssize_t n;

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s.new", path);
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    unlink(fresh);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || rename(fresh, path) < 0)
        die(path);
    while ((n = recv(fd, text, sizeof(text) - 1, 0)) >= 0) {
        text[n] = 0;
        notify(text);
    }
    die("recv");
}

static void child_relay(const char *path)
{
    if (fork() == 0)
        relay(path);
}

static void flood(void)
{
    if (fork() == 0)
        for (;;)
            notify("STATUS=of a stranger\nREADY=1\nWATCHDOG=trigger");
}

static void append(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0 || dprintf(fd, "%s\n", text) < 0)
        die(path);
    close(fd);
}

static void hop(long ms)
{
    if (fork() != 0)
        return;
    for (;;) {
        if (fork() > 0)
            _exit(0);
        wait_ms(ms);
    }
}

static void count(long ms)
{
    for (unsigned long n = 1;; n++) {
        dprintf(1, "%lu\n", n);
        wait_ms(ms);
    }
}

static void fork_bomb(void)
{
    while (fork() >= 0)
        ;
}

static void hog(void)
{
    for (;;) {
        char *p = malloc(1 << 20);
        if (p)
            memset(p, 1, 1 << 20);
    }
}

static void child_hog(void)
{
    pid_t pid = fork();

    if (pid == 0)
        hog();
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        die("fork");
}

static void spin(void)
{
    for (volatile unsigned long n = 0;; n++)
        ;
}

static void put_all(const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(1, p, n);
        if (done < 0) { /* a full disk: the lines are not dropped, but wait */
            wait_ms(1);
            continue;
        }
        p += done;
        n -= (size_t)done;
    }
}

static void lines(unsigned long n, size_t bytes, unsigned each, long ms)
{
    char *text = malloc(each * bytes + 1), *at = text;

    if (!text || bytes < 12)
        die("--lines");
    memset(text, 'x', each * bytes);
    for (unsigned long i = 0; i < n; i++) {
        char number[24];
        snprintf(number, sizeof(number), "%010lu ", i);
        memcpy(at, number, 11);
        at[bytes - 1] = '\n';
        at += bytes;
        if (at < text + each * bytes && i + 1 < n)
            continue;
        put_all(text, (size_t)(at - text));
        at = text;
        if (ms)
            wait_ms(ms);
    }
    free(text);
}

static void print_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    char to[256];

    while (d && (e = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1);
        if (n > 0 && atoi(e->d_name) != dirfd(d))
            printf("fd %s %.*s\n", e->d_name, (int)n, to);
    }
    fflush(stdout);
    if (d)
        closedir(d);
}

static const char *next(char **argv, int *i)
{
    if (!argv[++*i]) {
        fprintf(stderr, "%s: a value is missing\n", argv[*i - 1]);
        exit(98);
    }
    return argv[*i];
}

/* More than its share. */
static int take(const char *a)
{
    if (!strcmp(a, "--fork-bomb"))
        fork_bomb();
    else if (!strcmp(a, "--hog"))
        hog();
    else if (!strcmp(a, "--child-hog"))
        child_hog();
    else if (!strcmp(a, "--spin"))
        spin();
    else
        return -1;
    return 0;
}

/* Over $NOTIFY_SOCKET. */
static int speak(char **argv, int *i)
{
    const char *a = argv[*i];

    if (!strcmp(a, "--notify"))
        notify(next(argv, i));
    else if (!strcmp(a, "--at-term"))
        says_at_term = next(argv, i);
    else if (!strcmp(a, "--store"))
        store(next(argv, i));
    else if (!strcmp(a, "--ping")) {
        long ms = atol(next(argv, i));
        ping(ms, atoi(next(argv, i)));
    } else if (!strcmp(a, "--relay"))
        relay(next(argv, i));
    else if (!strcmp(a, "--child-relay"))
        child_relay(next(argv, i));
    else if (!strcmp(a, "--flood"))
        flood();
    else
        return -1;
    return 0;
}

static int act(char **argv, int *i)
{
    const char *a = argv[*i];
    char text[32];

    if (!strcmp(a, "--listen"))
        inet(SOCK_STREAM, next(argv, i));
    else if (!strcmp(a, "--udp"))
        inet(SOCK_DGRAM, next(argv, i));
    else if (!strcmp(a, "--unix"))
        local(next(argv, i));
    else if (!strcmp(a, "--children"))
        children(atoi(next(argv, i)));
    else if (!strcmp(a, "--grandchild"))
        grandchild();
    else if (!strcmp(a, "--orphans"))
        orphans(atoi(next(argv, i)));
    else if (!strcmp(a, "--ignore-term"))
        signal(SIGTERM, SIG_IGN);
    else if (!strcmp(a, "--gate"))
        gate = open(next(argv, i), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    else if (!strcmp(a, "--delay"))
        wait_ms(atol(next(argv, i)));
    else if (!strcmp(a, "--exit"))
        exit(atoi(next(argv, i)));
    else if (!strcmp(a, "--kill"))
        raise(atoi(next(argv, i)));
    else if (!strcmp(a, "--stderr"))
        fprintf(stderr, "%s\n", next(argv, i));
    else if (!strcmp(a, "--stdout"))
        dprintf(1, "%s\n", next(argv, i));
    else if (!strcmp(a, "--env")) {
        const char *name = next(argv, i), *value = getenv(name);
        dprintf(1, "%s=%s\n", name, value ? value : "");
    } else if (!strcmp(a, "--hop"))
        hop(atol(next(argv, i)));
    else if (!strcmp(a, "--count"))
        count(atol(next(argv, i)));
    else if (!strcmp(a, "--lines")) {
        unsigned long n = strtoul(next(argv, i), NULL, 10);
        size_t bytes = strtoul(next(argv, i), NULL, 10);
        unsigned each = (unsigned)atoi(next(argv, i));
        lines(n, bytes, each, atol(next(argv, i)));
    } else if (!strcmp(a, "--fds"))
        print_fds();
    else if (!strcmp(a, "--pid-file")) {
        snprintf(text, sizeof(text), "%d", (int)getpid());
        append(next(argv, i), text);
    } else if (!strcmp(a, "--log")) {
        const char *path = next(argv, i);
        append(path, next(argv, i));
    } else if (!strcmp(a, "--slow-stop")) {
        slow_stop_ms = atoi(next(argv, i));
        signal(SIGTERM, on_term);
    } else
        return take(a) == 0 ? 0 : speak(argv, i);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (act(argv, &i) < 0) {
            fprintf(stderr, "%s: not known\n", argv[i]);
            return 98;
        }
    wait_forever();
}
