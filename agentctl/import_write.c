/* SPDX-License-Identifier: Apache-2.0 */
/* All workers' files into a folder, or none of them: each is written and synced under a name that agentd does
 * not read, then all are renamed; when one of that fails, those before are put back. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/import.h"
#include "agentctl/options.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct target {
    char name[LIMIT_ALIAS + 8], temporary[LIMIT_ALIAS + 32], earlier[LIMIT_ALIAS + 40];
    bool made, moved;
    bool exchanged, linked; /* the earlier file has the temporary name; or that of `earlier` beside its own */
};

struct writing {
    const struct import *im;
    const char *dir;
    int fd;
    bool force;
    struct target *targets;
};

static int complain(const struct writing *w, const char *name, const char *what)
{
    options_complain("import: %s%s%s: %s; nothing is written", w->dir, *name ? "/" : "", name, what);
    return EXIT_REFUSED;
}

/* Who may not read one of the sources may not read what comes of them: there may be passwords in it. */
static mode_t mode_of(const struct import *im)
{
    mode_t mode = 0644;

    for (size_t i = 0; i < im->n_sources; i++)
        mode &= im->sources[i]->mode | 0600;
    return mode;
}

static int fill(int fd, const struct import_worker *worker, mode_t mode)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
    int r;

    import_text(worker, &b);
    r = b.error ? b.error : fd_write_all(fd, b.p ? b.p : "", b.len);
    buf_free(&b);
    if (r < 0)
        return r;
    return fchmod(fd, mode) < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int prepare(const struct writing *w, size_t i)
{
    struct target *t = &w->targets[i];
    _cleanup_close_ int fd = -1;
    struct stat st;
    int r;

    snprintf(t->name, sizeof(t->name), "%s.conf", w->im->workers[i]->alias);
    if (fstatat(w->fd, t->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!w->force)
            return complain(w, t->name, "it is there already; --force replaces it");
        if (!S_ISREG(st.st_mode))
            return complain(w, t->name, "it is no regular file, and is not replaced");
    }
    if ((fd = fd_temporary(w->fd, t->name, 0600, t->temporary, sizeof(t->temporary))) < 0)
        return complain(w, t->name, strerror(-fd));
    t->made = true;
    r = fill(fd, w->im->workers[i], mode_of(w->im));
    return r < 0 ? complain(w, t->name, strerror(-r)) : EXIT_DONE;
}

static bool is_unknown(int error)
{
    return error == EINVAL || error == ENOSYS;
}

/* In the place of the one that is there, on a file system without the exchange: that keeps a second name
 * until all are done. */
static int replace(const struct writing *w, struct target *t)
{
    snprintf(t->earlier, sizeof(t->earlier), "%s.earlier", t->temporary);
    if (linkat(w->fd, t->name, w->fd, t->earlier, 0) < 0)
        return -errno;
    t->linked = true;
    return renameat(w->fd, t->temporary, w->fd, t->name) < 0 ? -errno : 0;
}

/* Where none is; one that has come to be meanwhile stays. */
static int place(const struct writing *w, struct target *t)
{
    if (renameat2(w->fd, t->temporary, w->fd, t->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (!is_unknown(errno) || linkat(w->fd, t->temporary, w->fd, t->name, 0) < 0)
        return -errno;
    unlinkat(w->fd, t->temporary, 0);
    return 0;
}

/* A file that is there can come back: it is exchanged for ours. */
static int move(const struct writing *w, struct target *t)
{
    int r = -ENOENT;

    if (w->force && renameat2(w->fd, t->temporary, w->fd, t->name, RENAME_EXCHANGE) == 0) {
        t->exchanged = t->moved = true;
        return 0;
    }
    if (w->force)
        r = is_unknown(errno) ? replace(w, t) : -errno;
    if (r == -ENOENT)
        r = place(w, t);
    t->moved = r == 0;
    t->made = t->made && r < 0;
    return r;
}

static void put_back(const struct writing *w)
{
    for (size_t i = w->im->n_workers; i-- > 0;) {
        struct target *t = &w->targets[i];
        if (t->exchanged)
            renameat2(w->fd, t->temporary, w->fd, t->name, RENAME_EXCHANGE);
        else if (t->linked && t->moved)
            renameat(w->fd, t->earlier, w->fd, t->name);
        else if (t->linked)
            unlinkat(w->fd, t->earlier, 0);
        else if (t->moved)
            unlinkat(w->fd, t->name, 0);
        if (t->made)
            unlinkat(w->fd, t->temporary, 0);
    }
}

static int move_all(const struct writing *w)
{
    for (size_t i = 0; i < w->im->n_workers; i++) {
        int r = move(w, &w->targets[i]);
        if (r < 0)
            return complain(w, w->targets[i].name, strerror(-r));
    }
    if (fsync(w->fd) < 0)
        return complain(w, "", strerror(errno));
    for (size_t i = 0; i < w->im->n_workers; i++)
        if (w->targets[i].exchanged || w->targets[i].linked)
            unlinkat(w->fd, w->targets[i].exchanged ? w->targets[i].temporary : w->targets[i].earlier, 0);
    return EXIT_DONE;
}

int import_write(const struct import *im, const char *dir, bool force)
{
    struct writing w = {.im = im, .dir = dir, .force = force};
    int code = EXIT_DONE;

    if ((w.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return complain(&w, "", errno == ENOENT ? "there is no such folder; make it first" : strerror(errno));
    if (!(w.targets = calloc(im->n_workers + 1, sizeof(*w.targets))))
        code = complain(&w, "", strerror(ENOMEM));
    for (size_t i = 0; code == EXIT_DONE && i < im->n_workers; i++)
        code = prepare(&w, i);
    if (code == EXIT_DONE)
        code = move_all(&w);
    if (code != EXIT_DONE && w.targets)
        put_back(&w);
    free(w.targets);
    fd_close(w.fd);
    return code;
}
