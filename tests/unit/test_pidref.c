/* SPDX-License-Identifier: Apache-2.0 */
/* pidref: who a process is: reading /proc/PID/stat, a real child through its life, and kernels without pidfds
 * (on a faked seam). */
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "proc/pidref.h"
#include "proc/sys.h"
#include "tests/fake/sys_fake.h"

/* pid_max can't reach it, pid_max(5). */
#define NO_PID 0x3fffffff

static int reset(void **state)
{
    sys_fake_reset();
    return 0;
}

/* A child that waits until it is told to go (or the test dies). */
static pid_t child;
static int child_in;

static void start_child(const char *name)
{
    int p[2], ready[2];
    char c;

    assert_int_equal(pipe(p), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_NAME, name);
        close(p[1]);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        _exit(read(p[0], &c, 1) == 1 ? 7 : 0);
    }
    close(p[0]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    child_in = p[1];
}

/* The child ends; it stays a zombie. */
static void end_child(void)
{
    siginfo_t si;

    child_in = fd_close(child_in);
    assert_int_equal(waitid(P_PID, (id_t)child, &si, WEXITED | WNOWAIT), 0);
}

static void reap_child(void)
{
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* --- reading --- */

#define TAIL " S 1 2 3 0 -1 4194560 100 0 0 0 11 22 5 6 20 0 1 0 7777 1000000 50 18446744073709551615 1 1 0"

static void test_parse(void **state)
{
    static const char *const names[] = {"sh",  "a b",  "a) (b", ") S 9 9 9", "(((",       ")))",
                                        ") (", "x\ny", "",      "\xff)",     "a) Z 1 2 ("};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct pidref_stat st;
        char text[256];
        snprintf(text, sizeof(text), "123 (%s)" TAIL, names[i]);
        if (pidref_parse_stat(text, &st) < 0)
            fail_msg("not read: %s", text);
        assert_int_equal(st.state, 'S');
        assert_int_equal(st.ppid, 1);
        assert_int_equal(st.session, 3);
        assert_int_equal(st.start, 7777);
        assert_int_equal(st.cpu_ticks, 33);
        assert_int_equal(st.rss_bytes, 50 * sysconf(_SC_PAGESIZE));
    }
}

static void test_parse_cut(void **state)
{
    static const char whole[] = "123 (a b)" TAIL;
    /* The last field that is read is rss, "50": a text cut in it can't be told from a whole one. */
    size_t needed = (size_t)(strstr(whole, " 50 ") - whole) + 2;
    struct pidref_stat st;
    char text[sizeof(whole)];

    for (size_t n = 0; n < sizeof(whole); n++) {
        str_copy(text, n + 1, whole);
        assert_int_equal(pidref_parse_stat(text, &st), n < needed ? -EBADMSG : 0);
    }
    assert_int_equal(pidref_parse_stat("123 (sh) S 1 2 x", &st), -EBADMSG);
    assert_int_equal(pidref_parse_stat("no name at all", &st), -EBADMSG);
    /* A negative size is none. */
    assert_int_equal(
        pidref_parse_stat("1 (a) R 0 1 1 0 0 0 0 0 0 0 1 1 0 0 0 0 0 0 18446744073709551615 0 -3", &st), 0);
    assert_int_equal(st.rss_bytes, 0);
    assert_true(st.start == UINT64_MAX);
}

static void test_read(void **state)
{
    struct pidref_stat st;

    start_child(") S 1 (\n) Z");
    assert_int_equal(pidref_read_stat(child, &st), 0);
    assert_int_equal(st.ppid, getpid());
    assert_int_equal(st.session, getsid(0));
    assert_true(st.state == 'S' || st.state == 'R');
    /* It started before now, and not long ago. */
    assert_true(pidref_start_us(st.start) <= clock_boot_us());
    assert_true(clock_boot_us() - pidref_start_us(st.start) < 60000000);
    end_child();
    assert_int_equal(pidref_read_stat(child, &st), 0);
    assert_int_equal(st.state, 'Z');
    reap_child();
    assert_int_equal(pidref_read_stat(child, &st), -ESRCH);
    assert_int_equal(pidref_read_stat(NO_PID, &st), -ESRCH);
}

static void test_start_us(void **state)
{
    uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);

    assert_int_equal(pidref_start_us(0), 0);
    assert_int_equal(pidref_start_us(hz), 1000000);
    assert_int_equal(pidref_start_us(hz * 86400 * 3650), 86400ull * 3650 * 1000000);
}

static void test_boot_id(void **state)
{
    assert_int_equal(strlen(pidref_boot_id()), 36);
    assert_int_equal(strspn(pidref_boot_id(), "0123456789abcdef-"), 36);
}

/* --- a child through its life --- */

