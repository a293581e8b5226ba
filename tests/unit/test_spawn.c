/* SPDX-License-Identifier: Apache-2.0 */
/* spawn, when it works: what the program finds, looked at from outside in /proc. */
#include "tests/unit/spawn_run.h"

#include <dirent.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "proc/caps.h"
#include "proc/cgroup.h"
#include "proc/sys.h"

static void on_usr1(int sig)
{
}

static void test_environment(void **state)
{
    static const char want[] = "A=1\0B=two words\0EMPTY=\0";
    char *envp[] = {(char *)"A=1", (char *)"B=two words", (char *)"EMPTY=", NULL}, text[4096];
    struct spawn_spec s = plain_spec();

    setenv("AGENTDS_OWN", "secret", 1);
    s.envp = envp;
    run(&s);
    assert_int_equal(look("environ", text, sizeof(text)), sizeof(want) - 1);
    assert_memory_equal(text, want, sizeof(want) - 1);
    assert_int_equal(look("cmdline", text, sizeof(text)), sizeof("sleep\0infinity"));
    assert_memory_equal(text, "sleep\0infinity", sizeof("sleep\0infinity"));
    kill_child();
    s.envp = (char *[]){NULL};
    run(&s);
    assert_int_equal(look("environ", text, sizeof(text)), 0);
    kill_child();
}

static void test_session_and_files(void **state)
{
    struct spawn_spec s = plain_spec();
    struct pidref_stat st;

    run(&s);
    assert_int_equal(pidref_read_stat(job.ref.pid, &st), 0);
    assert_int_equal(st.session, job.ref.pid);
    assert_int_equal(st.ppid, getpid());
    assert_int_equal(st.start, job.ref.start);
    assert_int_equal(getpgid(job.ref.pid), job.ref.pid);
    assert_string_equal(follow("cwd"), "/");
    for (int fd = 0; fd < 3; fd++) {
        char name[16];
        snprintf(name, sizeof(name), "fd/%d", fd);
        assert_string_equal(follow(name), "/dev/null");
    }
    kill_child();
    s.directory = dir;
    run(&s);
    assert_string_equal(follow("cwd"), dir);
    kill_child();
    s.directory = path_of("missing");
    s.directory_optional = true;
    run(&s);
    assert_string_equal(follow("cwd"), "/");
    kill_child();
}

static void test_signals(void **state)
{
    struct spawn_spec s = plain_spec();
    sigset_t set, before, now;

    signal(SIGUSR1, on_usr1);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &before);
    run(&s);
    assert_int_equal(status_bits("SigBlk"), 0);
    assert_int_equal(status_bits("SigIgn"), 0);
    assert_int_equal(status_bits("SigCgt"), 0);
    assert_int_equal(status_bits("SigPnd"), 0);
    kill_child();
    s.ignore_sigpipe = true;
    run(&s);
    assert_int_equal(status_bits("SigIgn"), 1u << (SIGPIPE - 1));
    kill_child();
    sigprocmask(SIG_SETMASK, &before, &now); /* our own mask came back */
    assert_true(sigismember(&now, SIGTERM) && sigismember(&now, SIGCHLD) && !sigismember(&now, SIGHUP));
    signal(SIGUSR1, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
}

static void assert_own_score(const char *want)
{
    char text[16];

    assert_true(fd_read_file(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text)) > 0);
    assert_string_equal(text, want);
}

