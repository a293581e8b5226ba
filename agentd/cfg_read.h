/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_read: what the files of cfg_*.c share while they read; nobody else includes it. */
#ifndef AGENTD_CFG_READ_H
#define AGENTD_CFG_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/cfg.h"
#include "agentd/cfg_parse.h"

enum cfg_section {
    CFG_UNIT,
    CFG_SERVICE,
    CFG_WORKER,
    CFG_INSTALL,
    CFG_AGENT,
    CFG_RPC,
    CFG_SECTION_MAX,
};

/* What %-specifiers are made of. All borrowed. */
struct cfg_names {
    const char *alias; /* %N */
    const char *stem;  /* the file's name without .conf: %p, %i */
};

/* One EnvironmentFile=. */
struct cfg_env_file {
    char *path;
    bool optional;
    const struct cfg_line *line;
    size_t at;
};

/* One line of an Exec key; ExecStart= is CFG_HOOK_START until all are known. */
struct cfg_exec_line {
    enum cfg_hook hook;
    const struct cfg_line *line;
};

/* While one worker, or agentd.conf, is read. */
struct cfg_ctx {
    struct cfg_report *report;
    struct cfg *cfg;
    struct wk_def *def; /* NULL: agentd.conf */
    const char *file;   /* the main file, for what is about all of it */
    struct cfg_names names;
    unsigned n_errors; /* in this worker or agentd.conf */
    const struct cfg_line *stdout_at, *ready_at, *health_at, *listen_at, *workers_dir_at, *credentials_at;
    const struct cfg_line *listen_tls_at, *tls_at[CFG_TLS_MAX];
    struct cfg_exec_line *execs;
    unsigned n_execs;
    struct cfg_list env; /* Environment= */
    struct cfg_env_file *env_files;
    unsigned n_env_files;
    struct cfg_list groups;
    bool err_given; /* StandardError= is not "as StandardOutput" */
};

/* --- keys: cfg_keys.c --- */

struct cfg_key;
typedef void (*cfg_key_fn)(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l,
                           const char *value, void *target);

/* The key's value in object, a struct wk_def or struct cfg, mixed into h. */
#define CFG_MIXER(name) uint64_t name(uint64_t h, const struct cfg_key *k, const void *object)
typedef CFG_MIXER((*cfg_mix_fn));

struct cfg_key {
    enum cfg_section section;
    const char *name;
    cfg_key_fn parse;
    size_t offset, size; /* the target in struct wk_def or struct cfg */
    unsigned flags;
    uint64_t min, max; /* of numbers; else as the parser says */
    enum cfg_cost cost;
    cfg_mix_fn mix; /* NULL with CFG_COST_SAME only */
};

#define CFG_SPECIFIERS 1u /* %-specifiers are expanded before parse sees the value */
#define CFG_PLAIN 2u      /* the target is a plain value: "Key=" puts its default back */
#define CFG_STRING 4u     /* the target is a char *: "Key=" forgets it, cfg_*_finish puts the default */

/* Applies the lines to c->def or c->cfg; complains about what is not known or wrong. */
void cfg_keys_apply(struct cfg_ctx *c, const struct cfg_lines *lines);
/* Plain defaults of all keys that have one. */
void cfg_keys_defaults(struct cfg *cfg, struct wk_def *def);

/* The rows of cfg_keys.def. */
const struct cfg_key *cfg_keys_all(size_t *n);
/* The section is one of a worker's file, not of agentd.conf. */
bool cfg_keys_of_worker(enum cfg_section s);

/* --- messages: cfg_report.c. at: offset in l->value, or CFG_AT_KEY --- */

