/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a machine that has all controllers: plays the service manager that delegates a cgroup,
 * has agentd run workers that want more than they may, and prints a TAP line for each thing that must be so.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define TOP "/sys/fs/cgroup"
#define UNIT TOP "/agentd.service"
#define DEADLINE_SEC 40 /* emulation is slow, and slower still beside other work */
#define LOOK_MS 50

static unsigned n_tests;
static char record[65536]; /* the last one that was asked for */
static pid_t agentd;

static void __attribute__((format(printf, 2, 3))) result(bool good, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    printf("%sok %u - ", good ? "" : "not ", ++n_tests);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    if (!good)
        printf("# %.1500s\n", strstr(record, "\"state\"") ? strstr(record, "\"state\"") : record);
    fflush(stdout);
}

static void die(const char *what)
{
    printf("not ok %u - %s: %s\n", ++n_tests, what, strerror(errno));
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

/* --- files ------------------------------------------------------------------------------------------------
 */

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    int error = errno;

    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

static const char *get(const char *path)
{
    static char text[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    if (n > 0 && strchr(text, '\n') == text + n - 1)
        text[n - 1] = 0; /* one line */
    return text;
}

static const char *leaf(const char *alias, const char *file)
{
    static char path[256];

    snprintf(path, sizeof(path), UNIT "/w-%s/%s", alias, file);
    return get(path);
}

static bool leaf_is(const char *alias, const char *file, const char *text)
{
    return strcmp(leaf(alias, file), text) == 0;
}

/* --- agentd -----------------------------------------------------------------------------------------------
 */

/* As a service manager does: into the delegated cgroup first. */
static pid_t start_agentd(void)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    if (put(UNIT "/cgroup.procs", "0") < 0)
        _exit(219);
    execl("/agentd", "/agentd", "-c", "/etc/agentd/agentd.conf", NULL);
    _exit(203);
}

/* The answer to a GET into record; false if there is none. */
static bool ask(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/run/agentd/agentd.sock"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len = 0;
    ssize_t n = 0;

    *record = 0;
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
        dprintf(fd, "GET %s HTTP/1.1\r\nHost: agentd\r\nConnection: close\r\n\r\n", path);
        while (len < sizeof(record) - 1 && (n = read(fd, record + len, sizeof(record) - 1 - len)) > 0)
            len += (size_t)n;
        record[len] = 0;
    }
    close(fd);
    return strncmp(record, "HTTP/1.1 200", 12) == 0;
}

static bool worker(const char *alias)
{
    char path[128];

    snprintf(path, sizeof(path), "/agentd/v1/workers/%s", alias);
    return ask(path);
}

static long number(const char *key)
{
    const char *at = strstr(record, key);

    return at ? strtol(at + strlen(key), NULL, 10) : -1;
}

static bool says(const char *alias, const char *text)
{
    return worker(alias) && strstr(record, text);
}

struct life {
    long pid, generation;
};

static struct life life_of(const char *alias)
{
    if (!worker(alias))
        return (struct life){-1, -1};
    return (struct life){number("\"pid\":"), number("\"generation\":")};
}

static bool same(struct life a, struct life b)
{
    return a.pid > 1 && a.pid == b.pid && a.generation == b.generation;
}

/* Until agentd has written down what it does, or said it; what only the kernel counts rings for nobody, and
 * is looked at after so long. */
static void await_change(void)
{
    static int bell = -1;
    struct pollfd p;
    char events[4096];

    if (bell < 0) {
        bell = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        inotify_add_watch(bell, "/run/agentd", IN_MODIFY | IN_CREATE);
        inotify_add_watch(bell, "/var/log/agentd", IN_MODIFY | IN_CREATE);
    }
    p = (struct pollfd){.fd = bell, .events = POLLIN};
    if (poll(&p, 1, LOOK_MS) > 0)
        while (read(bell, events, sizeof(events)) > 0)
            ;
}

/* Looks until it is so, or the time is over. */
#define EVENTUALLY(condition)                             \
    ({                                                    \
        time_t end_ = time(NULL) + DEADLINE_SEC;          \
        bool so_;                                         \
        while (!(so_ = (condition)) && time(NULL) < end_) \
            await_change();                               \
        so_;                                              \
    })

static bool all_wait(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return says("quiet", "\"state\":\"UP\"") && says("limited", "\"state\":\"UP\"");
}

/* --- the machine ------------------------------------------------------------------------------------------
 */

static void make_machine(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/run", 0755);
    mkdir("/tmp", 01777);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (mount("proc", "/proc", "proc", 0, NULL) < 0 || mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ||
        mount("cgroup2", TOP, "cgroup2", 0, NULL) < 0)
        die("mount");
    if (mkdir(UNIT, 0755) < 0 || put(TOP "/cgroup.subtree_control", "+cpu +memory +pids") < 0 ||
        setxattr(UNIT, "trusted.delegate", "1", 1, 0) < 0 || setxattr(UNIT, "user.delegate", "1", 1, 0) < 0)
        die("a delegated cgroup");
    clearenv();
    setenv("PATH", "/", 1);
}

/* --- the tests --------------------------------------------------------------------------------------------
 */

