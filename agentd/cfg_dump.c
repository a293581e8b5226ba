/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in force, in the grammar that it was read in, so that it could be read again. The values
 * of an environment file may be secret and are left to that file. */
#include <stdio.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "base/signals.h"
#include "base/str.h"
#include "proc/caps.h"

static const char *yes(bool v)
{
    return v ? "yes" : "no";
}

static void number(struct buf *b, const char *key, long long v)
{
    buf_printf(b, "%s=%lld\n", key, v);
}

/* A value whose %-specifiers are expanded when it is read. */
static void text(struct buf *b, const char *key, const char *prefix, const char *s)
{
    buf_printf(b, "%s=%s", key, prefix);
    for (; *s; s++)
        buf_str(b, *s == '%' ? "%%" : (const char[]){*s, 0});
    buf_char(b, '\n');
}

static void optional(struct buf *b, const char *key, const char *s)
{
    if (s)
        text(b, key, "", s);
}

static void put_span(struct buf *b, uint64_t us)
{
    if (us == STR_USEC_INFINITY)
        buf_str(b, "infinity\n");
    else if (us % 1000000 == 0)
        buf_printf(b, "%llus\n", (unsigned long long)us / 1000000);
    else if (us % 1000 == 0)
        buf_printf(b, "%llums\n", (unsigned long long)us / 1000);
    else
        buf_printf(b, "%lluus\n", (unsigned long long)us);
}

static void span(struct buf *b, const char *key, uint64_t us)
{
    buf_printf(b, "%s=", key);
    put_span(b, us);
}

/* A word of a quoted list; dollar: '$' is doubled too, as in Exec lines. */
static void word(struct buf *b, const char *s, bool dollar)
{
    bool quote = !*s || strpbrk(s, " \t\n\"'\\;") != NULL;

    if (quote)
        buf_char(b, '"');
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            buf_printf(b, "\\%c", *s);
        else if ((unsigned char)*s < ' ' || *s == 0x7f)
            buf_printf(b, "\\x%02x", (unsigned char)*s);
        else if (*s == '%' || (*s == '$' && dollar))
            buf_printf(b, "%c%c", *s, *s);
        else
            buf_char(b, *s);
    if (quote)
        buf_char(b, '"');
}

static void command_line(struct buf *b, const struct cfg_command *c)
{
    char *const *words = c->late ? c->late : c->argv;
    bool named = str_eq(words[0], c->path);

    buf_printf(b, "%s%s%s", c->ignore_failure ? "-" : "",
               c->privileged   ? "+"
               : c->keeps_user ? "!"
                               : "",
               named ? "" : "@");
    word(b, c->path, false);
    for (size_t i = named; words[i]; i++) {
        buf_char(b, ' ');
        word(b, words[i], !c->late);
    }
    buf_char(b, '\n');
}

static void command(struct buf *b, enum cfg_hook hook, const struct cfg_command *c)
{
    buf_printf(b, "%s=", cfg_hook_key(hook));
    command_line(b, c);
}

static void commands(struct buf *b, enum cfg_hook hook, const struct wk_def *d)
{
    for (unsigned i = 0; i < d->hooks[hook].n; i++)
        command(b, hook, &d->hooks[hook].v[i]);
}

static void exec(struct buf *b, const struct wk_def *d)
{
    commands(b, CFG_HOOK_START_PRE, d);
    commands(b, CFG_HOOK_START, d);
    command(b, CFG_HOOK_START, &d->exec);
    for (enum cfg_hook h = CFG_HOOK_START_POST; h < CFG_HOOK_MAX; h++)
        commands(b, h, d);
}

static void environment(struct buf *b, const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_env_plain; i++) {
        buf_str(b, "Environment=");
        word(b, d->env[i], false);
        buf_char(b, '\n');
    }
    for (char **s = d->env_files; s && *s; s++)
        text(b, "EnvironmentFile", "", *s);
    for (unsigned i = d->n_env_plain; d->env[i]; i++)
        buf_printf(b, "# %.*s is set by an EnvironmentFile=\n", (int)strcspn(d->env[i], "="), d->env[i]);
}

