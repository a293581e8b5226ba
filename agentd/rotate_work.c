/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_work.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/rotate_head.h"
#include "agentd/rotate_low.h"
#include "base/clock.h"
#include "base/fd.h"

#define PAUSE_MIN_US 200000 /* between cuts: a writer at full speed is slowed down by each */
#define PAUSE_MAX_US 400000
#define WRITTEN_MAX (1 << 20)
#define LEAVE_US 500000
#define PIECE (1 << 20)

struct work {
    struct rotate_dir d;
    struct rotate_head head;
    struct rotate_report *report;
};

static int fail(struct work *w, int error, const char *doing)
{
    char what[160];

    snprintf(what, sizeof(what), "%s: %s", doing, strerror(error));
    return rotate_dir_fail(&w->d, error, NULL, what);
}

static int write_at(struct work *w, const void *p, size_t n, uint64_t at)
{
    ssize_t done = pwrite(w->d.fd, p, n, (off_t)at);

    if (done == (ssize_t)n)
        return 0;
    return fail(w, done < 0 ? errno : EIO, "can't be marked");
}

/* --- the copy ------------------------------------------------------------------------------------------- */

/* Where the kernel does not copy between these files. */
static int copy_by_hand(int from, int to, uint64_t at, uint64_t n)
{
    static char piece[PIECE];

    while (n) {
        ssize_t got = fd_read_at(from, piece, n < sizeof(piece) ? n : sizeof(piece), (off_t)at);
        int r = got < 0 ? (int)got : got == 0 ? -EIO : fd_write_all(to, piece, (size_t)got);
        if (r < 0)
            return r;
        at += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

static int copy_range(int from, int to, uint64_t at, uint64_t n)
{
    off_t in = (off_t)at;

    while (n) {
        ssize_t done = copy_file_range(from, &in, to, NULL, n < PIECE ? n : PIECE, 0);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG))
            return -errno;
        if (done <= 0)
            return copy_by_hand(from, to, (uint64_t)in, n);
        n -= (uint64_t)done;
    }
    return 0;
}

/* What the file system can do, tried on the copy while it is empty: a bit for each way. */
static unsigned find_ways(int fd, uint64_t block)
{
    unsigned ways = 0;

    if (ftruncate(fd, (off_t)(4 * block)) < 0)
        return 0;
    if (fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t)block) == 0)
        ways |= 1u << ROTATE_COLLAPSING;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)block) == 0)
        ways |= 1u << ROTATE_PUNCHING;
    return ftruncate(fd, 0) < 0 ? 0 : ways;
}

/* A collapse writes all to disk that is behind the head, and the writer waits for it: halved its pace, on
 * ext4. For one that has written much meanwhile the head becomes a hole, which goes with the next collapse.
 */
static enum rotate_kind choose_way(const struct work *w, const struct rotate_plan *p, unsigned ways)
{
    struct stat st;
    bool fast = fstat(w->d.fd, &st) < 0 || (uint64_t)st.st_size > p->to + WRITTEN_MAX;

    if (ways & 1u << ROTATE_COLLAPSING && !(fast && ways & 1u << ROTATE_PUNCHING))
        return ROTATE_COLLAPSING;
    return ROTATE_PUNCHING;
}

/* On disk before anything is taken off: the copy, then its name. */
static int fill_copy(struct work *w, int fd, const struct rotate_plan *p, uint64_t block,
                     enum rotate_kind *way)
{
    unsigned ways = find_ways(fd, block);
    int r;

    if (!ways)
        return rotate_dir_fail(&w->d, EOPNOTSUPP, NULL,
                               "its file system can neither collapse nor punch a file");
    if ((r = copy_range(w->d.fd, fd, p->from, p->to - p->from)) < 0)
        return fail(w, -r, "can't be copied");
    rotate_low_write();
    if (fsync(fd) < 0)
        return fail(w, errno, "its copy can't be written to disk");
    rotate_dir_sync(&w->d);
    *way = choose_way(w, p, ways);
    return 0;
}