void cfg_error(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void cfg_warn(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void cfg_error_in(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void cfg_warn_in(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Remembers that memory ran out: an error of what is being read. */
void cfg_oom(struct cfg_ctx *c);
/* strdup that complains. */
char *cfg_dup(struct cfg_ctx *c, const char *s);
/* Of one more word for "did you mean": keeps the nearer of *best and name. */
void cfg_nearer(const char *word, const char *name, const char **best, unsigned *distance);
/* ", did you mean "X"?" or "" into buf; returns buf. */
#define CFG_HINT_MAX 128
const char *cfg_hint(const char *word, const char *best, unsigned distance, char buf[CFG_HINT_MAX]);

/* --- values --- */

const char *cfg_exit_name(unsigned code); /* of SuccessExitStatus=; NULL */
/* Names in the order of the enums of cfg.h, for reading and dumping. */
extern const char *const cfg_stop_names[], *const cfg_type_names[], *const cfg_restart_names[],
                                                                        *const cfg_kill_names[],
                                                                            *const cfg_notify_names[],
                                                                                *const cfg_health_names[],
                                                                                    *const cfg_oom_names[];
struct cfg_limit_name {
    const char *name;
    int resource;
    enum { CFG_LIMIT_COUNT, CFG_LIMIT_BYTES, CFG_LIMIT_SEC, CFG_LIMIT_USEC, CFG_LIMIT_NICE } unit;
};
extern const struct cfg_limit_name cfg_limit_names[];
extern const unsigned cfg_n_limit_names;

/* value's place in names, -1 after an error that lists them. */
int cfg_choose(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, const char *value,
               const char *const *names);
void cfg_secrets_free(struct wk_def *d);
void cfg_secret_dump(const struct wk_def *d, struct buf *b);
/* CPUQuota= and its like, as they are read. */
void cfg_res_dump(const struct wk_def *d, struct buf *b);
/* True if s is an alias: [A-Za-z0-9_.@:-]+, at most LIMIT_ALIAS bytes, not starting with '.' or '-'. */
bool cfg_alias_ok(const char *s);
/* Takes out double slashes, "." and a slash at the end, in place. */
void cfg_path_simplify(char *path);
/* What is wrong with path, as the rest of a sentence; NULL if it is absolute, without ".." and not too long.
 */
const char *cfg_path_wrong(const char *path);

/* --- the rest of the reading --- */

/* s with its %-specifiers replaced, malloc'ed; NULL after an error was reported at l, at. */
char *cfg_spec(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *s);
/* agentd's own user from /etc/passwd, never from name service. Borrowed until the next call; NULL fields
 * never. */
struct cfg_own {
    char user[64], home[256], shell[128], group[64];
};
void cfg_own(struct cfg_own *ret);
/* A user or group name's id by /etc/passwd or /etc/group only; -1: not there. */
int64_t cfg_local_uid(const char *name);
int64_t cfg_local_gid(const char *name);

/* After all lines: env, then the Exec lines, which use it. */
void cfg_env_finish(struct cfg_ctx *c);
void cfg_exec_finish(struct cfg_ctx *c);
void cfg_command_done(struct cfg_command *c);
/* The command behind "exec:" of a check's line, once the environment is known. */
void cfg_exec_check(struct cfg_ctx *c, const struct cfg_line *l, struct cfg_command *ret);
void cfg_commands_done(struct cfg_commands *c);
void cfg_listeners_done(struct cfg_listener **v, unsigned *n);
struct cfg_entry;
void cfg_needs_free(struct wk_def *d);
void cfg_dirs_free(struct wk_def *d); /* and conditions */
/* Whom Requires= and BindsTo= name has to be a worker, broken or not, and no way along what is waited for may
 * lead back: what is wrong is reported, and its entry broken. v: all of them, sorted by alias. */
void cfg_needs_check(struct cfg *cfg, struct cfg_report *report, struct cfg_entry *v, size_t n);
/* The value of a NAME in a NAME=value list; NULL. */
const char *cfg_env_get(char *const *env, const char *name);
bool cfg_env_name_ok(const char *s, size_t len);

/* Reads and judges the listeners and the credentials file; in agentd.conf's context. */
void cfg_listen_finish(struct cfg_ctx *c);
void cfg_credentials_check(struct cfg_ctx *c);
/* Reads what the Tls keys name, and judges what can be told without knowing certificates. */
void cfg_tls_finish(struct cfg_ctx *c);
void cfg_tls_done(struct cfg_rpc *r);
char *cfg_listen_host_ip(void); /* of the default route's interface; malloc'ed, NULL: no memory */

/* Reads one worker's file and drop-ins. dir: the opened, trusted WorkersDirectory. */
struct cfg_entry {
    char *file, *alias, *why; /* why: broken */
    struct wk_def *def;
    bool broken, masked;
    struct cfg_at alias_at, id_at;
};
void cfg_worker_read(struct cfg *cfg, struct cfg_report *report, int dir, const char *dir_path,
                     const char *name, struct cfg_entry *ret);
void cfg_entry_forget(struct cfg_entry *e);
/* The lines as one text to be kept; malloc'ed, NULL: no memory, or none. */
char *cfg_stored_text(const struct cfg_lines *lines);
/* Reads agentd.conf; 0 or -EINVAL. */
int cfg_agent_read(struct cfg *cfg, struct cfg_report *report);
/* Reads every worker of cfg->agent.workers_dir. */
void cfg_workers_read(struct cfg *cfg, struct cfg_report *report);
/* Adds alias to cfg->broken unless it is there. why may be NULL. */
void cfg_add_broken(struct cfg *cfg, const char *alias, const char *why);

/* Parses file (found in dir, named path in messages) into lines. True if it was there; *masked: it is
 * /dev/null.
 */
bool cfg_file_read(struct cfg_ctx *c, int dir, const char *name, const char *path, struct cfg_lines *lines,
                   bool *masked);
/* The drop-ins of a file STEM.conf in dir, and of its template. */
void cfg_dropins_read(struct cfg_ctx *c, int dir, const char *dir_path, const char *stem,
                      struct cfg_lines *lines);

/* Names of the *.conf in dir, sorted. */
void cfg_files_list(struct cfg_ctx *c, int dir, struct cfg_list *names);

/* "" for the strings of a definition that are not set: shared, so that a worker is small. Never freed. */
extern char cfg_nothing[1];

/* Sets hash and hash_all. */
void cfg_hash(struct wk_def *d);
uint64_t cfg_hash_of_ids(const struct wk_def *d);
/* Mixes the resolved ids in, once. */
void cfg_hash_ids(struct wk_def *d);

#endif
