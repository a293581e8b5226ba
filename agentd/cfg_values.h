/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_values: the parsers that cfg_keys.def names: one for each kind of value. */
#ifndef AGENTD_CFG_VALUES_H
#define AGENTD_CFG_VALUES_H

#include "agentd/cfg_read.h"

/* The value of line l, its specifiers replaced where the row says so, into target; complains if it is wrong.
 */
#define CFG_PARSER(name)                                                                               \
    void name(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, const char *value, \
              void *target)
CFG_PARSER(cfg_value_bool);
CFG_PARSER(cfg_value_unsigned); /* unsigned within min..max */
CFG_PARSER(cfg_value_fdstore);  /* the same, cut to max */
CFG_PARSER(cfg_value_u64);      /* uint64_t within min..max */
CFG_PARSER(cfg_value_int);      /* int within (int64_t)min..max */
CFG_PARSER(cfg_value_id);       /* int64_t, positive */
CFG_PARSER(cfg_value_bytes);    /* unsigned, a size */
CFG_PARSER(cfg_value_span);     /* uint64_t microseconds */
CFG_PARSER(cfg_value_timeout);  /* the same, 0 is infinity */
CFG_PARSER(cfg_value_timeout_both);
CFG_PARSER(cfg_value_deadline_ms); /* uint64_t milliseconds, a span in seconds */
CFG_PARSER(cfg_value_mode);
CFG_PARSER(cfg_value_text);
CFG_PARSER(cfg_value_dir);
CFG_PARSER(cfg_value_credentials);
CFG_PARSER(cfg_value_workdir);
CFG_PARSER(cfg_value_user);
CFG_PARSER(cfg_value_groups);
CFG_PARSER(cfg_value_stop);
CFG_PARSER(cfg_value_type);
CFG_PARSER(cfg_value_restart);
CFG_PARSER(cfg_value_pid_file);
CFG_PARSER(cfg_value_kill_mode);
CFG_PARSER(cfg_value_restart_mode);
CFG_PARSER(cfg_value_notify_access);
CFG_PARSER(cfg_value_signal);
CFG_PARSER(cfg_value_output);
CFG_PARSER(cfg_value_ready);
CFG_PARSER(cfg_value_health);
CFG_PARSER(cfg_value_health_action);
CFG_PARSER(cfg_value_log_pattern);
CFG_PARSER(cfg_value_log_size); /* uint64_t, 0 or a size within min..max */
CFG_PARSER(cfg_value_alias);
CFG_PARSER(cfg_value_nice);
CFG_PARSER(cfg_value_limit);  /* min: RLIMIT_* */
CFG_PARSER(cfg_value_memory); /* min: enum cgroup_res_row */
CFG_PARSER(cfg_value_tasks);
CFG_PARSER(cfg_value_quota);
CFG_PARSER(cfg_value_weight);
CFG_PARSER(cfg_value_oom_policy);
CFG_PARSER(cfg_value_caps);
CFG_PARSER(cfg_value_exec);
CFG_PARSER(cfg_value_hook);  /* min: enum cfg_hook */
CFG_PARSER(cfg_value_needs); /* min: enum cfg_need_kind */
CFG_PARSER(cfg_value_dirs);  /* min: enum cfg_dir_kind */
CFG_PARSER(cfg_value_preserve);
CFG_PARSER(cfg_value_condition); /* min: 1: an assertion */
CFG_PARSER(cfg_value_env);
CFG_PARSER(cfg_value_env_file);
CFG_PARSER(cfg_value_load_credential);
CFG_PARSER(cfg_value_set_credential);
CFG_PARSER(cfg_value_status);
CFG_PARSER(cfg_value_listen);
CFG_PARSER(cfg_value_listen_tls);
CFG_PARSER(cfg_value_tls_file); /* min: enum cfg_tls */

#endif
