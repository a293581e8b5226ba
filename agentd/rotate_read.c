/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_read.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "agentd/rotate_head.h"
#include "base/fd.h"
#include "base/limits.h"

#define TRIES 1000 /* a file that is cut again and again under our eyes, or is in the middle of it */
#define PAUSE_NS 1000000

static uint64_t begin_of(const struct rotate_head *h)
{
    return h->base + h->shift;
}

static uint64_t end_of(const struct rotate_head *h)
{
    return h->size + h->shift;
}

static bool is_being_cut(const struct rotate_head *h)
{
    return h->mark.kind > ROTATE_FILLER;
}

/* The file that was cut off before number no: 0: the copy that has no number yet. */
static int open_old(const struct rotate_read *r, unsigned no)
{
    char path[PATH_MAX + 32], why[160];

    if (!rotate_cut_name(r->path, no ? ROTATE_OLD : ROTATE_COPIED, no, path, sizeof(path)))
        return -ENAMETOOLONG;
    return logs_open_file(path, r->ids, why, sizeof(why));
}

/* The file that has place at, which is before begin, and the place of its first byte. -ENOENT: none has it;
 * *first is then the next place that one has. */
static int find_old(const struct rotate_read *r, uint64_t begin, uint64_t *first)
{
    struct stat st;

    *first = begin;
    for (unsigned no = 0; no <= LIMIT_LOG_FILES && *first > r->at; no++) {
        int fd = open_old(r, no);
        if (fd < 0 && no == 0)
            continue;
        if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size > *first) {
            fd_close(fd);
            return -ENOENT;
        }
        *first -= (uint64_t)st.st_size;
        if (*first <= r->at)
            return fd;
        fd_close(fd);
    }
    return -ENOENT;
}

static bool is_unchanged(const struct rotate_read *r, const struct rotate_head *h)
{
    struct rotate_head now;

    return rotate_head_read(r->fd, &now) == 0 && now.base == h->base && now.shift == h->shift &&
           now.mark.kind == h->mark.kind;
}

/* -ENOENT: skipped to what is there. -EAGAIN: it was cut meanwhile. */
static ssize_t read_old(struct rotate_read *r, const struct rotate_head *h, char *buf, size_t n)
{
    uint64_t first;
    _cleanup_close_ int fd = find_old(r, begin_of(h), &first);
    ssize_t got = 0;

    if (fd >= 0)
        got = fd_read_at(fd, buf, n < begin_of(h) - r->at ? n : (size_t)(begin_of(h) - r->at),
                         (off_t)(r->at - first));
    if (!is_unchanged(r, h))
        return -EAGAIN;
    if (fd < 0 || got == 0) {
        r->at = fd < 0 ? first : begin_of(h);
        return -ENOENT;
    }
    return got;
}

static ssize_t read_live(struct rotate_read *r, const struct rotate_head *h, char *buf, size_t n)
{
    ssize_t got = pread(r->fd, buf, n, (off_t)(r->at - h->shift));

    if (got < 0)
        return -errno;
    return is_unchanged(r, h) ? got : -EAGAIN;
}

ssize_t rotate_read(struct rotate_read *r, char *buf, size_t n)
{
    struct rotate_head h;
    ssize_t got;

    for (int i = 0; i < TRIES; i++) {
        int error = rotate_head_read(r->fd, &h);
        if (error < 0)
            return error;
        if (r->at > end_of(&h) && !r->anew)
            return 0;
        if (r->at > end_of(&h))
            r->at = begin_of(&h); /* truncated */
        if (r->at < begin_of(&h) && is_being_cut(&h) && i < TRIES - 1) {
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
            continue;
        }
        got = r->at < begin_of(&h) ? read_old(r, &h, buf, n) : read_live(r, &h, buf, n);
        if (got > 0)
            r->at += (uint64_t)got;
        if (got >= 0 || (got != -EAGAIN && got != -ENOENT))
            return got;
    }
    return 0;
}

int rotate_read_begin(struct rotate_read *r, uint64_t from, uint64_t last, uint64_t *size)
{
    struct rotate_head h;
    uint64_t first;
    int error = rotate_head_read(r->fd, &h), fd;

    if (error < 0)
        return error;
    *size = end_of(&h);
    r->at = from;
    if (from == UINT64_MAX)
        r->at = *size - begin_of(&h) > last ? *size - last : begin_of(&h);
    if (r->at >= begin_of(&h))
        return 0;
    fd = find_old(r, begin_of(&h), &first);
    if (fd < 0)
        r->at = first;
    fd_close(fd);
    return 0;
}
