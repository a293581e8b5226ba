/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg: what the files say. Knows the grammar of systemd's unit files, keys, defaults and whom to trust
 * with a file; never knows processes, state or the loop. Reading is all or nothing for agentd.conf, and per
 * worker for the workers' files: a broken one is left out and reported. Sources: systemd.syntax(7),
 * systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.time(7). */
#ifndef AGENTD_CFG_H
#define AGENTD_CFG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/buf.h"
#include "agentd/cfg_check.h"
#include "base/limits.h"

#define CFG_ID_MAX (INT64_C(1) << 53) /* the largest whole number that every JSON reader keeps */

/* What it takes until the changed value of a key is in force; the greater, the dearer. */
enum cfg_cost {
    CFG_COST_NONE,
    CFG_COST_SAME,    /* another row of the table stands for the key */
    CFG_COST_LIVE,    /* nothing: a reload brings it to the running process, or only agentd uses it */
    CFG_COST_NEXT,    /* the next start, whenever that is: the running process has no use for it */
    CFG_COST_RESTART, /* a new process: a reload makes it */
    CFG_COST_AGENTD,  /* a restart of agentd itself */
};

enum cfg_stop { CFG_STOP_AUTO, CFG_STOP_YES, CFG_STOP_NO };
enum cfg_type { CFG_SIMPLE, CFG_EXEC, CFG_NOTIFY };
enum cfg_restart {
    CFG_RESTART_NO,
    CFG_RESTART_ALWAYS,
    CFG_RESTART_ON_SUCCESS,
    CFG_RESTART_ON_FAILURE,
    CFG_RESTART_ON_ABNORMAL,
    CFG_RESTART_ON_ABORT,
    CFG_RESTART_ON_WATCHDOG,
};
enum cfg_notify { CFG_NOTIFY_NONE, CFG_NOTIFY_MAIN, CFG_NOTIFY_EXEC, CFG_NOTIFY_ALL };
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

/* Where a value was read, for messages that come later than the reading. */
struct cfg_at {
    char *file; /* NULL: the worker's own file */
    unsigned line, col;
};

/* One worker's definition. All strings are its own and only cfg_def_free frees them; each NULL-terminated
 * list is one block, array and strings together, given back by one free(3). */
struct wk_def {
    char *alias, *file, *description;
    int64_t id; /* 0: to be allocated */
    bool operable;
    char *log_pattern; /* absolute, wildcards in the last component only; "" if none */

    enum cfg_type type;
    char *exec_path;              /* absolute */
    char **argv;                  /* NULL-terminated; argv[0] differs from exec_path after '@' */
    char **argv_late;             /* NULL, or the words before substitution, see cfg_expand_late */
    char *start_command;          /* the expanded line, for people and for startCommand; a variable of
                                     an EnvironmentFile= stays ${NAME} in it, since it may be secret */
    bool exec_ignore_failure;     /* '-' before the path */
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
    uint32_t limits_set;   /* bit per RLIMIT_* number */
    struct rlimit *limits; /* RLIM_NLIMITS of them, or NULL if none is set */
    bool no_new_privileges, ignore_sigpipe;
    bool has_bounding, has_ambient;
    uint64_t bounding, ambient; /* bit per capability number */
    struct cfg_output_to out, err;

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

    struct cfg_check *ready, *health; /* NULL: none */
    uint64_t health_interval_us, health_timeout_us;
    unsigned health_retries; /* failures in a row, or successes, until it is believed */
    enum cfg_health_action health_action;

    char *source;      /* its lines, until they are stored */
    bool stored;       /* read from there: its own file is wrong or gone */
    char *fault;       /* NULL, or why no start can work: a name that nobody knows */
    uint64_t hash;     /* of the keys of CFG_COST_RESTART, and of the ids that the names stand for */
    uint64_t hash_all; /* of everything */
};

struct cfg_agent {
    int64_t host_id; /* 0: not set */
    int64_t agent_id;
    char *install_home, *host_ip;
    char *workers_dir, *runtime_dir, *state_dir, *log_dir;
    enum cfg_stop stop_workers;
    uint64_t sample_max_age_ms;
    uint64_t upgrade_timeout_ms; /* for a new image to confirm that it has taken over */
};

struct cfg_listener {
    char *text; /* as configured */
    bool tcp, loopback;
    char *path; /* unix */
    char *host; /* tcp: numeric address */
    unsigned port;
};

struct cfg_rpc {
    bool plaintext_credentials;
    unsigned n_listeners;
    struct cfg_listener *listeners;
    char *credentials; /* path; need not exist */
    char *user, *manager_group, *viewer_group;
    uint64_t reply_deadline_ms, request_deadline_ms;
    unsigned max_connections, max_request_bytes;
};

