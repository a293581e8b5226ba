/* SPDX-License-Identifier: Apache-2.0 */
/* One worker: its file, drop-ins, the values that need the whole file; and all of them, which must not share
 * an alias or an id. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "agentd/cfg_trust.h"
#include "base/fd.h"
#include "base/str.h"

/* --- values that need the whole file --- */

static void or_nothing(char **field)
{
    if (!*field)
        *field = cfg_nothing;
}

static void finish_outputs(struct cfg_ctx *c)
{
    struct wk_def *d = c->def;
    const char *dirs = c->cfg->agent.log_dir;
    size_t n = strlen(dirs);

    if (d->out.kind == CFG_OUT_APPEND && !d->out.path) {
        if (asprintf(&d->out.path, "%s/%s.log", str_eq(dirs, "/") ? "" : dirs, d->alias) < 0) {
            d->out.path = NULL;
            cfg_oom(c);
        }
    }
    if (!c->err_given) {
        d->err.kind = d->out.kind;
        d->err.path = d->out.path ? cfg_dup(c, d->out.path) : NULL;
    }
    for (int i = 0; i < 2; i++) {
        struct cfg_output_to *o = i ? &d->err : &d->out;
        if (o->path && strncmp(o->path, dirs, n) == 0 && (o->path[n] == '/' || str_eq(dirs, "/")))
            o->in_log_dir = !strchr(o->path + n + !str_eq(dirs, "/"), '/');
    }
    if (d->log_max_size && d->out.kind != CFG_OUT_APPEND && d->err.kind != CFG_OUT_APPEND)
        cfg_warn_in(c, c->file, 1, 1,
                    "LogMaxSize= has no effect: neither StandardOutput= nor StandardError= is append:PATH");
}

#define START_TIMEOUT_US 90000000

/* systemd.service(5): what a program that ends by itself has for defaults, and may not have. */
static void finish_type(struct cfg_ctx *c)
{
    struct wk_def *d = c->def;
    bool oneshot = d->type == CFG_ONESHOT;

    if (d->restart == CFG_RESTART_DEFAULT)
        d->restart = oneshot ? CFG_RESTART_NO : CFG_RESTART_ALWAYS;
    else if (oneshot && (d->restart == CFG_RESTART_ALWAYS || d->restart == CFG_RESTART_ON_SUCCESS))
        cfg_error_in(c, c->file, 1, 1, "Type=oneshot with Restart=%s would never end",
                     cfg_restart_names[d->restart]);
    if (!d->start_timeout_us) /* 0 as it is written was made infinity */
        d->start_timeout_us = oneshot ? STR_USEC_INFINITY : START_TIMEOUT_US;
    if (oneshot && d->ready)
        cfg_error_in(c, c->file, 1, 1, "Type=oneshot is ready when it has ended: ReadyCheck= can't be asked");
}

static void finish_restart(struct cfg_ctx *c)
{
    const struct wk_def *d = c->def;

    if (d->overlap && d->kill_mode == CFG_KILL_PROCESS)
        cfg_error_in(c, c->file, 1, 1,
                     "RestartMode=overlap with KillMode=process: a second instance could be left behind");
    if (d->overlap && (d->type == CFG_ONESHOT || d->type == CFG_FORKING))
        cfg_error_in(c, c->file, 1, 1, "RestartMode=overlap wants a Type= whose program stays: not %s",
                     cfg_type_names[d->type]);
    for (unsigned i = 0; d->ready && d->ready->kind == CFG_CHECK_TCP && i < d->n_sockets; i++)
        if (d->sockets[i].tcp && d->sockets[i].port == d->ready->port)
            cfg_warn_in(
                c, c->file, 1, 1,
                "ReadyCheck=tcp:%u is true at once, since agentd holds that socket for the worker; use "
                "Type=notify or http:",
                d->ready->port);
}

