/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_def: one worker's definition, as its files and their drop-ins come to. */
#ifndef AGENTD_CFG_DEF_H
#define AGENTD_CFG_DEF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "agentd/cfg_check.h"
#include "proc/cgroup_res.h"

enum cfg_type { CFG_SIMPLE, CFG_EXEC, CFG_NOTIFY, CFG_FORKING, CFG_ONESHOT };
enum cfg_restart {
    CFG_RESTART_NO,
    CFG_RESTART_ALWAYS,
    CFG_RESTART_ON_SUCCESS,
    CFG_RESTART_ON_FAILURE,
    CFG_RESTART_ON_ABNORMAL,
    CFG_RESTART_ON_ABORT,
    CFG_RESTART_ON_WATCHDOG,
    CFG_RESTART_DEFAULT, /* while it is read: by Type= */
};
enum cfg_notify { CFG_NOTIFY_NONE, CFG_NOTIFY_MAIN, CFG_NOTIFY_EXEC, CFG_NOTIFY_ALL };
enum cfg_oom { CFG_OOM_STOP, CFG_OOM_CONTINUE, CFG_OOM_KILL };
enum cfg_kill { CFG_KILL_CGROUP, CFG_KILL_MIXED, CFG_KILL_PROCESS };
enum cfg_output { CFG_OUT_APPEND, CFG_OUT_JOURNAL, CFG_OUT_NULL };
enum cfg_health_action { CFG_HEALTH_RESTART, CFG_HEALTH_REPORT };

/* Exit statuses and signals of SuccessExitStatus= and RestartPreventExitStatus=. */
struct cfg_status_set {
    uint64_t codes[4]; /* bit per exit code */
    uint64_t signals;  /* bit per signal */
};

struct cfg_output_to {
    enum cfg_output kind;
    char *path;      /* append: */
    bool in_log_dir; /* directly below LogDirectory: opened as root, else under the worker's uid */
};

/* Who a worker runs as, resolved by name service in a helper (never in the loop). */
struct cfg_ids {
    bool set; /* false: agentd's own uid, gid and groups; only user is set then */
    uid_t uid;
    gid_t gid;
    unsigned n_groups;
    gid_t *groups;
    char *user, *home, *shell; /* user: its name, the number's digits if it has none */
};

/* The commands of one key, in their order. */
enum cfg_hook {
    CFG_HOOK_START_PRE,
    CFG_HOOK_START, /* Type=oneshot: all ExecStart= but the last */
    CFG_HOOK_START_POST,
    CFG_HOOK_RELOAD,
    CFG_HOOK_STOP,
    CFG_HOOK_STOP_POST,
    CFG_HOOK_MAX,
};
struct cfg_commands {
    struct cfg_command *v;
    unsigned n;
};

/* LoadCredential= or SetCredential=: either path or value. */
struct cfg_secret {
    char *id, *path, *value;
};

/* What another worker is to this one. systemd.unit(5). */
enum cfg_need_kind { CFG_NEED_AFTER, CFG_NEED_BEFORE, CFG_NEED_REQUIRES, CFG_NEED_WANTS, CFG_NEED_BINDS_TO };

/* Where a value was read, for messages that come later than the reading. */
struct cfg_at {
    char *file; /* NULL: the worker's own file */
    unsigned line, col;
};

/* Folders that are made for a worker. systemd.exec(5). */
enum cfg_dir_kind { CFG_DIR_RUNTIME, CFG_DIR_STATE, CFG_DIR_CACHE, CFG_DIR_LOGS, CFG_DIR_MAX };
struct cfg_dir {
    enum cfg_dir_kind kind;
    unsigned base; /* length of the part of path that is not its own: "/run" */
    char *path;
};

/* ConditionPathExists= or AssertPathExists=. */
struct cfg_condition {
    bool assert, negate, trigger;
    char *path;
};

/* One name of After= and its like. */
struct cfg_need {
    enum cfg_need_kind kind;
    char *alias; /* without .service; it need not be a worker's */
    struct cfg_at at;
};

struct cfg_listener {
    char *text; /* as configured */
    bool tcp, loopback;
    char *path; /* unix */
    char *host; /* tcp: numeric address; "": any, of both kinds */
    unsigned port;
};