struct cfg {
    char *file;
    struct cfg_agent agent;
    struct cfg_rpc rpc;
    unsigned n_workers;
    struct wk_def **workers; /* sorted by alias */
    /* Aliases whose file is broken, for HUP: they stay on their last good definition. */
    unsigned n_broken;
    char **broken;
    char **broken_why; /* of each "FILE:LINE:COL: message", or NULL */
    /* Definitions whose user or group is unknown (their aliases are in broken too); each has its fault set.
     */
    unsigned n_nameless;
    struct wk_def **nameless;
};

/* All that is wrong, a line each: "FILE:LINE:COL: message\n", at most LIMIT_CONFIG_ERRORS of each kind. */
struct cfg_report {
    struct buf errors, warnings;
    unsigned n_errors, n_warnings;
    unsigned n_agent_errors; /* those of agentd.conf: they refuse the start */
};

void cfg_report_init(struct cfg_report *r);
void cfg_report_free(struct cfg_report *r);
/* What was reported from offset at of the errors on, n messages, in one line: the first, and how many more.
 * malloc'ed; NULL if nothing was. */
char *cfg_report_why(const struct cfg_report *r, size_t at, unsigned n);

/* Reads file and the workers' directory that it names, drop-ins included, checks whom to trust, validates all
 * and resolves nothing by name service (see cfg_resolve). *ret is set (caller frees) unless agentd.conf
 * itself is wrong: then -EINVAL. May block on the disk where /etc is. */
int cfg_load(const char *file, struct cfg_report *report, struct cfg **ret);

/* Resolves User=, Group= and SupplementaryGroups= of every worker by name service, which may block: run it at
 * start or in a helper. A worker with an unknown name is moved to broken and reported. */
void cfg_resolve(struct cfg *cfg, struct cfg_report *report);

/* The resolved ids as bytes, to bring them from a helper into the loop's process: put in the helper, get in
 * agentd on the same cfg. get: 0 or -EBADMSG. Workers that cfg_resolve broke are broken on both sides. */
void cfg_resolved_put(const struct cfg *cfg, const struct cfg_report *report, struct buf *b);
int cfg_resolved_get(struct cfg *cfg, struct cfg_report *report, const void *p, size_t n);

/* An ExecStart= may name variables that agentd gives and that are known late: $AGENTD_ID, $USER, $LOGNAME,
 * $HOME, $SHELL. Call with the worker's id when d->ids are resolved too; makes argv and start_command anew
 * from argv_late. Nothing to do (and 0) if argv_late is NULL. 0 or -ENOMEM. */
int cfg_expand_late(struct wk_def *d, int64_t id);

void cfg_free(struct cfg *cfg);
void cfg_def_free(struct wk_def *d); /* NULL-safe */

/* "LimitNOFILE" of RLIMIT_NOFILE; "" if there is none. */
const char *cfg_limit_key(int resource);

/* "live", "next start", "restart", "restart of agentd" */
const char *cfg_cost_name(enum cfg_cost cost);

/* The keys that differ, in the order of the table, as "Key=cost,Key=cost": no values, which may be secrets.
 * Returns the greatest cost. Names are resolved on both sides, or that is not compared. */
enum cfg_cost cfg_diff_worker(const struct wk_def *a, const struct wk_def *b, struct buf *keys);
/* The same for [Agent] and [Rpc]. started: what agentd was started with, for what only a start can change. */
enum cfg_cost cfg_diff_agent(const struct cfg *in_force, const struct cfg *started, const struct cfg *next,
                             struct buf *keys);

/* Every key with its value in force, in the grammar that it was read in. */
void cfg_dump(const struct cfg *cfg, struct buf *b);

/* "exited with 3" counts as success? code and status: si_code and si_status of waitid(2). */
bool cfg_status_has(const struct cfg_status_set *set, int code, int status);

/* What runs stays on its definition although its file has become wrong or is gone, also over agentd's death:
 * RuntimeDirectory/definitions. save gives def->source up; 0 or -errno. read adds those that are wanted to
 * cfg->workers, with def->stored set, not resolved yet. */
int cfg_stored_save(const char *runtime_dir, struct wk_def *def);
void cfg_stored_forget(const char *runtime_dir, const struct wk_def *def);
void cfg_stored_read(struct cfg *cfg, bool (*wants)(const char *alias));
/* Removes files of definitions that an agentd which died in between left; none are looked for if there are
 * only as many as expected. */
void cfg_stored_prune(const char *runtime_dir, unsigned expected, bool (*is_used)(const char *name));
bool cfg_stored_is_of(const char *name, const struct wk_def *def);

#endif
