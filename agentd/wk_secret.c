/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/wk_secret.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agentd/cfg_trust.h"
#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

#define FOLDER "credentials"
#define AGAIN_US 20000 /* all helpers are at work */
#define WHY_MAX 600
#define REMOVE_TRIES 3 /* what fails once need not fail again */

struct wk_secret {
    struct helper *helper;
    struct loop_watch *again;
    void (*done)(struct wk *w, const char *why);
};

static int open_folder(bool make)
{
    char path[600];
    int fd;

    snprintf(path, sizeof(path), "%s/" FOLDER, wk_host.runtime_dir);
    if (make && mkdir(path, 0711) < 0 && errno != EEXIST)
        return -errno;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

#define NAME_SIZE (LIMIT_ALIAS + 16)

static const char *name_of(const struct wk *w, uint32_t generation, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s~%u", w->def->alias, generation);
    return name;
}

void wk_secret_path(const struct wk *w, uint32_t generation, char *path, size_t size)
{
    char name[NAME_SIZE];

    snprintf(path, size, "%s/" FOLDER "/%s", wk_host.runtime_dir, name_of(w, generation, name));
}

/* Files in a folder, and nothing below: nobody but us can write there. False: it may still be there. */
static bool try_remove(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        bool none = fd < 0 && errno == ENOENT;
        fd_close(fd);
        return none;
    }
    fchmod(fd, 0700);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.' || (e->d_name[1] && !str_eq(e->d_name, "..")))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
    return unlinkat(at, name, AT_REMOVEDIR) == 0;
}

static void remove_one(int at, const char *name)
{
    for (int i = 0; i < REMOVE_TRIES; i++)
        if (try_remove(at, name))
            return;
    log_error("wk", "%s/" FOLDER "/%s can't be removed: %s", wk_host.runtime_dir, name, strerror(errno));
}

/* Also one that a helper was at work on: it has a dot before its name. */
void wk_secret_remove(struct wk *w)
{
    char name[NAME_SIZE + 1] = ".";
    enum caps_scope scope;
    int fd;

    if (!w->secrets_of)
        return;
    scope = caps_enter(CAPS_FILES);
    name_of(w, w->secrets_of, name + 1);
    w->secrets_of = 0;
    for (int i = 0; i < REMOVE_TRIES && (fd = open_folder(false)) < 0 && fd != -ENOENT; i++)
        ;
    if (fd >= 0) {
        remove_one(fd, name + 1);
        remove_one(fd, name);
    }
    fd_close(fd);
    caps_enter(scope);
}

/* "ALIAS~GENERATION": of a process that runs, or may. */
static bool is_in_use(const char *name)
{
    const char *end = strrchr(name, '~');
    char alias[LIMIT_ALIAS + 1];
    const struct wk *w;

    if (!end || end - name > LIMIT_ALIAS)
        return false;
    str_copy(alias, (size_t)(end - name) + 1, name);
    w = sup_find_alias(alias);
    return w && (w->state != WK_DOWN || w->held.pid) && strtoul(end + 1, NULL, 10) == w->secrets_of;
}

void wk_secret_sweep(void)
{
    enum caps_scope scope = caps_enter(CAPS_FILES);
    int fd = open_folder(false);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d)
        fd_close(fd);
    while (d && (e = readdir(d)))
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") && !is_in_use(e->d_name))
            remove_one(fd, e->d_name);
    if (d)
        closedir(d);
    caps_enter(scope);
}

/* --- in the helper ----------------------------------------------------------------------------------------
 */

