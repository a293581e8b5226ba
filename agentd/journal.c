/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/pidref.h"

#define COPY_MAX (32 << 20)

struct header {
    char magic[16];
    char boot_id[40];
    uint64_t size;
};

/* Before each slot's content, of which the zeros at the end are not written: each operation writes two. */
struct head {
    uint64_t sum; /* over the length and the content */
    uint64_t len; /* 0: free */
};

static const char magic[16] = "agentd journal2";

static size_t slot_size(const struct journal *j)
{
    return sizeof(struct head) + j->size;
}

static off_t slot_at(const struct journal *j, int slot)
{
    return (off_t)sizeof(struct header) + (off_t)slot_size(j) * slot;
}

/* FNV-1a by words; behind the content there are zeros. */
static uint64_t sum_of(const struct head *h)
{
    const char *p = (const char *)&h->len;
    uint64_t sum = STR_HASH_INIT, word;

    for (size_t at = 0; at < sizeof(h->len) + h->len; at += sizeof(word)) {
        memcpy(&word, p + at, sizeof(word));
        sum = (sum ^ word) * 0x100000001b3ull;
        sum ^= sum >> 32;
    }
    return sum;
}

static int grow_used(struct journal *j, unsigned n)
{
    uint8_t *p;

    if (n <= j->n)
        return 0;
    if (!(p = realloc(j->used, n)))
        return -ENOMEM;
    memset(p + j->n, 0, n - j->n);
    j->used = p;
    j->n = n;
    return 0;
}

/* Without the zeros at its end; at least one byte. */
static size_t length_of(const char *content, size_t size)
{
    while (size > 1 && !content[size - 1])
        size--;
    return size;
}

static int write_slot(struct journal *j, int slot, const void *content)
{
    size_t len = content ? length_of(content, j->size) : 0, n = sizeof(struct head) + len;
    _cleanup_free_ struct head *h = calloc(1, n + sizeof(uint64_t));
    ssize_t r;

    if (!h)
        return -ENOMEM;
    h->len = len;
    if (content)
        memcpy(h + 1, content, len);
    h->sum = sum_of(h);
    r = pwrite(j->fd, h, n, slot_at(j, slot));
    return r == (ssize_t)n ? 0 : r < 0 ? -errno : -ENOSPC;
}

static int free_slot(const struct journal *j)
{
    for (unsigned i = 0; i < j->n; i++)
        if (!j->used[i])
            return (int)i;
    return j->n < j->max ? (int)j->n : -ENOSPC;
}

int journal_put(struct journal *j, int slot, const void *content)
{
    int r;

    if (j->fd < 0)
        return -EBADF;
    if (slot < 0 && (slot = free_slot(j)) < 0)
        return slot;
    if ((r = grow_used(j, (unsigned)slot + 1)) < 0 || (r = write_slot(j, slot, content)) < 0)
        return r;
    j->used[slot] = 1;
    return slot;
}

void journal_drop(struct journal *j, int slot)
{
    if (slot < 0 || j->fd < 0 || (unsigned)slot >= j->n)
        return;
    j->used[slot] = 0;
    write_slot(j, slot, NULL);
}

static int open_in(const char *dir, const char *name, int flags)
{
    _cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dirfd < 0 ? -1 : openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? -errno : fd;
}

/* 1: of this boot, 0: of another, -EBADMSG: no journal of this format. */
static int read_header(const struct journal *j, int fd)
{
    struct header h;
    ssize_t n = fd_read_at(fd, &h, sizeof(h), 0);

    if (n < 0)
        return n == -EBADMSG ? -EIO : (int)n; /* it may be whole: it is not written over */
    if (n != sizeof(h) || memcmp(h.magic, magic, sizeof(magic)) != 0 || h.size != j->size)
        return -EBADMSG;
    return pidref_boot_id()[0] && strncmp(h.boot_id, pidref_boot_id(), sizeof(h.boot_id)) == 0;
}

