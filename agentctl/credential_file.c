/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/credential_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/options.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define LINE (LIMIT_CREDENTIAL_LINE + 2)

/* ---- lines ---- */

/* The next line of *text without its end, and what it is: as cred_parse. false: there are no more. */
static bool next_line(const char **text, char line[LINE], struct cred *c, struct cred_wrong *wrong, int *what)
{
    size_t n = strcspn(*text, "\n"), take = n < LINE - 1 ? n : LINE - 1;

    if (!**text)
        return false;
    memcpy(line, *text, take);
    line[take] = 0;
    *what = cred_parse(line, c, wrong);
    *text += n + ((*text)[n] == '\n');
    return true;
}

bool credential_file_get(const struct credential_file *f, unsigned i, char *line, struct cred *ret)
{
    const char *at = f->text ? f->text : "";
    struct cred_wrong wrong;
    int what;

    while (next_line(&at, line, ret, &wrong, &what))
        if (what > 0 && i-- == 0)
            return true;
    return false;
}

bool credential_file_has(const struct credential_file *f, enum cred_kind kind, const char *name)
{
    char line[LINE];
    struct cred c;
    bool has = false;

    for (unsigned i = 0; !has && credential_file_get(f, i, line, &c); i++)
        has = c.kind == kind && str_eq(c.name, name);
    explicit_bzero(line, sizeof(line));
    return has;
}

static void judge_lines(struct credential_file *f)
{
    const char *at = f->text;
    char line[LINE];
    struct cred c;
    struct cred_wrong wrong;
    int what;

    for (unsigned number = 1; next_line(&at, line, &c, &wrong, &what); number++) {
        if (what < 0) {
            options_complain("%s:%u:%u: %s", f->path, number, wrong.column, wrong.why);
            f->wrong = true;
        }
        f->count += what > 0;
    }
    explicit_bzero(line, sizeof(line));
}

/* ---- reading ---- */

static int complain(const struct credential_file *f, const char *what)
{
    options_complain("%s: %s", f->path, what);
    return EXIT_REFUSED;
}

/* One change at a time: the folder is what stays when the file is replaced. */
static int open_dir(struct credential_file *f, bool change)
{
    const char *slash = strrchr(f->path, '/');
    char dir[PATH_MAX];

    if (strlen(f->path) >= sizeof(dir) || strlen(slash ? slash + 1 : f->path) > NAME_MAX ||
        !*(slash ? slash + 1 : f->path))
        return complain(f, "this is no path of a file");
    str_copy(f->name, sizeof(f->name), slash ? slash + 1 : f->path);
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - f->path) + 1 : 1, slash ? f->path : ".");
    f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0 || (change && flock(f->dir, LOCK_EX) < 0))
        return complain(f, strerror(errno));
    return EXIT_DONE;
}

static int read_text(struct credential_file *f, int fd)
{
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return complain(f, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return complain(f, "it is not a regular file with one name");
    if (st.st_mode & 077)
        return complain(
            f, "others than its owner may use it; chmod 0600, and take it that its secrets are known");
    f->uid = st.st_uid;
    f->gid = st.st_gid;
    if ((n = fd_read_all(fd, LIMIT_CONFIG_FILE, &f->text)) < 0)
        return complain(f, strerror((int)-n));
    if (strlen(f->text) != (size_t)n)
        return complain(f, "a NUL byte");
    judge_lines(f);
    return EXIT_DONE;
}

int credential_file_open(struct credential_file *f, const char *path, bool change)
{
    _cleanup_close_ int fd = -1;
    int code;

    *f = (struct credential_file){.path = path, .dir = -1, .uid = (uid_t)-1, .gid = (gid_t)-1};
    if ((code = open_dir(f, change)) != EXIT_DONE)
        return code;
    fd = openat(f->dir, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return EXIT_DONE;
    if (fd < 0)
        return complain(f, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
    if ((code = read_text(f, fd)) == EXIT_DONE && change && f->wrong)
        return complain(f, "it is not changed before this is put right");
    return code;
}

void credential_file_close(struct credential_file *f)
{
    if (f->text)
        explicit_bzero(f->text, strlen(f->text));
    free(f->text);
    fd_close(f->dir);
}

/* ---- writing ---- */

static int fill(const struct credential_file *f, int fd, const struct buf *b)
{
    int r = fd_write_all(fd, b->p ? b->p : "", b->len);

    if (r < 0)
        return r;
    if (f->text && fchown(fd, f->uid, f->gid) < 0)
        return -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

/* A crash leaves the earlier file or the new one, and at worst the temporary one beside it. */
static int replace(const struct credential_file *f, const struct buf *b)
{
    char temporary[NAME_MAX + 1];
    _cleanup_close_ int fd = fd_temporary(f->dir, f->name, 0600, temporary, sizeof(temporary));
    int r;

    if (fd < 0)
        return fd;
    r = fchmod(fd, 0600) < 0 ? -errno : fill(f, fd, b);
    if (r == 0 && renameat(f->dir, temporary, f->dir, f->name) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(f->dir, temporary, 0);
    else
        r = fsync(f->dir) < 0 ? -errno : 0;
    return r;
}

static void put_line(struct buf *b, const char *line, size_t n)
{
    buf_put(b, line, n);
    buf_char(b, '\n');
}

static void put_changed(struct buf *b, const char *text, enum cred_kind kind, const char *name,
                        const char *new)
{
    char line[LINE];
    struct cred c;
    struct cred_wrong wrong;
    int what;

    for (const char *at = text, *start = at; next_line(&at, line, &c, &wrong, &what); start = at) {
        if (what <= 0 || c.kind != kind || !str_eq(c.name, name))
            put_line(b, start, strcspn(start, "\n"));
        else if (new)
            put_line(b, new, strlen(new));
        else
            continue;
        if (what > 0 && c.kind == kind && str_eq(c.name, name))
            new = NULL;
    }
    if (new)
        put_line(b, new, strlen(new));
    explicit_bzero(line, sizeof(line));
}

int credential_file_change(struct credential_file *f, enum cred_kind kind, const char *name, const char *line)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
    int r;

    put_changed(&b, f->text ? f->text : "", kind, name, line);
    r = b.error ? b.error : replace(f, &b);
    if (b.p)
        explicit_bzero(b.p, b.size);
    buf_free(&b);
    return r < 0 ? complain(f, strerror(-r)) : EXIT_DONE;
}
