/* SPDX-License-Identifier: Apache-2.0 */
/* CPUQuota=, MemoryMax= and their like, systemd.resource-control(5). */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_mix.h"
#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

#define PERCENT_MAX 1000000 /* ten thousand processors */

const char *const cfg_oom_names[] = {"stop", "continue", "kill", NULL};

static void set(struct cfg_ctx *c, unsigned row, enum cgroup_amount kind, uint64_t v)
{
    struct wk_def *d = c->def;

    if (!d->res && kind == CGROUP_UNSET)
        return;
    if (!d->res && !(d->res = calloc(1, sizeof(*d->res)))) {
        cfg_oom(c);
        return;
    }
    d->res->row[row].kind = kind;
    d->res->row[row].v = v;
}

/* "12.5%" as 1250. 0 or -EINVAL. */
static int to_parts(const char *s, uint64_t max_percent, uint64_t *ret)
{
    uint64_t whole = 0, parts = 0;
    unsigned digits = 0;

    if (!isdigit((unsigned char)*s))
        return -EINVAL;
    for (; isdigit((unsigned char)*s); s++)
        if ((whole = whole * 10 + (uint64_t)(*s - '0')) > max_percent)
            return -EINVAL;
    if (*s == '.' && !isdigit((unsigned char)*++s))
        return -EINVAL;
    for (; isdigit((unsigned char)*s) && digits < 2; s++, digits++)
        parts = parts * 10 + (uint64_t)(*s - '0');
    if (!str_eq(s, "%"))
        return -EINVAL;
    *ret = whole * 100 + (digits == 1 ? parts * 10 : parts);
    return *ret > max_percent * 100 ? -EINVAL : 0;
}

static bool is_protection(uint64_t row)
{
    return row == CGROUP_RES_MEM_MIN || row == CGROUP_RES_MEM_LOW || row == CGROUP_RES_SWAP_MAX;
}

CFG_PARSER(cfg_value_memory)
{
    uint64_t v = 0;
    enum cgroup_amount kind = !*value                         ? CGROUP_UNSET
                              : str_eq(value, "infinity")     ? CGROUP_INFINITE
                              : to_parts(value, 100, &v) == 0 ? CGROUP_PARTS
                              : str_to_size(value, &v) == 0   ? CGROUP_NUMBER
                                                              : CGROUP_UNSET;

    if (*value && (kind == CGROUP_UNSET || (v == 0 && kind != CGROUP_INFINITE && !is_protection(k->min))))
        cfg_error(c, l, 0, "%s= is a size such as 64M%s, a percentage of the memory, or infinity, not \"%s\"",
                  k->name, is_protection(k->min) ? "" : " above 0", value);
    else
        set(c, (unsigned)k->min, kind, v);
}

CFG_PARSER(cfg_value_tasks)
{
    uint64_t v = 0;
    enum cgroup_amount kind = !*value                         ? CGROUP_UNSET
                              : str_eq(value, "infinity")     ? CGROUP_INFINITE
                              : to_parts(value, 100, &v) == 0 ? CGROUP_PARTS
                                                              : CGROUP_NUMBER;

    if (kind == CGROUP_NUMBER && str_to_u64(value, INT64_MAX, &v) < 0)
        v = 0;
    if ((kind == CGROUP_NUMBER || kind == CGROUP_PARTS) && v == 0)
        cfg_error(c, l, 0,
                  "%s= is a number above 0, a percentage of the system's limit, or infinity, not \"%s\"",
                  k->name, value);
    else
        set(c, CGROUP_RES_TASKS_MAX, kind, v);
}

CFG_PARSER(cfg_value_quota)
{
    uint64_t v = 0;

    if (*value && (to_parts(value, PERCENT_MAX, &v) < 0 || v == 0))
        cfg_error(c, l, 0, "%s= is a percentage of one processor above 0, such as 150%%, not \"%s\"", k->name,
                  value);
    else
        set(c, CGROUP_RES_CPU_QUOTA, *value ? CGROUP_PARTS : CGROUP_UNSET, v);
}

CFG_PARSER(cfg_value_weight)
{
    bool idle = str_eq(value, "idle");
    uint64_t v = 0;

    if (*value && !idle && (str_to_u64(value, k->max, &v) < 0 || v == 0)) {
        cfg_error(c, l, 0, "%s= is a number from 1 to 10000, or idle, not \"%s\"", k->name, value);
        return;
    }
    set(c, CGROUP_RES_CPU_IDLE, idle ? CGROUP_NUMBER : CGROUP_UNSET, 1);
    set(c, CGROUP_RES_CPU_WEIGHT, *value && !idle ? CGROUP_NUMBER : CGROUP_UNSET, v);
}

CFG_PARSER(cfg_value_oom_policy)
{
    int i = *value ? cfg_choose(c, k, l, value, cfg_oom_names) : CFG_OOM_STOP;

    if (i < 0)
        return;
    *(enum cfg_oom *)target = (enum cfg_oom)i;
    set(c, CGROUP_RES_OOM_GROUP, i == CFG_OOM_KILL ? CGROUP_NUMBER : CGROUP_UNSET, 1);
}

/* All rows of the key: a weight has two. */
CFG_MIXER(cfg_mix_res)
{
    const struct cgroup_res *r = ((const struct wk_def *)object)->res;

    for (unsigned i = 0; i < CGROUP_RES_MAX; i++) {
        if (!str_eq(cgroup_res_key(i), k->name))
            continue;
        uint64_t v[] = {r ? r->row[i].kind : CGROUP_UNSET, cgroup_res_is_set(r, i) ? r->row[i].v : 0};
        h = str_hash(h, v, sizeof(v));
    }
    return h;
}

static void dump_row(struct buf *b, const char *key, enum cgroup_amount kind, uint64_t v)
{
    if (kind == CGROUP_INFINITE)
        buf_printf(b, "%s=infinity\n", key);
    else if (kind == CGROUP_PARTS && v % 100)
        buf_printf(b, "%s=%llu.%02llu%%\n", key, (unsigned long long)v / 100, (unsigned long long)v % 100);
    else if (kind == CGROUP_PARTS)
        buf_printf(b, "%s=%llu%%\n", key, (unsigned long long)v / 100);
    else
        buf_printf(b, "%s=%llu\n", key, (unsigned long long)v);
}

void cfg_res_dump(const struct wk_def *d, struct buf *b)
{
    for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
        if (cgroup_res_is_set(d->res, i) && i != CGROUP_RES_CPU_IDLE && i != CGROUP_RES_OOM_GROUP)
            dump_row(b, cgroup_res_key(i), d->res->row[i].kind, d->res->row[i].v);
    if (cgroup_res_is_set(d->res, CGROUP_RES_CPU_IDLE))
        buf_str(b, "CPUWeight=idle\n");
    if (d->oom_policy != CFG_OOM_STOP)
        buf_printf(b, "OOMPolicy=%s\n", cfg_oom_names[d->oom_policy]);
}