static void test_umask_nice_oom(void **state)
{
    struct spawn_spec s = plain_spec();
    char text[64], score[16];
    int own = getpriority(PRIO_PROCESS, 0);

    assert_true(fd_read_file(AT_FDCWD, "/proc/self/oom_score_adj", score, sizeof(score)) > 0);

    s.umask = 027;
    s.has_nice = s.has_oom = true;
    s.nice = 7;
    s.oom_score_adj = 432;
    run(&s);
    assert_string_equal(status_of("Umask"), "0027");
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t)job.ref.pid), 7);
    look("oom_score_adj", text, sizeof(text));
    assert_string_equal(text, "432\n");
    kill_child();
    s.umask = 0;
    s.oom_score_adj = 1000;
    run(&s);
    assert_string_equal(status_of("Umask"), "0000");
    look("oom_score_adj", text, sizeof(text));
    assert_string_equal(text, "1000\n");
    kill_child();
    assert_int_equal(getpriority(PRIO_PROCESS, 0), own);
    assert_own_score(score);
    s.has_oom = false;
    run(&s);
    look("oom_score_adj", text, sizeof(text));
    assert_string_equal(text, score);
    kill_child();
}

static struct rlimit limit_of(int which)
{
    struct rlimit l;

    assert_int_equal(prlimit(job.ref.pid, (enum __rlimit_resource)which, NULL, &l), 0);
    return l;
}

static void test_limits(void **state)
{
    struct spawn_spec s = plain_spec();
    struct rlimit limits[RLIM_NLIMITS] = {0}, first, low, now;

    /* What spawn_init saw, not what agentd set on itself since. */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &first), 0);
    low = (struct rlimit){first.rlim_cur - 1, first.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    run(&s);
    assert_int_equal(limit_of(RLIMIT_NOFILE).rlim_cur, first.rlim_cur);
    kill_child();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &first), 0);
    limits[RLIMIT_NOFILE] = (struct rlimit){100, 200};
    limits[RLIMIT_CORE] = (struct rlimit){0, 0};
    limits[RLIMIT_CPU] = (struct rlimit){300, 400};
    s.limits = limits;
    s.limits_set = 1u << RLIMIT_NOFILE | 1u << RLIMIT_CORE | 1u << RLIMIT_CPU;
    run(&s);
    now = limit_of(RLIMIT_NOFILE);
    assert_true(now.rlim_cur == 100 && now.rlim_max == 200);
    now = limit_of(RLIMIT_CPU);
    assert_true(now.rlim_cur == 300 && now.rlim_max == 400);
    assert_true(limit_of(RLIMIT_CORE).rlim_max == 0);
    assert_int_equal(job.clamped, 0);
    getrlimit(RLIMIT_CPU, &now);
    assert_int_not_equal(now.rlim_cur, 300); /* not ours */
    kill_child();
}

/* More than the hard limit: given to root, else cut to it, and said. */
static void test_limit_clamped(void **state)
{
    struct spawn_spec s = plain_spec();
    struct rlimit limits[RLIM_NLIMITS] = {0}, hard;

    assert_int_equal(getrlimit(RLIMIT_CORE, &hard), 0);
    hard.rlim_max = hard.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_CORE, &hard), 0); /* for good; nobody here needs more */
    limits[RLIMIT_CORE] = (struct rlimit){1 << 21, 1 << 22};
    s.limits = limits;
    s.limits_set = 1u << RLIMIT_CORE;
    run(&s);
    if (job.clamped) {
        assert_int_equal(job.clamped, 1u << SPAWN_LIMITS);
        assert_int_equal(limit_of(RLIMIT_CORE).rlim_cur, 1 << 20);
        assert_int_equal(limit_of(RLIMIT_CORE).rlim_max, 1 << 20);
    } else {
        assert_int_equal(limit_of(RLIMIT_CORE).rlim_cur, 1 << 21);
        assert_int_equal(limit_of(RLIMIT_CORE).rlim_max, 1 << 22);
    }
    kill_child();
}

/* --- who it is --- */