static int make_copy(struct work *w, const struct rotate_plan *p, uint64_t block, enum rotate_kind *way)
{
    int fd = rotate_dir_make(&w->d, ROTATE_COPYING), r;

    if (fd < 0)
        return fd;
    r = fill_copy(w, fd, p, block, way);
    fd_close(fd);
    if (r < 0)
        rotate_dir_remove(&w->d, ROTATE_COPYING, 0);
    return r;
}

/* --- the cut -------------------------------------------------------------------------------------------- */

/* The mark is on disk before the copy gets its next name: else that name alone could outlive a loss of power,
 * and say that the head has gone. The journal of the file system keeps the order of the rest. */
static int write_mark(struct work *w)
{
    char text[ROTATE_MARK];
    int r;

    rotate_cut_encode(&w->head.mark, text);
    if ((r = write_at(w, text, sizeof(text), w->head.data)) < 0)
        return r;
    sync_file_range(w->d.fd, (off_t)w->head.data, sizeof(text),
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    return 0;
}

static int write_filler(struct work *w, struct rotate_mark filler, uint64_t at)
{
    _cleanup_free_ char *text = malloc(filler.fill);

    if (!text)
        return fail(w, ENOMEM, "can't be marked");
    filler.kind = ROTATE_FILLER;
    filler.cut = filler.old_fill = 0;
    memset(text, ' ', filler.fill);
    rotate_cut_encode(&filler, text);
    text[filler.fill - 1] = '\n';
    return write_at(w, text, filler.fill, at);
}

static int write_next_filler(struct work *w)
{
    struct rotate_mark m = w->head.mark;

    m.shift += m.kind == ROTATE_COLLAPSING ? m.cut : 0;
    return write_filler(w, m, m.cut);
}

static int collapse(struct work *w)
{
    struct rotate_ring *ring = w->d.job->ring;
    uint32_t n = ring && ring->n < ARRAY_LEN(ring->gone) ? ring->n : UINT32_MAX;

    if (n != UINT32_MAX) {
        ring->gone[n] = (struct rotate_gone){ROTATE_GOING, w->head.mark.shift};
        __atomic_store_n(&ring->n, n + 1, __ATOMIC_RELEASE);
    }
    if (fallocate(w->d.fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t)w->head.mark.cut) < 0) {
        int error = errno;
        if (n != UINT32_MAX)
            __atomic_store_n(&ring->n, n, __ATOMIC_RELEASE);
        return -error;
    }
    if (n != UINT32_MAX)
        __atomic_store_n(&ring->gone[n].at_us, clock_mono_us(), __ATOMIC_RELEASE);
    return 0;
}

/* The block with the mark last: as long as it is there this is not over. */
static int punch(struct work *w)
{
    uint64_t from = w->head.data, to = w->head.mark.cut;
    struct statfs fs;
    uint64_t first;

    if (fstatfs(w->d.fd, &fs) < 0)
        return -errno;
    first = from + (uint64_t)fs.f_bsize;
    if (first < to &&
        fallocate(w->d.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first, (off_t)(to - first)) < 0)
        return -errno;
    if (first > to)
        first = to;
    return fallocate(w->d.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                     (off_t)(first - from)) < 0
               ? -errno
               : 0;
}

/* What stood under the filler, and then under the mark. */
static int put_back(struct work *w, int copy)
{
    struct rotate_mark m = w->head.mark;
    _cleanup_free_ char *text = malloc(m.fill);
    uint64_t base = w->head.data + m.old_fill;
    int r;

    if (!text || fd_read_at(copy, text, m.fill, (off_t)(m.cut - base)) != (ssize_t)m.fill)
        return fail(w, text ? EIO : ENOMEM, "can't be put back");
    if ((r = write_at(w, text, m.fill, m.cut)) < 0)
        return r;
    if (m.old_fill) {
        m.fill = m.old_fill;
        return write_filler(w, m, w->head.data);
    }
    if (fd_read_at(copy, text, ROTATE_MARK, 0) != ROTATE_MARK)
        return fail(w, EIO, "can't be put back");
    return write_at(w, text, ROTATE_MARK, w->head.data);
}

