/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/signals.h"
#include "base/str.h"

const char *const cfg_stop_names[] = {"auto", "yes", "no", NULL};
const char *const cfg_type_names[] = {"simple", "exec", "notify", "forking", "oneshot", NULL};
const char *const cfg_restart_names[] = {"no",          "always",   "on-success",  "on-failure",
                                         "on-abnormal", "on-abort", "on-watchdog", NULL};
const char *const cfg_notify_names[] = {"none", "main", "exec", "all", NULL};
const char *const cfg_health_names[] = {"restart", "report", NULL};
const char *const cfg_kill_names[] = {"control-group", "mixed", "process", NULL};

bool cfg_alias_ok(const char *s)
{
    size_t n = strlen(s);

    return n > 0 && n <= LIMIT_ALIAS && *s != '.' && *s != '-' &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@:-") == n;
}

void cfg_path_simplify(char *path)
{
    char *to = path;

    for (const char *p = path; *p;) {
        size_t skip = strspn(p, "/"), n = strcspn(p + skip, "/");
        bool dot = n == 0 || (n == 1 && p[skip] == '.');
        if (!dot || (skip == 0 && n)) {
            if (skip)
                *to++ = '/';
            memmove(to, p + skip, n);
            to += n;
        }
        p += skip + n;
    }
    if (to == path && *path == '/')
        to++;
    *to = 0;
}

const char *cfg_path_wrong(const char *path)
{
    size_t n = strlen(path);

    if (*path != '/')
        return "is not an absolute path";
    if (n >= PATH_MAX)
        return "is too long for a path";
    for (const char *p = path; (p = strstr(p, "/..")); p++)
        if (p[3] == '/' || p[3] == 0)
            return "has \"..\" in it";
    return NULL;
}

/* Replaces a malloc'ed string. */
static void set_string(struct cfg_ctx *c, char **target, const char *value)
{
    char *copy = cfg_dup(c, value);

    free(*target);
    *target = copy;
}

CFG_PARSER(cfg_value_bool)
{
    if (str_to_bool(value, target) < 0)
        cfg_error(c, l, 0, "%s= is yes or no, not \"%s\"", k->name, value);
}

static bool number(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, const char *value,
                   uint64_t *ret)
{
    int r = str_to_u64(value, k->max, ret);

    if (r == 0 && *ret >= k->min)
        return true;
    cfg_error(c, l, 0, "%s= is a number from %llu to %llu, not \"%s\"", k->name, (unsigned long long)k->min,
              (unsigned long long)k->max, value);
    return false;
}

CFG_PARSER(cfg_value_unsigned)
{
    uint64_t v;

    if (number(c, k, l, value, &v))
        *(unsigned *)target = (unsigned)v;
}

CFG_PARSER(cfg_value_fdstore)
{
    uint64_t v;

    if (str_to_u64(value, 1000000, &v) < 0) {
        cfg_error(c, l, 0, "%s= is a number, not \"%s\"", k->name, value);
        return;
    }
    if (v > k->max)
        cfg_warn(c, l, 0, "%s=%s is taken as %llu", k->name, value, (unsigned long long)k->max);
    *(unsigned *)target = v > k->max ? (unsigned)k->max : (unsigned)v;
}

CFG_PARSER(cfg_value_u64)
{
    number(c, k, l, value, target);
}

/* Nice= and OOMScoreAdjust=: whether they are given is kept beside. */
CFG_PARSER(cfg_value_nice)
{
    bool *given = target == &c->def->nice ? &c->def->has_nice : &c->def->has_oom;
    uint64_t v;
    bool minus = *value == '-';
    int64_t n;

    *given = false;
    *(int *)target = 0;
    if (!*value)
        return;
    n = str_to_u64(value + (minus || *value == '+'), 100000, &v) < 0 ? INT64_MAX
        : minus                                                      ? -(int64_t)v
                                                                     : (int64_t)v;
    if (n < (int64_t)k->min || n > (int64_t)k->max) {
        cfg_error(c, l, 0, "%s= is a number from %lld to %lld, not \"%s\"", k->name, (long long)k->min,
                  (long long)k->max, value);
        return;
    }
    *(int *)target = (int)n;
    *given = true;
}

