/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "agentd/cfg_trust.h"
#include "agentd/helper.h"
#include "agentd/logs.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/caps.h"

#define LOCK_AT (INT64_C(1) << 62) /* where nobody locks bytes of a log */
#define LOCK_TRIES 40
#define LOCK_WAIT_MS 25

int rotate_dir_fail(struct rotate_dir *d, int error, const char *name, const char *what)
{
    const char *path = d->job->to->path;
    int folder = name ? (int)(d->name - path) : 0;

    snprintf(d->why, d->why_size, "%.*s%s: %s", folder, path, name ? name : path, what);
    return -error;
}

static int fail_name(struct rotate_dir *d, enum rotate_form form, unsigned no, const char *what)
{
    char name[NAME_MAX + 1];
    int error = errno;

    if (!rotate_cut_name(d->name, form, no, name, sizeof(name)))
        str_copy(name, sizeof(name), d->name);
    return rotate_dir_fail(d, error, name, what ? what : strerror(error));
}

/* --- the folder ----------------------------------------------------------------------------------------- */

/* The worker's user wherever the worker itself had to open the file with that user's rights. */
static int become(struct rotate_dir *d)
{
    const struct rotate_job *j = d->job;
    int r = j->to->in_log_dir ? 0 : helper_become(j->ids);

    if (r < 0)
        return rotate_dir_fail(d, -r, NULL, "the worker's user can't be taken on");
    if (j->to->in_log_dir)
        caps_enter(CAPS_FILES); /* a file of the worker's user and group in a folder of ours */
    return 0;
}

/* With rights that go beyond the worker's, only on a path that nobody else can turn elsewhere. */
static int open_folder(struct rotate_dir *d, const char *path)
{
    bool is_worker = d->job->ids->set && d->job->ids->uid != 0 && geteuid() == d->job->ids->uid;
    struct err e;
    int fd = is_worker ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK)
                       : cfg_trust_open(AT_FDCWD, path, CFG_TRUST_DIR, &e);

    if (fd < 0 && is_worker &&
        errno == EACCES) /* it can be used, though not read: then its names are not synced */
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    return rotate_dir_fail(d, is_worker ? errno : -fd, NULL, is_worker ? strerror(errno) : e.text);
}

/* File systems whose files can be looked at without asking anybody beyond this host's kernel: agentd looks at
 * the size of what is opened here, and may not wait for a server, or a process of the worker's user. The
 * numbers are those of statfs(2). */
static bool is_local(int fd)
{
    static const uint32_t local[] = {
        0xef53 /* ext2, 3, 4 */,    0x58465342 /* xfs */,  0x9123683e /* btrfs */, 0x01021994 /* tmpfs */,
        0x794c7630 /* overlayfs */, 0xf2f52010 /* f2fs */, 0x2fc12fc1 /* zfs */,   0xca451a4e /* bcachefs */};
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        if ((uint32_t)fs.f_type == local[i])
            return true;
    return false;
}

int rotate_dir_open(struct rotate_dir *d, const struct rotate_job *job, char *why, size_t size)
{
    const char *path = job->to->path, *slash = strrchr(path, '/');
    char folder[PATH_MAX], said[160];
    int r;

    *d = (struct rotate_dir){.job = job, .dir = -1, .fd = -1, .why = why, .why_size = size};
    snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if ((r = become(d)) < 0 || (r = d->dir = open_folder(d, folder)) < 0)
        return r;
    d->name = slash + 1;
    d->fd = logs_open_at(d->dir, d->name, O_RDWR, job->ids, said, sizeof(said));
    if (d->fd < 0)
        return rotate_dir_fail(d, -d->fd, NULL, strstr(said, ": ") ? strstr(said, ": ") + 2 : said);
    if (fstat(d->fd, &d->st) < 0)
        return rotate_dir_fail(d, errno, NULL, strerror(errno));
    if (!is_local(d->fd))
        return rotate_dir_fail(d, EOPNOTSUPP, NULL, "its file system is none that agentd rotates on");
    return 0;
}

