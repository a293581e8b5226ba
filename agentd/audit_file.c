/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/audit_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define NAME "audit"
#define HEAD "audit.head"
#define READ_MAX (64 << 20) /* of one file: more is no trail of ours */

static struct {
    char dir[512];
    int dirfd, fd, head_fd;
    size_t max, size; /* of the newest file: what it may have, and has in whole lines */
    struct chain_at at;
    uint64_t first; /* the oldest line that is kept; 0: there is none yet */
    bool torn;      /* something stands behind size */
    bool broken;    /* the last line that was found is none of ours */
} self = {.dirfd = -1, .fd = -1, .head_fd = -1};

static void name_of(char name[32], unsigned n)
{
    if (n)
        snprintf(name, 32, NAME ".%u", n);
    else
        str_copy(name, 32, NAME);
}

/* Regular, ours, and known by one name only: else it is not written to. */
static int open_own(int dirfd, const char *name, int flags)
{
    int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_nlink <= 1)
        return fd;
    close(fd);
    return -EPERM;
}

/* --- what is there ------------------------------------------------------------------------------------ */

/* How much of the text is whole lines. */
static size_t whole(const char *text, size_t n)
{
    const char *end = memrchr(text, '\n', n);

    return end ? (size_t)(end + 1 - text) : 0;
}

static ssize_t read_file(unsigned number, char **ret)
{
    char name[32];
    _cleanup_close_ int fd = -1;

    name_of(name, number);
    if ((fd = open_own(self.dirfd, name, O_RDONLY)) < 0)
        return fd;
    return fd_read_all(fd, READ_MAX, ret);
}

/* Where the chain stands after the last of these lines (n bytes). One that is no line of ours, or has a
 * number that none can follow, has none: the head knows it. */
static void take_end(const char *text, size_t n)
{
    const char *before = memrchr(text, '\n', n - 1), *line = before ? before + 1 : text;
    size_t len = (size_t)(text + n - 1 - line);
    char prev[CHAIN_HEX];
    uint64_t seq;

    self.broken = chain_read(line, len, &seq, prev) < 0 || seq == UINT64_MAX;
    if (!self.broken)
        self.at.seq = seq;
    chain_hash(self.at.hash, line, len);
}

/* 1: the file has whole lines, and the chain stands after the last of them; 0 or -errno. */
static int look_into(unsigned number, struct audit_file_left *left)
{
    _cleanup_free_ char *text = NULL;
    ssize_t n = read_file(number, &text);
    size_t good = n > 0 ? whole(text, (size_t)n) : 0;

    if (n < 0)
        return n == -ENOENT ? 0 : (int)n;
    if (number == 0) {
        self.size = good;
        self.torn = (size_t)n > good;
        left->torn = (size_t)n - good;
    }
    if (good)
        take_end(text, good);
    return good != 0;
}

static uint64_t first_in(unsigned number)
{
    _cleanup_close_ int fd = -1;
    char name[32], text[CHAIN_PREFIX_MAX + 1] = "", prev[CHAIN_HEX];
    uint64_t seq;
    ssize_t n;

    name_of(name, number);
    if ((fd = open_own(self.dirfd, name, O_RDONLY)) < 0 ||
        (n = fd_read_at(fd, text, CHAIN_PREFIX_MAX, 0)) <= 0)
        return 0;
    return chain_read(text, (size_t)n, &seq, prev) == 0 ? seq : 0;
}

static int read_head(struct chain_head *ret)
{
    char text[CHAIN_HEAD_LEN + 1];
    ssize_t n = fd_read_at(self.head_fd, text, CHAIN_HEAD_LEN, 0);

    if (n < 0)
        return (int)n;
    text[n] = 0;
    return chain_head_get(text, ret);
}

/* The head is written after the line that it speaks of: it can be behind by one, and never before. Where the
 * files say less than it, or another thing, the chain goes on from what it says: so they are found to be. */
static void believe(const struct chain_at *known, struct audit_file_left *left)
{
    if (known->seq < self.at.seq || known->seq == 0)
        return;
    left->missing = self.broken ? 0 : known->seq - self.at.seq;
    left->altered = !left->missing && !str_eq(known->hash, self.at.hash);
    self.at = *known;
}

/* The oldest line in any file; 0: there is none. */
static uint64_t find_first(void)
{
    uint64_t first = 0;

    for (unsigned i = LIMIT_AUDIT_FILES; i > 0 && !first; i--)
        first = first_in(i - 1);
    return first;
}

static int find_end(const struct chain_at *known, struct audit_file_left *left)
{
    struct chain_head head = {.first = 0};
    int r = 0;

    chain_begin(&self.at);
    for (unsigned i = 0; i < LIMIT_AUDIT_FILES && r == 0; i++)
        r = look_into(i, left);
    if (r < 0)
        return r;
    if (read_head(&head) == 0) {
        if (self.at.seq > head.last.seq + 1)
            left->unknown = self.at.seq - head.last.seq - 1;
        believe(&head.last, left);
    } else { /* who died right behind the very first line has written none yet */
        left->headless = r > 0 && self.at.seq != 1;
    }
    if (known)
        believe(known, left);
    self.first = head.first ? head.first : find_first();
    return 0;
}

/* --- writing ------------------------------------------------------------------------------------------ */