CFG_PARSER(cfg_value_id)
{
    uint64_t v;

    if (str_to_u64(value, CFG_ID_MAX, &v) < 0 || v == 0)
        cfg_error(c, l, 0, "%s= is a positive number up to 2^53, not \"%s\"", k->name, value);
    else
        *(int64_t *)target = (int64_t)v;
}

CFG_PARSER(cfg_value_bytes)
{
    uint64_t v;

    if (str_to_size(value, &v) < 0 || v < k->min || v > k->max)
        cfg_error(c, l, 0, "%s= is a size from %llu to %llu bytes, not \"%s\"", k->name,
                  (unsigned long long)k->min, (unsigned long long)k->max, value);
    else
        *(unsigned *)target = (unsigned)v;
}

CFG_PARSER(cfg_value_span)
{
    if (str_to_usec(value, 1000000, target) < 0)
        cfg_error(c, l, 0, "%s= is a time span such as 5s or 1min 30s, not \"%s\"", k->name, value);
}

CFG_PARSER(cfg_value_timeout)
{
    cfg_value_span(c, k, l, value, target);
    if (*(uint64_t *)target == 0)
        *(uint64_t *)target = STR_USEC_INFINITY;
}

CFG_PARSER(cfg_value_timeout_both)
{
    c->def->start_timeout_us = 90000000;
    if (*value)
        cfg_value_timeout(c, k, l, value, &c->def->start_timeout_us);
    c->def->stop_timeout_us = c->def->start_timeout_us;
}

CFG_PARSER(cfg_value_deadline_ms)
{
    uint64_t us;

    if (str_to_usec(value, 1000000, &us) < 0 || us < 1000 || us / 1000 > k->max)
        cfg_error(c, l, 0, "%s= is a time span from 1ms to 1d, not \"%s\"", k->name, value);
    else
        *(uint64_t *)target = us / 1000;
}

CFG_PARSER(cfg_value_mode)
{
    char *end;
    unsigned long v = strtoul(value, &end, 8);

    if (!isdigit((unsigned char)*value) || *end || v > k->max)
        cfg_error(c, l, 0, "%s= is an octal mode such as 0027, not \"%s\"", k->name, value);
    else
        *(mode_t *)target = (mode_t)v;
}

CFG_PARSER(cfg_value_text)
{
    set_string(c, target, value);
}

CFG_PARSER(cfg_value_dir)
{
    const char *why = cfg_path_wrong(value);

    if (target == &c->cfg->agent.workers_dir)
        c->workers_dir_at = l;
    if (why) {
        cfg_error(c, l, 0, "%s=%s %s", k->name, value, why);
        return;
    }
    set_string(c, target, value);
    if (*(char **)target)
        cfg_path_simplify(*(char **)target);
}

CFG_PARSER(cfg_value_credentials)
{
    c->credentials_at = l;
    cfg_value_dir(c, k, l, value, target);
}

CFG_PARSER(cfg_value_workdir)
{
    bool optional = *value == '-';
    const char *path = value + optional, *why = NULL;

    free(c->def->workdir);
    c->def->workdir = NULL;
    c->def->workdir_optional = false;
    if (!*value)
        return;
    if (!str_eq(path, "~"))
        why = cfg_path_wrong(path);
    if (why) {
        cfg_error(c, l, 0, "%s=%s %s; ~ is the home of User=", k->name, path, why);
        return;
    }
    set_string(c, target, path);
    if (c->def->workdir)
        cfg_path_simplify(c->def->workdir);
    if (c->def->workdir && str_eq(c->def->workdir, "/")) /* the default, one spelling */
        *c->def->workdir = 0;
    c->def->workdir_optional = optional;
}

/* A name as useradd(8) makes them and name services have them, or a number: no blank, colon, slash or
 * control. */
static bool user_ok(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > 255 || *s == '-' || str_eq(s, ".") || str_eq(s, ".."))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == ':' || *s == '/' || *s == ',' || *s == 0x7f)
            return false;
    return true;
}

static void set_at(struct cfg_ctx *c, struct cfg_at *at, const struct cfg_line *l)
{
    free(at->file);
    at->file = str_eq(l->file, c->file) ? NULL : cfg_dup(c, l->file);
    cfg_line_at(l, 0, &at->line, &at->col);
}

