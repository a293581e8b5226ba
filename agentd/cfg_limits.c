/* SPDX-License-Identifier: Apache-2.0 */
/* Limit*= and the capability sets, systemd.exec(5). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"
#include "proc/caps.h"

const struct cfg_limit_name cfg_limit_names[] = {
    {"LimitCPU", RLIMIT_CPU, CFG_LIMIT_SEC},
    {"LimitFSIZE", RLIMIT_FSIZE, CFG_LIMIT_BYTES},
    {"LimitDATA", RLIMIT_DATA, CFG_LIMIT_BYTES},
    {"LimitSTACK", RLIMIT_STACK, CFG_LIMIT_BYTES},
    {"LimitCORE", RLIMIT_CORE, CFG_LIMIT_BYTES},
    {"LimitRSS", RLIMIT_RSS, CFG_LIMIT_BYTES},
    {"LimitNOFILE", RLIMIT_NOFILE, CFG_LIMIT_COUNT},
    {"LimitAS", RLIMIT_AS, CFG_LIMIT_BYTES},
    {"LimitNPROC", RLIMIT_NPROC, CFG_LIMIT_COUNT},
    {"LimitMEMLOCK", RLIMIT_MEMLOCK, CFG_LIMIT_BYTES},
    {"LimitLOCKS", RLIMIT_LOCKS, CFG_LIMIT_COUNT},
    {"LimitSIGPENDING", RLIMIT_SIGPENDING, CFG_LIMIT_COUNT},
    {"LimitMSGQUEUE", RLIMIT_MSGQUEUE, CFG_LIMIT_BYTES},
    {"LimitNICE", RLIMIT_NICE, CFG_LIMIT_NICE},
    {"LimitRTPRIO", RLIMIT_RTPRIO, CFG_LIMIT_COUNT},
    {"LimitRTTIME", RLIMIT_RTTIME, CFG_LIMIT_USEC},
};
const unsigned cfg_n_limit_names = ARRAY_LEN(cfg_limit_names);

const char *cfg_limit_key(int resource)
{
    for (unsigned i = 0; i < cfg_n_limit_names; i++)
        if (cfg_limit_names[i].resource == resource)
            return cfg_limit_names[i].name;
    return "";
}

static const char *const unit_wants[] = {
    [CFG_LIMIT_COUNT] = "a number",
    [CFG_LIMIT_BYTES] = "a size such as 64M",
    [CFG_LIMIT_SEC] = "a time span such as 1h",
    [CFG_LIMIT_USEC] = "a time span such as 100ms",
    [CFG_LIMIT_NICE] = "a nice level from -20 to +19 with its sign, or a number from 0 to 40",
};

/* "+N" and "-N" are nice levels, which the kernel counts as 20 - nice; a bare number is the kernel's own. */
static int nice_limit(const char *s, uint64_t *ret)
{
    uint64_t v;
    int r;

    if (*s != '+' && *s != '-')
        return str_to_u64(s, 40, ret);
    if ((r = str_to_u64(s + 1, *s == '-' ? 20 : 19, &v)) == 0)
        *ret = *s == '-' ? 20 + v : 20 - v;
    return r;
}

static int one_limit(int unit, const char *s, rlim_t *ret)
{
    uint64_t v = 0;
    int r;

    if (str_eq(s, "infinity")) {
        *ret = RLIM_INFINITY;
        return 0;
    }
    switch (unit) {
    case CFG_LIMIT_BYTES:
        r = str_to_size(s, &v);
        break;
    case CFG_LIMIT_SEC: /* rounded up: never less than asked for */
        r = str_to_usec(s, 1000000, &v);
        v = v / 1000000 + (v % 1000000 != 0);
        break;
    case CFG_LIMIT_USEC:
        r = str_to_usec(s, 1, &v);
        break;
    case CFG_LIMIT_NICE:
        r = nice_limit(s, &v);
        break;
    default:
        r = str_to_u64(s, UINT64_MAX - 1, &v);
    }
    *ret = v;
    return r;
}

static int unit_of(int resource)
{
    for (unsigned i = 0; i < cfg_n_limit_names; i++)
        if (cfg_limit_names[i].resource == resource)
            return (int)cfg_limit_names[i].unit;
    return CFG_LIMIT_COUNT;
}

static void set_limit(struct cfg_ctx *c, int resource, const struct rlimit *limit)
{
    struct wk_def *d = c->def;

    if (!d->limits && !(d->limits = calloc(RLIM_NLIMITS, sizeof(*d->limits)))) {
        cfg_oom(c);
        return;
    }
    d->limits[resource] = *limit;
    d->limits_set |= 1u << resource;
}

CFG_PARSER(cfg_value_limit)
{
    int resource = (int)k->min, unit = unit_of(resource);
    struct rlimit limit;
    _cleanup_free_ char *copy = NULL;
    char *hard;

    if (!*value) {
        c->def->limits_set &= ~(1u << resource);
        return;
    }
    if (!(copy = cfg_dup(c, value)))
        return;
    if ((hard = strchr(copy, ':')))
        *hard++ = 0;
    if (one_limit(unit, copy, &limit.rlim_cur) < 0 ||
        one_limit(unit, hard ? hard : copy, &limit.rlim_max) < 0)
        cfg_error(c, l, 0, "%s= is %s, infinity, or two of them as SOFT:HARD, not \"%s\"", k->name,
                  unit_wants[unit], value);
    else if (limit.rlim_cur > limit.rlim_max)
        cfg_error(c, l, 0, "%s=%s: the soft limit is above the hard one", k->name, value);
    else
        set_limit(c, resource, &limit);
}

static void unknown_cap(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, size_t at,
                        const char *word)
{
    char hint[CFG_HINT_MAX], best_name[64] = "";
    unsigned distance = 64;

    for (unsigned i = 0; i < 64; i++) {
        const char *name = caps_to_name(i);
        if (name && str_distance(word, name) < distance) {
            distance = str_distance(word, name);
            str_copy(best_name, sizeof(best_name), name);
        }
    }
    for (char *p = best_name; *p; p++)
        if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    cfg_error(c, l, at, "%s=: unknown capability \"%s\"%s", k->name, word,
              cfg_hint(word, *best_name ? best_name : NULL, distance, hint));
}

static uint64_t caps_of(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l,
                        const char *value)
{
    struct cfg_words w = {.s = value, .flags = CFG_WORD_QUOTES};
    uint64_t sum = 0;
    unsigned cap;
    char *word;
    int r;

    w.at = *value == '~';
    while ((r = cfg_word(&w, &word)) > 0) {
        if (caps_from_name(word, &cap) == 0 && cap < 64)
            sum |= 1ull << cap;
        else
            unknown_cap(c, k, l, w.start, word);
        free(word);
    }
    if (r == -ENOMEM)
        cfg_oom(c);
    else if (r < 0)
        cfg_error(c, l, w.start, "%s=: %s", k->name, w.why);
    return sum;
}

/* systemd's way to merge: the first list replaces the default, later ones add, or with '~' take away; an
 * empty one is no capability, and a bare '~' all of them. */
CFG_PARSER(cfg_value_caps)
{
    bool bounding = target == &c->def->bounding, invert = *value == '~';
    uint64_t *set = target, initial = bounding ? UINT64_MAX : 0, sum = caps_of(c, k, l, value);
    bool *given = bounding ? &c->def->has_bounding : &c->def->has_ambient;

    if (!*given)
        *set = initial;
    if (sum == 0 || *set == initial)
        *set = invert ? ~sum : sum;
    else
        *set = invert ? *set & ~sum : *set | sum;
    *given = *set != initial;
}