static void test_user(void **state)
{
    static const gid_t groups[] = {7, 1234, 65000};
    struct spawn_spec s = plain_spec();

    if (geteuid() != 0)
        skip();
    s.change_ids = true;
    s.uid = NOBODY;
    s.gid = 12345; /* need not exist */
    s.groups = groups;
    s.n_groups = 3;
    run(&s);
    assert_string_equal(status_of("Uid"), "65534\t65534\t65534\t65534");
    assert_string_equal(status_of("Gid"), "12345\t12345\t12345\t12345");
    assert_string_equal(status_of("Groups"), "7 1234 65000");
    assert_int_equal(status_bits("CapEff") | status_bits("CapPrm") | status_bits("CapInh"), 0);
    assert_int_equal(status_bits("CapAmb"), 0);
    assert_string_equal(status_of("NoNewPrivs"), "0");
    kill_child();
    s.n_groups = 0; /* ours do not stay */
    run(&s);
    assert_string_equal(status_of("Groups"), "");
    kill_child();
    assert_int_equal(geteuid(), 0);
}

static void test_no_new_privileges(void **state)
{
    struct spawn_spec s = plain_spec();

    s.no_new_privileges = true;
    run(&s);
    assert_string_equal(status_of("NoNewPrivs"), "1");
    kill_child();
    assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

static void test_capabilities(void **state)
{
    struct spawn_spec s = plain_spec();
    const uint64_t chown_bit = 1, bind_bit = 1u << 10;
    uint64_t ours;

    if (geteuid() != 0)
        skip();
    run(&s);
    ours = status_bits("CapBnd");
    assert_int_equal(status_bits("CapEff"), ours); /* root's program gets all that is there */
    kill_child();
    if (!(ours & bind_bit) || !(ours & chown_bit))
        skip();
    s.has_bounding = true;
    s.bounding = chown_bit | bind_bit;
    s.ambient = bind_bit;
    s.change_ids = true;
    s.uid = s.gid = NOBODY;
    s.no_new_privileges = true;
    run(&s);
    assert_int_equal(status_bits("CapBnd"), chown_bit | bind_bit);
    assert_int_equal(status_bits("CapAmb"), bind_bit);
    assert_int_equal(status_bits("CapEff"), bind_bit);
    assert_int_equal(status_bits("CapPrm"), bind_bit);
    assert_int_equal(status_bits("CapInh"), bind_bit);
    assert_string_equal(status_of("Uid"), "65534\t65534\t65534\t65534");
    kill_child();
    s.ambient = 0;
    s.bounding = 0;
    run(&s);
    assert_int_equal(status_bits("CapBnd") | status_bits("CapEff") | status_bits("CapAmb"), 0);
    kill_child();
    s = plain_spec();
    s.ambient = bind_bit; /* without a bounding set, as root */
    run(&s);
    assert_int_equal(status_bits("CapBnd"), ours);
    assert_int_equal(status_bits("CapAmb"), bind_bit);
    kill_child();
}

/* --- descriptors --- */

static unsigned descriptors(void)
{
    char path[64];
    struct dirent *e;
    unsigned set = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)job.ref.pid);
    assert_non_null(d = opendir(path));
    while ((e = readdir(d)))
        if (*e->d_name != '.')
            set |= 1u << (atoi(e->d_name) < 31 ? atoi(e->d_name) : 31);
    closedir(d);
    return set;
}

/* The loader of the program itself opens a few for a moment: what is ours would stay. */
static void assert_descriptors(unsigned want)
{
    uint64_t until = clock_mono_us() + 3000000;
    unsigned set;

    while ((set = descriptors()) != want && clock_mono_us() < until)
        sched_yield();
    assert_int_equal(set, want);
}

static void test_no_other_descriptor(void **state)
{
    static const int numbers[] = {3, 4, 9, 12, 200, 777};
    struct spawn_spec s = plain_spec();
    int spare[ARRAY_LEN(numbers)];

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) /* not close-on-exec: somebody's mistake */
        spare[i] = fcntl(0, F_DUPFD, numbers[i]);
    run(&s);
    assert_descriptors(7);
    kill_child();
    for (size_t i = 0; i < ARRAY_LEN(spare); i++) {
        int pass = fcntl(spare[i], F_DUPFD_CLOEXEC, spare[i]);
        s.pass_fds = &pass;
        s.n_pass_fds = 1;
        run(&s);
        assert_descriptors(15);
        kill_child();
        close(pass);
    }
    for (size_t i = 0; i < ARRAY_LEN(spare); i++)
        close(spare[i]);
}

