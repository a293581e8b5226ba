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

#include "base/array.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/pidref.h"

#define PF_EXITING 0x00000004u
#define PF_KTHREAD 0x00200000u /* include/linux/sched.h */
#define LOOKS 3                /* at a process whose stat is refused: a refusal that passes hides nobody */
#define LISTINGS 16            /* of /proc, until one is whole: for who may wait */
#define LISTINGS_LOOP 4        /* for who may not */

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

/* --- every process, although they come and go ------------------------------------------------------ */

enum look {
    LOOK_DONE,
    LOOK_GONE, /* it has ended: a child of it may be younger than the list */
    LOOK_AGAIN /* the same, or nothing can be said yet: who has its pid in the next list is looked at */
};

struct pids {
    pid_t *pids; /* in order */
    size_t n, size;
};

static int add_pid(struct pids *p, pid_t pid)
{
    int r = array_room(&p->pids, p->n, &p->size, sizeof(*p->pids));

    if (r == 0)
        p->pids[p->n++] = pid;
    return r;
}

static int compare_pids(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

    return (x > y) - (x < y);
}

static bool has_pid(const struct pids *p, pid_t pid)
{
    return p->n && bsearch(&pid, p->pids, p->n, sizeof(pid), compare_pids);
}

static int list_pids(DIR *d, struct pids *ret)
{
    int r = 0;

    rewinddir(d);
    while (r == 0) {
        struct dirent *e;
        errno = 0;
        if (!(e = readdir(d))) {
            r = -errno;
            break;
        }
        if (isdigit((unsigned char)e->d_name[0]))
            r = add_pid(ret, atoi(e->d_name));
    }
    if (ret->n)
        qsort(ret->pids, ret->n, sizeof(pid_t), compare_pids);
    return r;
}

typedef int (*look_fn)(pid_t pid, void *arg); /* enum look, or -errno */

/* The one that was given last, in our pid namespace: proc(5). -1: not known. */
static int last_pid(void)
{
    char text[128], *at;

    if (fd_read_file(AT_FDCWD, "/proc/loadavg", text, sizeof(text)) <= 0 || !(at = strrchr(text, ' ')))
        return -1;
    return atoi(at);
}

/* One listing, and a look at each that the one before did not have: *ret becomes who is known by now. True in
 * *again: somebody may have been missed. */
static int look_at_new(DIR *d, struct pids *known, look_fn look, void *arg, bool *again)
{
    struct pids all = {0}, next = {0};
    int before = last_pid(), r = list_pids(d, &all);

    *again = last_pid() < before; /* a list goes up, and has no one whose pid began anew behind its back */
    for (size_t i = 0; r >= 0 && i < all.n; i++) {
        int is = has_pid(known, all.pids[i]) ? LOOK_DONE : look(all.pids[i], arg);
        *again |= is > LOOK_DONE;
        r = is < 0 ? is : is == LOOK_AGAIN ? 0 : add_pid(&next, all.pids[i]);
    }
    free(all.pids);
    free(known->pids);
    *known = next;
    return r;
}

/* /proc is listed at once, and looked at after: a process that forks and ends in between hides its child. So
 * it is listed again until none had ended: then whoever lives was looked at, or is the child of one who lived
 * when he was. 0, -EAGAIN: they come and go too fast for that; or -errno. */
static int each_process(look_fn look, void *arg, int listings)
{
    struct pids known = {0};
    DIR *d = opendir("/proc");
    bool again = true;
    int r = d ? 0 : -errno;

    for (int i = 0; r == 0 && again && i < listings; i++)
        r = look_at_new(d, &known, look, arg, &again);
    free(known.pids);
    if (d)
        closedir(d);
    return r == 0 && again ? -EAGAIN : r;
}

/* --- a tree ---------------------------------------------------------------------------------------- */

struct proc_row {
    pid_t pid, ppid, session;
    bool in;
};

struct rows {
    struct proc_row *rows;
    size_t n, size;
};

static int add_row(struct rows *rows, const struct proc_row *row)
{
    int r = array_room(&rows->rows, rows->n, &rows->size, sizeof(*rows->rows));

    if (r == 0)
        rows->rows[rows->n++] = *row;
    return r;
}

