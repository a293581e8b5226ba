/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/paths.h"

#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "base/fd.h"
#include "base/log.h"

#define SETTLE_US 20000 /* and no faster than this, whoever plays with the folder */

static int fd = -1;
static struct loop_watch *watch, *settle;
static void (*changed)(void);

static void on_settled(int unused, short what, void *arg)
{
    loop_free(&settle);
    changed();
}

static void on_events(int unused, short what, void *arg)
{
    char events[4096];

    while (read(fd, events, sizeof(events)) > 0)
        ;
    if (!settle)
        settle = loop_timer(SETTLE_US, on_settled, NULL);
}

void paths_init(void (*fn)(void))
{
    changed = fn;
    fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    watch = fd < 0 ? NULL : loop_io(fd, LOOP_READ, on_events, NULL);
    if (!watch)
        log_warn("paths", "a socket's path that is removed will not be noticed before SIGUSR1: inotify: %m");
}

void paths_watch(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[600];

    if (fd < 0 || !slash)
        return;
    snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (inotify_add_watch(fd, folder, IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR) < 0)
        log_warn("paths", "%s can't be watched: %m", folder);
}

void paths_done(void)
{
    loop_free(&watch);
    loop_free(&settle);
    fd = fd_close(fd);
}
