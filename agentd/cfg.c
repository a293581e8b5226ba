/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"

int cfg_load(const char *file, struct cfg_report *report, struct cfg **ret)
{
    struct cfg *cfg = malloc(sizeof(*cfg));
    struct cfg_ctx c = {.report = report, .cfg = cfg, .file = file};
    unsigned errors = report->n_agent_errors;

    *ret = NULL;
    if (cfg)
        cfg_keys_defaults(cfg, NULL);
    if (!cfg || !(cfg->file = strdup(file))) {
        cfg_oom(&c);
        free(cfg);
        return -EINVAL;
    }
    /* The workers are read even if agentd.conf is wrong, so that all errors come at once. */
    cfg_agent_read(cfg, report);
    if (cfg->agent.workers_dir && cfg->agent.log_dir)
        cfg_workers_read(cfg, report);
    if (report->n_agent_errors != errors) {
        cfg_free(cfg);
        return -EINVAL;
    }
    *ret = cfg;
    return 0;
}

char cfg_nothing[1];

static void free_ids(struct cfg_ids *ids)
{
    free(ids->groups);
    free(ids->user);
    free(ids->home);
    free(ids->shell);
}

void cfg_def_free(struct wk_def *d)
{
    if (!d || (d->more_refs && d->more_refs--))
        return;
    char *strings[] = {d->alias,          d->file,      d->description, d->log_pattern,  d->pid_file,
                       d->workdir,        d->user_name, d->group_name,  d->user_at.file, d->group_at.file,
                       d->groups_at.file, d->out.path,  d->err.path};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        if (strings[i] != cfg_nothing)
            free(strings[i]);
    for (size_t i = d->n_env_plain; d->env && d->env[i]; i++)
        explicit_bzero(d->env[i], strlen(d->env[i]));
    cfg_check_free(d->ready);
    cfg_check_free(d->health);
    cfg_needs_free(d);
    cfg_dirs_free(d);
    cfg_listeners_done(&d->sockets, &d->n_sockets);
    cfg_command_done(&d->exec);
    for (unsigned i = 0; i < CFG_HOOK_MAX; i++)
        cfg_commands_done(&d->hooks[i]);
    free(d->env);
    free(d->env_files);
    free(d->supplementary);
    free(d->limits);
    free(d->res);
    cfg_secrets_free(d);
    free(d->fault);
    if (d->source)
        explicit_bzero(d->source, strlen(d->source)); /* an Environment= may be secret */
    free(d->source);
    free_ids(&d->ids);
    free(d);
}

static void free_rpc(struct cfg_rpc *r)
{
    cfg_listeners_done(&r->listeners, &r->n_listeners);
    cfg_tls_done(r);
    free(r->credentials);
    free(r->user);
    free(r->manager_group);
    free(r->viewer_group);
}

void cfg_free(struct cfg *cfg)
{
    if (!cfg)
        return;
    for (unsigned i = 0; i < cfg->n_workers; i++)
        cfg_def_free(cfg->workers[i]);
    for (unsigned i = 0; i < cfg->n_broken; i++) {
        free(cfg->broken[i]);
        free(cfg->broken_why[i]);
    }
    for (unsigned i = 0; i < cfg->n_nameless; i++)
        cfg_def_free(cfg->nameless[i]);
    free(cfg->workers);
    free(cfg->broken);
    free(cfg->broken_why);
    free(cfg->nameless);
    free_rpc(&cfg->rpc);
    free(cfg->agent.install_home);
    free(cfg->agent.host_ip);
    free(cfg->agent.workers_dir);
    free(cfg->agent.runtime_dir);
    free(cfg->agent.state_dir);
    free(cfg->agent.log_dir);
    free(cfg->file);
    free(cfg);
}
