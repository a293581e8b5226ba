/* SPDX-License-Identifier: Apache-2.0 */
/* What a key's value is, as a number: for the hashes of a definition and for the comparison of two. The rows
 * of cfg_keys.def say which mixer a key has and what a change of it costs. */
#include <sys/resource.h>

#include "agentd/cfg_mix.h"
#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
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

static uint64_t mix_to(uint64_t h, const struct cfg_output_to *o)
{
    return mix_text(mix(h, o->kind), o->path);
}

CFG_MIXER(cfg_mix_plain)
{
    return str_hash(h, (const char *)object + k->offset, k->size);
}

CFG_MIXER(cfg_mix_text)
{
    return mix_text(h, *(char *const *)((const char *)object + k->offset));
}

CFG_MIXER(cfg_mix_list)
{
    return mix_list(h, *(char **const *)((const char *)object + k->offset));
}

static uint64_t mix_command(uint64_t h, const struct cfg_command *c)
{
    h = mix_list(mix_text(h, c->path), c->late ? c->late : c->argv);
    return c->privileged || c->keeps_user ? mix(mix(h, c->privileged), c->keeps_user) : h;
}

CFG_MIXER(cfg_mix_exec)
{
    const struct wk_def *d = object;

    for (unsigned i = 0; i < d->hooks[CFG_HOOK_START].n; i++)
        h = mix_command(h, &d->hooks[CFG_HOOK_START].v[i]);
    return mix_command(h, &d->exec);
}

CFG_MIXER(cfg_mix_commands)
{
    const struct cfg_commands *c = (const void *)((const char *)object + k->offset);

    for (unsigned i = 0; i < c->n; i++)
        h = mix(mix_command(h, &c->v[i]), c->v[i].ignore_failure);
    return mix(h, c->n);
}

CFG_MIXER(cfg_mix_needs)
{
    const struct wk_def *d = object;

    for (unsigned i = 0; i < d->n_needs; i++)
        if (d->needs[i].kind == k->min)
            h = mix_text(h, d->needs[i].alias);
    return mix_text(h, NULL);
}

CFG_MIXER(cfg_mix_dirs)
{
    const struct wk_def *d = object;

    for (unsigned i = 0; i < d->n_dirs; i++)
        if (d->dirs[i].kind == k->min)
            h = mix_text(h, d->dirs[i].path);
    return mix_text(h, NULL);
}

CFG_MIXER(cfg_mix_conditions)
{
    const struct wk_def *d = object;

    for (unsigned i = 0; i < d->n_conditions; i++)
        if (d->conditions[i].assert == k->min)
            h = mix(mix(mix_text(h, d->conditions[i].path), d->conditions[i].negate),
                    d->conditions[i].trigger);
    return mix_text(h, NULL);
}

CFG_MIXER(cfg_mix_workdir)
{
    const struct wk_def *d = object;

    return mix(mix_text(h, d->workdir), d->workdir_optional);
}

CFG_MIXER(cfg_mix_env)
{
    const struct wk_def *d = object;

    for (unsigned i = 0; i < d->n_env_plain; i++)
        h = mix_text(h, d->env[i]);
    return mix_text(h, NULL);
}

/* What came out of the files, not where they are: the process knows nothing else of them. */
CFG_MIXER(cfg_mix_env_file)
{
    const struct wk_def *d = object;

    return mix_list(h, d->env ? d->env + d->n_env_plain : NULL);
}

CFG_MIXER(cfg_mix_limit)
{
    const struct wk_def *d = object;

    if (!(d->limits_set >> k->min & 1))
        return mix(h, 0);
    return mix(mix(mix(h, 1), d->limits[k->min].rlim_cur), d->limits[k->min].rlim_max);
}

CFG_MIXER(cfg_mix_nice)
{
    const struct wk_def *d = object;

    return mix(h, d->has_nice ? (uint64_t)(100 + d->nice) : 0);
}

CFG_MIXER(cfg_mix_oom)
{
    const struct wk_def *d = object;

    return mix(h, d->has_oom ? (uint64_t)(10000 + d->oom_score_adj) : 0);
}

CFG_MIXER(cfg_mix_ambient)
{
    const struct wk_def *d = object;

    return mix(mix(h, d->has_ambient), d->has_ambient ? d->ambient : 0);
}

CFG_MIXER(cfg_mix_bounding)
{
    const struct wk_def *d = object;

    return mix(mix(h, d->has_bounding), d->has_bounding ? d->bounding : 0);
}

CFG_MIXER(cfg_mix_output)
{
    return mix_to(h, &((const struct wk_def *)object)->out);
}

/* "As standard output" is a value of its own: else it would change whenever the other does. */
CFG_MIXER(cfg_mix_error)
{
    const struct wk_def *d = object;
    bool same = mix_to(0, &d->err) == mix_to(0, &d->out);

    return same ? mix(h, 0) : mix_to(mix(h, 1), &d->err);
}

CFG_MIXER(cfg_mix_check)
{
    const struct cfg_check *c = *(struct cfg_check *const *)((const char *)object + k->offset);

    if (!c)
        return mix(h, CFG_CHECK_NONE);
    h = mix_text(mix_text(mix_text(h, c->path), c->host), c->body);
    if (c->kind == CFG_CHECK_EXEC)
        h = mix_command(h, &c->command);
    return mix(mix(mix(mix(h, c->kind), c->port), c->status), c->stable_us);
}

static uint64_t mix_listeners(uint64_t h, const struct cfg_listener *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        h = mix_text(h, v[i].text);
    return mix_text(h, NULL);
}

CFG_MIXER(cfg_mix_listeners)
{
    const struct cfg_rpc *r = &((const struct cfg *)object)->rpc;

    return mix_listeners(h, r->listeners, r->n_listeners);
}

CFG_MIXER(cfg_mix_tls_listeners)
{
    const struct cfg_rpc *r = &((const struct cfg *)object)->rpc;

    return mix_listeners(h, r->tls, r->n_tls);
}

CFG_MIXER(cfg_mix_tls_file)
{
    const struct cfg_tls_file *f = &((const struct cfg *)object)->rpc.tls_files[k->min];

    return mix_text(mix_text(h, f->path), f->text);
}

CFG_MIXER(cfg_mix_sockets)
{
    const struct wk_def *d = object;

    return mix_listeners(h, d->sockets, d->n_sockets);
}

void cfg_hash(struct wk_def *d)
{
    size_t n;
    const struct cfg_key *keys = cfg_keys_all(&n);

    d->hash = d->hash_all = STR_HASH_INIT;
    for (size_t i = 0; i < n; i++) {
        const struct cfg_key *k = &keys[i];
        if (k->cost == CFG_COST_SAME || !cfg_keys_of_worker(k->section))
            continue;
        d->hash_all = k->mix(d->hash_all, k, d);
        if (k->cost == CFG_COST_RESTART)
            d->hash = k->mix(d->hash, k, d);
    }
}

uint64_t cfg_hash_of_ids(const struct wk_def *d)
{
    const struct cfg_ids *ids = &d->ids;
    uint64_t h = mix(mix(mix(0, ids->set), ids->uid), ids->gid);

    for (unsigned i = 0; i < ids->n_groups; i++)
        h = mix(h, ids->groups[i]);
    return mix_text(mix_text(mix_text(h, ids->user), ids->home), ids->shell);
}

void cfg_hash_ids(struct wk_def *d)
{
    uint64_t h = cfg_hash_of_ids(d);

    d->hash = mix(d->hash, h);
    d->hash_all = mix(d->hash_all, h);
}
