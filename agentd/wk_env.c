/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of a worker is given: environment, user, limits, outputs: the main process and its hooks
 * alike. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/notify.h"
#include "agentd/wk_fds.h"
#include "agentd/wk_hook.h"
#include "agentd/wk_secret.h"
#include "base/buf.h"
#include "base/str.h"

#define LISTEN_PID "LISTEN_PID"

static bool defines(char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return true;
    return false;
}

static void put_var(struct buf *b, const struct wk *w, const char *name, const char *value)
{
    if (value && value[0] && !defines(w->def->env, name)) {
        buf_printf(b, "%s=%s", name, value);
        buf_char(b, 0);
    }
}

#define NOBODY 65534 /* whose home is nobody's, whatever passwd(5) says; as systemd has it */

/* Who can't log in has none. */
static bool is_login_shell(const char *shell)
{
    static const char *const none[] = {"/bin/false", "/usr/bin/false", "/bin/true", "/usr/bin/true",
                                       "/dev/null"};
    const char *slash = strrchr(shell, '/');

    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        if (str_eq(shell, none[i]))
            return false;
    return slash && !str_eq(slash, "/nologin");
}

static void put_login(struct buf *b, const struct wk *w)
{
    const struct cfg_ids *ids = &w->def->ids;

    if (!ids->set)
        return;
    put_var(b, w, "USER", ids->user);
    put_var(b, w, "LOGNAME", ids->user);
    if (ids->home && !str_eq(ids->home, "/") && ids->uid != NOBODY)
        put_var(b, w, "HOME", ids->home);
    if (ids->shell && is_login_shell(ids->shell))
        put_var(b, w, "SHELL", ids->shell);
}

static void put_dirs(struct buf *b, const struct wk *w)
{
    const struct wk_def *d = w->def;

    for (unsigned kind = 0; kind < CFG_DIR_MAX; kind++) {
        const char *name = cfg_dir_variable(kind);
        unsigned n = 0;
        for (unsigned i = 0; i < d->n_dirs && !defines(d->env, name); i++)
            if (d->dirs[i].kind == kind) {
                buf_printf(b, "%s%s%s", n ? "" : name, n ? ":" : "=", d->dirs[i].path);
                n++;
            }
        if (n)
            buf_char(b, 0);
    }
}

static void put_names(struct buf *b, const struct wk *w)
{
    const struct wk_def *d = w->def;
    int fds[LIMIT_FDSTORE];
    unsigned n = wk_fds_get(w, fds);

    buf_str(b, "LISTEN_FDNAMES=");
    for (unsigned i = 0; i < d->n_sockets; i++)
        buf_printf(b, "%s%s", i ? ":" : "", d->alias);
    for (unsigned i = 0; i < n; i++)
        buf_printf(b, "%s%s", i || d->n_sockets ? ":" : "", wk_fds_name(w, i));
    buf_char(b, 0);
}

/* What systemd sets for a service, what agentd adds, what the file says. systemd.exec(5), "Environment
 * variables set". */
static void put_environment(struct buf *b, const struct wk *w, uint32_t generation, char *const *hook)
{
    const struct wk_def *d = w->def;
    char text[LIMIT_ALIAS + 64], prefix[LIMIT_ALIAS + 32], path[700];
    int fds[LIMIT_FDSTORE];

    for (char *const *e = hook; e && *e; e++)
        buf_put(b, *e, strlen(*e) + 1);
    for (char **e = d->env; e && *e; e++)
        buf_put(b, *e, strlen(*e) + 1);
    put_var(b, w, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    put_var(b, w, "LANG", getenv("LANG"));
    put_login(b, w);
    put_dirs(b, w);
    put_var(b, w, "AGENTD_ALIAS", d->alias);
    snprintf(text, sizeof(text), "%lld", (long long)w->id);
    put_var(b, w, "AGENTD_ID", text);
    snprintf(text, sizeof(text), "%u", generation);
    put_var(b, w, "AGENTD_GENERATION", text);
    wk_cookie_prefix(w, prefix, sizeof(prefix));
    snprintf(text, sizeof(text), "%s%u", prefix, generation);
    put_var(b, w, "AGENTD_COOKIE", text);
    if (d->n_secrets) {
        wk_secret_path(w, generation, path, sizeof(path));
        put_var(b, w, "CREDENTIALS_DIRECTORY", path);
    }
    if (hook ? d->notify_access >= CFG_NOTIFY_EXEC : notify_is_wanted(d)) {
        notify_path(w, path, sizeof(path));
        put_var(b, w, "NOTIFY_SOCKET", path);
    }
    if (!hook && d->n_sockets + wk_fds_get(w, fds)) {
        /* sd_listen_fds(3); the pid is written by the child itself */
        snprintf(text, sizeof(text), "%u", d->n_sockets + wk_fds_get(w, fds));
        put_var(b, w, "LISTEN_FDS", text);
        put_var(b, w, LISTEN_PID, "          ");
        put_names(b, w);
    }
    if (!hook && d->watchdog_us && d->watchdog_us != STR_USEC_INFINITY) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)d->watchdog_us);
        put_var(b, w, "WATCHDOG_USEC", text);
    }
}