static void life(bool has_pidfd)
{
    struct pidref p = PIDREF_NULL, q = PIDREF_NULL;

    start_child("life");
    assert_int_equal(pidref_open(&p, child), 0);
    assert_true(pidref_is_set(&p));
    assert_int_equal(p.fd >= 0, has_pidfd);
    assert_int_equal(pidref_check(&p), PIDREF_SAME);
    assert_int_equal(pidref_reopen(&q, child, p.start), 0);
    assert_int_equal(q.start, p.start);
    pidref_done(&q);
    assert_int_equal(pidref_reopen(&q, child, p.start + 1), -ESRCH);
    assert_int_equal(pidref_reopen(&q, child, 0), -ESRCH);
    assert_false(pidref_is_set(&q));
    assert_int_equal(pidref_signal(&p, 0), 0);

    end_child(); /* a zombie runs nothing */
    assert_int_equal(pidref_check(&p), PIDREF_GONE);
    assert_int_equal(pidref_open(&q, child), -ESRCH);
    assert_int_equal(pidref_reopen(&q, child, p.start), -ESRCH);
    if (has_pidfd) {
        struct pollfd pfd = {.fd = p.fd, .events = POLLIN};
        assert_int_equal(poll(&pfd, 1, 0), 1);
    }

    reap_child();
    assert_int_equal(pidref_check(&p), PIDREF_GONE);
    assert_int_equal(pidref_open(&q, child), -ESRCH);
    assert_int_equal(pidref_signal(&p, SIGKILL), -ESRCH);
    pidref_done(&p);
    pidref_done(&p);
    assert_int_equal(p.fd, -1);
    assert_int_equal(pidref_signal(&p, SIGKILL), -ESRCH);
}

static void test_life(void **state)
{
    life(true);
    assert_int_equal(sys_fake_count(FAKE_KILL), 0); /* never by number */
}

static void test_life_without_pidfd(void **state)
{
    sys_fake_always(FAKE_PIDFD_OPEN, -ENOSYS);
    life(false);
    assert_int_equal(sys_fake_count(FAKE_PIDFD_SEND_SIGNAL), 0);
}

static void test_hold(void **state)
{
    struct pidref p = PIDREF_NULL;
    int status;

    start_child("held");
    assert_int_equal(pidref_hold(&p, child), 0);
    assert_int_equal(p.pid, child);
    assert_true(p.fd >= 0);
    assert_int_equal(p.start, 0);
    assert_int_equal(pidref_signal(&p, SIGTERM), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_int_equal(pidref_signal(&p, SIGTERM), -ESRCH);
    assert_int_equal(sys_fake_count(FAKE_KILL), 0);
    pidref_done(&p);
    assert_int_equal(pidref_hold(&p, child), -ESRCH);
    assert_false(pidref_is_set(&p));
    fd_close(child_in);
}

/* Then only the ticks tell who it is. */
static void test_hold_without_pidfd(void **state)
{
    static const int none[] = {ENOSYS, EPERM};
    struct pidref p = PIDREF_NULL;

    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        sys_fake_push(FAKE_PIDFD_OPEN, -none[i]);
        sys_fake_push(FAKE_PIDFD_OPEN, -none[i]);
        assert_int_equal(pidref_hold(&p, getpid()), 0);
        assert_int_equal(p.fd, -1);
        assert_true(p.start > 0);
        pidref_done(&p);
    }
    sys_fake_push(FAKE_PIDFD_OPEN, -EMFILE);
    assert_int_equal(pidref_hold(&p, getpid()), -EMFILE);
    assert_false(pidref_is_set(&p));
}