static void status_set(struct buf *b, const char *key, const struct cfg_status_set *set)
{
    char name[16];

    buf_printf(b, "%s=", key);
    const char *blank = "";
    for (unsigned i = 0; i < 256; i++)
        if (set->codes[i / 64] >> (i % 64) & 1) {
            buf_printf(b, "%s%u", blank, i);
            blank = " ";
        }
    for (int i = 1; i <= 64; i++)
        if (set->signals >> (i - 1) & 1) {
            buf_printf(b, "%s%s", blank, signals_name(i, name));
            blank = " ";
        }
    buf_char(b, '\n');
}

static void one_limit(struct buf *b, int unit, rlim_t v)
{
    if (v == RLIM_INFINITY)
        buf_str(b, "infinity");
    else
        buf_printf(b, "%llu%s", (unsigned long long)v,
                   unit == CFG_LIMIT_SEC    ? "s"
                   : unit == CFG_LIMIT_USEC ? "us"
                                            : "");
}

static void limits(struct buf *b, const struct wk_def *d)
{
    for (unsigned i = 0; i < cfg_n_limit_names; i++) {
        const struct cfg_limit_name *l = &cfg_limit_names[i];
        if (!(d->limits_set >> l->resource & 1))
            continue;
        buf_printf(b, "%s=", l->name);
        one_limit(b, l->unit, d->limits[l->resource].rlim_cur);
        buf_char(b, ':');
        one_limit(b, l->unit, d->limits[l->resource].rlim_max);
        buf_char(b, '\n');
    }
    if (d->has_nice)
        number(b, "Nice", d->nice);
    if (d->has_oom)
        number(b, "OOMScoreAdjust", d->oom_score_adj);
}

/* The shorter way: what is in the set, or with '~' what is not. */
static void capabilities(struct buf *b, const char *key, bool given, uint64_t set)
{
    uint64_t all = caps_all(), invert = (set & ~all) ? all : 0;
    bool any = false;

    if (!given)
        return;
    buf_printf(b, "%s=%s", key, invert ? "~" : "");
    for (unsigned i = 0; i < 64; i++)
        if ((set ^ invert) & all & 1ull << i) {
            const char *name = caps_to_name(i);
            buf_printf(b, "%s%s", any ? " " : "", name ? name : "?");
            any = true;
        }
    buf_char(b, '\n');
}

static void output(struct buf *b, const char *key, const struct cfg_output_to *o)
{
    if (o->kind == CFG_OUT_APPEND)
        text(b, key, "append:", o->path);
    else
        buf_printf(b, "%s=%s\n", key, o->kind == CFG_OUT_NULL ? "null" : "journal");
}

static void needs(struct buf *b, const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_needs; i++)
        buf_printf(b, "%s=%s\n", cfg_need_key(d->needs[i].kind), d->needs[i].alias);
}

static void conditions(struct buf *b, const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_conditions; i++) {
        const struct cfg_condition *c = &d->conditions[i];
        char prefix[4];
        snprintf(prefix, sizeof(prefix), "%s%s", c->trigger ? "|" : "", c->negate ? "!" : "");
        text(b, c->assert ? "AssertPathExists" : "ConditionPathExists", prefix, c->path);
    }
}

static void folders(struct buf *b, const struct wk_def *d)
{
    static const char *const keys[CFG_DIR_MAX] = {"RuntimeDirectory", "StateDirectory", "CacheDirectory",
                                                  "LogsDirectory"};

    for (unsigned kind = 0; kind < CFG_DIR_MAX; kind++) {
        unsigned n = 0;
        for (unsigned i = 0; i < d->n_dirs; i++)
            if (d->dirs[i].kind == kind) {
                buf_printf(b, "%s=", keys[kind]);
                word(b, d->dirs[i].path + d->dirs[i].base + 1, false);
                buf_char(b, '\n');
                n++;
            }
        if (n)
            buf_printf(b, "%sMode=%04o\n", keys[kind], (unsigned)d->dir_modes[kind]);
    }
    if (d->runtime_preserve)
        buf_str(b, "RuntimeDirectoryPreserve=yes\n");
}

static void unit(struct buf *b, const struct wk_def *d)
{
    buf_str(b, "[Unit]\n");
    text(b, "Description", "", d->description);
    needs(b, d);
    conditions(b, d);
    span(b, "StartLimitIntervalSec", d->limit_interval_us);
    number(b, "StartLimitBurst", d->limit_burst);
}

