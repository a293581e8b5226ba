/* SPDX-License-Identifier: Apache-2.0 */
/* spawn, when it fails: each stage says which it was and why; and the gate of a child without a cgroup. */
#include "tests/unit/spawn_run.h"

#include <sys/resource.h>

#include "proc/spawn_int.h"

static void fails(const struct spawn_spec *s, enum spawn_stage stage, int error)
{
    int r = start(s), status;

    if (r == 1)
        kill_child();
    if (r == 1 || failure.stage != stage || failure.error != error)
        fail_msg("%d, %s: %s, not %s: %s", r, spawn_stage_name(failure.stage), strerror(failure.error),
                 spawn_stage_name(stage), strerror(error));
    assert_int_equal(r, -error);
    status = finish();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 127);
}

static void test_exec(void **state)
{
    struct spawn_spec s = plain_spec();
    char *big = malloc(1 << 18);

    s.path = path_of("missing");
    fails(&s, SPAWN_EXEC, ENOENT);
    write_text(s.path = path_of("plain"), "#!/bin/sh\n", 0644);
    fails(&s, SPAWN_EXEC, EACCES);
    write_text(s.path = path_of("text"), "no program\n", 0755);
    fails(&s, SPAWN_EXEC, ENOEXEC);
    write_text(s.path = path_of("no_interpreter"), "#!/missing/sh\n", 0755);
    fails(&s, SPAWN_EXEC, ENOENT);
    s.path = dir;
    fails(&s, SPAWN_EXEC, EACCES);
    s.path = "/bin/sleep/x";
    fails(&s, SPAWN_EXEC, ENOTDIR);
    memset(big, 'x', 1 << 18);
    big[(1 << 18) - 1] = 0;
    s = plain_spec();
    s.argv = (char *[]){(char *)"sleep", big, NULL};
    fails(&s, SPAWN_EXEC, E2BIG);
    free(big);
}

static void test_directory(void **state)
{
    struct spawn_spec s = plain_spec();

    s.directory = path_of("missing");
    fails(&s, SPAWN_DIRECTORY, ENOENT);
    write_text(s.directory = path_of("file"), "", 0644);
    fails(&s, SPAWN_DIRECTORY, ENOTDIR);
    if (geteuid() != 0)
        return;
    s.directory = path_of("locked");
    assert_int_equal(mkdir(s.directory, 0700), 0);
    s.change_ids = true;
    s.uid = s.gid = NOBODY;
    fails(&s, SPAWN_DIRECTORY, EACCES); /* as the worker's user, not as root */
}

static void outputs_fail(const char *path, int error)
{
    struct spawn_spec s = plain_spec();
    struct spawn_output o = {SPAWN_OUT_APPEND, path, false};

    s.out = o;
    fails(&s, SPAWN_OUTPUT, error);
    s.out.as_root = true;
    fails(&s, SPAWN_OUTPUT, error);
    s.out = (struct spawn_output){.kind = SPAWN_OUT_NULL};
    s.err = o;
    fails(&s, SPAWN_ERROR_OUTPUT, error);
}

