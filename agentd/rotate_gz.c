/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_gz.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "agentd/rotate_low.h"
#include "base/fd.h"

static int pump(int from, gzFile to)
{
    static char piece[1 << 17];
    off_t at = 0;
    ssize_t n;

    while ((n = fd_read_at(from, piece, sizeof(piece), at)) > 0) {
        errno = 0;
        if (gzwrite(to, piece, (unsigned)n) != n)
            return errno ? -errno : -EIO;
        at += n;
    }
    return (int)n;
}

/* 0 or -errno; what is on disk then is whole. */
static int compress_into(int from, int to)
{
    int copy = fcntl(to, F_DUPFD_CLOEXEC, 3), r;
    gzFile z = copy < 0 ? NULL : gzdopen(copy, "wb");

    if (!z) {
        fd_close(copy);
        return -ENOMEM;
    }
    r = pump(from, z);
    errno = 0;
    if (gzclose(z) != Z_OK && r == 0)
        r = errno ? -errno : -EIO;
    rotate_low_write();
    return r == 0 && fsync(to) < 0 ? -errno : r;
}

/* The number that the file has by now; 0: none any more. -errno with why. */
static int find(struct rotate_dir *d, const struct stat *file)
{
    struct stat st;
    int r = 1;

    for (unsigned no = 1; no <= d->job->max_files; no++) {
        if ((r = rotate_dir_look(d, ROTATE_OLD, no, &st)) < 0)
            return r;
        if (r && st.st_ino == file->st_ino && st.st_dev == file->st_dev)
            return (int)no;
    }
    return 0;
}

/* Of the same time as the plain one: who is killed between the two steps leaves both, and that tells. */
static int take_place(struct rotate_dir *d, const struct stat *file, int packed)
{
    struct timespec times[2] = {file->st_atim, file->st_mtim};
    struct stat mine, there;
    int no = find(d, file), r;

    if (no <= 0)
        return no;
    if (fstat(packed, &mine) < 0 || futimens(packed, times) < 0)
        return rotate_dir_fail(d, errno, NULL, "a compressed file can't be finished");
    if ((r = rotate_dir_look(d, ROTATE_PACKING, 0, &there)) < 0)
        return r;
    if (!r || there.st_ino != mine.st_ino) /* somebody else began anew */
        return rotate_dir_fail(d, EAGAIN, NULL, "another process compresses its files");
    r = rotate_dir_rename(d, ROTATE_PACKING, 0, ROTATE_OLD_GZ, (unsigned)no);
    return r < 0 ? r : rotate_dir_remove(d, ROTATE_OLD, (unsigned)no);
}

/* Which one, and a new file for it: 1; 0: there is none. -errno with why. */
static int choose(struct rotate_dir *d, int *from, int *to, struct stat *file)
{
    int no = rotate_dir_plain(d);

    if (no <= 0)
        return no;
    if ((*from = rotate_dir_open_old(d, ROTATE_OLD, (unsigned)no)) < 0)
        return *from;
    if (fstat(*from, file) < 0)
        return rotate_dir_fail(d, errno, NULL, strerror(errno));
    if ((no = rotate_dir_remove(d, ROTATE_PACKING, 0)) < 0)
        return no;
    *to = rotate_dir_make(d, ROTATE_PACKING);
    return *to < 0 ? *to : 1;
}

static void drop(struct rotate_dir *d, int packed)
{
    struct stat mine, there;

    if (fstat(packed, &mine) == 0 && mine.st_nlink && rotate_dir_look(d, ROTATE_PACKING, 0, &there) > 0 &&
        there.st_ino == mine.st_ino)
        rotate_dir_remove(d, ROTATE_PACKING, 0);
}

static int compress_one(struct rotate_dir *d)
{
    _cleanup_close_ int from = -1, to = -1;
    struct stat file;
    int r;

    if ((r = rotate_dir_lock(d)) < 0 || (r = choose(d, &from, &to, &file)) <= 0)
        return r;
    rotate_dir_unlock(d);
    r = compress_into(from, to);
    if (r < 0)
        rotate_dir_fail(d, -r, NULL, strerror(-r));
    if (r == 0 && (r = rotate_dir_lock(d)) == 0)
        r = take_place(d, &file, to);
    if (r <= 0) /* not put in its place, and no file of ours where it is another's */
        drop(d, to);
    return r < 0 ? r : 1;
}

int rotate_gz_run(int out, void *arg)
{
    struct rotate_dir d;
    char why[256] = "";
    int r;

    rotate_low_begin(ROTATE_LOW_PACK);
    r = rotate_dir_open(&d, arg, why, sizeof(why));
    if (r == 0)
        r = compress_one(&d);
    if (r < 0)
        fd_write_all(out, why, strlen(why));
    return r < 0 ? ROTATE_GZ_FAILED : r == 0 ? ROTATE_GZ_DONE : ROTATE_GZ_MORE;
}
