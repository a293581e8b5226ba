/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/resource.h>

#include "agentd/cfg_read.h"
#include "base/str.h"

/* With its end, so that "ab" "c" is not "a" "bc"; NULL differs from "". */
static uint64_t mix_text(uint64_t h, const char *s)
{
    return s ? str_hash(h, s, strlen(s) + 1) : str_hash(h, "\1", 1);
}

static uint64_t mix_list(uint64_t h, char *const *v)
{
    for (; v && *v; v++)
        h = mix_text(h, *v);
    return mix_text(h, NULL);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    return str_hash(h, &v, sizeof(v));
}

static uint64_t mix_output(uint64_t h, const struct cfg_output_to *o)
{
    return mix_text(mix(h, o->kind), o->path);
}

static uint64_t mix_limits(uint64_t h, const struct wk_def *d)
{
    h = mix(h, d->limits_set);
    for (unsigned i = 0; i < RLIM_NLIMITS; i++)
        if (d->limits_set >> i & 1)
            h = mix(mix(h, d->limits[i].rlim_cur), d->limits[i].rlim_max);
    h = mix(h, d->has_nice ? (uint64_t)(100 + d->nice) : 0);
    return mix(h, d->has_oom ? (uint64_t)(10000 + d->oom_score_adj) : 0);
}

/* What a process was started with: it takes a restart to change it. Not the id, which agentd may give later.
 */
static uint64_t hash_started(const struct wk_def *d)
{
    uint64_t h = mix_text(STR_HASH_INIT, d->alias);

    h = mix_text(mix(h, d->type), d->exec_path);
    h = mix_list(h, d->argv_late ? d->argv_late : d->argv);
    h = mix_list(h, d->env);
    h = mix(mix_text(h, d->workdir), d->workdir_optional);
    h = mix_text(mix_text(h, d->user_name), d->group_name);
    h = mix_list(h, d->supplementary);
    h = mix(mix_limits(h, d), d->umask);
    h = mix(h, (uint64_t)d->no_new_privileges << 1 | d->ignore_sigpipe);
    h = mix(mix(h, d->has_bounding), d->has_bounding ? d->bounding : 0);
    h = mix(mix(h, d->has_ambient), d->has_ambient ? d->ambient : 0);
    return mix_output(mix_output(h, &d->out), &d->err);
}

static uint64_t mix_status(uint64_t h, const struct cfg_status_set *s)
{
    for (unsigned i = 0; i < 4; i++)
        h = mix(h, s->codes[i]);
    return mix(h, s->signals);
}

void cfg_hash(struct wk_def *d)
{
    uint64_t h = d->hash = hash_started(d);

    h = mix_text(mix_text(h, d->description), d->log_pattern);
    h = mix(mix(h, (uint64_t)d->id), d->operable);
    h = mix(mix(h, d->exec_ignore_failure), d->restart);
    h = mix_status(mix_status(h, &d->success), &d->prevent);
    h = mix(mix(mix(h, d->restart_us), d->restart_max_us), d->restart_steps);
    h = mix(mix(h, d->limit_interval_us), d->limit_burst);
    h = mix(mix(h, d->start_timeout_us), d->stop_timeout_us);
    h = mix(mix(mix(h, (uint64_t)d->kill_signal), d->kill_mode), d->send_sigkill);
    h = mix(mix(h, d->ready), d->ready_port);
    d->hash_all = mix(mix_text(h, d->ready_path), d->ready_stable_us);
}

void cfg_hash_ids(struct wk_def *d)
{
    const struct cfg_ids *ids = &d->ids;
    uint64_t h = mix(mix(mix(0, ids->set), ids->uid), ids->gid);

    for (unsigned i = 0; i < ids->n_groups; i++)
        h = mix(h, ids->groups[i]);
    h = mix_text(mix_text(mix_text(h, ids->user), ids->home), ids->shell);
    d->hash = mix(d->hash, h);
    d->hash_all = mix(d->hash_all, h);
}
