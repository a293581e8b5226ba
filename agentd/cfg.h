/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg: what the files say. Knows the grammar of systemd's unit files, keys, defaults and whom to trust
 * with a file; never knows processes, state or the loop. Reading is all or nothing for agentd.conf, and per
 * worker for the workers' files: a broken one is left out and reported. Sources: systemd.syntax(7),
 * systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.time(7). */
#ifndef AGENTD_CFG_H
#define AGENTD_CFG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agentd/cfg_def.h"
#include "base/buf.h"
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
struct cfg_agent {
    int64_t host_id; /* 0: not set */
    int64_t agent_id;
    char *install_home, *host_ip;
    char *workers_dir, *runtime_dir, *state_dir, *log_dir;
    enum cfg_stop stop_workers;
    unsigned start_concurrency; /* starts under way at once; 0: by the processors */
    unsigned start_rate;        /* starts a second; 0: no bound */
    unsigned
        start_pressure; /* percent of waiting, proc_pressure(5), from which starts are spaced; 0: never */
    uint64_t sample_max_age_ms;
    uint64_t upgrade_timeout_ms; /* for a new image to confirm that it has taken over */
};

/* What TLS is made of, as it was when the configuration was read: a certificate and its key stay a pair,
 * though their files are being replaced. */
enum cfg_tls { CFG_TLS_CERTIFICATE, CFG_TLS_KEY, CFG_TLS_CLIENT_CA, CFG_TLS_MAX };
struct cfg_tls_file {
    char *path, *text; /* NULL: not given; text: PEM, read only if there is a ListenTls= */
};

struct cfg_rpc {
    bool plaintext_credentials;
    unsigned n_listeners, n_tls;
    struct cfg_listener *listeners, *tls; /* ListenStream=, ListenTls= */
    struct cfg_tls_file tls_files[CFG_TLS_MAX];
    char *credentials; /* path; need not exist */
    char *user, *manager_group, *viewer_group;
    uint64_t reply_deadline_ms, request_deadline_ms;
    uint64_t idle_ms, heartbeat_ms;
    unsigned max_connections, max_per_source, request_rate; /* of one address, the latter two; 0: no bound */
    unsigned max_request_bytes, max_header_bytes, max_headers, max_requests, max_log_streams,
        max_event_streams, max_operations;
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
/* What first has, before what is in r, and counted: errors of agentd.conf come before those of workers. */
void cfg_report_before(struct cfg_report *r, const struct cfg_report *first);
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
 * $HOME, $SHELL. Call with the worker's id when d->ids are resolved too; makes argv and text of exec anew
 * from its late words. Nothing to do (and 0) if there are none. 0 or -ENOMEM. */
int cfg_expand_late(struct wk_def *d, int64_t id);
/* The words of a hook with all that is known when it runs; more: NAME=value list of what only hooks have
 * ($MAINPID and what ExecStop= and ExecStopPost= are told). malloc'ed in one block; NULL: no memory. */
char **cfg_expand_hook(const struct wk_def *d, const struct cfg_command *c, int64_t id, char *const *more);
const char *cfg_hook_key(enum cfg_hook h);         /* "ExecStartPre" */
const char *cfg_dir_variable(enum cfg_dir_kind k); /* "RUNTIME_DIRECTORY" */
const char *cfg_need_key(enum cfg_need_kind k);    /* "After" */

void cfg_free(struct cfg *cfg);
/* Overwrites the texts of TLS: in a child, which has a copy of them that it shall not take along. */
void cfg_tls_forget(const struct cfg_rpc *r);
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