static void test_pass_descriptor(void **state)
{
    struct spawn_spec s = shell_spec("echo from 3 >&3");
    int p[2], ends[2], status;
    char text[32] = "";

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    ends[0] = p[1];
    ends[1] = fcntl(p[1], F_DUPFD_CLOEXEC, 100);
    for (int i = 0; i < 2; i++) {
        s.pass_fds = &ends[i];
        s.n_pass_fds = 1;
        run(&s);
        assert_int_equal(read(p[0], text, sizeof(text)), 7);
        assert_memory_equal(text, "from 3\n", 7);
        status = finish();
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    close(p[0]);
    close(p[1]);
    close(ends[1]);
}

/* Four of them, in the places of each other, and the pid in the environment. */
static void test_pass_several(void **state)
{
    static char pid_var[] = "LISTEN_PID=          ";
    static char *env[] = {pid_var, NULL};
    struct spawn_spec s = shell_spec("echo a >&3; echo b >&4; echo c >&5; echo $LISTEN_PID $$ >&6");
    int p[4][2], fds[4], status;
    char text[64], want[64];
    pid_t pid;

    for (int i = 0; i < 4; i++)
        assert_int_equal(pipe2(p[i], O_CLOEXEC), 0);
    for (int i = 0; i < 4; i++)
        fds[i] = p[i][1];
    s.pass_fds = fds;
    s.n_pass_fds = 4;
    s.envp = env;
    s.pid_text = pid_var + strlen("LISTEN_PID=");
    run(&s);
    pid = job.ref.pid;
    status = finish();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < 4; i++) {
        ssize_t n = read(p[i][0], text, sizeof(text) - 1);
        assert_true(n > 0);
        text[n] = 0;
        if (i < 3)
            snprintf(want, sizeof(want), "%c\n", 'a' + i);
        else
            snprintf(want, sizeof(want), "%d %d\n", (int)pid, (int)pid);
        assert_string_equal(text, want);
        close(p[i][0]);
        close(p[i][1]);
    }
}

static void assert_file(const char *path, const char *want)
{
    char text[256];

    assert_true(fd_read_file(AT_FDCWD, path, text, sizeof(text)) >= 0);
    assert_string_equal(text, want);
}