/* --- one at a time -------------------------------------------------------------------------------------- */

static int set_lock(int fd, int command, short type)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_AT, .l_len = 1};

    return fcntl(fd, command, &l) < 0 ? -errno : 0;
}

static int wait_for_lock(int fd)
{
    int r;

    for (int i = 0; (r = set_lock(fd, F_OFD_SETLK, F_WRLCK)) == -EAGAIN && i < LOCK_TRIES; i++)
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_MS * 1000000L}, NULL);
    return r;
}

/* A helper whose agentd was killed may still be in its last system call: the lock is its own open file's, and
 * stays until the kernel is done with it. Others who lock bytes of the log do it elsewhere. */
int rotate_dir_lock(struct rotate_dir *d)
{
    int r = wait_for_lock(d->fd);

    return r < 0 ? rotate_dir_fail(d, -r, NULL, "another process keeps it locked") : 0;
}

void rotate_dir_unlock(struct rotate_dir *d)
{
    set_lock(d->fd, F_OFD_SETLK, F_UNLCK);
}

int rotate_dir_hold(int fd)
{
    return set_lock(fd, F_OFD_SETLKW, F_RDLCK);
}

/* --- its files ------------------------------------------------------------------------------------------ */

static bool is_ours(const struct rotate_dir *d, const struct stat *st)
{
    uid_t own = d->job->ids->set ? d->job->ids->uid : geteuid();

    return S_ISREG(st->st_mode) && st->st_nlink == 1 && (st->st_uid == 0 || st->st_uid == own);
}