int wk_env_make(const struct wk *w, uint32_t generation, char *const *hook, struct wk_env *ret)
{
    struct buf b = BUF_INIT(1 << 20);
    size_t n = 0, i = 0;

    put_environment(&b, w, generation, hook);
    if (b.error) {
        buf_free(&b);
        return b.error;
    }
    for (size_t at = 0; at < b.len; at += strlen(b.p + at) + 1)
        n++;
    ret->block = b.p;
    if (!(ret->v = calloc(n + 1, sizeof(char *))))
        return -ENOMEM;
    for (size_t at = 0; at < b.len; at += strlen(b.p + at) + 1)
        ret->v[i++] = b.p + at;
    for (i = 0; !hook && i < n && !ret->pid_text; i++)
        if (str_starts(ret->v[i], LISTEN_PID "="))
            ret->pid_text = ret->v[i] + strlen(LISTEN_PID "=");
    return 0;
}

void wk_env_done(struct wk_env *e)
{
    free(e->v);
    free(e->block);
    *e = (struct wk_env){0};
}

static struct spawn_output output_of(const struct cfg_output_to *o)
{
    static const enum spawn_output_kind kinds[] = {[CFG_OUT_APPEND] = SPAWN_OUT_APPEND,
                                                   [CFG_OUT_JOURNAL] = SPAWN_OUT_JOURNAL,
                                                   [CFG_OUT_NULL] = SPAWN_OUT_NULL};

    return (struct spawn_output){kinds[o->kind], o->path, o->in_log_dir};
}

static bool same_output(const struct wk_def *d)
{
    return d->out.kind == d->err.kind && (d->out.kind != CFG_OUT_APPEND || str_eq(d->out.path, d->err.path));
}

void wk_env_spec(const struct wk *w, const struct cfg_command *c, char *const *envp, struct spawn_spec *ret)
{
    const struct wk_def *d = w->def;

    *ret = (struct spawn_spec){
        .path = c->path,
        .argv = c->argv,
        .envp = envp,
        .directory = d->workdir,
        .directory_optional = d->workdir_optional,
        .change_ids = d->ids.set && geteuid() == 0 && !c->privileged && !c->keeps_user,
        .uid = d->ids.uid,
        .gid = d->ids.gid,
        .groups = d->ids.groups,
        .n_groups = d->ids.n_groups,
        .umask = d->umask,
        .limits = d->limits,
        .limits_set = d->limits_set,
        .has_nice = d->has_nice,
        .has_oom = d->has_oom,
        .nice = d->nice,
        .oom_score_adj = d->oom_score_adj,
        .out = output_of(&d->out),
        .err = output_of(&d->err),
        .identifier = d->alias,
        .no_new_privileges = d->no_new_privileges && !c->privileged,
        .ignore_sigpipe = d->ignore_sigpipe,
        .has_bounding = d->has_bounding && !c->privileged,
        .bounding = d->bounding,
        .ambient = d->has_ambient && !c->privileged ? d->ambient : 0,
        .cgroup_fd = w->leaf.fd,
    };
    if (same_output(d))
        ret->err.kind = SPAWN_OUT_SAME;
}
