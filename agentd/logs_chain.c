/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "agentd/logs_plan.h"
#include "agentd/rotate_cut.h"
#include "agentd/rotate_dir.h"
#include "agentd/rotate_head.h"
#include "base/array.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

/* One numbered file: plain, or packed. */
struct piece {
    char name[256];
    struct logs_file file;
    uint64_t size; /* unpacked */
};

struct walk {
    struct logs_source *s;
    int dir;
    unsigned no;    /* of the next piece */
    uint64_t first; /* the place of the first byte that is known to be in a piece, or in the live file */
};

/* RFC 1952: its last four bytes say how long it was, modulo 2^32. */
static bool unpacked_size(int fd, const struct stat *st, uint64_t *ret)
{
    unsigned char b[4];

    if (st->st_size < 18 || fd_read_at(fd, b, 4, st->st_size - 4) != 4)
        return false;
    *ret = (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24;
    return true;
}

static bool look(const struct walk *w, enum rotate_form form, struct piece *ret)
{
    char why[160];
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (!rotate_cut_name(w->s->name, form, w->no, ret->name, sizeof(ret->name)))
        return false;
    fd = logs_open_at(w->dir, ret->name, O_RDONLY, &w->s->def->ids, why, sizeof(why));
    if (fd < 0 || fstat(fd, &st) < 0)
        return false;
    ret->file = logs_plan_file(fd, "", &st);
    ret->size = ret->file.size;
    return form != ROTATE_OLD_GZ || unpacked_size(fd, &st, &ret->size);
}

/* Both are there while one is being packed: the plain one is whole. */
static bool look_next(struct walk *w, struct piece *ret)
{
    if (!look(w, ROTATE_OLD, ret) && !look(w, ROTATE_OLD_GZ, ret))
        return false;
    w->no++;
    return true;
}

static int add_part(struct logs_source *s, const struct piece *p, uint64_t start)
{
    if (array_room(&s->parts, s->n_parts, &s->size_parts, sizeof(s->parts[0])) < 0)
        return -ENOMEM;
    s->parts[s->n_parts] = (struct logs_part){.file = p->file, .start = start, .size = p->size};
    str_copy(s->parts[s->n_parts++].name, sizeof(p->name), p->name);
    return 0;
}

static int add_beyond(struct logs_source *s, ino_t ino)
{
    if (array_room(&s->beyond, s->n_beyond, &s->size_beyond, sizeof(s->beyond[0])) < 0)
        return -ENOMEM;
    s->beyond[s->n_beyond++] = ino;
    return 0;
}

/* From the newest piece back, as long as they fit into what was cut off. */
static int walk_all(struct walk *w)
{
    struct piece p;
    bool is_chain = true;
    int r = 0;

    w->no = 0;
    if (look(w, ROTATE_COPIED, &p) && p.size <= w->first)
        w->first -= p.size;
    w->no = 1;
    while (r == 0 && w->no <= LIMIT_LOG_FILES && look_next(w, &p)) {
        is_chain = is_chain && p.size <= w->first;
        if (!is_chain) {
            r = add_beyond(w->s, p.file.ino);
            continue;
        }
        w->first -= p.size;
        r = add_part(w->s, &p, w->first);
    }
    return r;
}

static void turn_around(struct logs_part *v, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        struct logs_part other = v[i];
        v[i] = v[n - 1 - i];
        v[n - 1 - i] = other;
    }
}

int logs_chain_find(struct logs_source *s)
{
    _cleanup_close_ int dir = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct rotate_head h;
    char why[160];
    _cleanup_close_ int fd =
        dir < 0 ? -1 : logs_open_at(dir, s->name, O_RDONLY, &s->def->ids, why, sizeof(why));
    struct walk w = {.s = s, .dir = dir};
    struct stat st;
    int r;

    if (fd < 0 || rotate_head_read(fd, &h) < 0 || h.base + h.shift == 0)
        return 0; /* it is not there any more, or may not be read: who opens it is told */
    if ((r = rotate_dir_hold(fd)) < 0)
        return r; /* what is being cut must not be taken for whole */
    if (fstat(fd, &st) < 0 || st.st_ino != s->file.ino || st.st_dev != s->file.dev ||
        rotate_head_read(fd, &h) < 0)
        return 0;
    w.first = h.base + h.shift;
    s->cut = true;
    r = walk_all(&w);
    turn_around(s->parts, s->n_parts);
    return r < 0 ? r : 1;
}

bool logs_chain_is_beyond(const struct logs_source *s, const struct logs_source *other)
{
    for (unsigned i = 0; i < s->n_beyond; i++)
        if (s->beyond[i] == other->file.ino)
            return true;
    return false;
}
