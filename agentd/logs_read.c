/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "agentd/logs_plan.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define FIRST_LINE 512 /* bytes of it that are looked at */
#define PIECE (128 << 10)

/* --- packed files --------------------------------------------------------------------------------------- */

/* At byte skip of what is packed; end: the place where it ends. fd is taken over. */
static int begin_packed(struct logs_read *r, int fd, uint64_t skip, uint64_t end)
{
    if (!(r->packed = gzdopen(fd, "rb"))) {
        fd_close(fd);
        return -ENOMEM;
    }
    gzbuffer(r->packed, PIECE);
    r->packed_end = end;
    return gzseek(r->packed, (z_off_t)skip, SEEK_SET) < 0 ? -EIO : 0;
}

static void end_packed(struct logs_read *r)
{
    if (r->packed)
        gzclose(r->packed);
    r->packed = NULL;
}

/* One that is broken ends there: what could be read of it was. */
static ssize_t read_packed(struct logs_read *r, char *buf, size_t n)
{
    int got = gzread(r->packed, buf, (unsigned)(n < PIECE ? n : PIECE));

    if (got > 0) {
        r->at += (uint64_t)got;
        return got;
    }
    end_packed(r);
    return 0;
}

static const struct logs_part *part_at(const struct logs_source *s, uint64_t at)
{
    for (unsigned i = 0; i < s->n_parts; i++)
        if (at < s->parts[i].start + s->parts[i].size)
            return &s->parts[i];
    return NULL;
}

/* --- plain files, and those that agentd has cut ----------------------------------------------------------
 */

/* What was wanted has been cut off, and packed it may be, since the files were listed; perhaps for the first
 * time. A file that another's rotation has renamed keeps its head: of that a new list tells no more. */
static bool is_gap(const struct logs_read *r, uint64_t first, uint64_t wanted)
{
    return first > wanted && !r->may_skip && r->source->live;
}

static int begin_plain(struct logs_read *r)
{
    uint64_t size;
    int error = rotate_read_begin(&r->file, r->at, 0, &size);

    if (error < 0)
        return error;
    if (is_gap(r, r->file.at, r->at))
        return -ESTALE;
    r->at = r->file.at;
    return 0;
}

static int begin_part(struct logs_read *r, const struct logs_part *p)
{
    char why[160];
    struct stat st;
    int fd = logs_plan_open(r->source, p->name, &p->file, why, sizeof(why));

    if (fd >= 0 && (fstat(fd, &st) < 0 || (uint64_t)st.st_size != p->file.size))
        fd = fd_close(fd); /* another file by now */
    if (fd < 0 && !r->may_skip)
        return -ESTALE;
    if (r->at < p->start)
        r->at = p->start;
    if (fd >= 0)
        return begin_packed(r, fd, r->at - p->start, p->start + p->size);
    r->at = p->start + p->size;
    return 0;
}

/* The next piece of it that is there. */
static int begin_next(struct logs_read *r)
{
    const struct logs_part *p;
    int error;

    while ((p = part_at(r->source, r->at)))
        if ((error = begin_part(r, p)) < 0 || r->packed)
            return error;
    return begin_plain(r);
}

static ssize_t read_plain(struct logs_read *r, char *buf, size_t n)
{
    uint64_t wanted = r->at;
    ssize_t got = rotate_read(&r->file, buf, n);

    if (got <= 0)
        return got;
    if (is_gap(r, r->file.at - (uint64_t)got, wanted))
        return -ESTALE;
    r->at = r->file.at;
    return got;
}

int logs_read_open(struct logs_read *r, const struct logs_source *s, uint64_t from, char *why, size_t size)
{
    int fd = logs_plan_open(s, s->name, &s->file, why, size);

    *r = (struct logs_read){.source = s, .at = from, .may_skip = r->may_skip, .file = {.fd = -1}};
    if (fd < 0)
        return fd == -ENOENT ? -ESTALE : fd;
    if (s->packed)
        return begin_packed(r, fd, from, UINT64_MAX);
    snprintf(r->path, sizeof(r->path), "%s%s", s->folder, s->name);
    r->file = (struct rotate_read){.path = r->path, .ids = &s->def->ids, .fd = fd};
    return begin_next(r);
}

/* At a part's end: its length is only known modulo 2^32 (RFC 1952), and all places are made of it. */
static bool is_longer(const struct logs_read *r)
{
    char c;

    return r->packed && !r->source->packed && gzread(r->packed, &c, 1) == 1;
}

ssize_t logs_read(struct logs_read *r, char *buf, size_t n)
{
    ssize_t got;
    int error;

    while (r->packed) {
        size_t most = r->packed_end - r->at < n ? (size_t)(r->packed_end - r->at) : n;
        if (most && (got = read_packed(r, buf, most)) != 0)
            return got;
        if (is_longer(r))
            return -EOVERFLOW;
        end_packed(r);
        if (r->source->packed)
            return 0;
        r->at = r->packed_end; /* also if it ended before it should */
        if ((error = begin_next(r)) < 0)
            return error;
    }
    return r->file.fd < 0 ? 0 : read_plain(r, buf, n);
}

void logs_read_close(struct logs_read *r)
{
    end_packed(r);
    r->file.fd = fd_close(r->file.fd);
}

uint32_t logs_read_check(const struct logs_source *s)
{
    struct logs_read r = {.may_skip = true};
    char line[FIRST_LINE], why[160], *end;
    size_t n = 0;
    ssize_t got = 0;

    if (logs_read_open(&r, s, 0, why, sizeof(why)) == 0)
        while (n < sizeof(line) && (got = logs_read(&r, line + n, sizeof(line) - n)) > 0)
            n += (size_t)got;
    logs_read_close(&r);
    end = memchr(line, '\n', n);
    if (!end && n < sizeof(line))
        return 0;
    return (uint32_t)(str_hash(STR_HASH_INIT, line, end ? (size_t)(end - line) : n) %
                      (LOGS_READ_CHECKS - 1)) +
           1;
}
