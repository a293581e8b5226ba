/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

struct stats stats;

/* Words of agentd's that are counted, in the order in which they came. */
struct word {
    char name[32];
    uint64_t count, sum;
};

static struct word reasons[LIMIT_HTTP_STATS_WORDS], phases[LIMIT_HTTP_STATS_WORDS];

void stats_init(void)
{
    stats.start_us = clock_mono_us();
}

static unsigned index_of(enum route_verb verb)
{
    unsigned i = 0;

    while (i < STATS_VERBS - 1 && !((unsigned)verb >> i & 1))
        i++;
    return i;
}

const char *stats_verb_name(unsigned i)
{
    static const char *const names[STATS_VERBS] = {"GET", "HEAD", "POST", "OPTIONS", "DELETE", "other"};

    return names[i];
}

void stats_answered(enum route_verb verb, int status)
{
    int class = status / 100 - 1;

    if (class >= 0 && class < STATS_CLASSES)
        stats.requests[index_of(verb)][class]++;
}

/* One that finds no place any more is not counted. */
static struct word *find(struct word *words, const char *name, size_t n)
{
    if (n == 0 || n >= sizeof(words->name))
        return NULL;
    for (unsigned i = 0; i < LIMIT_HTTP_STATS_WORDS; i++) {
        if (!words[i].name[0])
            memcpy(words[i].name, name, n);
        if (strncmp(words[i].name, name, n) == 0 && !words[i].name[n])
            return &words[i];
    }
    return NULL;
}

static const char *look(const struct word *words, unsigned i, uint64_t *count, uint64_t *sum)
{
    if (i >= LIMIT_HTTP_STATS_WORDS || !words[i].name[0])
        return NULL;
    *count = words[i].count;
    *sum = words[i].sum;
    return words[i].name;
}

void stats_started(const char *reason)
{
    struct word *w = find(reasons, reason, strlen(reason));

    if (w)
        w->count++;
}

const char *stats_reason(unsigned i, uint64_t *count)
{
    uint64_t sum;

    return look(reasons, i, count, &sum);
}

void stats_phases(const char *list)
{
    for (; *list; list += strcspn(list, ","), list += *list == ',') {
        size_t n = strcspn(list, ":,");
        struct word *w = list[n] == ':' ? find(phases, list, n) : NULL;
        if (!w)
            continue;
        w->count++;
        w->sum += strtoull(list + n + 1, NULL, 10);
    }
}

const char *stats_phase(unsigned i, uint64_t *count, uint64_t *sum_us)
{
    return look(phases, i, count, sum_us);
}
