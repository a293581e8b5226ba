/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_keep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agentd/passed.h"
#include "agentd/sup.h"
#include "base/limits.h"
#include "systemd/sdn.h"

#define NAME 80

static size_t bytes; /* of the names that the manager has */

static const char *name_of(char name[NAME], int64_t id, pid_t pid, uint64_t start)
{
    snprintf(name, NAME, PASSED_PID "%" PRId64 ".%d.%" PRIu64, id, (int)pid, start);
    return name;
}

static bool is_kept(const struct wk *w)
{
    return w->main.fd >= 0 ? w->main.pid == w->kept.pid && w->main.start == w->kept.start : !w->kept.pid;
}

void wk_keep_forget(struct wk *w)
{
    char name[NAME];

    if (!w->kept.pid)
        return;
    sdn_forget(name_of(name, w->id, w->kept.pid, w->kept.start));
    bytes -= strlen(name);
    w->kept.pid = 0;
}

void wk_keep_has(struct wk *w, pid_t pid, uint64_t start)
{
    char name[NAME];

    w->kept.pid = pid;
    w->kept.start = start;
    if (pid)
        bytes += strlen(name_of(name, w->id, pid, start));
}

/* systemd hands all names to the next agentd as one string of its environment, which the kernel bounds at 128
 * KiB (MAX_ARG_STRLEN, execve(2)): with more, agentd could not be executed ever again. Who is one too many
 * has an end that is not known. */
static void keep(struct wk *w)
{
    char name[NAME];

    wk_keep_forget(w);
    if (w->main.fd < 0 || bytes + strlen(name_of(name, w->id, w->main.pid, w->main.start)) > LIMIT_KEPT_NAMES)
        return;
    sdn_keep(name, w->main.fd);
    wk_keep_has(w, w->main.pid, w->main.start);
}

bool wk_keep_some(void)
{
    struct wk *w;
    unsigned n = 0;

    TAILQ_FOREACH (w, &sup_workers, link) {
        if (is_kept(w) || (!w->kept.pid && bytes + NAME > LIMIT_KEPT_NAMES))
            continue;
        if (sdn_waits_for() >= 0 || n++ == LIMIT_KEEP_AT_ONCE)
            return true;
        keep(w);
    }
    return false;
}

int wk_keep_take(const struct wk *w, const struct facts *f, bool last)
{
    char name[NAME];
    int fd = passed_take_named(name_of(name, w->id, f->pid, f->start));

    if (fd >= 0 && last)
        sdn_forget(name);
    return fd;
}