static void finish_limits(struct cfg_ctx *c)
{
    struct wk_def *d = c->def;

    if (!d->limits_set) {
        free(d->limits);
        d->limits = NULL;
    }
    if (d->restart_max_us < d->restart_us) /* a longer first delay is meant so */
        d->restart_max_us = d->restart_us;
    if (d->health_interval_us == 0 || d->health_interval_us == STR_USEC_INFINITY ||
        d->health_timeout_us == 0 || d->health_timeout_us == STR_USEC_INFINITY)
        cfg_error_in(c, c->file, 1, 1, "HealthInterval= and HealthTimeout= want a time span such as 10s");
    if (d->ready && d->ready->stable_us >= d->start_timeout_us)
        cfg_error_in(c, c->file, 1, 1,
                     "ReadyCheck=stable: wants at least as long as TimeoutStartSec= allows");
}

static void finish(struct cfg_ctx *c)
{
    struct wk_def *d = c->def;

    if (!d->description)
        d->description = cfg_dup(c, d->alias);
    or_nothing(&d->log_pattern);
    or_nothing(&d->workdir);
    or_nothing(&d->pid_file);
    or_nothing(&d->user_name);
    or_nothing(&d->group_name);
    if (c->groups.n && !(d->supplementary = cfg_list_pack(c->groups.v, c->groups.n)))
        cfg_oom(c);
    cfg_list_clear(&c->groups);
    finish_type(c);
    finish_restart(c);
    finish_outputs(c);
    finish_limits(c);
    cfg_env_finish(c);
    cfg_exec_finish(c);
    if (d->ready && d->ready->kind == CFG_CHECK_EXEC)
        cfg_exec_check(c, c->ready_at, &d->ready->command);
    if (d->health && d->health->kind == CFG_CHECK_EXEC)
        cfg_exec_check(c, c->health_at, &d->health->command);
}

/* --- one worker --- */

/* The last assignment of [Worker] key, if it is not empty. */
static const struct cfg_line *find_line(const struct cfg_lines *lines, const char *key)
{
    for (size_t i = lines->n; i-- > 0;) {
        const struct cfg_line *l = &lines->v[i];
        if (l->key && str_eq(l->section, "Worker") && str_eq(l->key, key))
            return *l->value ? l : NULL;
    }
    return NULL;
}

static void set_place(struct cfg_at *at, const struct cfg_line *l, const char *file)
{
    *at = (struct cfg_at){.line = 1, .col = 1};
    if (l)
        cfg_line_at(l, 0, &at->line, &at->col);
    at->file = strdup(l ? l->file : file);
}

/* The alias in force: Alias=, or the file's name. What is wrong with Alias= is reported with its line. */
static void take_alias(struct cfg_ctx *c, const char *stem, const struct cfg_lines *lines,
                       struct cfg_entry *e)
{
    const struct cfg_line *l = find_line(lines, "Alias");
    struct cfg_ctx quiet = *c;
    struct cfg_report none = {.errors = BUF_INIT(1), .warnings = BUF_INIT(1)};

    set_place(&e->alias_at, l, c->file);
    set_place(&e->id_at, find_line(lines, "Id"), c->file);
    quiet.report = &none;
    if (l)
        e->alias = cfg_spec(&quiet, l, 0, l->value);
    if (!e->alias || !cfg_alias_ok(e->alias)) {
        free(e->alias);
        e->alias = cfg_dup(c, stem);
        if (!l && e->alias && !cfg_alias_ok(stem))
            cfg_error_in(c, c->file, 1, 1,
                         "the file's name is no alias (letters, digits and _.@:-, at most %u); "
                         "rename it or set Alias= in [Worker]",
                         LIMIT_ALIAS);
    }
}

