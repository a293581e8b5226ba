/* SPDX-License-Identifier: Apache-2.0 */
/* proc/spawn: starts a program, crash-safe and without waiting for it. The child is born in the given cgroup;
 * without one it waits for a byte that the caller writes once pid and start ticks are on record, and an end
 * of file (agentd died) makes it exit. Everything that may hang (opening files, changing directory, exec)
 * happens in the child. Never knows why the program is started. clone(2), execve(2), credentials(7). */
#ifndef PROC_SPAWN_H
#define PROC_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "proc/pidref.h"

/* The stages of a child's set-up; a failure names one. Same order as in spawn_child.c. */
enum spawn_stage {
    SPAWN_CLONE,
    SPAWN_CGROUP,
    SPAWN_SOCKETS, /* before there is a child: the caller's own */
    SPAWN_SESSION,
    SPAWN_LIMITS,
    SPAWN_NICE,
    SPAWN_OOM,
    SPAWN_STDIN,
    SPAWN_OUTPUT,
    SPAWN_ERROR_OUTPUT,
    SPAWN_CAPABILITIES,
    SPAWN_GROUP,
    SPAWN_USER,
    SPAWN_DIRECTORY,
    SPAWN_PRIVILEGES,
    SPAWN_EXEC,
    SPAWN_STAGE_MAX,
};

/* "opening standard output", for messages. */
const char *spawn_stage_name(enum spawn_stage stage);

struct spawn_failure {
    enum spawn_stage stage;
    int error; /* positive errno */
};

enum spawn_output_kind {
    SPAWN_OUT_NULL,
    SPAWN_OUT_APPEND,
    SPAWN_OUT_JOURNAL,
    SPAWN_OUT_SAME,
    SPAWN_OUT_INHERIT
};

struct spawn_output {
    enum spawn_output_kind kind; /* SAME: for standard error, as standard output; INHERIT: agentd's own */
    const char *path;            /* APPEND */
    bool as_root;                /* APPEND: opened before the user changes, only for root's own folder */
};

#define SPAWN_PID_TEXT 11

/* What to start. All pointers stay the caller's and must live until the job has ended (spawn_poll). */
struct spawn_spec {
    const char *path;
    char *const *argv, *const *envp;
    const char *directory; /* NULL or "": "/" */
    bool directory_optional;
    bool change_ids;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    unsigned n_groups;
    mode_t umask;
    const struct rlimit *limits; /* RLIM_NLIMITS of them, or NULL */
    uint32_t limits_set;         /* bit per limit */
    bool has_nice, has_oom;
    int nice, oom_score_adj;
    struct spawn_output out, err;
    const char *identifier; /* JOURNAL */
    bool no_new_privileges, ignore_sigpipe;
    bool has_bounding;
    uint64_t bounding, ambient; /* bit per capability */
    const int *pass_fds;        /* become descriptors 3, 4 ... of the program; LIMIT_PASS_FDS at most */
    unsigned n_pass_fds;
    char *pid_text; /* NULL, or where in envp the child's pid is written: room for SPAWN_PID_TEXT */
    int cgroup_fd;  /* a leaf, or -1: then the child waits for spawn_release */
};

/* A start under way. */
struct spawn_job {
    struct pidref ref;    /* taken by the caller once it wants (then ref.fd = -1 here) */
    int status_fd;        /* readable when the exec has happened or failed; nonblocking; -1: no job */
    int gate_fd;          /* -1: no gate */
    uint32_t clamped;     /* bit per spawn_stage whose EPERM was tolerated; valid at the end */
    int64_t error_size;   /* length of standard error's file at the start; -1: not a file */
    uint64_t error_at_us; /* when it was that, CLOCK_MONOTONIC */
    struct spawn_run *run;
};

#define SPAWN_JOB_NULL                                                       \
    {                                                                        \
        .ref = PIDREF_NULL, .status_fd = -1, .gate_fd = -1, .error_size = -1 \
    }

/* 0 and the job, or -errno with failure set (stage CLONE). */
int spawn_start(const struct spawn_spec *spec, struct spawn_job *ret, struct spawn_failure *failure);

/* Opens the gate of a job without a cgroup. 0 or -errno. */
int spawn_release(struct spawn_job *job);

/* 0: not yet. 1: the program runs. -errno: it failed, failure is set, and the child is exiting. */
int spawn_poll(struct spawn_job *job, struct spawn_failure *failure);

/* Frees what the job holds; only after spawn_poll told its end or the child is dead. Idempotent. */
void spawn_done(struct spawn_job *job);

/* Environment that agentd itself was given and a worker must not see is replaced wholly: envp is all it gets.
 * The limits of open files that agentd had at its start, for the worker: */
void spawn_init(void);
/* These limits, for a later image of agentd that starts with those of an earlier one. */
struct rlimit spawn_first_nofile(void);
void spawn_set_first_nofile(struct rlimit l);
/* The limit that a program has which is started without one. 0 or -errno. */
int spawn_default_limit(int resource, struct rlimit *ret);

/* Plain copies (fork) for all spawns from now on: for tests and kernels where clone3 fails. */
void spawn_use_fork(bool on);

#endif