static void test_output(void **state)
{
    const char *file = path_of("file");
    int reader;

    outputs_fail(path_of("missing/x"), ENOENT);
    write_text(file, "", 0644);
    assert_int_equal(symlink(file, path_of("link")), 0);
    outputs_fail(path_of("link"), ELOOP);
    assert_int_equal(symlink(path_of("nothing"), path_of("dangling")), 0);
    outputs_fail(path_of("dangling"), ELOOP);
    assert_int_not_equal(access(path_of("nothing"), F_OK), 0); /* and nothing was made behind it */
    assert_int_equal(link(file, path_of("second")), 0);
    outputs_fail(file, EMLINK);
    assert_int_equal(mkfifo(path_of("fifo"), 0644), 0);
    outputs_fail(path_of("fifo"), ENXIO); /* it does not wait for a reader */
    reader = open(path_of("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    outputs_fail(path_of("fifo"), EBADF); /* nor write to one */
    fd_close(reader);
    outputs_fail("/dev/zero", EBADF);
    outputs_fail(dir, EISDIR);
}

static void test_output_of_other(void **state)
{
    struct spawn_spec s = plain_spec();

    if (geteuid() != 0)
        skip();
    s.change_ids = true;
    s.uid = s.gid = NOBODY;
    s.out = (struct spawn_output){SPAWN_OUT_APPEND, path_of("new"), false};
    fails(&s, SPAWN_OUTPUT, EACCES); /* the folder is root's */
    write_text(path_of("roots"), "", 0600);
    s.out.path = path_of("roots");
    fails(&s, SPAWN_OUTPUT, EACCES);
}

static void test_journal(void **state)
{
    struct spawn_spec s = plain_spec();

    if (access("/run/systemd/journal/stdout", F_OK) == 0)
        skip();
    s.identifier = "x";
    s.out.kind = SPAWN_OUT_JOURNAL;
    fails(&s, SPAWN_OUTPUT, ENOENT);
    s.out.kind = SPAWN_OUT_NULL;
    s.err.kind = SPAWN_OUT_JOURNAL;
    fails(&s, SPAWN_ERROR_OUTPUT, ENOENT);
}

static void test_limits(void **state)
{
    struct rlimit limits[RLIM_NLIMITS] = {0};
    struct spawn_spec s = plain_spec();

    limits[RLIMIT_CORE] = (struct rlimit){2, 1};
    s.limits = limits;
    s.limits_set = 1u << RLIMIT_CORE;
    fails(&s, SPAWN_LIMITS, EINVAL);
}

static void test_oom(void **state)
{
    struct spawn_spec s = plain_spec();

    s.has_oom = true;
    s.oom_score_adj = 1001;
    fails(&s, SPAWN_OOM, EINVAL);
    s.oom_score_adj = -1001;
    fails(&s, SPAWN_OOM, EINVAL);
}

static void test_ids(void **state)
{
    static const gid_t group = 7;
    struct spawn_spec s = plain_spec();

    s.change_ids = true;
    s.uid = s.gid = 1;
    s.groups = &group;
    s.n_groups = 1;
    if (geteuid() != 0) {
        fails(&s, SPAWN_GROUP, EPERM);
        return;
    }
    s.n_groups = 70000; /* more than NGROUPS_MAX */
    fails(&s, SPAWN_GROUP, EINVAL);
    s.n_groups = 1;
    s.groups = NULL;
    fails(&s, SPAWN_GROUP, EFAULT);
}

static void test_capabilities(void **state)
{
    struct spawn_spec s = plain_spec();

    if (geteuid() != 0)
        skip();
    s.has_bounding = true; /* nothing stays */
    s.ambient = 1;
    fails(&s, SPAWN_CAPABILITIES, EPERM);
}

static void test_cgroup(void **state)
{
    struct spawn_spec s = plain_spec();
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    s.cgroup_fd = fd; /* a folder, but no cgroup */
    assert_int_equal(spawn_start(&s, &job, &failure), 0);
    assert_int_equal(await_exec(&job), -ENOENT);
    assert_int_equal(failure.stage, SPAWN_CGROUP);
    finish();
}

static void test_descriptor(void **state)
{
    struct spawn_spec s = plain_spec();

    s.pass_fds = &(int){999}; /* not open */
    s.n_pass_fds = 1;
    fails(&s, SPAWN_STDIN, EBADF);
}

/* No descriptor is left for the pipes. */
static void test_no_descriptors(void **state)
{
    struct spawn_spec s = plain_spec();
    struct rlimit was, low = {0};
    int next = dup(0), r;

    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    for (int room = 0; room < 6; room++) { /* two pipes, a pidfd, and one to look at its start */
        low = (struct rlimit){(rlim_t)(next + room), was.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        r = spawn_start(&s, &job, &failure);
        setrlimit(RLIMIT_NOFILE, &was);
        assert_int_equal(r, -EMFILE);
        assert_int_equal(failure.stage, SPAWN_CLONE);
        assert_int_equal(failure.error, EMFILE);
        assert_true(job.status_fd < 0 && job.gate_fd < 0 && !pidref_is_set(&job.ref));
        assert_int_equal(r = dup(0), next); /* none was lost */
        close(r);
    }
    low.rlim_cur = (rlim_t)next + 6;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    r = spawn_start(&s, &job, &failure);
    setrlimit(RLIMIT_NOFILE, &was);
    assert_int_equal(r, 0);
    assert_true(job.ref.fd >= 0 && job.ref.start > 0);
    kill_child();
}

static void test_names(void **state)
{
    for (int i = 0; i < SPAWN_STAGE_MAX; i++)
        assert_true(strlen(spawn_stage_name((enum spawn_stage)i)) > 5);
    assert_non_null(spawn_stage_name(SPAWN_STAGE_MAX));
}

/* --- words in the status pipe --- */

static int poll_words(const void *p, size_t n)
{
    struct spawn_job j = SPAWN_JOB_NULL;
    int fds[2], r;

    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    j.status_fd = fds[0];
    assert_int_equal(fd_write_all(fds[1], p, n), 0);
    r = spawn_poll(&j, &failure);
    close(fds[0]);
    close(fds[1]);
    return r;
}

static void test_words(void **state)
{
    struct spawn_word w = {SPAWN_EXEC, SPAWN_SAYS_FAILED, ENOENT, 0, 0};

    assert_int_equal(poll_words("", 0), 0);
    assert_int_equal(poll_words(&w, sizeof(w)), -ENOENT);
    assert_int_equal(poll_words(&w, sizeof(w) - 1), -EPROTO);
    w.error = 0;
    assert_int_equal(poll_words(&w, sizeof(w)),
                     -EPROTO); /* a failure without a reason is none to report as 0 */
    w.stage = SPAWN_STAGE_MAX;
    assert_int_equal(poll_words(&w, sizeof(w)), -EPROTO);
    w = (struct spawn_word){SPAWN_NICE, SPAWN_SAYS_TOLERATED, EPERM, 0, 0};
    assert_int_equal(poll_words(&w, sizeof(w)), 0);
}

/* --- the gate --- */

static void assert_exits(struct spawn_job *j, int code)
{
    int status;

    assert_int_equal(waitpid(j->ref.pid, &status, 0), j->ref.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == code);
    spawn_done(j);
}

static void test_gate(void **state)
{
    struct spawn_spec s = plain_spec();
    struct spawn_job jobs[3];
    char ours[512];
    ssize_t n;

    /* Each holds, by itself and through the others' copies, no end of a gate but its own. */
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        assert_int_equal(spawn_start(&s, &jobs[i], &failure), 0);
    assert_true((n = readlink("/proc/self/exe", ours, sizeof(ours) - 1)) > 0);
    ours[n] = 0;
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        assert_true(jobs[i].gate_fd >= 0);
        assert_int_equal(spawn_poll(&jobs[i], &failure), 0);
        job = jobs[i];
        assert_string_equal(follow("exe"), ours); /* still a copy of us */
    }
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        jobs[i].gate_fd = fd_close(jobs[i].gate_fd); /* as our death would */
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        assert_int_equal(await_exec(&jobs[i]), -EPIPE); /* it tells that it did not run, to whom it may */
        assert_int_equal(failure.stage, SPAWN_CLONE);
        assert_exits(&jobs[i], 127);
    }
}

static void test_release(void **state)
{
    struct spawn_spec s = shell_spec("exit 3");
    struct spawn_job j;

    assert_int_equal(spawn_start(&s, &j, &failure), 0);
    assert_int_equal(spawn_poll(&j, &failure), 0);
    assert_int_equal(spawn_release(&j), 0);
    assert_int_equal(j.gate_fd, -1);
    assert_int_equal(spawn_release(&j), 0);
    assert_int_equal(await_exec(&j), 1);
    assert_int_equal(await_exec(&j), 1);
    assert_exits(&j, 3);
}

/* Killed at the gate: its end is seen, and writing to it is an error, not a signal. */
static void test_killed_at_gate(void **state)
{
    struct spawn_spec s = plain_spec();
    int status;

    assert_int_equal(spawn_start(&s, &job, &failure), 0);
    assert_int_equal(pidref_signal(&job.ref, SIGKILL), 0);
    assert_int_equal(waitpid(job.ref.pid, &status, 0), job.ref.pid);
    assert_true(WIFSIGNALED(status));
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(spawn_release(&job), -EPIPE);
    signal(SIGPIPE, SIG_DFL);
    spawn_done(&job);
}

/* Where there is no /proc, until the clock's tick has changed while a child was made: then nobody knows when
 * it began. 0: that one was killed; else what went wrong. */
static int until_unnamed(void)
{
    struct spawn_spec s = plain_spec();
    int status;

    for (int i = 0; i < 100000; i++) {
        struct pollfd gone = {.events = POLLIN};
        bool named;
        if (spawn_start(&s, &job, &failure) < 0)
            return 1;
        named = job.ref.start != 0;
        if (named && kill(job.ref.pid, SIGKILL) < 0)
            return 2;
        gone.fd = job.ref.fd;
        if (poll(&gone, 1, 20000) != 1 || waitpid(job.ref.pid, &status, 0) != job.ref.pid)
            return 3; /* it waits at its gate */
        spawn_done(&job);
        if (!named)
            return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 0 : 4;
    }
    return 5;
}

/* A child that can't be told from others is not left behind: no signal could be given to it later. */
static void test_unnamed(void **state)
{
    int status;
    pid_t pid;

    if (geteuid() != 0)
        skip();
    if ((pid = fork()) == 0)
        _exit(chroot(dir) < 0 ? 6 : until_unnamed());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_exec),
        BOTH(test_directory),
        BOTH(test_output),
        BOTH(test_output_of_other),
        BOTH(test_journal),
        BOTH(test_limits),
        BOTH(test_oom),
        BOTH(test_ids),
        BOTH(test_capabilities),
        BOTH(test_cgroup),
        BOTH(test_descriptor),
        BOTH(test_no_descriptors),
        BOTH(test_gate),
        BOTH(test_release),
        BOTH(test_killed_at_gate),
        BOTH(test_unnamed),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_words),
    };

    spawn_init();
    return cmocka_run_group_tests_name("spawn_fail", tests, NULL, NULL);
}