static void test_before_exec(void)
{
    struct life l = life_of("limited");

    result(l.pid > 1 && strstr(record, "\"noEffect\":[]"), "every key has an effect");
    result(leaf_is("limited", "cpu.max", "50000 100000") && leaf_is("limited", "cpu.idle", "1") &&
               leaf_is("limited", "memory.max", "67108864") &&
               leaf_is("limited", "memory.high", "50331648") && leaf_is("limited", "pids.max", "30"),
           "a leaf has what its worker's file says");
    result(leaf_is("quiet", "memory.max", "max"), "and one whose file says nothing has no limit");
    result(worker("limited") && number("\"memoryBytes\":") > 0, "memory as the leaf counts it");
}

static void test_bomb(void)
{
    result(EVENTUALLY(says("bomb", "TasksMax=20 was hit")), "a fork bomb is stopped by TasksMax= and named");
    result(atoi(leaf("bomb", "pids.current")) == 20, "it has as many processes as it may");
}

static void test_memory(void)
{
    result(
        EVENTUALLY(says("hog", "\"kind\":\"oom-killed\"")) &&
            strstr(record, "killed for lack of memory: MemoryMax=16M was hit (memory.events oom_kill 1)") &&
            strstr(record, "\"signal\":9") && strstr(record, "\"reason\":\"oom-killed\""),
        "a memory hog is killed, and its last exit names MemoryMax=");
    result(EVENTUALLY(strcmp(get("/var/log/agentd/hog.log"), "SERVICE_RESULT=oom-kill") == 0),
           "ExecStopPost= hears oom-kill");
    result(EVENTUALLY(says("parent", "\"state\":\"DOWN\"")) && strstr(record, "\"reason\":\"oom-killed\"") &&
               strstr(record, "MemoryMax=16M was hit") && !strstr(record, "\"kind\":\"oom-killed\""),
           "OOMPolicy=stop: a worker whose child was killed is stopped");
    result(EVENTUALLY(strcmp(get("/var/log/agentd/parent.log"), "SERVICE_RESULT=oom-kill") == 0),
           "and its ExecStopPost= hears oom-kill");
    result(EVENTUALLY(says("goes_on", "MemoryMax=16M was hit")) && strstr(record, "\"state\":\"UP\"") &&
               number("\"generation\":") == 1,
           "OOMPolicy=continue: it is named, and goes on");
    result(EVENTUALLY(says("whole", "\"kind\":\"oom-killed\"")) && strstr(record, "MemoryMax=16M was hit"),
           "OOMPolicy=kill: the kernel ends the whole worker");
}

static void test_cpu(void)
{
    const char *at;

    result(EVENTUALLY((at = strstr(leaf("spins", "cpu.stat"), "nr_throttled ")) && atol(at + 13) > 0),
           "CPUQuota= throttles");
}

static void test_live(void)
{
    struct life before = life_of("limited");

    put("/etc/agentd/workers.d/limited.conf.new",
        "[Service]\nExecStart=/worker\nMemoryMax=32M\nCPUWeight=7\nTasksMax=30\n");
    rename("/etc/agentd/workers.d/limited.conf.new", "/etc/agentd/workers.d/limited.conf");
    kill(agentd, SIGHUP);
    result(EVENTUALLY(leaf_is("limited", "memory.max", "33554432") && leaf_is("limited", "cpu.weight", "7")),
           "a reload changes memory.max and cpu.weight of the leaf in use");
    result(
        EVENTUALLY(leaf_is("limited", "cpu.max", "max 100000") && leaf_is("limited", "memory.high", "max")),
        "and takes back what is not in the file any more");
    result(same(before, life_of("limited")), "the worker ran on");
}

/* What the manager's restart does to a delegated unit with workers in it: 252 can't enter it before the
 * controllers are taken away, and with them go all values. */
static void test_again(struct life quiet)
{
    struct life before = life_of("limited");

    kill(agentd, SIGKILL);
    waitpid(agentd, NULL, 0);
    result(put(UNIT "/cgroup.procs", "0") < 0 && errno == EBUSY,
           "with controllers handed down nobody can enter the unit's own cgroup");
    if (put(UNIT "/cgroup.subtree_control", "-cpu -memory -pids") < 0)
        die("controllers can't be taken away");
    agentd = start_agentd();
    result(EVENTUALLY(all_wait()) && same(before, life_of("limited")) && same(quiet, life_of("quiet")),
           "agentd was killed and comes back: the workers ran on");
    result(EVENTUALLY(leaf_is("limited", "memory.max", "33554432") && leaf_is("limited", "cpu.weight", "7") &&
                      leaf_is("limited", "pids.max", "30")),
           "and their limits are in force again");
}

static void test_neighbours(struct life quiet, const char *when)
{
    result(same(quiet, life_of("quiet")), "the neighbour is untouched %s", when);
}

int main(void)
{
    struct life quiet;

    make_machine();
    agentd = start_agentd();
    result(EVENTUALLY(all_wait()) && *leaf("quiet", "cgroup.procs"),
           "agentd runs its workers in a delegated cgroup");
    quiet = life_of("quiet");
    test_before_exec();
    test_bomb();
    test_neighbours(quiet, "by the fork bomb");
    test_memory();
    test_neighbours(quiet, "by the memory hogs");
    test_cpu();
    test_live();
    test_again(quiet);
    test_neighbours(quiet, "by all of it");
    printf("1..%u\n", n_tests);
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
