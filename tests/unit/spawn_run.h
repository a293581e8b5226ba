/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of spawn share: a spec of a program that does nothing, starting it, looking at it in /proc.
 */
#ifndef UNIT_SPAWN_RUN_H
#define UNIT_SPAWN_RUN_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "proc/spawn.h"

#define NOBODY 65534

/* Every test runs with both ways to make a child. */
static const bool by_clone = false, by_fork = true;
#define ONE(f, how)                                                     \
    {                                                                   \
#f " (" #how ")", f, spawn_setup, spawn_teardown, (void *)&how, \
    }
#define BOTH(f) ONE(f, by_clone), ONE(f, by_fork)

#if defined(__SANITIZE_ADDRESS__)
#define UNIT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNIT_ASAN 1
#endif
#endif

static char dir[64]; /* of the running test; the worker's user may look into it */
static struct spawn_job job;
static struct spawn_failure failure;

static inline int spawn_setup(void **state)
{
    bool plain = **(const bool **)state;

#ifdef UNIT_ASAN
    plain = true; /* it knows one stack a thread */
#endif
    spawn_use_fork(plain);
    str_copy(dir, sizeof(dir), "/tmp/test_spawn.XXXXXX");
    return mkdtemp(dir) && chmod(dir, 0711) == 0 ? 0 : -1;
}

static inline int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static inline int spawn_teardown(void **state)
{
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline char *path_of(const char *name)
{
    static char path[16][256];
    static unsigned turn;

    turn = (turn + 1) % 16;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static inline void write_text(const char *path, const char *text, mode_t mode)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
}

static inline struct spawn_spec plain_spec(void)
{
    static char *sleep_argv[] = {(char *)"sleep", (char *)"infinity", NULL}, *no_env[] = {NULL};

    return (struct spawn_spec){.path = "/bin/sleep",
                               .argv = sleep_argv,
                               .envp = no_env,
                               .umask = 022,
                               .out = {.kind = SPAWN_OUT_NULL},
                               .err = {.kind = SPAWN_OUT_NULL},
                               .cgroup_fd = -1};
}

static inline struct spawn_spec shell_spec(const char *script)
{
    static char *argv[] = {(char *)"sh", (char *)"-c", NULL, NULL};
    struct spawn_spec s = plain_spec();

    argv[2] = (char *)(uintptr_t)script;
    s.path = "/bin/sh";
    s.argv = argv;
    return s;
}

/* Waits for the exec or its failure, as the loop does. */
static inline int await_exec(struct spawn_job *j)
{
    int r;

    while ((r = spawn_poll(j, &failure)) == 0) {
        struct pollfd p = {.fd = j->status_fd, .events = POLLIN};
        assert_true(poll(&p, 1, 20000) == 1);
    }
    return r;
}

static inline int start(const struct spawn_spec *spec)
{
    int r = spawn_start(spec, &job, &failure);

    if (r < 0)
        return r;
    assert_true(job.ref.pid > 0 && job.ref.start > 0);
    assert_int_equal(spawn_release(&job), 0);
    return await_exec(&job);
}

/* How the child ended, as waitpid says. */
static inline int finish(void)
{
    int status = -1;

    assert_int_equal(waitpid(job.ref.pid, &status, 0), job.ref.pid);
    spawn_done(&job);
    spawn_done(&job);
    return status;
}

static inline void kill_child(void)
{
    assert_int_equal(pidref_signal(&job.ref, SIGKILL), 0);
    finish();
}

static inline void run(const struct spawn_spec *spec)
{
    if (start(spec) != 1)
        fail_msg("not started: %s: %s", spawn_stage_name(failure.stage), strerror(failure.error));
}

/* /proc/PID/NAME of the child. */
static inline ssize_t look(const char *name, char *text, size_t size)
{
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)job.ref.pid, name);
    n = fd_read_file(AT_FDCWD, path, text, size);
    assert_true(n >= 0);
    return n;
}

static inline const char *follow(const char *name)
{
    static char text[512];
    char path[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)job.ref.pid, name);
    n = readlink(path, text, sizeof(text) - 1);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

/* The value behind "KEY:" in /proc/PID/status. */
static inline const char *status_of(const char *key)
{
    static char text[4096];
    char line[64], *at, *end;

    look("status", text, sizeof(text));
    snprintf(line, sizeof(line), "\n%s:\t", key);
    if (!(at = strstr(text, line)))
        fail_msg("no %s in /proc/PID/status", key);
    at += strlen(line);
    end = strchr(at, '\n');
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    return at;
}

static inline uint64_t status_bits(const char *key)
{
    return strtoull(status_of(key), NULL, 16);
}

#endif
