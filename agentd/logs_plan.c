/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_plan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "agentd/logs_chain.h"
#include "agentd/logs_name.h"
#include "agentd/logs_read.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define TRIES 8 /* until two lists of a folder are the same: names move while files are rotated */

struct listing {
    const struct logs_wanted *wanted;
    struct logs_plan *plan;
    const struct wk_def *def;
    const char *folder;
    const char *pattern; /* of LogFilePattern=; NULL: of captured output, */
    const char *output;  /* which has this name */
    int dir;
    int error;
};

/* --- what is wanted ------------------------------------------------------------------------------------- */

static bool is_wanted(const struct logs_wanted *w, const struct wk_def *def, const char *name)
{
    for (unsigned i = 0; i < w->query->n_types; i++) {
        const char *type = w->query->types[i];
        if (w->is_alias[i] ? str_eq(type, def->alias) : logs_name_is_type(name, type))
            return true;
    }
    return false;
}

static bool is_of(const struct listing *l, const char *name, const struct logs_name *n)
{
    char stem[256];

    snprintf(stem, sizeof(stem), "%.*s", (int)n->stem, name);
    if (!l->pattern)
        return str_eq(stem, l->output);
    return fnmatch(l->pattern, name, FNM_PERIOD) == 0 || fnmatch(l->pattern, stem, FNM_PERIOD) == 0;
}

static int64_t us_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000;
}

static void add(struct listing *l, const char *name, const struct logs_name *n, const struct stat *st)
{
    struct logs_plan *p = l->plan;
    struct logs_source *s = p->n < LIMIT_LOG_SOURCES ? calloc(1, sizeof(*s)) : NULL;

    if (!s) {
        l->error = p->n < LIMIT_LOG_SOURCES ? -ENOMEM : -E2BIG;
        return;
    }
    p->v[p->n++] = s;
    str_copy(s->folder, sizeof(s->folder), l->folder);
    str_copy(s->name, sizeof(s->name), name);
    s->def = l->def;
    s->stem = n->stem;
    s->file = logs_plan_file(l->dir, name, st);
    s->mtime_us = us_of(&st->st_mtim);
    s->born_us = INT64_MIN;
    s->packed = n->packed;
    s->in_numbers = n->kind == LOGS_NAME_NUMBER;
    s->live = n->kind == LOGS_NAME_PLAIN && !n->packed;
}

typedef void (*take_fn)(struct listing *l, const char *name, const struct logs_name *n,
                        const struct stat *st);

