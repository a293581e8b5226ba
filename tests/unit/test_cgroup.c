/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup and snap on the real hierarchy, in a root of the test's own; skipped where there is none to be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "proc/cgroup.h"
#include "proc/pidref.h"
#include "proc/snap.h"

#define RUN_AWAY_LOOKS 300

static struct cgroup_root root = CGROUP_ROOT_NULL;
static struct cgroup_leaf leaf = CGROUP_LEAF_NULL;
static bool have;

static int open_root(void **state)
{
    char name[32], why[1200] = "";

    snprintf(name, sizeof(name), "test-%d", (int)getpid());
    have = geteuid() == 0 && cgroup_root_open(&root, name, why, sizeof(why)) == 0;
    if (!have)
        printf("# no cgroups here: %s\n", geteuid() ? "not root" : why);
    return prctl(PR_SET_CHILD_SUBREAPER, 1L);
}

static int close_root(void **state)
{
    char path[1024];

    str_copy(path, sizeof(path), root.path);
    cgroup_root_done(&root);
    return have && !root.delegated && access(path, F_OK) == 0 ? -1 : 0; /* it was empty, so it is gone */
}

static int open_leaf(void **state)
{
    return have ? cgroup_leaf_open(&root, "w-test", &leaf) : 0;
}

static int close_leaf(void **state)
{
    cgroup_leaf_done(&leaf);
    cgroup_leaf_done(&leaf);
    return have ? cgroup_leaf_remove(&root, "w-test") : 0;
}

#define NEEDED() \
    if (!have)   \
    skip()