/* The file can't do what its file system can: all is as it was, and the copy one that goes. */
static int undo(struct work *w)
{
    _cleanup_close_ int copy = rotate_dir_open_old(&w->d, ROTATE_COPIED, 0);
    int r;

    if (copy < 0 || (r = rotate_dir_rename(&w->d, ROTATE_COPIED, 0, ROTATE_COPYING, 0)) < 0)
        return copy < 0 ? copy : r;
    if ((r = put_back(w, copy)) < 0 || (r = rotate_dir_remove(&w->d, ROTATE_COPYING, 0)) < 0)
        return r;
    return rotate_dir_fail(&w->d, EOPNOTSUPP, NULL, "it can be neither collapsed nor punched");
}

static bool cannot(int r)
{
    return r == -EOPNOTSUPP || r == -EINVAL || r == -ENOSYS;
}

static int take_off(struct work *w)
{
    struct rotate_mark *m = &w->head.mark;
    int r = m->kind == ROTATE_COLLAPSING ? collapse(w) : punch(w);

    if (m->kind == ROTATE_COLLAPSING && cannot(r)) {
        m->kind = ROTATE_PUNCHING;
        if ((r = write_next_filler(w)) < 0 || (r = write_mark(w)) < 0)
            return r;
        r = punch(w);
    }
    if (cannot(r))
        return undo(w);
    return r < 0 ? fail(w, -r, "its head can't be taken off") : 0;
}

/* Somebody has removed the copy, or written to it: what is left of the head stays where it is, and what the
 * mark covers is lost. */
static int give_up_copy(struct work *w)
{
    struct rotate_mark m = w->head.mark;
    int r;

    m.fill = m.old_fill ? m.old_fill : ROTATE_MARK;
    r = write_filler(w, m, w->head.data);
    return r < 0 ? r
                 : rotate_dir_fail(&w->d, ENOENT, NULL,
                                   "the copy of its head was removed or changed while it was rotated");
}

/* Steps 3 to 5: the mark stands. */
static int finish_cut(struct work *w)
{
    uint64_t length = w->head.mark.cut + w->head.mark.fill - w->head.data - w->head.mark.old_fill;
    struct stat st;
    int copying = rotate_dir_look(&w->d, ROTATE_COPYING, 0, &st), copied = 0, r;

    if (copying == 0)
        copied = rotate_dir_look(&w->d, ROTATE_COPIED, 0, &st);
    if (copying < 0 || copied < 0)
        return copying < 0 ? copying : copied;
    if ((!copying && !copied) || (uint64_t)st.st_size != length)
        return give_up_copy(w);
    if ((r = write_next_filler(w)) < 0)
        return r;
    if (copying && (r = rotate_dir_rename(&w->d, ROTATE_COPYING, 0, ROTATE_COPIED, 0)) < 0)
        return r;
    return take_off(w);
}

/* --- one rotation --------------------------------------------------------------------------------------- */

/* Behind the last newline before the end; the end itself if a line is longer than all patience. */
static uint64_t end_of_lines(const struct work *w)
{
    uint64_t size = w->head.size, end = size, least = w->head.base;
    char piece[65536];

    if (size - least > LIMIT_LOG_LINE)
        least = size - LIMIT_LOG_LINE;
    while (end > least) {
        size_t n = end - least < sizeof(piece) ? (size_t)(end - least) : sizeof(piece);
        const char *newline;
        if (fd_read_at(w->d.fd, piece, n, (off_t)(end - n)) != (ssize_t)n)
            return size;
        newline = memrchr(piece, '\n', n);
        if (newline)
            return end - n + (uint64_t)(newline - piece) + 1;
        end -= n;
    }
    return size;
}

static int read_head(struct work *w)
{
    int r = rotate_head_read(w->d.fd, &w->head);

    return r < 0 ? fail(w, -r, "can't be read") : 0;
}

/* 1: it was cut. 0: there is too little. */
static int cut(struct work *w)
{
    struct rotate_plan p;
    struct statfs fs;
    enum rotate_kind way = ROTATE_PLAIN;
    int r;

    if (fstatfs(w->d.fd, &fs) < 0)
        return fail(w, errno, "can't be looked at");
    if (!rotate_cut_plan(w->head.data, w->head.base, end_of_lines(w), (uint64_t)fs.f_bsize, &p))
        return 0;
    if ((r = make_copy(w, &p, (uint64_t)fs.f_bsize, &way)) < 0)
        return r;
    w->head.mark = (struct rotate_mark){way, w->head.shift, p.cut, p.fill, w->head.mark.fill};
    if ((r = write_mark(w)) < 0 || (r = finish_cut(w)) < 0 || (r = rotate_dir_shift(&w->d)) < 0)
        return r;
    w->report->cuts++;
    return 1;
}