int rotate_dir_look(struct rotate_dir *d, enum rotate_form form, unsigned no, struct stat *st)
{
    char name[NAME_MAX + 1];

    if (!rotate_cut_name(d->name, form, no, name, sizeof(name)))
        return rotate_dir_fail(d, ENAMETOOLONG, NULL, "its name is too long to add to it");
    if (fstatat(d->dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_name(d, form, no, NULL);
    if (is_ours(d, st))
        return 1;
    return rotate_dir_fail(d, EPERM, name, "not a regular file of the worker's user with one name");
}

/* Whoever could read the lines can read them still, and nobody else. */
static void share_with_group(int fd, const struct stat *live)
{
    struct stat st;
    bool same = fstat(fd, &st) == 0 && st.st_gid == live->st_gid;

    same = same || fchown(fd, (uid_t)-1, live->st_gid) == 0;
    (void)!fchmod(fd, live->st_mode & (same ? 0777 : 0707));
}

int rotate_dir_make(struct rotate_dir *d, enum rotate_form form)
{
    char name[NAME_MAX + 1];
    int fd;

    if (!rotate_cut_name(d->name, form, 0, name, sizeof(name)))
        return rotate_dir_fail(d, ENAMETOOLONG, NULL, "its name is too long to add to it");
    fd = openat(d->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return fail_name(d, form, 0, NULL);
    share_with_group(fd, &d->st);
    return fd;
}

int rotate_dir_open_old(struct rotate_dir *d, enum rotate_form form, unsigned no)
{
    char name[NAME_MAX + 1];
    struct stat st;
    int fd;

    if (!rotate_cut_name(d->name, form, no, name, sizeof(name)))
        return -ENAMETOOLONG;
    fd = openat(d->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return fail_name(d, form, no, NULL);
    if (fstat(fd, &st) == 0 && is_ours(d, &st))
        return fd;
    fd_close(fd);
    return rotate_dir_fail(d, EPERM, name, "not a regular file of the worker's user with one name");
}

int rotate_dir_rename(struct rotate_dir *d, enum rotate_form from, unsigned from_no, enum rotate_form to,
                      unsigned to_no)
{
    char a[NAME_MAX + 1], b[NAME_MAX + 1];

    if (!rotate_cut_name(d->name, from, from_no, a, sizeof(a)) ||
        !rotate_cut_name(d->name, to, to_no, b, sizeof(b)))
        return rotate_dir_fail(d, ENAMETOOLONG, NULL, "its name is too long to add to it");
    return renameat(d->dir, a, d->dir, b) < 0 ? fail_name(d, from, from_no, NULL) : 0;
}

int rotate_dir_remove(struct rotate_dir *d, enum rotate_form form, unsigned no)
{
    char name[NAME_MAX + 1];

    if (!rotate_cut_name(d->name, form, no, name, sizeof(name)))
        return rotate_dir_fail(d, ENAMETOOLONG, NULL, "its name is too long to add to it");
    return unlinkat(d->dir, name, 0) < 0 && errno != ENOENT ? fail_name(d, form, no, NULL) : 0;
}

void rotate_dir_sync(struct rotate_dir *d)
{
    fsync(d->dir);
}

/* --- the numbers ---------------------------------------------------------------------------------------- */

#define PLAIN 1
#define GZ 2

/* Which forms of that number there are, or -errno. Killed between the two steps of a compression, both are
 * there, of the same time: then the plain one is one too many. */
static int forms_of(struct rotate_dir *d, unsigned no)
{
    struct stat plain, gz;
    int p = rotate_dir_look(d, ROTATE_OLD, no, &plain),
        g = p < 0 ? p : rotate_dir_look(d, ROTATE_OLD_GZ, no, &gz), r;

    if (g < 0)
        return g;
    if (p && g && plain.st_mtim.tv_sec == gz.st_mtim.tv_sec && plain.st_mtim.tv_nsec == gz.st_mtim.tv_nsec) {
        if ((r = rotate_dir_remove(d, ROTATE_OLD, no)) < 0)
            return r;
        p = 0;
    }
    return (p ? PLAIN : 0) | (g ? GZ : 0);
}

static int remove_number(struct rotate_dir *d, unsigned no)
{
    int r = rotate_dir_remove(d, ROTATE_OLD, no);

    return r < 0 ? r : rotate_dir_remove(d, ROTATE_OLD_GZ, no);
}

static int move_up(struct rotate_dir *d, unsigned no)
{
    int forms = forms_of(d, no), r = forms < 0 ? forms : 0;

    if (r == 0 && forms & PLAIN)
        r = rotate_dir_rename(d, ROTATE_OLD, no, ROTATE_OLD, no + 1);
    if (r == 0 && forms > 0 && forms & GZ)
        r = rotate_dir_rename(d, ROTATE_OLD_GZ, no, ROTATE_OLD_GZ, no + 1);
    return r;
}

/* Up to the first free number only: killed in between, the next one goes on at the gap and loses no file to
 * it. */
int rotate_dir_shift(struct rotate_dir *d)
{
    unsigned max = d->job->max_files, gap = 1;
    int r;

    for (; (r = forms_of(d, gap)) > 0 && gap < max; gap++)
        ;
    if (r > 0)
        r = remove_number(d, gap);
    for (unsigned no = gap; r == 0 && no > 1; no--)
        r = move_up(d, no - 1);
    return r < 0 ? r : rotate_dir_rename(d, ROTATE_COPIED, 0, ROTATE_OLD, 1);
}

int rotate_dir_trim(struct rotate_dir *d)
{
    int r = 0;

    for (unsigned no = d->job->max_files + 1; r == 0 && no <= LIMIT_LOG_FILES && (r = forms_of(d, no)) > 0;
         no++)
        r = remove_number(d, no);
    return r < 0 ? r : 0;
}

int rotate_dir_plain(struct rotate_dir *d)
{
    int r = 1;

    for (unsigned no = 1; no <= d->job->max_files && (r = forms_of(d, no)) > 0; no++)
        if (no > 1 && r & PLAIN)
            return (int)no;
    return r < 0 ? r : 0;
}