/* Hidden (proc(5) hidepid, a security module): not ours then. */
static int read_row(pid_t pid, void *arg)
{
    struct pidref_stat st;
    int r = -EIO;

    for (int i = 0; i < LOOKS && r < 0 && r != -ESRCH; i++)
        r = pidref_read_stat(pid, &st);
    if (r == -EACCES || r == -EPERM)
        return LOOK_DONE;
    if (r == -ESRCH || (r == 0 && (st.state == 'X' || st.session < 0))) /* it is in none once it is reaped */
        return LOOK_AGAIN;
    if (r == 0 && st.state == 'Z')
        return LOOK_GONE;
    if (r == 0)
        r = add_row(arg, &(struct proc_row){pid, st.ppid, st.session, false});
    return r < 0 ? r : LOOK_DONE;
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

static int tree_from(pid_t main, pid_t session, int listings, struct snap_tree *ret)
{
    struct rows rows = {0};
    int r = each_process(read_row, &rows, listings);

    *ret = (struct snap_tree){0};
    if ((r == 0 || r == -EAGAIN) && !(ret->pids = calloc(rows.n + 1, sizeof(pid_t))))
        r = -ENOMEM;
    if (ret->pids) {
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
    return tree_from(main, main, LISTINGS_LOOP, ret);
}

int snap_tree_seen(pid_t main, struct snap_tree *ret)
{
    int r = tree_from(main, main, 1, ret);

    return r == -EAGAIN ? 0 : r;
}

int snap_tree_below(pid_t main, struct snap_tree *ret)
{
    return tree_from(main, 0, LISTINGS_LOOP, ret);
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

struct sweep {
    const char *name, *prefix;
    snap_match_fn fn;
    void *arg;
};

/* The nth field of /proc/PID/stat, of those behind the name: proc(5). */
static uint64_t stat_field(const char *text, int nth)
{
    const char *at = strrchr(text, ')');

    for (int n = 2; at && n < nth; n++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

/* It has ended, is about to, or executes a program, and has for a moment not what this field tells of; unless
 * it has it never: a thread of the kernel (field 9). */
static int look_at_ending(pid_t pid, int field)
{
    char path[32], text[1024];
    struct pidref_stat st;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    n = fd_read_file(AT_FDCWD, path, text, sizeof(text));
    if (n == -EACCES || n == -EPERM)
        return LOOK_DONE;
    if (n <= 0 || pidref_parse_stat(text, &st) < 0)
        return LOOK_AGAIN;
    if (st.state == 'Z' || stat_field(text, 9) & PF_EXITING) /* it forks no more, and may take its time */
        return LOOK_GONE;
    return stat_field(text, 9) & PF_KTHREAD || stat_field(text, field) ? LOOK_DONE : LOOK_AGAIN;
}

/* Field 51: where its environment ends; set, too, for one that was started with none. */
static int look_at_empty(pid_t pid)
{
    return look_at_ending(pid, 51);
}

/* Somebody else's. But who is not root is refused his own, too, once they have no memory (field 23). */
static int look_at_refused(pid_t pid)
{
    uid_t uid;

    return snap_uid(pid, &uid) == 0 && uid != getuid() ? LOOK_DONE : look_at_ending(pid, 23);
}

static int look_for_cookie(pid_t pid, void *arg)
{
    const struct sweep *s = arg;
    _cleanup_free_ char *env = NULL;
    char path[32];
    const char *v;
    ssize_t n;
    int fd;

    if (pid == getpid())
        return LOOK_DONE;
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 && (errno == EACCES || errno == EPERM))
        return look_at_refused(pid);
    if (fd < 0)
        return errno == ENOENT || errno == ESRCH ? look_at_empty(pid) : -errno;
    n = fd_read_all(fd, 4 << 20, &env);
    fd_close(fd);
    if (n == -ENOMEM)
        return -ENOMEM;
    if (n <= 0)
        return look_at_empty(pid);
    if (!(v = find_env(env, (size_t)n, s->name)) || !str_starts(v, s->prefix))
        return LOOK_DONE;
    return s->fn(pid, v + strlen(s->prefix), s->arg) ? LOOK_DONE : LOOK_AGAIN;
}

int snap_sweep_cookie(const char *name, const char *prefix, snap_match_fn fn, void *arg)
{
    return each_process(look_for_cookie, &(struct sweep){name, prefix, fn, arg}, LISTINGS);
}

static bool note_match(pid_t pid, const char *rest, void *arg)
{
    *(bool *)arg = true;
    return true;
}

int snap_carries(pid_t pid, const char *name, const char *prefix)
{
    bool found = false;
    int r = look_for_cookie(pid, &(struct sweep){name, prefix, note_match, &found});

    return r < 0 ? r : r != LOOK_DONE ? -EAGAIN : found;
}