CFG_PARSER(cfg_value_user)
{
    if (!user_ok(value)) {
        cfg_error(c, l, 0, "%s= is a name or a number, not \"%s\"", k->name, value);
        return;
    }
    set_string(c, target, value);
    if (!c->def)
        return;
    bool user = target == &c->def->user_name;
    int64_t own = user ? geteuid() : getegid();
    int64_t id = user ? cfg_local_uid(value) : cfg_local_gid(value);
    set_at(c, user ? &c->def->user_at : &c->def->group_at, l);
    /* A name that only name service knows is judged in cfg_resolve. */
    if (geteuid() != 0 && id >= 0 && id != own)
        cfg_error(c, l, 0, "%s=%s needs root; agentd runs as uid %u", k->name, value, (unsigned)geteuid());
}

CFG_PARSER(cfg_value_groups)
{
    struct cfg_words w = {.s = value};
    char *word, *name;
    int r;

    if (!*value)
        cfg_list_clear(&c->groups);
    while ((r = cfg_word(&w, &word)) > 0) {
        name = cfg_spec(c, l, w.start, word);
        free(word);
        if (name && !user_ok(name))
            cfg_error(c, l, w.start, "%s= is a list of group names, not \"%s\"", k->name, name);
        else if (name && c->groups.n == LIMIT_GROUPS)
            cfg_error(c, l, w.start, "more than %u groups", LIMIT_GROUPS);
        else if (name) {
            if (cfg_list_add(&c->groups, TAKE_PTR(name)) < 0)
                cfg_oom(c);
        }
        free(name);
    }
    if (r == -ENOMEM)
        cfg_oom(c);
    set_at(c, &c->def->groups_at, l);
    if (*value && geteuid() != 0)
        cfg_error(c, l, 0, "%s= needs root; agentd runs as uid %u", k->name, (unsigned)geteuid());
}

int cfg_choose(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, const char *value,
               const char *const *names)
{
    char all[256] = "", hint[CFG_HINT_MAX];
    const char *best = NULL;
    unsigned distance = 0;
    size_t n = 0;

    for (int i = 0; names[i]; i++) {
        if (str_eq(names[i], value))
            return i;
        cfg_nearer(value, names[i], &best, &distance);
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", names[i]);
    }
    cfg_hint(value, best, distance, hint);
    cfg_error(c, l, 0, "%s=%s is none of %s%s", k->name, value, all, hint);
    return -1;
}

CFG_PARSER(cfg_value_stop)
{
    bool yes;
    int i;

    if (str_to_bool(value, &yes) == 0)
        i = yes ? CFG_STOP_YES : CFG_STOP_NO;
    else if ((i = cfg_choose(c, k, l, value, cfg_stop_names)) < 0)
        return;
    *(enum cfg_stop *)target = (enum cfg_stop)i;
}

CFG_PARSER(cfg_value_type)
{
    int i;

    if (str_eq(value, "dbus")) {
        cfg_error(c, l, 0, "Type=dbus is not supported by this version, use Type=simple with a ReadyCheck=");
        return;
    }
    if (str_eq(value, "idle") || str_eq(value, "notify-reload")) {
        const char *as = str_eq(value, "idle") ? "simple" : "notify";
        cfg_warn(c, l, 0, "Type=%s is taken as Type=%s", value, as);
        value = as;
    }
    if ((i = cfg_choose(c, k, l, value, cfg_type_names)) >= 0)
        *(enum cfg_type *)target = (enum cfg_type)i;
}

/* Relative: below /run. systemd.service(5). */
CFG_PARSER(cfg_value_pid_file)
{
    _cleanup_free_ char *path = NULL;
    const char *wrong;

    if (asprintf(&path, "%s%s", *value == '/' ? "" : "/run/", value) < 0) {
        path = NULL;
        cfg_oom(c);
    } else if ((wrong = cfg_path_wrong(path))) {
        cfg_error(c, l, 0, "PIDFile=: \"%s\" %s", value, wrong);
    } else {
        cfg_path_simplify(path);
        free(*(char **)target);
        *(char **)target = TAKE_PTR(path);
    }
}