static int say(int out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(int out, const char *fmt, ...)
{
    char text[WHY_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fd_write_all(out, text, strlen(text));
    return -EIO;
}

/* acl(5), the layout of the extended attribute: the owner and one user. */
struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};

/* Root's own, and the worker's user may read it, but not give itself more: else it could fill the file system
 * that agentd's facts are in. Where there are no lists of access the user becomes its owner. */
static int let_read(int fd, const struct cfg_ids *ids, unsigned perm)
{
    mode_t mode = (mode_t)(perm << 6);
    struct {
        uint32_t version;
        struct acl_entry e[5];
    } acl = {htole32(2),
             {{htole16(0x01), htole16(perm), UINT32_MAX},
              {htole16(0x02), htole16(perm), htole32(ids->uid)},
              {htole16(0x04), 0, UINT32_MAX},
              {htole16(0x10), htole16(perm), UINT32_MAX},
              {htole16(0x20), 0, UINT32_MAX}}};

    if (fchmod(fd, mode) < 0)
        return -errno;
    if (!ids->set || ids->uid == geteuid() ||
        fsetxattr(fd, "system.posix_acl_access", &acl, sizeof(acl), 0) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    return fchown(fd, ids->uid, (gid_t)-1) < 0 || fchmod(fd, mode) < 0 ? -errno : 0;
}

static int write_one(int dir, const struct cfg_ids *ids, const char *id, const char *p, size_t n)
{
    _cleanup_close_ int fd = openat(dir, id, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? -errno : fd_write_all(fd, p, n);

    return r < 0 ? r : let_read(fd, ids, 4);
}

static const struct cfg_secret *set_value(const struct wk_def *d, const char *id)
{
    for (unsigned i = 0; i < d->n_secrets; i++)
        if (d->secrets[i].value && str_eq(d->secrets[i].id, id))
            return &d->secrets[i];
    return NULL;
}

static bool is_loaded(const struct wk_def *d, const char *id)
{
    for (unsigned i = 0; i < d->n_secrets; i++)
        if (d->secrets[i].path && str_eq(d->secrets[i].id, id))
            return true;
    return false;
}

/* A file that is not there leaves the word to SetCredential=. */
static int load_one(int out, int dir, const struct wk_def *d, const struct cfg_secret *s, size_t *room)
{
    struct err e = {0};
    _cleanup_close_ int fd = cfg_trust_open(AT_FDCWD, s->path, 0, &e);
    const struct cfg_secret *value = fd == -ENOENT ? set_value(d, s->id) : NULL;
    _cleanup_free_ char *text = NULL;
    ssize_t n;
    int r;

    if (value)
        return write_one(dir, &d->ids, s->id, value->value, strlen(value->value));
    if (fd < 0)
        return say(out, "LoadCredential=%s: %s: %s", s->id, s->path, e.text);
    if ((n = fd_read_all(fd, *room, &text)) < 0)
        return say(out, "LoadCredential=%s: %s: %s", s->id, s->path,
                   n == -EFBIG ? "more than is allowed for all credentials of a worker" : strerror((int)-n));
    *room -= (size_t)n;
    if ((r = write_one(dir, &d->ids, s->id, text, (size_t)n)) < 0)
        return say(out, "LoadCredential=%s: it can't be given to the worker: %s", s->id, strerror(-r));
    return 0;
}

static int fill(int out, int dir, const struct wk_def *d)
{
    size_t room = LIMIT_SECRET_BYTES;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < d->n_secrets; i++) {
        const struct cfg_secret *s = &d->secrets[i];
        if (s->path)
            r = load_one(out, dir, d, s, &room);
        else if (!is_loaded(d, s->id) && (r = write_one(dir, &d->ids, s->id, s->value, strlen(s->value))) < 0)
            r = say(out, "SetCredential=%s: it can't be given to the worker: %s", s->id, strerror(-r));
    }
    return r == 0 && (r = let_read(dir, &d->ids, 5)) < 0 ? say(out, FOLDER ": %s", strerror(-r)) : r;
}

/* Made whole, then named. */
static int run_make(int out, void *arg)
{
    const struct wk *w = arg;
    char name[NAME_SIZE + 1] = ".";
    _cleanup_close_ int top = -1, dir = -1;
    int r;

    caps_enter(CAPS_FILES);
    name_of(w, w->secrets_of, name + 1);
    if ((top = open_folder(true)) < 0 || mkdirat(top, name, 0700) < 0 ||
        (dir = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        return say(out, "%s/" FOLDER ": %s", wk_host.runtime_dir, strerror(top < 0 ? -top : errno)) < 0;
    if ((r = fill(out, dir, w->def)) == 0 && renameat(top, name, top, name + 1) < 0)
        r = say(out, FOLDER ": %s", strerror(errno));
    if (r < 0)
        remove_one(top, name);
    return r < 0;
}

/* ----------------------------------------------------------------------------------------------------------
 */

static void begin(struct wk *w);

static void on_again(int fd, short what, void *arg)
{
    struct wk *w = arg;

    loop_free(&w->secret->again);
    begin(w);
}

static void on_made(int status, const char *p, size_t n, void *arg)
{
    struct wk *w = arg;
    void (*done)(struct wk * w, const char *why) = w->secret->done;

    free(TAKE_PTR(w->secret));
    done(w, status == 0 ? NULL : n ? p : "the credentials could not be read");
}

static void begin(struct wk *w)
{
    w->secret->helper = helper_start(run_make, w, on_made, w, 0, WHY_MAX);
    if (!w->secret->helper)
        w->secret->again = loop_timer(AGAIN_US, on_again, w);
}

bool wk_secret_make(struct wk *w, void (*done)(struct wk *w, const char *why))
{
    wk_secret_stop(w);
    wk_secret_remove(w); /* of one that ended while no agentd watched */
    if (!w->def->n_secrets || w->def->fault)
        return false;
    w->secrets_of = w->generation;
    if (!(w->secret = calloc(1, sizeof(*w->secret)))) {
        done(w, "no memory for its credentials");
        return true;
    }
    w->secret->done = done;
    begin(w);
    return true;
}

void wk_secret_stop(struct wk *w)
{
    if (!w->secret)
        return;
    helper_cancel(&w->secret->helper);
    loop_free(&w->secret->again);
    free(TAKE_PTR(w->secret));
}
