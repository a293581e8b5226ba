/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/snap.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/pidref.h"

void snap_tree_done(struct snap_tree *t)
{
    free(t->pids);
    *t = (struct snap_tree){0};
}

int snap_tree_of_leaf(const struct cgroup_leaf *leaf, struct snap_tree *ret)
{
    size_t max = 16;

    *ret = (struct snap_tree){0};
    for (;;) {
        pid_t *p = realloc(ret->pids, max * sizeof(*p));
        ssize_t n;
        if (!p) {
            snap_tree_done(ret);
            return -ENOMEM;
        }
        ret->pids = p;
        n = cgroup_leaf_pids(leaf, p, max);
        if (n < 0) {
            snap_tree_done(ret);
            return (int)n;
        }
        ret->n = (size_t)n < max ? (size_t)n : max;
        if ((size_t)n <= max || max >= LIMIT_TREE_PIDS)
            return 0;
        max = (size_t)n + 16;
    }
}

struct proc_row {
    pid_t pid, ppid, session;
    bool in;
};

/* Every process with its parent and session. */
static ssize_t read_rows(struct proc_row **ret)
{
    DIR *d = opendir("/proc");
    size_t n = 0, size = 0;
    struct proc_row *rows = NULL;
    struct dirent *e;

    if (!d)
        return -errno;
    while ((e = readdir(d))) {
        struct pidref_stat st;
        if (!isdigit((unsigned char)e->d_name[0]) || pidref_read_stat(atoi(e->d_name), &st) < 0 ||
            st.state == 'Z')
            continue;
        if (n == size) {
            struct proc_row *p = realloc(rows, (size = size ? size * 2 : 256) * sizeof(*p));
            if (!p)
                break;
            rows = p;
        }
        rows[n++] = (struct proc_row){atoi(e->d_name), st.ppid, st.session, false};
    }
    closedir(d);
    *ret = rows;
    return (ssize_t)n;
}

static bool has_member(const struct proc_row *rows, ssize_t n, pid_t pid)
{
    for (ssize_t i = 0; i < n; i++)
        if (rows[i].in && rows[i].pid == pid)
            return true;
    return false;
}

static int tree_from(pid_t main, pid_t session, struct snap_tree *ret)
{
    _cleanup_free_ struct proc_row *rows = NULL;
    ssize_t n = read_rows(&rows);
    bool grown = true;

    *ret = (struct snap_tree){0};
    if (n < 0)
        return (int)n;
    for (ssize_t i = 0; i < n; i++)
        rows[i].in = rows[i].pid == main || (session && rows[i].session == session);
    while (grown) {
        grown = false;
        for (ssize_t i = 0; i < n; i++)
            if (!rows[i].in && has_member(rows, n, rows[i].ppid))
                grown = rows[i].in = true;
    }
    if (!(ret->pids = calloc((size_t)n + 1, sizeof(pid_t))))
        return -ENOMEM;
    for (ssize_t i = 0; i < n; i++)
        if (rows[i].in)
            ret->pids[ret->n++] = rows[i].pid;
    return 0;
}

int snap_tree_of_session(pid_t main, struct snap_tree *ret)
{
    return tree_from(main, main, ret);
}

int snap_tree_below(pid_t main, struct snap_tree *ret)
{
    return tree_from(main, 0, ret);
}

void snap_usage(const struct snap_tree *t, struct snap_usage *ret)
{
    uint64_t ticks = 0;

    *ret = (struct snap_usage){0};
    for (size_t i = 0; i < t->n; i++) {
        struct pidref_stat st;
        if (pidref_read_stat(t->pids[i], &st) < 0 || st.state == 'Z')
            continue;
        ret->processes++;
        ticks += st.cpu_ticks;
        ret->memory += st.rss_bytes;
    }
    ret->cpu_us = pidref_start_us(ticks); /* ticks of the same length */
}

int snap_uid(pid_t pid, uid_t *ret)
{
    char path[32];
    struct stat st;
    char text[2048], *at;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    /* The folder's owner is root for processes that are not dumpable: the Uid line tells the truth. */
    if (fd_read_file(AT_FDCWD, path, text, sizeof(text)) > 0 && (at = strstr(text, "\nUid:\t"))) {
        *ret = (uid_t)strtoul(at + 6, NULL, 10);
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (stat(path, &st) < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    *ret = st.st_uid;
    return 0;
}

/* The value of NAME= in a block of NUL-ended strings, or NULL. */
static const char *find_env(const char *block, size_t len, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = block; at < block + len; at += strlen(at) + 1)
        if (strncmp(at, name, n) == 0 && at[n] == '=')
            return at + n + 1;
    return NULL;
}

int snap_sweep_cookie(const char *name, const char *prefix,
                      void (*fn)(pid_t pid, const char *rest, void *arg), void *arg)
{
    DIR *d = opendir("/proc");
    struct dirent *e;

    if (!d)
        return -errno;
    while ((e = readdir(d))) {
        _cleanup_free_ char *env = NULL;
        char path[300];
        const char *v;
        ssize_t n;
        int fd;
        if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == getpid())
            continue;
        snprintf(path, sizeof(path), "%s/environ", e->d_name);
        if ((fd = openat(dirfd(d), path, O_RDONLY | O_CLOEXEC)) < 0)
            continue;
        n = fd_read_all(fd, 4 << 20, &env);
        fd_close(fd);
        if (n > 0 && (v = find_env(env, (size_t)n, name)) && str_starts(v, prefix))
            fn(atoi(e->d_name), v + strlen(prefix), arg);
    }
    closedir(d);
    return 0;
}
