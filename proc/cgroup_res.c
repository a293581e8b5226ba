/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/cgroup_res.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/feature.h"
#include "base/str.h"

#define PERIOD_US 100000
#define PERIOD_MAX_US 1000000
#define QUOTA_MIN_US 1000 /* the kernel takes no less */

static const char *const controllers[] = {"cpu", "memory", "pids"}; /* in the order of their bits */

/* --- how a value is written ------------------------------------------------------------------------------
 */

static void put_number(enum cgroup_amount kind, uint64_t v, char *text)
{
    if (kind == CGROUP_INFINITE)
        str_copy(text, CGROUP_RES_TEXT, "max");
    else
        snprintf(text, CGROUP_RES_TEXT, "%" PRIu64, v);
}

/* A share so small that a period has no quota for it gets a longer period, as in systemd. */
static void put_quota(enum cgroup_amount kind, uint64_t v, char *text)
{
    uint64_t period = PERIOD_US, quota = v * PERIOD_US / 10000;

    if (quota < QUOTA_MIN_US) {
        quota = QUOTA_MIN_US;
        period = v ? QUOTA_MIN_US * 10000 / v : PERIOD_MAX_US;
    }
    if (period > PERIOD_MAX_US)
        period = PERIOD_MAX_US;
    snprintf(text, CGROUP_RES_TEXT, "%" PRIu64 " %" PRIu64, quota, period);
}

/* In whole pages: so it is read back. */
static void put_bytes(enum cgroup_amount kind, uint64_t v, char *text)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = (uint64_t)sysconf(_SC_PHYS_PAGES);

    if (kind == CGROUP_PARTS)
        v = pages * v / 10000 * page;
    put_number(kind, v / page * page, text);
}

static uint64_t read_number(int dir, const char *path)
{
    char text[32];

    return fd_read_file(dir, path, text, sizeof(text)) > 0 ? strtoull(text, NULL, 10) : UINT64_MAX;
}

static void put_tasks(enum cgroup_amount kind, uint64_t v, char *text)
{
    uint64_t pids, threads;

    if (kind == CGROUP_PARTS) {
        pids = read_number(AT_FDCWD, "/proc/sys/kernel/pid_max");
        threads = read_number(AT_FDCWD, "/proc/sys/kernel/threads-max");
        pids = pids < threads ? pids : threads;
        v = pids == UINT64_MAX ? pids : pids * v / 10000;
        kind = v == UINT64_MAX ? CGROUP_INFINITE : kind;
    }
    put_number(kind, v, text);
}

static const struct {
    const char *key, *file, *unset;
    unsigned controller;
    void (*put)(enum cgroup_amount kind, uint64_t v, char *text);
} rows[CGROUP_RES_MAX] = {
#define CGROUP_RES(name, key, controller, file, unset, form) {key, file, unset, CGROUP_##controller, form},
#include "proc/cgroup_res.def"
#undef CGROUP_RES
};

const char *cgroup_res_key(enum cgroup_res_row row)
{
    return rows[row].key;
}

bool cgroup_res_is_set(const struct cgroup_res *r, enum cgroup_res_row row)
{
    return r && r->row[row].kind != CGROUP_UNSET;
}

const char *cgroup_res_text(const struct cgroup_res *r, enum cgroup_res_row row, char text[CGROUP_RES_TEXT])
{
    if (cgroup_res_is_set(r, row))
        rows[row].put(r->row[row].kind, r->row[row].v, text);
    else
        str_copy(text, CGROUP_RES_TEXT, rows[row].unset);
    return text;
}

uint64_t cgroup_res_hash(const struct cgroup_res *r)
{
    uint64_t h = 0;

    for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
        if (cgroup_res_is_set(r, i)) {
            uint64_t v[] = {i, r->row[i].kind, r->row[i].v};
            h = str_hash(h ? h : STR_HASH_INIT, v, sizeof(v));
        }
    return h;
}

/* --- controllers ------------------------------------------------------------------------------------------
 */

unsigned cgroup_res_needs(const struct cgroup_res *r)
{
    unsigned needs = 0;

    for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
        if (cgroup_res_is_set(r, i))
            needs |= rows[i].controller;
    return needs;
}

unsigned cgroup_res_lost(const struct cgroup_res *r, unsigned have)
{
    unsigned lost = 0;

    for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
        if (cgroup_res_is_set(r, i) && !(have & rows[i].controller))
            lost |= 1u << i;
    return lost;
}