static void read_into(struct cfg_ctx *c, int dir, const char *dir_path, const char *name, struct cfg_entry *e)
{
    struct cfg_lines lines = {0};
    char stem[NAME_MAX + 1];

    str_copy(stem, sizeof(stem), name);
    stem[strlen(stem) - strlen(".conf")] = 0;
    c->names = (struct cfg_names){stem, stem};
    if (cfg_file_read(c, dir, name, c->file, &lines, &e->masked) && !e->masked)
        cfg_dropins_read(c, dir, dir_path, stem, &lines);
    take_alias(c, stem, &lines, e);
    bool garbage = c->n_errors > 0 && lines.n == 0; /* said already */
    if (!e->masked && !garbage && e->alias && (c->def->alias = cfg_dup(c, e->alias))) {
        c->names.alias = e->alias;
        cfg_keys_apply(c, &lines);
        finish(c);
        c->def->source = cfg_stored_text(&lines);
    }
    cfg_lines_free(&lines);
}

void cfg_worker_read(struct cfg *cfg, struct cfg_report *report, int dir, const char *dir_path,
                     const char *name, struct cfg_entry *e)
{
    struct cfg_ctx c = {.report = report, .cfg = cfg, .def = calloc(1, sizeof(*c.def))};

    size_t from = report->errors.len;

    *e = (struct cfg_entry){.broken = true};
    if (asprintf(&e->file, "%s/%s", dir_path, name) < 0)
        e->file = NULL;
    c.file = e->file;
    if (!c.def || !e->file) {
        struct cfg_ctx agent = {.report = report, .cfg = cfg, .file = dir_path};
        cfg_oom(&agent);
        free(c.def);
        return;
    }
    cfg_keys_defaults(NULL, c.def);
    e->def = c.def;
    read_into(&c, dir, dir_path, name, e);
    c.def->file = cfg_dup(&c, e->file);
    e->broken = c.n_errors > 0;
    e->why = cfg_report_why(report, from, c.n_errors);
    if (!e->broken)
        cfg_hash(c.def);
    free(c.env_files);
    free(c.execs);
    cfg_list_clear(&c.env);
    cfg_list_clear(&c.groups);
}

/* --- all workers --- */

static bool grow(char ***list, unsigned n)
{
    char **bigger = realloc(*list, (n + 1) * sizeof(*bigger));

    if (bigger)
        *list = bigger;
    return bigger != NULL;
}

void cfg_add_broken(struct cfg *cfg, const char *alias, const char *why)
{

    for (unsigned i = 0; i < cfg->n_broken; i++)
        if (str_eq(cfg->broken[i], alias))
            return;
    if (!grow(&cfg->broken, cfg->n_broken) || !grow(&cfg->broken_why, cfg->n_broken))
        return;
    cfg->broken_why[cfg->n_broken] = why ? strdup(why) : NULL;
    if ((cfg->broken[cfg->n_broken] = strdup(alias)))
        cfg->n_broken++;
    else
        free(cfg->broken_why[cfg->n_broken]);
}

static int by_alias(const void *pa, const void *pb)
{
    const struct cfg_entry *a = pa, *b = pb;
    int r = strcmp(a->alias ? a->alias : "", b->alias ? b->alias : "");

    return r ? r : strcmp(a->file ? a->file : "", b->file ? b->file : "");
}

static int by_id(const void *pa, const void *pb)
{
    const struct cfg_entry *a = *(struct cfg_entry *const *)pa, *b = *(struct cfg_entry *const *)pb;
    int64_t x = a->def ? a->def->id : 0, y = b->def ? b->def->id : 0;

    return x != y ? (x < y ? -1 : 1) : strcmp(a->file ? a->file : "", b->file ? b->file : "");
}

/* Both are left out: which of them is meant is not for agentd to guess. */
static void clash(struct cfg *cfg, struct cfg_report *report, struct cfg_entry *a, struct cfg_entry *b,
                  const struct cfg_at *at, const char *what, const char *which)
{
    struct cfg_ctx c = {.report = report, .cfg = cfg, .def = b->def, .file = b->file};

    size_t from = report->errors.len;

    cfg_error_in(&c, at->file ? at->file : b->file, at->line, at->col, "%s %s is taken already, by %s", what,
                 which, a->file);
    a->broken = b->broken = true;
    if (!a->why)
        a->why = cfg_report_why(report, from, 1);
    if (!b->why)
        b->why = cfg_report_why(report, from, 1);
}

