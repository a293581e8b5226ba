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

#define LOOKS 3 /* at a process whose stat is refused: a refusal that passes hides nobody */

void snap_tree_done(struct snap_tree *t)
{
    free(t->pids);
    *t = (struct snap_tree){0};
}

bool snap_tree_has(const struct snap_tree *t, pid_t pid)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->pids[i] == pid)
            return true;
    return false;
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

struct rows {
    struct proc_row *rows;
    size_t n, size;
};

/* 1, 0: not there, or hidden (proc(5) hidepid, a security module: not ours then), or -errno. */
static int read_row(pid_t pid, struct proc_row *ret)
{
    struct pidref_stat st;
    int r = -EIO;

    for (int i = 0; i < LOOKS && r < 0 && r != -ESRCH; i++)
        r = pidref_read_stat(pid, &st);
    if (r == -ESRCH || r == -EACCES || r == -EPERM)
        return 0;
    if (r < 0)
        return r;
    *ret = (struct proc_row){pid, st.ppid, st.session, false};
    return st.state != 'Z';
}

static int add_row(struct rows *rows, const struct proc_row *row)
{
    if (rows->n == rows->size) {
        size_t size = rows->size ? rows->size * 2 : 256;
        struct proc_row *p = realloc(rows->rows, size * sizeof(*p));
        if (!p)
            return -ENOMEM;
        rows->rows = p;
        rows->size = size;
    }
    rows->rows[rows->n++] = *row;
    return 0;
}

/* Every process with its parent and session: all of them or an error. A tree that lacks a member would be
 * taken for the whole. */
static int read_rows(struct rows *ret)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    int r = 0;

    if (!d)
        return -errno;
    while (r >= 0) {
        struct proc_row row;
        errno = 0;
        if (!(e = readdir(d))) {
            r = -errno;
            break;
        }
        if (isdigit((unsigned char)e->d_name[0]) && (r = read_row(atoi(e->d_name), &row)) > 0)
            r = add_row(ret, &row);
    }
    closedir(d);
    return r < 0 ? r : 0;
}

static bool has_member(const struct rows *r, pid_t pid)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->rows[i].in && r->rows[i].pid == pid)
            return true;
    return false;
}

static void mark_members(struct rows *r, pid_t main, pid_t session)
{
    bool grown = true;

    for (size_t i = 0; i < r->n; i++)
        r->rows[i].in = r->rows[i].pid == main || (session && r->rows[i].session == session);
    while (grown) {
        grown = false;
        for (size_t i = 0; i < r->n; i++)
            if (!r->rows[i].in && has_member(r, r->rows[i].ppid))
                grown = r->rows[i].in = true;
    }
}

static int tree_from(pid_t main, pid_t session, struct snap_tree *ret)
{
    struct rows rows = {0};
    int r = read_rows(&rows);

    *ret = (struct snap_tree){0};
    if (r == 0 && !(ret->pids = calloc(rows.n + 1, sizeof(pid_t))))
        r = -ENOMEM;
    if (r == 0) {
        mark_members(&rows, main, session);
        for (size_t i = 0; i < rows.n; i++)
            if (rows.rows[i].in)
                ret->pids[ret->n++] = rows.rows[i].pid;
    }
    free(rows.rows);
    return r;
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