/* What a helper that was killed has left, see the header. */
static int recover(struct work *w)
{
    struct stat st;
    int r = read_head(w);

    if (r == 0 && w->head.mark.kind > ROTATE_FILLER)
        r = finish_cut(w);
    else if (r == 0)
        r = rotate_dir_remove(&w->d, ROTATE_COPYING, 0);
    if (r == 0 && (r = rotate_dir_look(&w->d, ROTATE_COPIED, 0, &st)) > 0)
        r = rotate_dir_shift(&w->d);
    if (r == 0)
        r = rotate_dir_trim(&w->d);
    return r < 0 ? r : read_head(w);
}

/* Alone with the file: what others have left, and what there is to cut. */
static int cut_once(struct work *w)
{
    int r;

    if ((r = rotate_dir_lock(&w->d)) < 0 || (r = recover(w)) < 0)
        return r;
    if (w->head.size - w->head.base >= w->d.job->limit && (r = cut(w)) > 0)
        r = read_head(w);
    rotate_dir_unlock(&w->d);
    return r < 0 ? r : 0;
}

/* How long until it may be too long again, halved; 0: so long that another helper can see to it, or not at
 * all. */
static uint64_t pause_us(const struct work *w, uint64_t grown, uint64_t in_us)
{
    uint64_t lines = w->head.size - w->head.base, limit = w->d.job->limit, us;

    if (grown == 0 || lines >= limit)
        return 0;
    if ((limit - lines) / grown > LEAVE_US / in_us)
        return 0;
    us = (limit - lines) * in_us / grown;
    return us / 2 < PAUSE_MIN_US ? PAUSE_MIN_US : us / 2 > PAUSE_MAX_US ? PAUSE_MAX_US : us / 2;
}

static void sleep_us(uint64_t us)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000},
              NULL);
}

/* A fork of agentd for each cut would cost more than the writer's own work: as long as the next cut is near,
 * the helper waits for it. */
static int rotate(struct work *w)
{
    uint64_t until = clock_mono_us() + w->d.job->stay_us, pause = PAUSE_MIN_US;
    int r = cut_once(w);

    while (r == 0 && pause && w->report->cuts && w->report->cuts < LIMIT_LOG_CUTS &&
           clock_mono_us() < until) {
        uint64_t size = w->head.size;
        sleep_us(pause);
        if ((r = read_head(w)) < 0)
            break;
        pause = pause_us(w, w->head.size > size ? w->head.size - size : 0, pause);
        if (w->head.size - w->head.base >= w->d.job->limit) {
            r = cut_once(w);
            pause = PAUSE_MIN_US;
        }
    }
    return r;
}

/* --- the answer ----------------------------------------------------------------------------------------- */

static void send_file(const struct work *w)
{
    char path[32], control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    _cleanup_close_ int fd = -1;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", w->d.fd);
    if ((fd = open(path, O_PATH | O_CLOEXEC)) < 0)
        return;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    (void)!sendmsg(HELPER_KEPT, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int rotate_work_run(int out, void *arg)
{
    static struct rotate_report report;
    struct work w = {.report = &report};
    int r;

    rotate_low_begin(ROTATE_LOW_CUT);
    r = rotate_dir_open(&w.d, arg, report.why, sizeof(report.why));
    if (r == 0) {
        send_file(&w);
        r = rotate(&w);
    }
    if (r == 0 && w.d.job->compress && (r = rotate_dir_lock(&w.d)) == 0)
        r = rotate_dir_plain(&w.d);
    report.packs = r > 0;
    report.error = r < 0 ? -r : 0;
    report.size = w.head.size;
    report.base = w.head.base;
    return fd_write_all(out, &report, sizeof(report)) < 0;
}
