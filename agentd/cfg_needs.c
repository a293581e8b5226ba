/* SPDX-License-Identifier: Apache-2.0 */
/* After=, Before=, Requires=, Wants=, BindsTo=: systemd.unit(5). Who is waited for has to be a worker only
 * where its lack would hold this one for ever; and nobody may wait for itself, over however many others. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

#define CYCLE_TEXT_MAX 800

const char *cfg_need_key(enum cfg_need_kind k)
{
    static const char *const keys[] = {[CFG_NEED_AFTER] = "After",
                                       [CFG_NEED_BEFORE] = "Before",
                                       [CFG_NEED_REQUIRES] = "Requires",
                                       [CFG_NEED_WANTS] = "Wants",
                                       [CFG_NEED_BINDS_TO] = "BindsTo"};

    return keys[k];
}

static bool is_needed(enum cfg_need_kind k)
{
    return k == CFG_NEED_REQUIRES || k == CFG_NEED_BINDS_TO;
}

/* --- reading --- */

static void free_need(struct cfg_need *n)
{
    free(n->alias);
    free(n->at.file);
}

void cfg_needs_free(struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_needs; i++)
        free_need(&d->needs[i]);
    free(TAKE_PTR(d->needs));
    d->n_needs = 0;
}

/* "Key=" forgets what its key named before. */
static void forget_kind(struct wk_def *d, enum cfg_need_kind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_needs; i++)
        if (d->needs[i].kind == kind)
            free_need(&d->needs[i]);
        else
            d->needs[n++] = d->needs[i];
    d->n_needs = n;
}

/* A unit of a kind that agentd has not: the host's own business, long settled when agentd runs. */
static bool is_other_unit(const char *name)
{
    static const char *const suffixes[] = {".target", ".socket", ".mount", ".device", ".slice",
                                           ".path",   ".timer",  ".swap",  ".scope",  ".automount"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < ARRAY_LEN(suffixes); i++)
        if (str_eq(dot, suffixes[i]))
            return true;
    return false;
}

static bool has(const struct wk_def *d, enum cfg_need_kind kind, const char *alias)
{
    for (unsigned i = 0; i < d->n_needs; i++)
        if (d->needs[i].kind == kind && str_eq(d->needs[i].alias, alias))
            return true;
    return false;
}

static void add(struct cfg_ctx *c, const struct cfg_line *l, size_t at, enum cfg_need_kind kind, char *alias)
{
    struct wk_def *d = c->def;
    struct cfg_need *more = realloc(d->needs, (d->n_needs + 1) * sizeof(*more)), *n;

    if (!more) {
        cfg_oom(c);
        free(alias);
        return;
    }
    d->needs = more;
    n = &more[d->n_needs++];
    *n = (struct cfg_need){.kind = kind, .alias = alias};
    n->at.file = str_eq(l->file, c->file) ? NULL : cfg_dup(c, l->file);
    cfg_line_at(l, at, &n->at.line, &n->at.col);
}

static void take_name(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, size_t at,
                      char *name)
{
    enum cfg_need_kind kind = (enum cfg_need_kind)k->min;
    size_t n = strlen(name), suffix = strlen(".service");

    if (n > suffix && str_eq(name + n - suffix, ".service"))
        name[n - suffix] = 0;
    if (is_other_unit(name)) {
        if (is_needed(kind))
            cfg_warn(c, l, at, "%s=%s is no worker's, and has no effect", k->name, name);
    } else if (!cfg_alias_ok(name)) {
        cfg_error(c, l, at, "%s= wants aliases of workers, not \"%s\"", k->name, name);
    } else if (str_eq(name, c->def->alias)) {
        cfg_error(c, l, at, "%s=%s: a worker can't wait for itself", k->name, name);
    } else if (c->def->n_needs == LIMIT_NEEDS) {
        cfg_error(c, l, at, "more than %u workers are named", LIMIT_NEEDS);
    } else if (!has(c->def, kind, name)) {
        add(c, l, at, kind, TAKE_PTR(name));
    }
    free(name);
}

CFG_PARSER(cfg_value_needs)
{
    struct cfg_words w = {.s = value, .flags = CFG_WORD_QUOTES};
    char *word;
    int r;

    if (!*value)
        forget_kind(c->def, (enum cfg_need_kind)k->min);
    while ((r = cfg_word(&w, &word)) > 0)
        take_name(c, k, l, w.start, word);
    if (r == -EINVAL)
        cfg_error(c, l, w.start, "%s=: %s", k->name, w.why);
    else if (r < 0)
        cfg_oom(c);
}

/* --- all of them --- */

/* from waits for to; written by the entry owner. */
struct edge {
    size_t from, to, owner;
    const struct cfg_need *need;
};

struct graph {
    struct cfg *cfg;
    struct cfg_report *report;
    struct cfg_entry *v;
    size_t n, n_edges, *first; /* first: of the edges of each, which are sorted; one more at the end */
    struct edge *edges;
    char *state;           /* of each: not seen, on the way, done */
    size_t *way, *at, len; /* the way, and the next edge of each on it */
};

static int by_alias(const void *key, const void *entry)
{
    const struct cfg_entry *e = entry;

    return strcmp(key, e->alias ? e->alias : "");
}

static struct cfg_entry *find(const struct graph *g, const char *alias)
{
    return bsearch(alias, g->v, g->n, sizeof(*g->v), by_alias);
}

static bool counts(const struct cfg_entry *e)
{
    return !e->broken && e->def;
}

