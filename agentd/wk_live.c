/* SPDX-License-Identifier: Apache-2.0 */
/* A changed limit, nice level or OOM score reaches the tree that runs. A setting that is taken out of the
 * file gets the value that a start without it would give. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"
#include "proc/caps.h"
#include "proc/live.h"

/* A child has what its parent had: the next list has those that were missed. */
static int list_tree(void *arg, struct snap_tree *ret)
{
    const struct wk *w = arg;

    return w->leaf.fd >= 0 ? snap_tree_of_leaf(&w->leaf, ret) : snap_tree_seen(w->main.pid, ret);
}

static bool has_limit(const struct wk_def *d, int i)
{
    return d->limits_set >> i & 1;
}

static bool limit_differs(const struct wk_def *a, const struct wk_def *b, int i)
{
    if (!has_limit(a, i) || !has_limit(b, i))
        return has_limit(a, i) != has_limit(b, i);
    return a->limits[i].rlim_cur != b->limits[i].rlim_cur || a->limits[i].rlim_max != b->limits[i].rlim_max;
}

static int own_oom_score(void)
{
    char text[16];

    return fd_read_file(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text)) > 0 ? atoi(text) : 0;
}

/* What differs; all that is set if nobody knows what differs, or a refusal stands on record, so that it goes
 * when its cause has gone. */
static void make_want(const struct wk *w, const struct wk_def *old, struct live_want *want)
{
    const struct wk_def *d = w->def;
    bool all = w->clamped || !old;

    old = old ? old : d;
    *want = (struct live_want){0};
    for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
        if (!limit_differs(old, d, i) && !(all && has_limit(d, i)))
            continue;
        if (has_limit(d, i))
            want->limits[i] = d->limits[i];
        else if (spawn_default_limit(i, &want->limits[i]) < 0)
            continue;
        want->limits_set |= 1u << i;
    }
    want->has_nice = d->has_nice != old->has_nice || (d->has_nice && (all || d->nice != old->nice));
    want->nice = d->has_nice ? d->nice : getpriority(PRIO_PROCESS, 0);
    want->has_oom =
        d->has_oom != old->has_oom || (d->has_oom && (all || d->oom_score_adj != old->oom_score_adj));
    want->oom_score_adj = d->has_oom ? d->oom_score_adj : own_oom_score();
}

static void tell_refusal(struct wk *w, const struct live_result *r)
{
    const char *key = r->resource == LIVE_NICE  ? "Nice"
                      : r->resource == LIVE_OOM ? "OOMScoreAdjust"
                                                : cfg_limit_key(r->resource);

    w->live_refused = true;
    wk_set_message(w, "the kernel refused %s= for process %d: %s%s", key, (int)r->pid, strerror(r->error),
                   r->refused > 1 ? ", and more" : "");
    log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias}, "%s",
              w->message ? w->message : "a limit or score was refused by the kernel");
}

void wk_live_apply(struct wk *w, const struct wk_def *old)
{
    struct live_want want;
    struct live_result result;
    enum caps_scope scope;
    int r;

    make_want(w, old, &want);
    if (!(want.limits_set || want.has_nice || want.has_oom) || !wk_is_alive(w) ||
        (w->state != WK_STARTING && w->state != WK_UP))
        return;
    scope = caps_enter(CAPS_SPAWN);
    r = live_apply(list_tree, w, &want, &result);
    caps_enter(scope);
    if (r < 0)
        log_write(LOG_WARNING, "wk", &(struct log_about){.worker = w->def->alias},
                  "not all of its processes can be reached (%s): new limits are for the next start",
                  strerror(-r));
    else if (result.refused)
        tell_refusal(w, &result);
    else if (w->clamped && w->state == WK_UP)
        wk_set_message(w, "%s", ""); /* what it told is over */
    w->clamped = r == 0 ? result.refused > 0 : w->clamped;
}
