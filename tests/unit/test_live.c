/* SPDX-License-Identifier: Apache-2.0 */
/* live: real processes are given limits, nice level and OOM score while they run, with their threads, and
 * nobody else is. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "proc/live.h"
#include "proc/spawn.h"

static pid_t child, grandchild, thread;
static int own_nice;
static int hold[2];

static void tell(int fd, pid_t pid)
{
    if (write(fd, &pid, sizeof(pid)) != sizeof(pid))
        _exit(1);
}

static void wait_for_end(void)
{
    char c;

    while (read(hold[0], &c, 1) < 0)
        ;
    _exit(0);
}

static void *run_thread(void *arg)
{
    tell(*(int *)arg, (pid_t)syscall(SYS_gettid));
    wait_for_end();
    return NULL;
}

static void be_child(int out)
{
    pthread_t t;
    pid_t pid;

    close(hold[1]);
    if ((pid = fork()) == 0) {
        wait_for_end();
    }
    tell(out, pid);
    if (pthread_create(&t, NULL, run_thread, &out) != 0)
        _exit(1);
    wait_for_end();
}

static int start(void **state)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0 || pipe2(hold, O_CLOEXEC) < 0 || (child = fork()) < 0)
        return -1;
    if (child == 0)
        be_child(p[1]);
    close(p[1]);
    return read(p[0], &grandchild, sizeof(pid_t)) == sizeof(pid_t) &&
                   read(p[0], &thread, sizeof(pid_t)) == sizeof(pid_t) && close(p[0]) == 0
               ? 0
               : -1;
}

static int end(void **state)
{
    close(hold[1]);
    close(hold[0]);
    return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static unsigned listings;

static int list_both(void *arg, struct snap_tree *ret)
{
    listings++;
    ret->pids = calloc(2, sizeof(pid_t));
    ret->pids[0] = child;
    ret->pids[1] = grandchild;
    ret->n = 2;
    return 0;
}

static rlim_t soft(pid_t pid, int resource)
{
    struct rlimit l;

    assert_int_equal(prlimit(pid, resource, NULL, &l), 0);
    return l.rlim_cur;
}

static int oom_of(pid_t pid)
{
    char path[64], text[16];

    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    assert_true(fd_read_file(AT_FDCWD, path, text, sizeof(text)) > 0);
    return atoi(text);
}

static void test_all(void **state)
{
    struct live_want want = {.has_nice = true, .nice = 17, .has_oom = true, .oom_score_adj = 321};
    struct live_result r;
    rlim_t own = soft(0, RLIMIT_CORE);

    want.limits_set = 1u << RLIMIT_NOFILE | 1u << RLIMIT_CORE;
    want.limits[RLIMIT_NOFILE] = (struct rlimit){77, 88};
    want.limits[RLIMIT_CORE] = (struct rlimit){0, 0};
    assert_int_equal(live_apply(list_both, NULL, &want, &r), 0);
    assert_int_equal(r.done, 2);
    assert_int_equal(r.refused, 0);
    for (int i = 0; i < 2; i++) {
        pid_t pid = i ? grandchild : child;
        assert_int_equal(soft(pid, RLIMIT_NOFILE), 77);
        assert_int_equal(soft(pid, RLIMIT_CORE), 0);
        assert_int_equal(getpriority(PRIO_PROCESS, (id_t)pid), 17);
        assert_int_equal(oom_of(pid), 321);
    }
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)thread), 17);
    assert_int_equal(soft(0, RLIMIT_CORE), own);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), own_nice);
}

/* The kernel gives nobody more than fs.nr_open; the soft limit goes as far as the hard one. */
static void test_refused(void **state)
{
    struct live_want want = {.limits_set = 1u << RLIMIT_NOFILE};
    struct live_result r;
    struct rlimit before, after;

    want.limits[RLIMIT_NOFILE] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    assert_int_equal(prlimit(child, RLIMIT_NOFILE, NULL, &before), 0);
    assert_int_equal(live_apply(list_both, NULL, &want, &r), 0);
    assert_int_equal(r.done, 2);
    assert_int_equal(r.refused, 2);
    assert_int_equal(r.pid, child);
    assert_int_equal(r.error, EPERM);
    assert_int_equal(r.resource, RLIMIT_NOFILE);
    assert_int_equal(prlimit(child, RLIMIT_NOFILE, NULL, &after), 0);
    assert_true(after.rlim_max == before.rlim_max && after.rlim_cur == before.rlim_max);
}

/* Who is not listed again is not touched: its pid may have become somebody else's. */
static int list_once(void *arg, struct snap_tree *ret)
{
    int r = list_both(arg, ret);

    ret->n = listings == 1 ? 2 : 1;
    return r;
}

static void test_confirmed(void **state)
{
    struct live_want want = {.has_nice = true, .nice = 19};
    struct live_result r;

    listings = 0;
    assert_int_equal(live_apply(list_once, NULL, &want, &r), 0);
    assert_int_equal(r.done, 1);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)child), 19);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)grandchild), own_nice);
}

static void test_gone(void **state)
{
    struct live_want want = {.has_oom = true, .oom_score_adj = 5};
    struct live_result r;

    kill(grandchild, SIGKILL);
    waitpid(child, NULL, WNOHANG);
    assert_int_equal(live_apply(list_both, NULL, &want, &r), 0);
    assert_int_equal(r.refused, 0);
    assert_int_equal(oom_of(child), 5);
}

static int list_fails(void *arg, struct snap_tree *ret)
{
    return -EMFILE;
}

static void test_list_fails(void **state)
{
    struct live_want want = {.has_nice = true, .nice = 19};
    struct live_result r;

    assert_int_equal(live_apply(list_fails, NULL, &want, &r), -EMFILE);
    assert_int_equal(r.done, 0);
}

static void test_default_limit(void **state)
{
    struct rlimit own, l;

    spawn_init();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &own), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){own.rlim_cur / 2, own.rlim_max}), 0);
    assert_int_equal(spawn_default_limit(RLIMIT_NOFILE, &l), 0);
    assert_true(l.rlim_cur == own.rlim_cur && l.rlim_max == own.rlim_max);
    setrlimit(RLIMIT_NOFILE, &own);
    assert_int_equal(spawn_default_limit(RLIMIT_CORE, &l), 0);
    assert_int_equal(l.rlim_cur, soft(0, RLIMIT_CORE));
}

#define WITH_TREE(f) cmocka_unit_test_setup_teardown(f, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TREE(test_all),  WITH_TREE(test_refused),           WITH_TREE(test_confirmed),
        WITH_TREE(test_gone), cmocka_unit_test(test_list_fails), cmocka_unit_test(test_default_limit),
    };

    own_nice = getpriority(PRIO_PROCESS, 0);
    return cmocka_run_group_tests_name("live", tests, NULL, NULL);
}