static void test_outputs(void **state)
{
    struct spawn_spec s = shell_spec("echo out; echo err >&2");
    const char *a = path_of("a"), *b = path_of("b");
    struct stat st;

    s.out = (struct spawn_output){SPAWN_OUT_APPEND, a, false};
    s.err = (struct spawn_output){SPAWN_OUT_SAME, NULL, false};
    s.umask = 0;
    run(&s);
    assert_int_equal(finish(), 0);
    assert_file(a, "out\nerr\n");
    assert_int_equal(stat(a, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    write_text(b, "12345", 0600);
    s.err = (struct spawn_output){SPAWN_OUT_APPEND, b, false};
    run(&s);
    assert_int_equal(job.error_size, 5); /* so that only this start's lines are shown */
    assert_int_equal(finish(), 0);
    assert_file(a, "out\nerr\nout\n");
    assert_file(b, "12345err\n");
    s.out = (struct spawn_output){SPAWN_OUT_APPEND, "/dev/null", false};
    s.err = (struct spawn_output){SPAWN_OUT_NULL, NULL, false};
    run(&s);
    assert_int_equal(job.error_size, -1);
    assert_int_equal(finish(), 0);
}

/* A folder of root's takes root's file for a worker's output; the worker's group may read it. */
static void test_output_as_root(void **state)
{
    struct spawn_spec s = shell_spec("echo out; echo err >&2");
    const char *a = path_of("a"), *b = path_of("own/b");
    struct stat st;

    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(path_of("own"), 0755), 0);
    assert_int_equal(chown(path_of("own"), NOBODY, NOBODY), 0);
    s.change_ids = true;
    s.uid = s.gid = NOBODY;
    s.out = (struct spawn_output){SPAWN_OUT_APPEND, a, true};
    s.err = (struct spawn_output){SPAWN_OUT_APPEND, b, false};
    run(&s);
    assert_int_equal(finish(), 0);
    assert_file(a, "out\n");
    assert_file(b, "err\n");
    assert_int_equal(stat(a, &st), 0);
    assert_true(st.st_uid == 0 && st.st_gid == NOBODY);
    assert_int_equal(stat(b, &st), 0);
    assert_true(st.st_uid == NOBODY && st.st_gid == NOBODY);
}

/* --- many, and cgroups --- */

static void test_many_at_once(void **state)
{
    static struct spawn_job jobs[40]; /* more than the stacks that are kept */
    struct spawn_spec s = shell_spec("exit 9");

    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
            assert_int_equal(spawn_start(&s, &jobs[i], &failure), 0);
        for (size_t i = ARRAY_LEN(jobs); i-- > 0;)
            assert_int_equal(spawn_release(&jobs[i]), 0);
        for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
            assert_int_equal(await_exec(&jobs[i]), 1);
            job = jobs[i];
            int status = finish();
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
        }
    }
}

static void test_leaf(void **state)
{
    struct spawn_spec s = plain_spec();
    struct cgroup_root root;
    struct cgroup_leaf leaf = CGROUP_LEAF_NULL;
    char why[1200], name[32], text[1024];
    pid_t pids[4];

    snprintf(name, sizeof(name), "test-%d", (int)getpid());
    if (geteuid() != 0 || cgroup_root_open(&root, name, why, sizeof(why)) < 0)
        skip();
    assert_int_equal(cgroup_leaf_open(&root, "w-spawn", &leaf), 0);
    s.cgroup_fd = leaf.fd;
    assert_int_equal(spawn_start(&s, &job, &failure), 0);
    assert_int_equal(job.gate_fd, -1);
    assert_int_equal(await_exec(&job), 1);
    assert_descriptors(7);
    assert_int_equal(cgroup_leaf_pids(&leaf, pids, 4), 1);
    assert_int_equal(pids[0], job.ref.pid);
    look("cgroup", text, sizeof(text));
    assert_non_null(strstr(text, "/w-spawn\n"));
    kill_child();
    assert_int_equal(cgroup_leaf_populated(&leaf), 0);
    cgroup_leaf_done(&leaf);
    assert_int_equal(cgroup_leaf_remove(&root, "w-spawn"), 0);
    cgroup_root_done(&root);
}

/* Ignores the two signals that glibc keeps to itself, as it does in what its posix_spawn(3) starts: make,
 * say. */
static void ignore_internal(void)
{
    const struct sys_sigaction act = {.handler = SIG_IGN};

    for (int sig = 32; sig < 34; sig++)
        assert_int_equal(sys_sigaction(sig, &act, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_environment),
        BOTH(test_session_and_files),
        BOTH(test_signals),
        BOTH(test_umask_nice_oom),
        BOTH(test_limits),
        BOTH(test_limit_clamped),
        BOTH(test_user),
        BOTH(test_no_new_privileges),
        BOTH(test_capabilities),
        BOTH(test_no_other_descriptor),
        BOTH(test_pass_descriptor),
        BOTH(test_pass_several),
        BOTH(test_outputs),
        BOTH(test_output_as_root),
        BOTH(test_many_at_once),
        BOTH(test_leaf),
    };

    signal(SIGHUP, SIG_IGN); /* as under nohup: no worker may see it */
    ignore_internal();
    spawn_init();
    return cmocka_run_group_tests_name("spawn", tests, NULL, NULL);
}