static void each_file(struct listing *l, take_fn take)
{
    DIR *dir = opendir(l->folder);
    struct logs_name n;
    struct dirent *e;
    struct stat st;

    l->dir = dir ? dirfd(dir) : -1;
    while (dir && !l->error && (e = readdir(dir)))
        if (logs_name_read(e->d_name, &n) && is_of(l, e->d_name, &n) &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            take(l, e->d_name, &n, &st);
    if (dir)
        closedir(dir);
}

static void take_wanted(struct listing *l, const char *name, const struct logs_name *n, const struct stat *st)
{
    if (is_wanted(l->wanted, l->def, name))
        add(l, name, n, st);
}

/* Nothing is looked for where no name can be the right one. */
static void list_output(struct listing *l, const struct cfg_output_to *to, take_fn take)
{
    char folder[4096];
    const char *name = to->kind == CFG_OUT_APPEND ? logs_name_split(to->path, folder, sizeof(folder)) : NULL;

    if (!name || (take == take_wanted && !is_wanted(l->wanted, l->def, name)))
        return;
    l->folder = folder;
    l->pattern = NULL;
    l->output = name;
    each_file(l, take);
}

static void list_pattern(struct listing *l, take_fn take)
{
    char folder[4096];

    if (!(l->pattern = logs_name_split(l->def->log_pattern, folder, sizeof(folder))))
        return;
    l->folder = folder;
    each_file(l, take);
}

static void list_all(struct listing *l, take_fn take)
{
    for (unsigned i = 0; i < l->wanted->n && !l->error; i++) {
        l->def = l->wanted->defs[i];
        list_output(l, &l->def->out, take);
        list_output(l, &l->def->err, take);
        list_pattern(l, take);
    }
}

/* --- their order ---------------------------------------------------------------------------------------- */

static bool is_same_log(const struct logs_source *a, const struct logs_source *b)
{
    return a->stem == b->stem && memcmp(a->name, b->name, a->stem) == 0 && str_eq(a->folder, b->folder);
}

static int by_log(const struct logs_source *a, const struct logs_source *b)
{
    char x[256], y[256];
    int r;

    snprintf(x, sizeof(x), "%.*s", (int)a->stem, a->name);
    snprintf(y, sizeof(y), "%.*s", (int)b->stem, b->name);
    r = strverscmp(x, y);
    return r ? r : strcmp(a->folder, b->folder);
}

static int by_place(const void *x, const void *y)
{
    const struct logs_source *a = *(struct logs_source *const *)x, *b = *(struct logs_source *const *)y;
    int r = by_log(a, b);

    return r ? r : logs_name_compare(a->name + a->stem, b->name + b->stem);
}

static void sort(struct logs_plan *p)
{
    qsort(p->v, p->n, sizeof(p->v[0]), by_place);
}

static void free_source(struct logs_source *s)
{
    free(s->parts);
    free(s->beyond);
    free(s);
}

static void take_out_dropped(struct logs_plan *p)
{
    unsigned n = 0;

    for (unsigned i = 0; i < p->n; i++)
        if (p->v[i]->dropped)
            free_source(p->v[i]);
        else
            p->v[n++] = p->v[i];
    p->n = n;
}

static int by_inode(const void *x, const void *y)
{
    const struct logs_source *a = *(struct logs_source *const *)x, *b = *(struct logs_source *const *)y;

    if (a->file.ino != b->file.ino)
        return a->file.ino < b->file.ino ? -1 : 1;
    return a->file.dev < b->file.dev ? -1 : a->file.dev > b->file.dev;
}

/* Two workers may name the same file, and a file may have been renamed while its folder was listed. */
static void drop_twins(struct logs_plan *p)
{
    qsort(p->v, p->n, sizeof(p->v[0]), by_inode);
    for (unsigned i = 1; i < p->n; i++)
        if (by_inode(&p->v[i - 1], &p->v[i]) == 0)
            p->v[i]->dropped = true;
    take_out_dropped(p);
}

/* That log has a file by this name, with tail cut off or put on. */
static bool has_name(const struct logs_plan *p, const struct logs_source *s, size_t n)
{
    for (unsigned i = 0; i < p->n; i++)
        if (strlen(p->v[i]->name) == n && memcmp(p->v[i]->name, s->name, n) == 0 &&
            str_eq(p->v[i]->folder, s->folder))
            return true;
    return false;
}

static bool has_stem(const struct logs_plan *p, const struct logs_source *s, size_t n)
{
    for (unsigned i = 0; i < p->n; i++)
        if (p->v[i]->stem == n && memcmp(p->v[i]->name, s->name, n) == 0 &&
            str_eq(p->v[i]->folder, s->folder))
            return true;
    return false;
}

/* What is being compressed is there twice, and so is each warning of OceanBase's: in NAME.wf too. */
static void drop_repeats(struct logs_plan *p)
{
    for (unsigned i = 0; i < p->n; i++) {
        struct logs_source *s = p->v[i];
        if (s->packed && has_name(p, s, strlen(s->name) - strlen(LOGS_NAME_PACKED)))
            s->dropped = true;
        if (s->stem > 3 && memcmp(s->name + s->stem - 3, ".wf", 3) == 0 && has_stem(p, s, s->stem - 3))
            s->dropped = true;
    }
    take_out_dropped(p);
}

static void list_once(const struct logs_wanted *w, struct logs_plan *p, int *error)
{
    struct listing l = {.wanted = w, .plan = p};

    p->n = 0;
    p->v = calloc(LIMIT_LOG_SOURCES, sizeof(p->v[0]));
    *error = p->v ? 0 : -ENOMEM;
    if (*error)
        return;
    list_all(&l, take_wanted);
    *error = l.error;
    drop_twins(p);
    sort(p);
}

static bool are_same(const struct logs_plan *a, const struct logs_plan *b)
{
    for (unsigned i = 0; a->n == b->n && i < a->n; i++)
        if (by_inode(&a->v[i], &b->v[i]) != 0 || !str_eq(a->v[i]->name, b->v[i]->name))
            return false;
    return a->n == b->n;
}

/* What agentd's own rotation has cut off takes the places of its numbers in the list. */
static int link_chains(struct logs_plan *p)
{
    for (unsigned i = 0, n = p->n; i < n; i++) {
        int r = p->v[i]->live ? logs_chain_find(p->v[i]) : 0;
        if (r < 0)
            return r;
        for (unsigned k = 0; r && k < n; k++)
            if (p->v[k]->in_numbers && is_same_log(p->v[i], p->v[k]) &&
                !logs_chain_is_beyond(p->v[i], p->v[k]))
                p->v[k]->dropped = true;
    }
    take_out_dropped(p);
    return 0;
}

/* Who writes may go on with the earlier file until he opens the new one: that is not begun before there is
 * something in it, and the earlier one is the last. */
static void drop_unbegun(struct logs_plan *p)
{
    for (unsigned i = 1; i < p->n; i++)
        if (p->v[i]->live && !p->v[i]->file.size && is_same_log(p->v[i - 1], p->v[i]))
            p->v[i]->dropped = true;
    take_out_dropped(p);
}

static void find_births(struct logs_plan *p)
{
    for (unsigned i = 1; i < p->n; i++)
        if (is_same_log(p->v[i - 1], p->v[i]) && !p->v[i]->cut)
            p->v[i]->born_us = p->v[i - 1]->mtime_us;
    for (unsigned i = 0; i < p->n; i++)
        p->v[i]->is_last = i + 1 == p->n || !is_same_log(p->v[i], p->v[i + 1]);
}

int logs_plan_make(const struct logs_wanted *w, struct logs_plan *ret)
{
    struct logs_plan before = {0};
    int error = 0;

    *ret = before;
    for (int i = 0; i < TRIES && !error; i++) {
        logs_plan_free(&before);
        before = *ret;
        list_once(w, ret, &error);
        if (i > 0 && are_same(ret, &before))
            break;
    }
    logs_plan_free(&before);
    if (!error)
        error = link_chains(ret);
    if (error)
        return error;
    drop_repeats(ret);
    drop_unbegun(ret);
    find_births(ret);
    return 0;
}

void logs_plan_free(struct logs_plan *p)
{
    for (unsigned i = 0; i < p->n; i++)
        free_source(p->v[i]);
    free(p->v);
    *p = (struct logs_plan){0};
}

/* --- a place in it -------------------------------------------------------------------------------------- */

uint32_t logs_plan_check(const struct logs_source *s)
{
    return s->cut ? 0 : logs_read_check(s);
}

int logs_plan_find(const struct logs_plan *p, const struct logs_place *place)
{
    int found = -1;

    for (unsigned i = 0; i < p->n; i++)
        if (p->v[i]->file.ino == place->ino && p->v[i]->file.dev == place->dev &&
            (p->v[i]->cut || !place->check || logs_plan_check(p->v[i]) == place->check))
            return (int)i;
    for (unsigned i = 0; place->check && i < p->n; i++)
        if (logs_plan_check(p->v[i]) == place->check) {
            if (found >= 0)
                return -1; /* which of them? */
            found = (int)i;
        }
    return found;
}

/* --- what could be asked for ---------------------------------------------------------------------------- */

struct telling {
    struct listing l;
    bool (*tell)(const char *name, size_t n, void *arg);
    void *arg;
};

static void take_name(struct listing *l, const char *name, const struct logs_name *n, const struct stat *st)
{
    struct telling *t = (struct telling *)l;

    if (!t->tell(name, strcspn(name, "."), t->arg))
        l->error = -E2BIG;
}

void logs_plan_tell(const struct logs_wanted *w, bool (*tell)(const char *name, size_t n, void *arg),
                    void *arg)
{
    struct telling t = {.l = {.wanted = w}, .tell = tell, .arg = arg};

    list_all(&t.l, take_name);
}

/* --- opening -------------------------------------------------------------------------------------------- */

struct logs_file logs_plan_file(int dir, const char *name, const struct stat *st)
{
    struct logs_file f = {st->st_dev, st->st_ino, 0, (uint64_t)st->st_size};
    struct statx x;

    if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BTIME, &x) == 0 &&
        x.stx_mask & STATX_BTIME)
        f.birth_ns = (int64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    return f;
}