static int start_anew(struct journal *j)
{
    struct header h = {.size = j->size};

    memcpy(h.magic, magic, sizeof(magic));
    str_copy(h.boot_id, sizeof(h.boot_id), pidref_boot_id());
    if (ftruncate(j->fd, 0) < 0 || pwrite(j->fd, &h, sizeof(h), 0) != sizeof(h))
        return errno ? -errno : -ENOSPC;
    return 0;
}

/* 1: in use and whole, 0: neither, -EBADMSG: not whole, -ENODATA: behind the last one, or -errno. */
static int read_slot(const struct journal *j, int fd, unsigned slot, struct head *h)
{
    size_t n = slot_size(j);
    ssize_t r = fd_read_at(fd, h, n, slot_at(j, (int)slot));

    if (r <= 0)
        return r < 0 ? (int)r : -ENODATA;
    memset((char *)h + r, 0, n - (size_t)r); /* the last one ends where its content does */
    if (h->len > j->size)
        return -EBADMSG;
    memset((char *)(h + 1) + h->len, 0, j->size - h->len); /* of a longer one that was there before */
    if (h->sum != sum_of(h))
        return h->sum ? -EBADMSG : 0; /* a hole was never written */
    return h->len != 0;
}

/* Those from another file are written into ours at the same place. */
static int read_slots(struct journal *j, int fd, bool this_boot, journal_fn found, void *arg)
{
    _cleanup_free_ struct head *h = malloc(slot_size(j) + sizeof(uint64_t));
    unsigned torn = 0;
    int r = 0;

    if (!h)
        return -ENOMEM;
    for (unsigned i = 0; i < j->max; i++) {
        r = read_slot(j, fd, i, h);
        if (r < 0 && r != -EBADMSG)
            break;
        torn += r < 0;
        if (grow_used(j, i + 1) < 0)
            return -ENOMEM;
        if (r <= 0 || (fd != j->fd && write_slot(j, (int)i, h + 1) < 0))
            continue;
        j->used[i] = 1;
        found((int)i, h + 1, this_boot, arg);
    }
    if (torn)
        log_warn("journal", "%u records were not written whole by an earlier agentd: they are left out",
                 torn);
    return r < 0 && r != -ENODATA && r != -EBADMSG ? r : 0;
}

int journal_open(struct journal *j, const char *dir, const char *copy_dir, const char *name, size_t size,
                 unsigned max, journal_fn found, void *arg)
{
    _cleanup_close_ int copy = -1;
    int r;

    *j = (struct journal){.fd = open_in(dir, name, O_RDWR | O_CREAT), .max = max, .size = size};
    if (j->fd < 0)
        return j->fd;
    if ((r = read_header(j, j->fd)) == 1 && (r = read_slots(j, j->fd, true, found, arg)) == 0)
        return 0;
    /* Of one that can't be read nothing is written over. */
    if ((r < 0 && r != -EBADMSG) || (r = start_anew(j)) < 0) {
        j->fd = fd_close(j->fd);
        return r;
    }
    copy = open_in(copy_dir, name, O_RDONLY);
    r = copy < 0 ? -ENOENT : read_header(j, copy);
    return r < 0 ? 0 : read_slots(j, copy, r == 1, found, arg);
}

void journal_close(struct journal *j)
{
    fd_close(j->fd);
    free(j->used);
    *j = (struct journal)JOURNAL_NULL;
}

int journal_copy(const char *from_dir, const char *to_dir, const char *name)
{
    _cleanup_close_ int from = open_in(from_dir, name, O_RDONLY), to = -1,
                        dirfd = open(to_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_free_ char *bytes = NULL;
    char fresh[64];
    ssize_t n;
    int r;

    if (from < 0 || dirfd < 0)
        return from == -ENOENT ? 0 : from < 0 ? from : -errno;
    if ((n = fd_read_all(from, COPY_MAX, &bytes)) < 0)
        return (int)n;
    snprintf(fresh, sizeof(fresh), "%s.new", name);
    if ((to = openat(dirfd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return -errno;
    if ((r = fd_write_all(to, bytes, (size_t)n)) < 0)
        return r;
    return fsync(to) < 0 || renameat(dirfd, fresh, dirfd, name) < 0 || fsync(dirfd) < 0 ? -errno : 0;
}