static void find_clashes(struct cfg *cfg, struct cfg_report *report, struct cfg_entry *v, size_t n)
{
    struct cfg_entry **ids = calloc(n ? n : 1, sizeof(struct cfg_entry *));
    char text[32];

    for (size_t i = 1; i < n; i++)
        if (v[i].alias && v[i - 1].alias && str_eq(v[i].alias, v[i - 1].alias))
            clash(cfg, report, &v[i - 1], &v[i], &v[i].alias_at, "the alias", v[i].alias);
    for (size_t i = 0; ids && i < n; i++)
        ids[i] = &v[i];
    if (ids)
        qsort(ids, n, sizeof(struct cfg_entry *), by_id);
    for (size_t i = 1; ids && i < n; i++)
        if (ids[i]->def && ids[i - 1]->def && ids[i]->def->id && ids[i]->def->id == ids[i - 1]->def->id) {
            snprintf(text, sizeof(text), "%lld", (long long)ids[i]->def->id);
            clash(cfg, report, ids[i - 1], ids[i], &ids[i]->id_at, "the id", text);
        }
    free(ids);
}

void cfg_entry_forget(struct cfg_entry *e)
{
    cfg_def_free(e->def);
    free(e->file);
    free(e->alias);
    free(e->why);
    free(e->alias_at.file);
    free(e->id_at.file);
}

static void keep(struct cfg *cfg, struct cfg_entry *v, size_t n)
{
    cfg->workers = calloc(n ? n : 1, sizeof(struct wk_def *));
    for (size_t i = 0; i < n; i++) {
        if (!v[i].broken && cfg->workers)
            cfg->workers[cfg->n_workers++] = TAKE_PTR(v[i].def);
        else if (v[i].alias)
            cfg_add_broken(cfg, v[i].alias, v[i].why);
        cfg_entry_forget(&v[i]);
    }
}

static bool is_template(const char *name)
{
    size_t n = strlen(name);

    return n >= 6 && str_eq(name + n - 6, "@.conf");
}

static size_t read_all(struct cfg *cfg, struct cfg_report *report, int dir, const struct cfg_list *names,
                       struct cfg_entry *v)
{
    size_t n = 0;

    for (size_t i = 0; i < names->n; i++) {
        if (is_template(names->v[i]))
            continue;
        cfg_worker_read(cfg, report, dir, cfg->agent.workers_dir, names->v[i], &v[n]);
        if (v[n].masked)
            cfg_entry_forget(&v[n]);
        else
            n++;
    }
    return n;
}

void cfg_workers_read(struct cfg *cfg, struct cfg_report *report)
{
    struct cfg_ctx c = {.report = report, .cfg = cfg, .file = cfg->agent.workers_dir};
    struct cfg_list names = {0};
    struct cfg_entry *v;
    struct err e = {0};
    _cleanup_close_ int dir = cfg_trust_open(AT_FDCWD, cfg->agent.workers_dir, CFG_TRUST_DIR, &e);
    size_t n;

    if (dir < 0) { /* it was there when agentd.conf was read: without it there would be no worker at all */
        if (!report->n_agent_errors)
            cfg_error_in(&c, c.file, 1, 1, "%s", e.text);
        return;
    }
    cfg_files_list(&c, dir, &names);
    if (names.n > LIMIT_WORKERS) {
        cfg_error_in(&c, c.file, 1, 1, "%zu files, more than %u", names.n, LIMIT_WORKERS);
    } else if (!(v = calloc(names.n + 1, sizeof(*v)))) {
        cfg_oom(&c);
    } else {
        n = read_all(cfg, report, dir, &names, v);
        qsort(v, n, sizeof(*v), by_alias);
        find_clashes(cfg, report, v, n);
        cfg_needs_check(cfg, report, v, n);
        keep(cfg, v, n);
        free(v);
    }
    cfg_list_clear(&names);
}