static void service(struct buf *b, const struct wk_def *d)
{
    char name[16];

    buf_printf(b, "[Service]\nType=%s\n", cfg_type_names[d->type]);
    exec(b, d);
    if (*d->pid_file)
        text(b, "PIDFile", "", d->pid_file);
    buf_printf(b, "RemainAfterExit=%s\n", yes(d->remain_after_exit));
    text(b, "WorkingDirectory", d->workdir_optional ? "-" : "", *d->workdir ? d->workdir : "/");
    text(b, "User", "", d->user_name);
    text(b, "Group", "", d->group_name);
    if (d->supplementary)
        buf_str(b, "SupplementaryGroups=");
    for (char **s = d->supplementary; s && *s; s++) {
        buf_str(b, s == d->supplementary ? "" : " ");
        word(b, *s, false);
    }
    buf_printf(b, "%sUMask=%04o\n", d->supplementary ? "\n" : "", (unsigned)d->umask);
    folders(b, d);
    environment(b, d);
    cfg_secret_dump(d, b);
    buf_printf(b, "Restart=%s\n", cfg_restart_names[d->restart]);
    status_set(b, "RestartPreventExitStatus", &d->prevent);
    span(b, "RestartSec", d->restart_us);
    span(b, "RestartMaxDelaySec", d->restart_max_us);
    number(b, "RestartSteps", d->restart_steps);
    span(b, "TimeoutStartSec", d->start_timeout_us);
    span(b, "TimeoutStopSec", d->stop_timeout_us);
    buf_printf(b, "KillSignal=%s\n", signals_name(d->kill_signal, name));
    buf_printf(b, "KillMode=%s\nSendSIGKILL=%s\n", cfg_kill_names[d->kill_mode], yes(d->send_sigkill));
    span(b, "WatchdogSec", d->watchdog_us);
    buf_printf(b, "NotifyAccess=%s\n", cfg_notify_names[d->notify_access]);
    number(b, "FileDescriptorStoreMax", d->fdstore_max);
    status_set(b, "SuccessExitStatus", &d->success);
    limits(b, d);
    cfg_res_dump(d, b);
    capabilities(b, "AmbientCapabilities", d->has_ambient, d->ambient);
    capabilities(b, "CapabilityBoundingSet", d->has_bounding, d->bounding);
    buf_printf(b, "NoNewPrivileges=%s\nIgnoreSIGPIPE=%s\n", yes(d->no_new_privileges),
               yes(d->ignore_sigpipe));
    output(b, "StandardOutput", &d->out);
    output(b, "StandardError", &d->err);
}

static void http(struct buf *b, const char *key, const struct cfg_check *c)
{
    bool six = strchr(c->host, ':');
    struct buf t = BUF_INIT(1 << 16);

    buf_printf(&t, "%s%s%s:%u%s", six ? "[" : "", c->host, six ? "]" : "", c->port, c->path);
    if (c->status)
        buf_printf(&t, " %u", c->status);
    if (c->body)
        buf_printf(&t, " %s", c->body);
    text(b, key, "http://", t.error ? "" : t.p);
    buf_free(&t);
}

static void check(struct buf *b, const char *key, const struct cfg_check *c)
{
    if (!c) {
        buf_printf(b, "%s=\n", key);
    } else if (c->kind == CFG_CHECK_TCP) {
        buf_printf(b, "%s=tcp:%u\n", key, c->port);
    } else if (c->kind == CFG_CHECK_UNIX) {
        text(b, key, "unix:", c->path);
    } else if (c->kind == CFG_CHECK_HTTP) {
        http(b, key, c);
    } else if (c->kind == CFG_CHECK_EXEC) {
        buf_printf(b, "%s=exec:", key);
        command_line(b, &c->command);
    } else {
        buf_printf(b, "%s=stable:", key);
        put_span(b, c->stable_us);
    }
}

