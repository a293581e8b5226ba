/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_older.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "agentd/logs_name.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static int by_time(const void *a, const void *b)
{
    const struct logs_older *o = NULL;
    const __typeof__(o->v[0]) *x = a, *y = b;

    return x->mtime_ns < y->mtime_ns ? -1 : x->mtime_ns > y->mtime_ns;
}

/* Of too many the one that was written to first gives its place. */
static void add(struct logs_older *o, const char *name, const struct stat *st)
{
    unsigned at = o->n;

    if (o->n == LIMIT_LOG_OLDER) {
        at = 0;
        for (unsigned i = 1; i < o->n; i++)
            if (o->v[i].mtime_ns < o->v[at].mtime_ns)
                at = i;
    } else {
        o->n++;
    }
    str_copy(o->v[at].name, sizeof(o->v[at].name), name);
    o->v[at].dev = st->st_dev;
    o->v[at].ino = st->st_ino;
    o->v[at].size = (uint64_t)st->st_size;
    o->v[at].mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* What matches the worker's own pattern, or has a number or a date behind the log's name, as logrotate(8)
 * does it. */
static bool is_older_name(const char *name, const char *stem, const char *pattern)
{
    const char *rest = name + strlen(stem);

    if (!str_starts(name, stem) || logs_name_is_packed(name))
        return false;
    if ((*rest == '.' || *rest == '-') && rest[1] && rest[1 + strspn(rest + 1, "0123456789")] == 0)
        return true;
    return pattern && fnmatch(pattern, name, FNM_PERIOD) == 0;
}

static void list(struct logs_older *o, const char *stem, const char *pattern, const struct stat *live)
{
    DIR *dir = opendir(o->folder);
    struct dirent *e;
    struct stat st;

    if (!dir)
        return;
    while ((e = readdir(dir)))
        if (is_older_name(e->d_name, stem, pattern) &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            (st.st_ino != live->st_ino || st.st_dev != live->st_dev))
            add(o, e->d_name, &st);
    closedir(dir);
    qsort(o->v, o->n, sizeof(o->v[0]), by_time);
}

static void find_all(struct logs_older *o, const char *path, const char *pattern, const struct stat *live)
{
    const char *name = logs_name_split(path, o->folder, sizeof(o->folder));

    o->n = o->next = 0;
    o->fd = -1;
    list(o, name, pattern, live);
}

bool logs_older_find(struct logs_older *o, const char *path, const char *pattern, const struct stat *live,
                     uint64_t dev, uint64_t ino, uint64_t *from)
{
    find_all(o, path, pattern, live);
    while (o->next < o->n && (o->v[o->next].ino != ino || o->v[o->next].dev != dev))
        o->next++;
    if (o->next == o->n)
        return false;
    for (o->at = *from; o->next < o->n && o->at > o->v[o->next].size; o->next++)
        o->at -= o->v[o->next].size;
    *from = o->next < o->n ? 0 : o->at;
    return true;
}

/* Named again by a further rotation meanwhile, it is another file: then it is left out, and nothing else is
 * taken for it. */
static bool open_next(struct logs_older *o, const struct cfg_ids *ids)
{
    char path[sizeof(o->folder) + sizeof(o->v[0].name)], why[160];
    struct stat st;

    snprintf(path, sizeof(path), "%s%s", o->folder, o->v[o->next].name);
    o->fd = logs_open_file(path, ids, why, sizeof(why));
    if (o->fd >= 0 && fstat(o->fd, &st) == 0 && st.st_ino == o->v[o->next].ino &&
        st.st_dev == o->v[o->next].dev)
        return true;
    o->fd = fd_close(o->fd);
    return false;
}

ssize_t logs_older_read(struct logs_older *o, const struct cfg_ids *ids, char *buf, size_t n)
{
    ssize_t got;

    for (; o->next < o->n; o->next++, o->at = 0) {
        if (o->fd < 0 && !open_next(o, ids))
            continue;
        got = pread(o->fd, buf, n, (off_t)o->at);
        if (got > 0) {
            o->at += (uint64_t)got;
            return got;
        }
        o->fd = fd_close(o->fd);
    }
    return 0;
}

int logs_older_newest(struct logs_older *o, const char *path, const char *pattern, const struct cfg_ids *ids)
{
    static const struct stat none;
    int fd = -ENOENT;

    find_all(o, path, pattern, &none);
    if (o->n) {
        o->next = o->n - 1;
        fd = open_next(o, ids) ? TAKE_FD(o->fd) : -ENOENT;
    }
    o->n = o->next = 0;
    return fd;
}