static bool is_file(const struct logs_file *f, int dir, const char *name, const struct stat *st)
{
    struct logs_file other;

    if (st->st_ino != f->ino || st->st_dev != f->dev)
        return false;
    other = logs_plan_file(dir, name, st);
    return other.birth_ns == f->birth_ns;
}

static bool find_file(int folder, const struct logs_file *f, char *name, size_t size)
{
    int copy = fcntl(folder, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *e;
    struct stat st;
    bool found = false;

    if (!dir) {
        fd_close(copy);
        return false;
    }
    rewinddir(dir);
    while (!found && (e = readdir(dir)))
        if (fstatat(folder, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_file(f, folder, e->d_name, &st)) {
            str_copy(name, size, e->d_name);
            found = true;
        }
    closedir(dir);
    return found;
}

int logs_plan_open(const struct logs_source *s, const char *name, const struct logs_file *file, char *why,
                   size_t size)
{
    _cleanup_close_ int dir = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char now[256];
    struct stat st;
    int fd = -ENOENT;

    str_copy(now, sizeof(now), name);
    for (int i = 0; dir >= 0 && i < TRIES; i++) {
        fd = logs_open_at(dir, now, O_RDONLY, &s->def->ids, why, size);
        if (fd >= 0 && fstat(fd, &st) == 0 && is_file(file, fd, "", &st))
            return fd;
        if (fd < 0 && fd != -ENOENT)
            return fd;
        if (fd >= 0)
            fd_close(fd);
        if (!find_file(dir, file, now, sizeof(now)))
            break;
    }
    return -ENOENT;
}