/* One worker's definition. All strings are its own and only cfg_def_free frees them; each NULL-terminated
 * list is one block, array and strings together, given back by one free(3). */
struct wk_def {
    char *alias, *file, *description;
    int64_t id; /* 0: to be allocated */
    bool operable;
    char *log_pattern; /* absolute, wildcards in the last component only; "" if none */

    struct cfg_need *needs; /* as they were written */
    unsigned n_needs;

    struct cfg_dir *dirs;
    struct cfg_condition *conditions;
    unsigned n_dirs, n_conditions;
    mode_t dir_modes[CFG_DIR_MAX];
    bool runtime_preserve; /* RuntimeDirectory= stays when it is at rest */

    enum cfg_type type;
    struct cfg_command exec; /* ExecStart=, the last of them */
    struct cfg_commands hooks[CFG_HOOK_MAX];
    char *pid_file;               /* Type=forking; "" if it is not set */
    bool remain_after_exit;       /* without a process it may be up */
    char **env;                   /* NULL-terminated NAME=value: Environment= and EnvironmentFile= only */
    unsigned n_env_plain;         /* the first of env that are from Environment=; the rest may be secret */
    char **env_files;             /* EnvironmentFile= as configured, '-' included; NULL if none */
    char *workdir;                /* "" : "/"; "~": ids.home, which cfg_resolve puts there */
    bool workdir_optional;        /* '-' before it */
    char *user_name, *group_name; /* as configured; "" if not */
    char **supplementary;         /* NULL-terminated or NULL */
    struct cfg_at user_at, group_at, groups_at;
    struct cfg_ids ids;
    mode_t umask;
    bool has_nice, has_oom;
    int nice, oom_score_adj;
    uint32_t limits_set;    /* bit per RLIMIT_* number */
    struct rlimit *limits;  /* RLIM_NLIMITS of them, or NULL if none is set */
    struct cgroup_res *res; /* NULL: nothing of it is set */
    enum cfg_oom oom_policy;
    struct cfg_secret *secrets;
    unsigned n_secrets;
    bool no_new_privileges, ignore_sigpipe;
    bool has_bounding, has_ambient;
    uint64_t bounding, ambient; /* bit per capability number */
    struct cfg_output_to out, err;
    uint64_t log_max_size; /* LogMaxSize=: bytes; 0: append: files are not rotated */
    unsigned log_max_files;
    bool log_compress;

    struct cfg_listener *sockets; /* held for it */
    unsigned n_sockets;
    bool overlap; /* RestartMode= */

    enum cfg_restart restart;
    struct cfg_status_set success, prevent;
    uint64_t restart_us, restart_max_us;        /* RestartSec= (default 100 ms), RestartMaxDelaySec= (30 s) */
    unsigned restart_steps;                     /* 0: doubling */
    uint64_t limit_interval_us;                 /* StartLimitIntervalSec= (10 s); 0: no limit */
    unsigned limit_burst;                       /* StartLimitBurst= (5); 0: no limit */
    uint64_t start_timeout_us, stop_timeout_us; /* 90 s each; STR_USEC_INFINITY: none */
    int kill_signal;
    enum cfg_kill kill_mode;
    bool send_sigkill;
    uint64_t watchdog_us; /* WatchdogSec=; 0, STR_USEC_INFINITY: none */
    enum cfg_notify notify_access;
    unsigned fdstore_max; /* FileDescriptorStoreMax= */

    struct cfg_check *ready, *health; /* NULL: none */
    uint64_t health_interval_us, health_timeout_us;
    unsigned health_retries; /* failures in a row, or successes, until it is believed */
    enum cfg_health_action health_action;

    unsigned more_refs; /* cfg_def_free frees it once for each, and the last time in earnest */
    char *source;       /* its lines, until they are stored */
    bool stored;        /* read from there: its own file is wrong or gone */
    char *fault;        /* NULL, or why no start can work: a name that nobody knows */
    uint64_t hash;      /* of the keys of CFG_COST_RESTART, and of the ids that the names stand for */
    uint64_t hash_all;  /* of everything */
};

#endif
