/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_keep.h"

#include <inttypes.h>
#include <stdio.h>

#include "agentd/passed.h"
#include "agentd/sup.h"
#include "systemd/sdn.h"

#define NAME 80

static const char *name_of(char name[NAME], int64_t id, pid_t pid, uint64_t start)
{
    snprintf(name, NAME, PASSED_PID "%" PRId64 ".%d.%" PRIu64, id, (int)pid, start);
    return name;
}

static void keep(struct wk *w)
{
    pid_t pid = w->main.fd >= 0 ? w->main.pid : 0;
    char name[NAME];

    if (pid == w->kept.pid && (!pid || w->main.start == w->kept.start))
        return;
    if (w->kept.pid)
        sdn_forget(name_of(name, w->id, w->kept.pid, w->kept.start));
    if (pid)
        sdn_keep(name_of(name, w->id, pid, w->main.start), w->main.fd);
    w->kept.pid = pid;
    w->kept.start = pid ? w->main.start : 0;
}

void wk_keep_all(void)
{
    struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        keep(w);
}

int wk_keep_take(const struct wk *w, const struct facts *f, bool last)
{
    char name[NAME];
    int fd = passed_take_named(name_of(name, w->id, f->pid, f->start));

    if (fd >= 0 && last)
        sdn_forget(name);
    return fd;
}