static void put_head(void)
{
    struct chain_head h = {self.at, self.first};
    char text[CHAIN_HEAD_LEN + 1];

    chain_head_put(text, &h);
    /* What could not be written is behind, and the next line's puts that right. */
    ssize_t ignored = pwrite(self.head_fd, text, CHAIN_HEAD_LEN, 0);
    (void)ignored;
}

static int cut_off(void)
{
    if (self.torn && ftruncate(self.fd, (off_t)self.size) < 0)
        return -errno;
    self.torn = false;
    return 0;
}

static int open_newest(void)
{
    self.fd = open_own(self.dirfd, NAME, O_WRONLY | O_CREAT | O_APPEND);
    return self.fd < 0 ? self.fd : 0;
}

static void let_go(void)
{
    self.fd = fd_close(self.fd);
    self.head_fd = fd_close(self.head_fd);
    self.dirfd = fd_close(self.dirfd);
}

static int open_all(const struct chain_at *known, struct audit_file_left *left)
{
    int r;

    if ((self.dirfd = open(self.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -errno;
    if ((self.head_fd = open_own(self.dirfd, HEAD, O_RDWR | O_CREAT)) < 0)
        return self.head_fd;
    if ((r = find_end(known, left)) < 0 || (r = open_newest()) < 0)
        return r;
    return cut_off();
}

int audit_file_open(const char *dir, size_t max, const struct chain_at *known, struct audit_file_left *ret)
{
    int r;

    *ret = (struct audit_file_left){0};
    str_copy(self.dir, sizeof(self.dir), dir);
    self.max = max;
    if ((r = open_all(known, ret)) < 0)
        let_go();
    return r;
}

void audit_file_close(void)
{
    let_go();
    self.size = 0;
    self.torn = false;
    self.first = 0;
}

const struct chain_at *audit_file_last(void)
{
    return &self.at;
}

/* A number that no file has, and below which all have one: who died while it renamed has left a hole. */
static unsigned free_number(void)
{
    char name[32];
    struct stat st;

    for (unsigned i = 1; i < LIMIT_AUDIT_FILES - 1; i++) {
        name_of(name, i);
        if (fstatat(self.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            return i;
    }
    return LIMIT_AUDIT_FILES - 1;
}

/* The next older file takes the place of the oldest one: before that, the head says so. */
static void give_up_oldest(void)
{
    uint64_t first = first_in(LIMIT_AUDIT_FILES - 1) ? first_in(LIMIT_AUDIT_FILES - 2) : 0;

    if (!first)
        return;
    self.first = first;
    put_head();
}

static int rotate(void)
{
    unsigned n = free_number();
    char from[32], to[32];

    if (n == LIMIT_AUDIT_FILES - 1)
        give_up_oldest();
    for (; n > 0; n--) {
        name_of(from, n - 1);
        name_of(to, n);
        if (renameat(self.dirfd, from, self.dirfd, to) < 0)
            return -errno;
    }
    self.fd = fd_close(self.fd);
    self.size = 0;
    return open_newest();
}

/* Somebody has removed it, or a rotation stands half done: the chain goes on in a new one. */
static int be_there(void)
{
    struct stat st;
    int r;

    if (self.fd >= 0 && fstat(self.fd, &st) == 0 && st.st_nlink > 0)
        return 0;
    self.fd = fd_close(self.fd);
    self.torn = false;
    if ((r = open_newest()) < 0)
        return r;
    self.size = fstat(self.fd, &st) == 0 ? (size_t)st.st_size : 0;
    return 0;
}

static int write_line(const char *line, size_t n)
{
    ssize_t done = write(self.fd, line, n);

    if (done == (ssize_t)n) {
        self.size += n;
        return 0;
    }
    self.torn = done > 0;
    if (self.torn)
        cut_off();
    return done < 0 ? -errno : -ENOSPC;
}

static int append(const char *line, size_t n)
{
    int r;

    if (self.dirfd < 0)
        return -EBADF;
    if ((r = be_there()) < 0 || (r = cut_off()) < 0)
        return r;
    if (self.size && self.size + n > self.max && (r = rotate()) < 0)
        return r;
    return write_line(line, n);
}

int audit_file_append(const char *fields)
{
    struct buf b = BUF_INIT(LIMIT_AUDIT_LINE);
    char prefix[CHAIN_PREFIX_MAX];
    int r;

    chain_prefix(prefix, &self.at);
    buf_str(&b, prefix);
    buf_str(&b, fields);
    buf_str(&b, "}\n");
    r = b.error ? b.error : append(b.p, b.len);
    if (r == 0) {
        chain_hash(self.at.hash, b.p, b.len - 1);
        self.at.seq++;
        self.first = self.first ? self.first : self.at.seq;
        put_head();
    }
    buf_free(&b);
    return r;
}

/* --- in a helper -------------------------------------------------------------------------------------- */

static int sync_one(int dirfd, const char *name)
{
    _cleanup_close_ int fd = open_own(dirfd, name, O_RDONLY);

    if (fd == -ENOENT)
        return 0;
    return fd < 0 ? fd : fdatasync(fd) < 0 ? -errno : 0;
}

/* The lines before the head that speaks of them; two files, as it may have been rotated since. */
int audit_file_sync(const char *dir)
{
    _cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (dirfd < 0)
        return -errno;
    if ((r = sync_one(dirfd, NAME ".1")) < 0 || (r = sync_one(dirfd, NAME)) < 0 ||
        (r = sync_one(dirfd, HEAD)) < 0)
        return r;
    return fsync(dirfd) < 0 ? -errno : 0;
}