/* The controllers that a file lists. */
static unsigned read_controllers(int dir, const char *file)
{
    char text[512], *at = text, *word;
    unsigned found = 0;

    if (fd_read_file(dir, file, text, sizeof(text)) < 0)
        return 0;
    while ((word = strsep(&at, " \n")))
        for (unsigned i = 0; i < ARRAY_LEN(controllers); i++)
            if (str_eq(word, controllers[i]))
                found |= 1u << i;
    return found;
}

void cgroup_res_find_features(const struct cgroup_root *root)
{
    static const enum feature_id ids[] = {FEATURE_CPU, FEATURE_MEMORY, FEATURE_PIDS};
    unsigned there = root->fd < 0 ? 0 : read_controllers(root->fd, "cgroup.controllers");

    for (unsigned i = 0; i < ARRAY_LEN(ids) && root->fd >= 0; i++)
        feature_note(ids[i], there & 1u << i);
}

int cgroup_res_enable(struct cgroup_root *root, unsigned wanted)
{
    unsigned there;
    char text[16];
    int r, error = 0;

    if (root->fd < 0)
        return 0;
    root->controllers = read_controllers(root->fd, "cgroup.subtree_control");
    if (!(wanted & ~root->controllers))
        return 0;
    there = read_controllers(root->fd, "cgroup.controllers");
    /* One by one: a list is taken whole or not at all. */
    for (unsigned i = 0; i < ARRAY_LEN(controllers); i++) {
        if (!(wanted & there & ~root->controllers & 1u << i))
            continue;
        snprintf(text, sizeof(text), "+%s", controllers[i]);
        if ((r = fd_write_file(root->fd, "cgroup.subtree_control", text)) == 0)
            root->controllers |= 1u << i;
        else
            error = error ? error : r;
    }
    return error;
}

/* --- a leaf's files ---------------------------------------------------------------------------------------
 */

/* What is to be written is not there yet. A file that is missing has nothing to be put back. */
static bool row_differs(int leaf, const struct cgroup_res *r, unsigned row, char text[CGROUP_RES_TEXT])
{
    char now[CGROUP_RES_TEXT];
    ssize_t n = fd_read_file(leaf, rows[row].file, now, sizeof(now));

    cgroup_res_text(r, row, text);
    if (n < 0)
        return cgroup_res_is_set(r, row);
    now[strcspn(now, "\n")] = 0;
    return !str_eq(now, text);
}

bool cgroup_res_differs(const struct cgroup_leaf *leaf, const struct cgroup_res *r, unsigned have)
{
    char text[CGROUP_RES_TEXT];

    for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
        if (have & rows[i].controller && row_differs(leaf->fd, r, i, text))
            return true;
    return false;
}

static void apply_row(int leaf, const struct cgroup_res *r, unsigned row, struct cgroup_res_result *ret)
{
    char text[CGROUP_RES_TEXT];
    int e;

    if (!row_differs(leaf, r, row, text) || (e = fd_write_file(leaf, rows[row].file, text)) == 0)
        return;
    ret->failed |= 1u << row;
    ret->error = ret->error ? ret->error : e;
}

void cgroup_res_apply(const struct cgroup_leaf *leaf, const struct cgroup_res *r, unsigned have,
                      struct cgroup_res_result *ret)
{
    *ret = (struct cgroup_res_result){0};
    /* First what is put back: cpu.idle refuses a weight beside it. */
    for (int set = 0; set <= 1; set++)
        for (unsigned i = 0; i < CGROUP_RES_MAX; i++)
            if (have & rows[i].controller && cgroup_res_is_set(r, i) == set)
                apply_row(leaf->fd, r, i, ret);
}

int cgroup_res_read(const struct cgroup_leaf *leaf, const char *file, const char *name, uint64_t *ret)
{
    char text[2048];
    size_t len = name ? strlen(name) : 0;
    ssize_t n;

    if (leaf->fd < 0)
        return -EOPNOTSUPP;
    if ((n = fd_read_file(leaf->fd, file, text, sizeof(text))) < 0)
        return (int)n;
    for (char *at = text; at; at = strchr(at, '\n'), at += at ? 1 : 0)
        if (!name || (strncmp(at, name, len) == 0 && at[len] == ' ')) {
            *ret = strtoull(at + len, NULL, 10);
            return 0;
        }
    return -ENODATA;
}