/* A child in the leaf (or in sub below it) that lives until it is killed. */
static pid_t member(const char *sub)
{
    int p[2];
    pid_t pid;
    char c;

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char path[128];
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody */
        snprintf(path, sizeof(path), "%s%scgroup.procs", sub ? sub : "", sub ? "/" : "");
        if (fd_write_file(leaf.fd, path, "0") < 0 || write(p[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(p[1]);
    assert_int_equal(read(p[0], &c, 1), 1);
    close(p[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Waits until nobody is left in the leaf: all of them are our children or become so. */
static void reap_all(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    assert_int_equal(errno, ECHILD);
}

static void test_leaf(void **state)
{
    struct cgroup_leaf again = CGROUP_LEAF_NULL;
    struct stat st;

    NEEDED();
    assert_int_equal(fstat(leaf.fd, &st), 0);
    assert_int_equal(leaf.id, st.st_ino);
    assert_int_equal(fcntl(leaf.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(cgroup_leaf_open(&root, "w-test", &again), 0); /* the same one */
    assert_int_equal(again.id, leaf.id);
    cgroup_leaf_done(&again);
    assert_int_equal(again.fd, -1);
    assert_int_equal(cgroup_leaf_populated(&again), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_remove(&root, "w-test"), 0);
    assert_int_equal(cgroup_leaf_remove(&root, "w-test"), -ENOENT);
    cgroup_leaf_done(&leaf);
    assert_int_equal(cgroup_leaf_open(&root, "w-test", &leaf), 0); /* and a new one */
}

static void test_populated(void **state)
{
    pid_t pid;
    int events;

    NEEDED();
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
    events = cgroup_leaf_events(&leaf);
    assert_true(events >= 0);
    pid = member(NULL);
    assert_int_equal(cgroup_leaf_populated(&leaf), 1);
    assert_int_equal(cgroup_events_populated(events), 1);
    assert_int_equal(cgroup_leaf_remove(&root, "w-test"), -EBUSY);
    end(pid);
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
    assert_int_equal(cgroup_events_populated(events), 0);
    close(events);
}

static bool has(const pid_t *pids, ssize_t n, pid_t pid)
{
    for (ssize_t i = 0; i < n; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

static void test_pids(void **state)
{
    pid_t pids[8] = {0}, all[3];
    struct snap_usage usage;
    struct snap_tree tree;

    NEEDED();
    assert_int_equal(cgroup_leaf_pids(&leaf, pids, 8), 0);
    assert_int_equal(mkdirat(leaf.fd, "sub", 0755), 0);
    assert_int_equal(mkdirat(leaf.fd, "sub/deep", 0755), 0);
    all[0] = member(NULL);
    all[1] = member("sub");
    all[2] = member("sub/deep");
    assert_int_equal(cgroup_leaf_pids(&leaf, pids, 8), 3);
    for (int i = 0; i < 3; i++)
        assert_true(has(pids, 3, all[i]));
    memset(pids, 0, sizeof(pids));
    assert_int_equal(cgroup_leaf_pids(&leaf, pids, 2), 3); /* says how many there are, writes no more */
    assert_int_equal(pids[2], 0);
    assert_int_equal(snap_tree_of_leaf(&leaf, &tree), 0);
    assert_int_equal(tree.n, 3);
    snap_usage(&tree, &usage);
    assert_int_equal(usage.processes, 3);
    assert_true(usage.memory > 0);
    assert_int_equal(cgroup_leaf_populated(&leaf), 1);
    end(all[0]);
    assert_int_equal(cgroup_leaf_populated(&leaf), 1); /* below counts too */
    assert_int_equal(cgroup_leaf_remove(&root, "w-test"), -EBUSY);
    end(all[1]);
    snap_usage(&tree, &usage);
    assert_int_equal(usage.processes, 1);
    snap_tree_done(&tree);
    assert_int_equal(cgroup_leaf_kill(&leaf), 0);
    reap_all();
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
    assert_int_equal(cgroup_leaf_remove(&root, "w-test"), 0); /* with what is below */
}

static void test_many_pids(void **state)
{
    struct snap_tree tree;
    pid_t pids[50];

    NEEDED();
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        pids[i] = member(NULL);
    assert_int_equal(snap_tree_of_leaf(&leaf, &tree), 0);
    assert_int_equal(tree.n, ARRAY_LEN(pids));
    for (size_t i = 0; i < ARRAY_LEN(pids); i++)
        assert_true(has(tree.pids, (ssize_t)tree.n, pids[i]));
    snap_tree_done(&tree);
    assert_int_equal(cgroup_leaf_kill(&leaf), 0);
    reap_all();
}

/* Forks, ends, and its child goes on, so that a list of pids is out of date when it is read; now and then one
 * stays behind. */
static void __attribute__((noreturn)) breed(int told)
{
    for (unsigned i = 0; i < 1000000; i++) {
        if (i == 20 && write(told, "r", 1) != 1)
            _exit(1);
        if (i % 64 == 63 && i < 64 * 20 && fork() == 0)
            for (;;)
                pause();
        if (fork() != 0)
            _exit(0);
    }
    _exit(0);
}

static void start_breeding(void)
{
    int p[2];
    char c;

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    if (fork() == 0) {
        if (fd_write_file(leaf.fd, "cgroup.procs", "0") < 0)
            _exit(1);
        breed(p[1]);
    }
    close(p[1]);
    assert_int_equal(read(p[0], &c, 1), 1);
    close(p[0]);
}

static void test_kill_fork_happy(void **state)
{
    NEEDED();
    start_breeding();
    assert_int_equal(cgroup_leaf_populated(&leaf), 1);
    assert_int_equal(cgroup_leaf_kill(&leaf), 0);
    reap_all(); /* comes back only if nobody breeds any more */
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
}

static void test_kill_frozen(void **state)
{
    pid_t pid;

    NEEDED();
    pid = member(NULL);
    assert_int_equal(cgroup_leaf_freeze(&leaf, true), 0);
    assert_int_equal(cgroup_leaf_kill(&leaf), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
    assert_int_equal(cgroup_leaf_freeze(&leaf, false), 0);
    pid = member(NULL); /* nothing of it stays */
    assert_int_equal(cgroup_leaf_populated(&leaf), 1);
    end(pid);
}

/* --- the list, and no root --- */

static void note_name(const char *name, void *arg)
{
    strcat(strcat(arg, name), " ");
}

static void test_list(void **state)
{
    char names[256] = "";
    struct cgroup_leaf other = CGROUP_LEAF_NULL;

    NEEDED();
    assert_int_equal(cgroup_root_list(&root, note_name, names), 0);
    assert_string_equal(names, "w-test ");
    assert_int_equal(cgroup_leaf_open(&root, "w-other~1", &other), 0);
    assert_int_equal(cgroup_leaf_open(&root, "supervisor", &other), 0);
    names[0] = 0;
    assert_int_equal(cgroup_root_list(&root, note_name, names), 0);
    assert_true(str_eq(names, "w-test w-other~1 ") || str_eq(names, "w-other~1 w-test "));
    cgroup_leaf_done(&other);
    assert_int_equal(cgroup_leaf_remove(&root, "w-other~1"), 0);
    assert_int_equal(cgroup_leaf_remove(&root, "supervisor"), 0);
}

static void test_no_root(void **state)
{
    struct cgroup_root none = CGROUP_ROOT_NULL;
    struct cgroup_leaf l = CGROUP_LEAF_NULL;
    pid_t pids[1];

    assert_int_equal(cgroup_leaf_open(&none, "x", &l), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_remove(&none, "x"), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_populated(&l), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_pids(&l, pids, 1), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_kill(&l), -EOPNOTSUPP);
    assert_int_equal(cgroup_leaf_freeze(&l, true), -EOPNOTSUPP);
    assert_int_equal(cgroup_root_list(&none, note_name, NULL), -EOPNOTSUPP);
    cgroup_root_done(&none);
}

/* --- without cgroups: session and cookie --- */

static bool note_pid(pid_t pid, const char *rest, void *arg)
{
    pid_t *found = arg;

    assert_string_equal(rest, "rest");
    *found = *found ? -1 : pid;
    return true;
}

/* Whole: the rest of the host comes and goes. */
static void read_tree(pid_t pid, struct snap_tree *ret)
{
    int r;

    while ((r = snap_tree_of_session(pid, ret)) == -EAGAIN)
        snap_tree_done(ret);
    assert_int_equal(r, 0);
}

static void test_session_and_cookie(void **state)
{
    pid_t pid, found = 0;
    struct snap_tree tree;
    char value[64], prefix[32];
    int go[2];

    snprintf(prefix, sizeof(prefix), "test-%d:", (int)getpid());
    snprintf(value, sizeof(value), "%srest", prefix);
    assert_int_equal(pipe(go), 0);
    if ((pid = fork()) == 0) {
        /* The main process in a session of its own; below it one that runs a program with the cookie. */
        setsid();
        dup2(go[0], 0);
        close(go[1]);
        if (fork() == 0) {
            setsid();
            setenv("UNIT_COOKIE", value, 1);
            execl("/bin/sh", "sh", "-c", "read x", NULL);
            _exit(127);
        }
        for (;;)
            pause();
    }
    close(go[0]);
    read_tree(pid, &tree);
    assert_true(tree.n >= 1 && has(tree.pids, (ssize_t)tree.n, pid));
    snap_tree_done(&tree);
    while (found == 0) {
        int r = snap_sweep_cookie("UNIT_COOKIE", prefix, note_pid, &found);
        assert_true(r == 0 || r == -EAGAIN); /* as the rest of the host comes and goes */
    }
    assert_true(found > 0 && found != pid);
    read_tree(pid, &tree);
    assert_int_equal(tree.n, 2);
    assert_true(has(tree.pids, 2, found)); /* left the session, but not its parent */
    snap_tree_done(&tree);
    kill(pid, SIGKILL);
    kill(found, SIGKILL);
    close(go[1]);
    reap_all();
}

static bool count_living(pid_t pid, const char *rest, void *arg)
{
    bool lives = kill(pid, 0) == 0;

    *(int *)arg += lives;
    return lives;
}

/* A daemon that is never the same process: it forks and ends, again and again, until the pipe's other end is
 * closed; each of them in a session of its own, or all in one. */
static void run_away(int go, bool sessions)
{
    struct pollfd end = {.fd = go, .events = POLLIN};

    while (poll(&end, 1, 0) == 0) {
        if (sessions)
            setsid();
        if (fork() != 0)
            _exit(0);
    }
    _exit(0);
}

static pid_t start_to_run_away(bool sessions, int *ret_go)
{
    char value[64];
    int go[2];
    pid_t pid;

    snprintf(value, sizeof(value), "run-%d:rest", (int)getpid());
    assert_int_equal(pipe(go), 0);
    signal(SIGCHLD, SIG_IGN); /* they come to us, thousands of them, and are reaped by the kernel */
    if ((pid = fork()) == 0) {
        close(go[1]);
        dup2(go[0], 0);
        setsid();
        setenv("UNIT_COOKIE", value, 1);
        setenv("UNIT_SESSIONS", sessions ? "1" : "", 1);
        execl("/proc/self/exe", "run-away", NULL);
        _exit(127);
    }
    close(go[0]);
    *ret_go = go[1];
    return pid;
}

/* Whoever looks while one has forked and ended meets the child, or says that he can't tell. */
static void test_sweep_of_who_runs_away(void **state)
{
    int go, none = 0;
    char prefix[32];

    start_to_run_away(true, &go);
    snprintf(prefix, sizeof(prefix), "run-%d:", (int)getpid());
    for (int n = 0; n == 0;)
        snap_sweep_cookie("UNIT_COOKIE", prefix, count_living, &n);
    for (int i = 0; i < RUN_AWAY_LOOKS; i++) {
        int n = 0, r = snap_sweep_cookie("UNIT_COOKIE", prefix, count_living, &n);
        assert_true(r == 0 || r == -EAGAIN);
        none += r == 0 && n == 0;
    }
    close(go);
    reap_all();
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(none, 0);
}

static void test_tree_of_who_runs_away(void **state)
{
    int go, none = 0;
    pid_t pid = start_to_run_away(false, &go);

    for (int i = 0; i < RUN_AWAY_LOOKS; i++) {
        struct snap_tree tree;
        int r = snap_tree_of_session(pid, &tree);
        assert_true(r == 0 || r == -EAGAIN);
        none += r == 0 && tree.n == 0;
        snap_tree_done(&tree);
    }
    close(go);
    reap_all();
    signal(SIGCHLD, SIG_DFL);
    assert_int_equal(none, 0);
}

/* A tree that lacks a member is worse than none. */
static void test_tree_whole_or_none(void **state)
{
    struct snap_tree tree;
    struct rlimit was, low;
    int fd = open("/dev/null", O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = (struct rlimit){(rlim_t)fd + 1, was.rlim_max};
    close(fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0); /* enough for /proc, and nothing in it */
    assert_int_equal(snap_tree_below(getpid(), &tree), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(snap_tree_below(getpid(), &tree), 0);
    assert_true(snap_tree_has(&tree, getpid()));
    assert_false(snap_tree_has(&tree, 1));
    snap_tree_done(&tree);
}

int main(int argc, char *argv[])
{
#define WITH_LEAF(f) cmocka_unit_test_setup_teardown(f, open_leaf, close_leaf)
#define CLEAN_ITSELF(f) cmocka_unit_test_setup(f, open_leaf)
    const struct CMUnitTest tests[] = {
        WITH_LEAF(test_leaf),
        WITH_LEAF(test_populated),
        CLEAN_ITSELF(test_pids),
        WITH_LEAF(test_many_pids),
        WITH_LEAF(test_kill_fork_happy),
        WITH_LEAF(test_kill_frozen),
        WITH_LEAF(test_list),
        cmocka_unit_test(test_no_root),
        cmocka_unit_test(test_session_and_cookie),
        cmocka_unit_test(test_sweep_of_who_runs_away),
        cmocka_unit_test(test_tree_of_who_runs_away),
        cmocka_unit_test(test_tree_whole_or_none),
    };

    if (str_eq(argv[0], "run-away"))
        run_away(0, getenv("UNIT_SESSIONS")[0] != 0);

    return cmocka_run_group_tests_name("cgroup", tests, open_root, close_root);
}