static void worker(struct buf *b, const struct wk_def *d)
{
    buf_printf(b, "\n# %s\n", d->file);
    unit(b, d);
    service(b, d);
    buf_str(b, "[Worker]\n");
    if (d->id)
        number(b, "Id", d->id);
    buf_printf(b, "Alias=%s\n", d->alias);
    text(b, "LogFilePattern", "", d->log_pattern);
    buf_printf(b, "Operable=%s\n", yes(d->operable));
    check(b, "ReadyCheck", d->ready);
    check(b, "HealthCheck", d->health);
    span(b, "HealthInterval", d->health_interval_us);
    span(b, "HealthTimeout", d->health_timeout_us);
    number(b, "HealthRetries", d->health_retries);
    buf_printf(b, "HealthAction=%s\n", cfg_health_names[d->health_action]);
    for (unsigned i = 0; i < d->n_sockets; i++)
        text(b, "ListenStream", "", d->sockets[i].text);
    buf_printf(b, "RestartMode=%s\n", d->overlap ? "overlap" : "stop-start");
    number(b, "LogMaxSize", (long long)d->log_max_size);
    number(b, "LogMaxFiles", d->log_max_files);
    buf_printf(b, "LogCompress=%s\n", yes(d->log_compress));
}

static void agent(struct buf *b, const struct cfg_agent *a)
{
    buf_str(b, "[Agent]\n");
    if (a->host_id)
        number(b, "HostId", a->host_id);
    if (a->agent_id)
        number(b, "AgentId", a->agent_id);
    text(b, "InstallHome", "", a->install_home);
    buf_printf(b, "HostInnerIpAddress=%s\n", a->host_ip);
    text(b, "WorkersDirectory", "", a->workers_dir);
    text(b, "RuntimeDirectory", "", a->runtime_dir);
    text(b, "StateDirectory", "", a->state_dir);
    text(b, "LogDirectory", "", a->log_dir);
    buf_printf(b, "StopWorkersOnExit=%s\n", cfg_stop_names[a->stop_workers]);
    number(b, "StartConcurrency", a->start_concurrency);
    number(b, "StartRate", a->start_rate);
    number(b, "StartPressure", a->start_pressure);
    number(b, "SampleMaxAgeMs", (long long)a->sample_max_age_ms);
    span(b, "UpgradeTimeoutSec", a->upgrade_timeout_ms * 1000);
}

static void rpc(struct buf *b, const struct cfg_rpc *r)
{
    buf_printf(b, "[Rpc]\nAllowPlaintextCredentials=%s\n", yes(r->plaintext_credentials));
    for (unsigned i = 0; i < r->n_listeners; i++)
        text(b, "ListenStream", "", r->listeners[i].text);
    for (unsigned i = 0; i < r->n_tls; i++)
        text(b, "ListenTls", "", r->tls[i].text);
    optional(b, "TlsCertificate", r->tls_files[CFG_TLS_CERTIFICATE].path);
    optional(b, "TlsKey", r->tls_files[CFG_TLS_KEY].path);
    optional(b, "TlsClientCa", r->tls_files[CFG_TLS_CLIENT_CA].path);
    text(b, "Credentials", "", r->credentials);
    text(b, "User", "", r->user);
    text(b, "ManagerGroup", "", r->manager_group);
    text(b, "ViewerGroup", "", r->viewer_group);
    span(b, "ReplyDeadlineSec", r->reply_deadline_ms * 1000);
    number(b, "MaxConnections", r->max_connections);
    number(b, "MaxConnectionsPerSource", r->max_per_source);
    number(b, "RequestRate", r->request_rate);
    number(b, "MaxRequestsPerConnection", r->max_requests);
    number(b, "MaxHeaderBytes", r->max_header_bytes);
    number(b, "MaxHeaders", r->max_headers);
    number(b, "MaxLogStreams", r->max_log_streams);
    number(b, "MaxEventStreams", r->max_event_streams);
    number(b, "MaxOperationsQueued", r->max_operations);
    span(b, "IdleTimeoutSec", r->idle_ms * 1000);
    span(b, "HeartbeatSec", r->heartbeat_ms * 1000);
    number(b, "MaxRequestBytes", r->max_request_bytes);
    span(b, "RequestDeadlineSec", r->request_deadline_ms * 1000);
}

void cfg_dump(const struct cfg *cfg, struct buf *b)
{
    buf_printf(b, "# %s\n", cfg->file);
    agent(b, &cfg->agent);
    rpc(b, &cfg->rpc);
    for (unsigned i = 0; i < cfg->n_workers; i++)
        worker(b, cfg->workers[i]);
}