static void complain(struct graph *g, struct cfg_entry *owner, const struct cfg_at *at, const char *text)
{
    struct cfg_ctx c = {.report = g->report, .cfg = g->cfg, .def = owner->def, .file = owner->file};

    cfg_error_in(&c, at->file ? at->file : owner->file, at->line, at->col, "%s", text);
}

static void break_entry(struct graph *g, struct cfg_entry *e, size_t report_from)
{
    e->broken = true;
    if (!e->why)
        e->why = cfg_report_why(g->report, report_from, 1);
}

/* One that is broken is one all the same: it is waited for until its file is right. */
static void check_names(struct graph *g, struct cfg_entry *e)
{
    char text[CYCLE_TEXT_MAX], hint[CFG_HINT_MAX];

    for (unsigned i = 0; counts(e) && i < e->def->n_needs; i++) {
        const struct cfg_need *n = &e->def->needs[i];
        const char *best = NULL;
        unsigned distance = 0;
        size_t from = g->report->errors.len;
        if (!is_needed(n->kind) || find(g, n->alias))
            continue;
        for (size_t k = 0; k < g->n; k++)
            if (g->v[k].alias && &g->v[k] != e)
                cfg_nearer(n->alias, g->v[k].alias, &best, &distance);
        snprintf(text, sizeof(text), "%s=%s: there is no such worker%s", cfg_need_key(n->kind), n->alias,
                 cfg_hint(n->alias, best, distance, hint));
        complain(g, e, &n->at, text);
        break_entry(g, e, from);
    }
}

static int by_from(const void *pa, const void *pb)
{
    const struct edge *a = pa, *b = pb;

    return a->from != b->from ? (a->from < b->from ? -1 : 1) : a->to < b->to ? -1 : a->to > b->to;
}

static void collect_edges(struct graph *g)
{
    for (size_t i = 0; i < g->n; i++)
        for (unsigned k = 0; counts(&g->v[i]) && k < g->v[i].def->n_needs; k++) {
            const struct cfg_need *need = &g->v[i].def->needs[k];
            const struct cfg_entry *e = need->kind == CFG_NEED_WANTS ? NULL : find(g, need->alias);
            size_t other = e ? (size_t)(e - g->v) : 0;
            bool before = need->kind == CFG_NEED_BEFORE;
            if (e && counts(e))
                g->edges[g->n_edges++] = (struct edge){before ? other : i, before ? i : other, i, need};
        }
    if (g->n_edges)
        qsort(g->edges, g->n_edges, sizeof(*g->edges), by_from);
    for (size_t i = 0, e = 0; i <= g->n; i++) {
        while (e < g->n_edges && g->edges[e].from < i)
            e++;
        g->first[i] = e;
    }
}

/* The way from the entry that e leads back to, and e itself: all on it are left out. */
static void report_cycle(struct graph *g, const struct edge *e)
{
    char text[CYCLE_TEXT_MAX];
    size_t begin = 0, from = g->report->errors.len, n;

    while (g->way[begin] != e->to)
        begin++;
    n = (size_t)snprintf(text, sizeof(text), "%s=%s makes a cycle: ", cfg_need_key(e->need->kind),
                         e->need->alias);
    for (size_t i = begin; i < g->len && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s waits for ", g->v[g->way[i]].alias);
    if (n < sizeof(text))
        snprintf(text + n, sizeof(text) - n, "%s", g->v[e->to].alias);
    complain(g, &g->v[e->owner], &e->need->at, text);
    for (size_t i = begin; i < g->len; i++)
        break_entry(g, &g->v[g->way[i]], from);
}

static void push(struct graph *g, size_t i)
{
    g->state[i] = 1;
    g->at[g->len] = g->first[i];
    g->way[g->len++] = i;
}

/* Depth first, on a stack of its own: a chain may be as long as there are workers. */
static void walk(struct graph *g, size_t start)
{
    push(g, start);
    while (g->len) {
        size_t i = g->way[g->len - 1], *at = &g->at[g->len - 1];
        if (*at == g->first[i + 1]) {
            g->state[i] = 2;
            g->len--;
            continue;
        }
        const struct edge *e = &g->edges[(*at)++];
        if (g->state[e->to] == 1)
            report_cycle(g, e);
        else if (g->state[e->to] == 0)
            push(g, e->to);
    }
}

static size_t count_needs(const struct graph *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n; i++)
        n += counts(&g->v[i]) ? g->v[i].def->n_needs : 0;
    return n;
}

void cfg_needs_check(struct cfg *cfg, struct cfg_report *report, struct cfg_entry *v, size_t n)
{
    struct graph g = {.cfg = cfg, .report = report, .v = v, .n = n};
    size_t needs = count_needs(&g);

    if (!needs)
        return;
    for (size_t i = 0; i < n; i++)
        check_names(&g, &v[i]);
    g.edges = calloc(needs, sizeof(*g.edges));
    g.first = calloc(n + 1, sizeof(*g.first));
    g.way = calloc(n, sizeof(*g.way));
    g.at = calloc(n, sizeof(*g.at));
    g.state = calloc(n, 1);
    if (g.edges && g.first && g.way && g.at && g.state) {
        collect_edges(&g);
        for (size_t i = 0; i < n; i++)
            if (g.state[i] == 0)
                walk(&g, i);
    } else {
        struct cfg_ctx c = {.report = report, .cfg = cfg, .file = cfg->agent.workers_dir};
        cfg_oom(&c);
    }
    free(g.edges);
    free(g.first);
    free(g.way);
    free(g.at);
    free(g.state);
}
