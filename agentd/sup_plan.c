/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/sup_plan.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/str.h"

bool sup_cfg_has(const struct cfg *cfg, const char *alias)
{
    for (unsigned i = 0; i < cfg->n_workers; i++)
        if (cfg->workers[i] && str_eq(cfg->workers[i]->alias, alias))
            return true;
    return false;
}

static int broken_at(const struct cfg *cfg, const char *alias)
{
    for (unsigned i = 0; i < cfg->n_broken; i++)
        if (str_eq(cfg->broken[i], alias))
            return (int)i;
    return -1;
}

bool sup_cfg_breaks(const struct cfg *cfg, const char *alias)
{
    return broken_at(cfg, alias) >= 0;
}

const char *sup_cfg_why(const struct cfg *cfg, const char *alias)
{
    int i = broken_at(cfg, alias);

    return i >= 0 && cfg->broken_why[i] ? cfg->broken_why[i] : "its file is wrong";
}

void sup_plan_line(struct buf *plan, const char *alias, const char *action, const char *detail,
                   const char *keys)
{
    buf_printf(plan, "%s\t%s\t", alias, action);
    for (; *detail; detail++) /* it may be a line that a program wrote */
        buf_char(plan, *detail == '\t' || *detail == '\n' ? ' ' : *detail);
    buf_printf(plan, "\t%s\n", keys);
}

/* Its file is gone: it is stopped and forgotten, if that has not happened yet. */
static bool leaves(const struct cfg *cfg, const struct wk *w)
{
    return w->removed || (!sup_cfg_has(cfg, w->def->alias) && !sup_cfg_breaks(cfg, w->def->alias));
}

static bool is_at_rest(const struct wk *w)
{
    return w->state == WK_DOWN || w->state == WK_BACKOFF || w->state == WK_COOLDOWN;
}

const char *sup_refusal(const struct cfg *cfg, const struct wk_def *def, const struct wk *w, bool *waits)
{
    const struct wk *holder = def->id ? sup_find(def->id) : NULL;

    *waits = false;
    if (w && def->id && def->id != w->id)
        return "its Id= changed: restart agentd to renumber";
    if (!holder || holder == w)
        return NULL;
    if (holder->def->stored) { /* the file of one that ran under an earlier agentd was renamed meanwhile */
        *waits = !holder->broken || holder->removed;
        return "waits for the worker that had its Id= to stop";
    }
    if (!leaves(cfg, holder))
        return "its Id= is another worker's";
    *waits = !is_at_rest(holder); /* a file that was renamed */
    return *waits ? "waits for the worker that had its Id= to stop" : NULL;
}

/* Why nothing is restarted, though a key costs a restart. */
static const char *why_no_restart(const struct wk *w, const struct wk_def *def)
{
    if (w->main.pid == 0)
        return "no process runs: the next start has it";
    if (def->hash == w->ran_hash)
        return "the running process has it already";
    return "it is stopping: the next start has it";
}

/* A child on its way to exec reads the definition that it was made from: the new one waits for it. */
static const char *when(const struct wk *w)
{
    return w->start && w->start->spawning ? "in force once its start is through" : "in force";
}

void sup_judge(const struct wk *w, const struct wk_def *def, struct sup_verdict *v)
{
    struct buf keys = BUF_INIT(SUP_KEYS_MAX);
    bool up = w->goal == WK_GOAL_UP || w->removed; /* one that comes back is wanted up again */
    enum cfg_cost most = cfg_diff_worker(w->def, def, &keys);

    *v = (struct sup_verdict){.detail = ""};
    if (keys.p)
        str_copy(v->keys, sizeof(v->keys), keys.p);
    buf_free(&keys);
    if (w->removed) {
        v->action = "add";
        v->detail = "its file is back";
    } else if (most >= CFG_COST_RESTART && wk_must_restart(w, def) && up) {
        v->action = "restart";
        v->detail = "the definition changed";
    } else if (most != CFG_COST_NONE) {
        v->action = "update";
        v->detail = most >= CFG_COST_RESTART ? why_no_restart(w, def) : when(w);
    } else if (w->def->fault && !def->fault) {
        v->action = "update";
        v->detail = "its user and groups are known now";
    }
}

static void plan_those_there(const struct cfg *cfg, struct buf *plan)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        const char *alias = w->def->alias;
        if (w->removed || sup_cfg_has(cfg, alias))
            continue;
        if (sup_cfg_breaks(cfg, alias))
            sup_plan_line(plan, alias, "keep", sup_cfg_why(cfg, alias), "");
        else
            sup_plan_line(plan, alias, "remove", "its file is gone", "");
    }
}

static void plan_one(const struct cfg *cfg, struct wk_def *def, struct buf *plan)
{
    const struct wk *w = sup_find_alias(def->alias);
    struct sup_verdict v = {.action = "add", .detail = def->fault ? sup_cfg_why(cfg, def->alias) : ""};
    bool waits;
    const char *why = sup_refusal(cfg, def, w, &waits);

    if (w && !why)
        def->id = w->id;
    if (w)
        sup_judge(w, def, &v);
    if (why)
        sup_plan_line(plan, def->alias, waits ? "add" : "refuse", why, v.keys);
    else if (v.action)
        sup_plan_line(plan, def->alias, v.action, v.detail, v.keys);
}

void sup_plan(struct cfg *cfg, struct buf *plan)
{
    plan_those_there(cfg, plan);
    for (int with_id = 1; with_id >= 0; with_id--) /* in the order of sup_apply */
        for (unsigned i = 0; i < cfg->n_workers; i++)
            if ((cfg->workers[i]->id != 0) == with_id)
                plan_one(cfg, cfg->workers[i], plan);
    for (unsigned i = 0; i < cfg->n_nameless; i++)
        if (!sup_find_alias(cfg->nameless[i]->alias))
            plan_one(cfg, cfg->nameless[i], plan);
    for (unsigned i = 0; i < cfg->n_broken; i++) {
        bool nameless = false;
        for (unsigned k = 0; k < cfg->n_nameless; k++)
            nameless = nameless || str_eq(cfg->nameless[k]->alias, cfg->broken[i]);
        if (!nameless && !sup_find_alias(cfg->broken[i]))
            sup_plan_line(plan, cfg->broken[i], "refuse", sup_cfg_why(cfg, cfg->broken[i]), "");
    }
}
