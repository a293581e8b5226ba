/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told of which child's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/reap.h"

#define MANY 1000

struct heard {
    pid_t pid;
    int code, status, times;
};

static void on_end(pid_t pid, int code, int status, void *arg)
{
    struct heard *h = arg;

    *h = (struct heard){pid, code, status, h->times + 1};
    assert_false(reap_knows(pid));
}

static pid_t child(int status)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(status);
    return pid;
}

/* So that one sweep finds them all. */
static void until_ended(pid_t pid)
{
    siginfo_t si;

    assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

static void test_told(void **state)
{
    struct heard a = {0}, b = {0};
    pid_t first = child(3), second = child(4), stranger = child(5);

    assert_int_equal(reap_add(first, on_end, &a), 0);
    assert_int_equal(reap_add(second, on_end, &b), 0);
    until_ended(first);
    until_ended(second);
    until_ended(stranger);
    reap_sweep();
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* also the one that nobody waits for */
    assert_true(a.times == 1 && a.pid == first && a.code == CLD_EXITED && a.status == 3);
    assert_true(b.times == 1 && b.pid == second && b.status == 4);
    reap_done();
}

/* A main process that was no child of ours is gone, and its number is a helper's by now: who takes himself
 * off leaves the other on. */
static void test_a_number_that_is_anothers(void **state)
{
    struct heard worker = {0}, helper = {0};
    pid_t pid = child(0);

    assert_int_equal(reap_add(pid, on_end, &worker), 0);
    assert_int_equal(reap_add(pid, on_end, &helper), 0);
    reap_remove(pid, &worker);
    assert_true(reap_knows(pid));
    until_ended(pid);
    reap_sweep();
    assert_int_equal(worker.times, 0);
    assert_int_equal(helper.times, 1);
    reap_done();
}

static void test_removed(void **state)
{
    struct heard h = {0};
    pid_t pid = child(0);

    reap_remove(pid, &h); /* of an empty table */
    assert_int_equal(reap_add(pid, on_end, &h), 0);
    reap_remove(pid, &h);
    assert_false(reap_knows(pid));
    until_ended(pid);
    reap_sweep();
    assert_int_equal(h.times, 0);
    reap_done();
}

static void test_many(void **state)
{
    struct heard h = {0};

    for (int round = 0; round < 3; round++) {
        for (pid_t pid = 1; pid <= MANY; pid++)
            assert_int_equal(reap_add(pid * 64, on_end, &h), 0);
        for (pid_t pid = 1; pid <= MANY; pid += 2)
            reap_remove(pid * 64, &h);
        for (pid_t pid = 1; pid <= MANY; pid++)
            assert_int_equal(reap_knows(pid * 64), pid % 2 == 0);
    }
    reap_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_told),
                                       cmocka_unit_test(test_a_number_that_is_anothers),
                                       cmocka_unit_test(test_removed), cmocka_unit_test(test_many)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
