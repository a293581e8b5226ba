/* SPDX-License-Identifier: Apache-2.0 */
/* RuntimeDirectory= and its like, ConditionPathExists= and AssertPathExists=: systemd.exec(5),
 * systemd.unit(5). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

/* In the order of enum cfg_dir_kind. */
static const struct {
    const char *specifier, *variable;
} kinds[CFG_DIR_MAX] = {{"%t", "RUNTIME_DIRECTORY"},
                        {"%S", "STATE_DIRECTORY"},
                        {"%C", "CACHE_DIRECTORY"},
                        {"%L", "LOGS_DIRECTORY"}};

const char *cfg_dir_variable(enum cfg_dir_kind k)
{
    return kinds[k].variable;
}

void cfg_dirs_free(struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_dirs; i++)
        free(d->dirs[i].path);
    free(TAKE_PTR(d->dirs));
    d->n_dirs = 0;
    for (unsigned i = 0; i < d->n_conditions; i++)
        free(d->conditions[i].path);
    free(TAKE_PTR(d->conditions));
    d->n_conditions = 0;
}

/* --- folders --- */

static void forget_dirs(struct wk_def *d, enum cfg_dir_kind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_dirs; i++)
        if (d->dirs[i].kind == kind)
            free(d->dirs[i].path);
        else
            d->dirs[n++] = d->dirs[i];
    d->n_dirs = n;
}

/* Below its base, and not the base itself. */
static const char *name_wrong(const char *name)
{
    if (*name == '/')
        return "is absolute; it is a name below the folder that is made for all";
    if (strchr(name, ':'))
        return "has a colon: a second name is not supported by this version";
    if (str_eq(name, "..") || str_starts(name, "../") || strstr(name, "/..") || str_starts(name, "."))
        return "is no plain name";
    return NULL;
}

static void add_dir(struct cfg_ctx *c, const struct cfg_line *l, enum cfg_dir_kind kind, const char *name)
{
    struct wk_def *d = c->def;
    _cleanup_free_ char *base = cfg_spec(c, l, CFG_AT_KEY, kinds[kind].specifier);
    struct cfg_dir *more = realloc(d->dirs, (d->n_dirs + 1) * sizeof(*more)), x = {.kind = kind};

    if (more)
        d->dirs = more;
    if (!base)
        return;
    if (!more || asprintf(&x.path, "%s/%s", base, name) < 0) {
        cfg_oom(c);
        return;
    }
    x.base = (unsigned)strlen(base);
    cfg_path_simplify(x.path);
    d->dirs[d->n_dirs++] = x;
}

CFG_PARSER(cfg_value_dirs)
{
    enum cfg_dir_kind kind = (enum cfg_dir_kind)k->min;
    struct cfg_words w = {.s = value, .flags = CFG_WORD_QUOTES};
    char *word;
    int r;

    if (!*value)
        forget_dirs(c->def, kind);
    while ((r = cfg_word(&w, &word)) > 0) {
        const char *why = name_wrong(word);
        if (why)
            cfg_error(c, l, w.start, "%s=%s %s", k->name, word, why);
        else if (c->def->n_dirs == LIMIT_DIRS)
            cfg_error(c, l, w.start, "more than %u folders", LIMIT_DIRS);
        else
            add_dir(c, l, kind, word);
        free(word);
    }
    if (r == -EINVAL)
        cfg_error(c, l, w.start, "%s=: %s", k->name, w.why);
    else if (r < 0)
        cfg_oom(c);
}

CFG_PARSER(cfg_value_preserve)
{
    bool yes = false; /* restart: agentd keeps it over a restart in any case */

    if (!str_eq(value, "restart") && str_to_bool(value, &yes) < 0)
        cfg_error(c, l, 0, "%s= is yes, no or restart, not \"%s\"", k->name, value);
    *(bool *)target = yes;
}

/* --- conditions --- */

static void forget_conditions(struct wk_def *d, bool assert)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_conditions; i++)
        if (d->conditions[i].assert == assert)
            free(d->conditions[i].path);
        else
            d->conditions[n++] = d->conditions[i];
    d->n_conditions = n;
}

/* "|" before "!" before the path. */
CFG_PARSER(cfg_value_condition)
{
    struct wk_def *d = c->def;
    struct cfg_condition x = {.assert = k->min}, *more;
    const char *path = value, *why;

    if (!*value) {
        forget_conditions(d, x.assert);
        return;
    }
    x.trigger = *path == '|';
    path += x.trigger;
    path += strspn(path, " \t");
    x.negate = *path == '!';
    path += x.negate;
    path += strspn(path, " \t");
    if ((why = cfg_path_wrong(path))) {
        cfg_error(c, l, 0, "%s=%s %s", k->name, path, why);
    } else if (d->n_conditions == LIMIT_DIRS) {
        cfg_error(c, l, 0, "more than %u conditions", LIMIT_DIRS);
    } else if (!(x.path = cfg_dup(c, path)) ||
               !(more = realloc(d->conditions, (d->n_conditions + 1) * sizeof(*more)))) {
        free(x.path);
        cfg_oom(c);
    } else {
        cfg_path_simplify(x.path);
        d->conditions = more;
        more[d->n_conditions++] = x;
    }
}
