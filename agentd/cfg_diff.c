/* SPDX-License-Identifier: Apache-2.0 */
/* Which keys differ between two configurations, and what each costs. Names only: a value may be a secret. */
#include "agentd/cfg_read.h"
#include "base/str.h"

const char *cfg_cost_name(enum cfg_cost cost)
{
    static const char *const names[] = {
        [CFG_COST_NONE] = "",           [CFG_COST_SAME] = "",
        [CFG_COST_LIVE] = "live",       [CFG_COST_NEXT] = "next start",
        [CFG_COST_RESTART] = "restart", [CFG_COST_AGENTD] = "restart of agentd"};

    return names[cost];
}

struct diff {
    struct buf *keys;
    const char *last; /* listed: the rows of one key stand together, and the first of them costs most */
    enum cfg_cost most;
    bool names; /* a key that names users or groups is listed */
};

static void list(struct diff *d, const char *name, enum cfg_cost cost)
{
    if (d->last && str_eq(d->last, name))
        return;
    buf_printf(d->keys, "%s%s=%s", d->last ? "," : "", name, cfg_cost_name(cost));
    d->last = name;
    d->most = cost > d->most ? cost : d->most;
    d->names =
        d->names || str_eq(name, "User") || str_eq(name, "Group") || str_eq(name, "SupplementaryGroups");
}

static void compare(struct diff *d, const struct cfg_key *k, const void *a, const void *b)
{
    if (k->mix(STR_HASH_INIT, k, a) != k->mix(STR_HASH_INIT, k, b))
        list(d, k->name, k->cost);
}

enum cfg_cost cfg_diff_worker(const struct wk_def *a, const struct wk_def *b, struct buf *keys)
{
    struct diff d = {.keys = keys};
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);

    for (size_t i = 0; i < n; i++)
        if (k[i].cost != CFG_COST_SAME && cfg_keys_of_worker(k[i].section))
            compare(&d, &k[i], a, b);
    /* The same names, and name service says something else of them than it did. */
    if (!d.names && a->ids.user && b->ids.user && cfg_hash_of_ids(a) != cfg_hash_of_ids(b))
        list(&d, "User", CFG_COST_RESTART);
    return d.most;
}

enum cfg_cost cfg_diff_agent(const struct cfg *in_force, const struct cfg *started, const struct cfg *next,
                             struct buf *keys)
{
    struct diff d = {.keys = keys};
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);

    for (size_t i = 0; i < n; i++)
        if (k[i].cost != CFG_COST_SAME && !cfg_keys_of_worker(k[i].section))
            compare(&d, &k[i], k[i].cost == CFG_COST_AGENTD ? started : in_force, next);
    return d.most;
}
