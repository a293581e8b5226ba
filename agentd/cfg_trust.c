/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/cfg_trust.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define LINKS_MAX 40 /* as the kernel, path_resolution(7) */

struct walk {
    int at;     /* the folder reached */
    char *rest; /* what is left of the path; links are put before it */
    unsigned links;
    unsigned flags;
    char where[PATH_MAX]; /* of at, for messages */
    struct err *e;
};

static bool own(const struct stat *st)
{
    return st->st_uid == 0 || st->st_uid == geteuid();
}

static int refuse(struct walk *w, const char *name, const struct stat *st)
{
    const char *slash = *w->where && w->where[strlen(w->where) - 1] != '/' && *name ? "/" : "";

    if (!own(st))
        return err_set(w->e, EPERM, "%s%s%s belongs to uid %u, not to root%s", w->where, slash, name,
                       (unsigned)st->st_uid, geteuid() ? " or agentd's user" : "");
    return err_set(w->e, EPERM, "%s%s%s is writable by its group or others (mode %04o)", w->where, slash,
                   name, (unsigned)st->st_mode & 07777);
}

/* A sticky folder (/tmp) may be writable by all: nobody can replace an entry of ours in it, and every entry
 * that is followed is judged itself. */
static int judge_folder(struct walk *w)
{
    struct stat st;

    if (fstat(w->at, &st) < 0)
        return err_set(w->e, errno, "cannot look at %s: %m", w->where);
    if (!own(&st) || ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX)))
        return refuse(w, "", &st);
    return 0;
}

static bool is_dev_null(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int judge_file(struct walk *w, int fd, const char *name)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(w->e, errno, "cannot look at %s: %m", name);
    if (is_dev_null(&st))
        return 0;
    if (!S_ISREG(st.st_mode))
        return err_set(w->e, EINVAL, "not a regular file");
    if (!own(&st) || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return refuse(w, name, &st);
    return 0;
}

/* Keeps the path of w->at for messages; ".." and links make it longer, never wrong. */
static void go_name(struct walk *w, const char *name)
{
    size_t n = strlen(w->where);

    snprintf(w->where + n, sizeof(w->where) - n, "%s%s", n && w->where[n - 1] != '/' ? "/" : "", name);
}

static int go_root(struct walk *w)
{
    fd_close(w->at);
    str_copy(w->where, sizeof(w->where), "/");
    w->at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return w->at < 0 ? err_set(w->e, errno, "cannot open /: %m") : judge_folder(w);
}

/* A link at name: its target goes before what is left. The link itself must be ours, else in a sticky folder
 * somebody else could have planted it. */
static int follow(struct walk *w, const char *name)
{
    char target[PATH_MAX], *joined;
    struct stat st;
    ssize_t n;

    if (++w->links > LINKS_MAX)
        return err_set(w->e, ELOOP, "too many symbolic links");
    if (fstatat(w->at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        (n = readlinkat(w->at, name, target, sizeof(target) - 1)) < 0)
        return err_set(w->e, errno, "cannot read the link %s: %m", name);
    if (!own(&st))
        return refuse(w, name, &st);
    target[n] = 0;
    if (asprintf(&joined, "%s/%s", target, w->rest) < 0)
        return err_set(w->e, ENOMEM, "out of memory");
    free(w->rest);
    w->rest = joined;
    return *target == '/' ? go_root(w) : 0;
}

/* The last component as a file; its descriptor. */
static int open_file(struct walk *w, const char *name)
{
    _cleanup_close_ int fd = openat(w->at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    int r;

    if (fd < 0)
        return errno == ELOOP ? -ELOOP : err_set(w->e, errno, "cannot open it: %m");
    if ((r = judge_file(w, fd, name)) < 0)
        return r;
    return TAKE_FD(fd);
}

static int enter(struct walk *w, const char *name)
{
    int fd = openat(w->at, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOTDIR) { /* a link is this too, with O_PATH and O_NOFOLLOW */
        struct stat st;
        if (fstatat(w->at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return -ELOOP;
        errno = ENOTDIR;
    }
    if (fd < 0)
        return errno == ELOOP ? -ELOOP : err_set(w->e, errno, "cannot open %s in %s: %m", name, w->where);
    fd_close(w->at);
    w->at = fd;
    go_name(w, name);
    return judge_folder(w);
}

/* The next component of the rest into name; true if there is one. *last: nothing follows it. */
static bool next(struct walk *w, char name[NAME_MAX + 1], bool *last)
{
    size_t skip = strspn(w->rest, "/"), n = strcspn(w->rest + skip, "/"), end;

    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, w->rest + skip, n);
    name[n] = 0;
    end = skip + n;
    end += strspn(w->rest + end, "/");
    *last = !w->rest[end];
    memmove(w->rest, w->rest + end, strlen(w->rest + end) + 1);
    return true;
}

static int walk(struct walk *w)
{
    char name[NAME_MAX + 1];
    bool last;
    int r;

    while (next(w, name, &last)) {
        bool file = last && !(w->flags & CFG_TRUST_DIR);
        r = file ? open_file(w, name) : enter(w, name);
        if (r == -ELOOP)
            r = follow(w, name);
        else if (r >= 0 && file)
            return r;
        if (r < 0)
            return r;
    }
    if (*w->rest && strspn(w->rest, "/") != strlen(w->rest))
        return err_set(w->e, ENAMETOOLONG, "a name in the path is too long");
    if (!(w->flags & CFG_TRUST_DIR))
        return err_set(w->e, EISDIR, "not a regular file");
    r = openat(w->at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r < 0 ? err_set(w->e, errno, "cannot open it: %m") : r;
}

int cfg_trust_open(int dir, const char *path, unsigned flags, struct err *e)
{
    char cwd[PATH_MAX];
    struct walk w = {.at = -1, .flags = flags, .e = e};
    int r = 0;

    if (dir == AT_FDCWD && *path != '/') {
        if (!getcwd(cwd, sizeof(cwd)))
            return err_set(e, errno, "cannot tell the working directory: %m");
        r = asprintf(&w.rest, "%s/%s", cwd, path);
    } else {
        r = asprintf(&w.rest, "%s", path);
    }
    if (r < 0)
        return err_set(e, ENOMEM, "out of memory");
    if (dir == AT_FDCWD || *path == '/')
        r = go_root(&w);
    else if ((r = w.at = fcntl(dir, F_DUPFD_CLOEXEC, 3)) < 0)
        r = err_set(e, errno, "cannot open it: %m");
    if (r >= 0)
        r = walk(&w);
    fd_close(w.at);
    free(w.rest);
    return r;
}