CFG_PARSER(cfg_value_restart)
{
    int i = cfg_choose(c, k, l, value, cfg_restart_names);

    if (i >= 0)
        *(enum cfg_restart *)target = (enum cfg_restart)i;
}

CFG_PARSER(cfg_value_notify_access)
{
    int i = cfg_choose(c, k, l, value, cfg_notify_names);

    if (i >= 0)
        *(enum cfg_notify *)target = (enum cfg_notify)i;
}

CFG_PARSER(cfg_value_health_action)
{
    int i = cfg_choose(c, k, l, value, cfg_health_names);

    if (i >= 0)
        *(enum cfg_health_action *)target = (enum cfg_health_action)i;
}

CFG_PARSER(cfg_value_kill_mode)
{
    int i;

    if (str_eq(value, "none"))
        cfg_error(c, l, 0, "KillMode=none is refused, since it stops nothing; use process");
    else if ((i = cfg_choose(c, k, l, value, cfg_kill_names)) >= 0)
        *(enum cfg_kill *)target = (enum cfg_kill)i;
}

CFG_PARSER(cfg_value_restart_mode)
{
    static const char *const names[] = {"stop-start", "overlap", NULL};
    int i = cfg_choose(c, k, l, value, names);

    if (i >= 0)
        *(bool *)target = i == 1;
}

CFG_PARSER(cfg_value_signal)
{
    int sig = signals_from_name(value);

    if (sig == 0)
        cfg_error(c, l, 0, "%s= is a signal such as SIGTERM, not \"%s\"", k->name, value);
    else
        *(int *)target = sig;
}

static void output_append(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l,
                          const char *path, struct cfg_output_to *o)
{
    const char *why = cfg_path_wrong(path);

    if (why || path[strlen(path) - 1] == '/') {
        cfg_error(c, l, 0, "%s=append:%s %s", k->name, path, why ? why : "names a folder");
        return;
    }
    if ((o->path = cfg_dup(c, path)))
        cfg_path_simplify(o->path);
}

CFG_PARSER(cfg_value_output)
{
    struct cfg_output_to *o = target;
    bool err = o == &c->def->err;

    free(o->path);
    *o = (struct cfg_output_to){.kind = CFG_OUT_APPEND};
    if (err)
        c->err_given = *value && !str_eq(value, "inherit");
    if (!*value || (err && str_eq(value, "inherit")))
        return;
    if (str_starts(value, "append:"))
        output_append(c, k, l, value + strlen("append:"), o);
    else if (str_eq(value, "journal"))
        o->kind = CFG_OUT_JOURNAL;
    else if (str_eq(value, "null"))
        o->kind = CFG_OUT_NULL;
    else
        cfg_error(c, l, 0, "%s= is append:PATH, journal%s or null, not \"%s\"", k->name,
                  err ? ", inherit" : "", value);
}

CFG_PARSER(cfg_value_log_pattern)
{
    const char *why = cfg_path_wrong(value), *slash = strrchr(value, '/');

    if (!why && strcspn(value, "*?[") < (size_t)(slash - value))
        why = "has a wildcard before its last component";
    if (!why && !slash[1])
        why = "names a folder";
    if (why) {
        cfg_error(c, l, 0, "%s=%s %s", k->name, value, why);
        return;
    }
    set_string(c, target, value);
}

CFG_PARSER(cfg_value_log_size)
{
    uint64_t v;

    if (str_to_size(value, &v) < 0 || (v && (v < k->min || v > k->max)))
        cfg_error(c, l, 0, "%s= is 0, or a size from 64K on such as 10M, not \"%s\"", k->name, value);
    else
        *(uint64_t *)target = v;
}

/* Its value is taken before all other lines, since %N needs it; here it is only judged, so that a broken one
 * is reported where it is written. */
CFG_PARSER(cfg_value_alias)
{
    _cleanup_free_ char *alias = *value ? cfg_spec(c, l, 0, value) : NULL;

    if (alias && !cfg_alias_ok(alias))
        cfg_error(
            c, l, 0,
            "an alias has letters, digits and _.@:- only, at most %u bytes, and starts with no dot or dash; "
            "not \"%s\"",
            LIMIT_ALIAS, alias);
}
