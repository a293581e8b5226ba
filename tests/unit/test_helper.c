/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers: their answers, and what is killed once their time is over. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/reap.h"
#include "base/fd.h"
#include "tests/fake/sys_fake.h"

#define TIMEOUT_US 1000 /* of what is to be too late */

static struct {
    int times, status;
    char answer[16];
} heard;
static int gate[2]; /* who waits goes on once its second end is closed */

static int set_up(void **state)
{
    memset(&heard, 0, sizeof(heard));
    sys_fake_reset();
    return loop_init() < 0 || reap_init() < 0 || pipe(gate) < 0;
}

static int tear_down(void **state)
{
    helper_end_all();
    reap_done();
    loop_done();
    close(gate[0]);
    fd_close(gate[1]);
    return 0;
}

static void on_done(int status, const char *p, size_t n, void *arg)
{
    heard.times++;
    heard.status = status;
    snprintf(heard.answer, sizeof(heard.answer), "%.*s", (int)n, p);
    loop_stop();
}

static void open_gate(int fd, short what, void *arg)
{
    gate[1] = fd_close(gate[1]);
}

/* As SIGCHLD makes agentd do it. */
static void until_one_ended(void)
{
    siginfo_t si;

    assert_int_equal(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), 0);
    reap_sweep();
}

static void wait_at_gate(void)
{
    char c;

    (void)!read(HELPER_KEPT, &c, 1);
}

/* Leaves a child behind that has its pipe open. */
static int run_and_leave(int out, void *arg)
{
    if (fork() == 0) {
        wait_at_gate();
        _exit(fd_write_all(out, "late", 4) < 0);
    }
    return 3;
}

/* Its pid may be another's by then: nobody is killed for it, and who writes into its pipe is waited for. */
static void test_too_late_but_gone(void **state)
{
    struct loop_watch *later;

    assert_non_null(
        helper_start_keeping(gate, 1, run_and_leave, NULL, on_done, NULL, TIMEOUT_US, sizeof(heard.answer)));
    until_one_ended();
    assert_int_equal(heard.times, 0);
    later = loop_timer(2 * TIMEOUT_US, open_gate, NULL);
    assert_int_equal(loop_run(NULL), 0);
    loop_free(&later);
    assert_int_equal(sys_fake_count(FAKE_KILL), 0);
    assert_true(heard.times == 1 && heard.status == 3);
    assert_string_equal(heard.answer, "late");
}

static int run_and_hang(int out, void *arg)
{
    wait_at_gate();
    return 3;
}

static void test_too_late(void **state)
{
    assert_non_null(
        helper_start_keeping(gate, 1, run_and_hang, NULL, on_done, NULL, TIMEOUT_US, sizeof(heard.answer)));
    assert_int_equal(loop_run(NULL), 0);
    assert_int_equal(sys_fake_count(FAKE_KILL), 1);
    assert_int_equal(sys_fake_record(FAKE_KILL, 0)->b, SIGKILL);
    assert_true(heard.times == 1 && heard.status == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_too_late_but_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_late, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