static void test_signal_ends(void **state)
{
    struct pidref p;
    int status;

    start_child("victim");
    assert_int_equal(pidref_open(&p, child), 0);
    assert_int_equal(pidref_signal(&p, SIGTERM), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    fd_close(child_in);
    pidref_done(&p);
}

/* --- kernels without pidfds, and calls that fail --- */

static void test_only_when_ticks_match(void **state)
{
    struct pidref p;

    sys_fake_always(FAKE_PIDFD_OPEN, -ENOSYS);
    sys_fake_always(FAKE_KILL, 0);
    start_child("same");
    assert_int_equal(pidref_open(&p, child), 0);
    assert_int_equal(pidref_signal(&p, SIGTERM), 0);
    assert_int_equal(sys_fake_count(FAKE_KILL), 1);
    assert_int_equal(sys_fake_record(FAKE_KILL, 0)->a, child);
    assert_int_equal(sys_fake_record(FAKE_KILL, 0)->b, SIGTERM);
    p.start++; /* the pid is somebody else's by now */
    assert_int_equal(pidref_check(&p), PIDREF_GONE);
    assert_int_equal(pidref_signal(&p, SIGTERM), -ESRCH);
    assert_int_equal(sys_fake_count(FAKE_KILL), 1);
    p.start--;
    end_child();
    assert_int_equal(pidref_signal(&p, SIGTERM), -ESRCH);
    assert_int_equal(sys_fake_count(FAKE_KILL), 1);
    reap_child();
}

static void test_open_fails(void **state)
{
    static const int hard[] = {EMFILE, ENFILE, ENOMEM, EINVAL, ESRCH};
    struct pidref p = PIDREF_NULL;

    for (size_t i = 0; i < ARRAY_LEN(hard); i++) {
        sys_fake_push(FAKE_PIDFD_OPEN, -hard[i]);
        assert_int_equal(pidref_open(&p, getpid()), -hard[i]);
        assert_false(pidref_is_set(&p));
    }
    sys_fake_push(FAKE_PIDFD_OPEN, -EMFILE);
    assert_int_equal(pidref_reopen(&p, getpid(), 1), -EMFILE); /* can't be told, so it is not "gone" */
    sys_fake_push(FAKE_PIDFD_OPEN, -EPERM);                    /* a filter of a container runtime */
    assert_int_equal(pidref_open(&p, getpid()), 0);
    assert_int_equal(p.fd, -1);
    pidref_done(&p);
}

/* With no descriptor left to read /proc. */
static enum pidref_check check_without_proc(const struct pidref *p, int sig, int *ret_signal)
{
    int fds[64], n = 0, fd;
    struct rlimit was, none;
    enum pidref_check c;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){32, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (n < 64 && (fd = dup(0)) >= 0)
        fds[n++] = fd;
    c = pidref_check(p);
    *ret_signal = pidref_signal(p, sig);
    while (n)
        close(fds[--n]);
    setrlimit(RLIMIT_NOFILE, &was);
    return c;
}

/* Can't be told: then nobody is signalled. */
static void test_cannot_tell(void **state)
{
    struct pidref p;
    int r;

    sys_fake_always(FAKE_PIDFD_OPEN, -ENOSYS);
    sys_fake_always(FAKE_KILL, 0);
    assert_int_equal(pidref_open(&p, getpid()), 0);
    assert_int_equal(check_without_proc(&p, SIGTERM, &r), PIDREF_UNKNOWN);
    assert_int_equal(r, -EIO);
    assert_int_equal(sys_fake_count(FAKE_KILL), 0);
}

/* A pidfd tells. */
static void test_told_by_pidfd(void **state)
{
    struct pidref p;
    int r;

    start_child("told");
    assert_int_equal(pidref_open(&p, child), 0);
    assert_int_equal(check_without_proc(&p, 0, &r), PIDREF_SAME);
    assert_int_equal(r, 0);
    end_child();
    assert_int_equal(check_without_proc(&p, 0, &r), PIDREF_GONE);
    reap_child();
    assert_int_equal(check_without_proc(&p, 0, &r), PIDREF_GONE);
    assert_int_equal(r, -ESRCH);
    pidref_done(&p);
}

/* --- the seam itself --- */

static void test_wait_any(void **state)
{
    siginfo_t si;

    assert_int_equal(sys_wait_any(&si), -ECHILD);
    start_child("wait");
    assert_int_equal(sys_wait_any(&si), 0);
    end_child();
    assert_int_equal(sys_wait_any(&si), child);
    assert_int_equal(si.si_code, CLD_EXITED);
    assert_int_equal(sys_wait_any(&si), -ECHILD);
}

static void test_cloexec_from(void **state)
{
    int fd = dup(0), high = fcntl(0, F_DUPFD, fd + 5);

    assert_int_equal(sys_cloexec_from(fd + 1), 0);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    assert_int_equal(fcntl(high, F_GETFD), FD_CLOEXEC);
    close(fd);
    close(high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_cut),
        cmocka_unit_test_setup(test_read, reset),
        cmocka_unit_test(test_start_us),
        cmocka_unit_test(test_boot_id),
        cmocka_unit_test_setup(test_life, reset),
        cmocka_unit_test_setup(test_life_without_pidfd, reset),
        cmocka_unit_test_setup(test_hold, reset),
        cmocka_unit_test_setup(test_hold_without_pidfd, reset),
        cmocka_unit_test_setup(test_signal_ends, reset),
        cmocka_unit_test_setup(test_only_when_ticks_match, reset),
        cmocka_unit_test_setup(test_open_fails, reset),
        cmocka_unit_test_setup(test_cannot_tell, reset),
        cmocka_unit_test_setup(test_told_by_pidfd, reset),
        cmocka_unit_test_setup(test_wait_any, reset),
        cmocka_unit_test_setup(test_cloexec_from, reset),
    };

    return cmocka_run_group_tests_name("pidref", tests, NULL, NULL);
}
