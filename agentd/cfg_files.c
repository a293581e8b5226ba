/* SPDX-License-Identifier: Apache-2.0 */
/* From file names to lines: the main file and its drop-ins, each only if it is to be trusted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_trust.h"
#include "base/fd.h"
#include "base/str.h"

static void complain(void *ctx, const char *file, unsigned line, unsigned col, const char *message)
{
    cfg_error_in(ctx, file, line, col, "%s", message);
}

bool cfg_file_read(struct cfg_ctx *c, int dir, const char *name, const char *path, struct cfg_lines *lines,
                   bool *masked)
{
    struct err e = {0};
    _cleanup_close_ int fd = cfg_trust_open(dir, name, 0, &e);
    _cleanup_free_ char *text = NULL;
    struct stat st;
    ssize_t n;

    *masked = false;
    if (fd < 0) {
        cfg_error_in(c, path, 1, 1, "%s", e.text);
        return false;
    }
    *masked = fstat(fd, &st) == 0 && S_ISCHR(st.st_mode); /* /dev/null: the trust has looked */
    n = fd_read_all(fd, LIMIT_CONFIG_FILE, &text);
    if (n == -EFBIG)
        cfg_error_in(c, path, 1, 1, "larger than %u bytes", LIMIT_CONFIG_FILE);
    else if (n < 0)
        cfg_error_in(c, path, 1, 1, "cannot read it: %s", strerror((int)-n));
    else if (cfg_parse(path, text, (size_t)n, lines, complain, c) < 0)
        cfg_oom(c);
    return n >= 0;
}

static bool is_conf(const char *name)
{
    size_t n = strlen(name);

    return *name != '.' && n > strlen(".conf") && str_eq(name + n - strlen(".conf"), ".conf");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the *.conf of dir, sorted. */
static void list_dir(struct cfg_ctx *c, int dir, struct cfg_list *names)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        fd_close(fd);
        cfg_error_in(c, c->file, 1, 1, "cannot list a folder: %s", strerror(errno));
        return;
    }
    while (errno = 0, (e = readdir(d)))
        if (is_conf(e->d_name) && cfg_list_add(names, strdup(e->d_name)) < 0)
            cfg_oom(c);
    if (errno) /* half a list would remove the other half's workers */
        cfg_error_in(c, c->file, 1, 1, "cannot list a folder: %s", strerror(errno));
    closedir(d);
    if (names->n)
        qsort(names->v, names->n, sizeof(*names->v), by_name);
}

/* The trusted folder STEM.conf.d, or -1. */
static int open_dropins(struct cfg_ctx *c, int dir, const char *path, const char *name)
{
    struct err e = {0};
    int fd = cfg_trust_open(dir, name, CFG_TRUST_DIR, &e);

    if (fd < 0 && fd != -ENOENT)
        cfg_error_in(c, path, 1, 1, "%s", e.text);
    return fd < 0 ? -1 : fd;
}

struct dropins {
    char *path; /* of the folder */
    int fd;
    struct cfg_list names;
};

static void open_both(struct cfg_ctx *c, int dir, const char *dir_path, const char *stem, struct dropins d[2])
{
    char name[2][NAME_MAX + 16] = {"", ""};
    const char *at = strchr(stem, '@');

    snprintf(name[0], sizeof(name[0]), "%s.conf.d", stem);
    if (at && at[1])
        snprintf(name[1], sizeof(name[1]), "%.*s@.conf.d", (int)(at - stem), stem);
    for (int i = 0; i < 2; i++) {
        d[i] = (struct dropins){.fd = -1};
        if (!*name[i])
            continue;
        if (asprintf(&d[i].path, "%s/%s", dir_path, name[i]) < 0) {
            d[i].path = NULL;
            cfg_oom(c);
        } else if ((d[i].fd = open_dropins(c, dir, d[i].path, name[i])) >= 0) {
            list_dir(c, d[i].fd, &d[i].names);
        }
    }
}

static void read_one(struct cfg_ctx *c, const struct dropins *d, const char *name, struct cfg_lines *lines)
{
    _cleanup_free_ char *path = NULL;
    bool masked;

    if (asprintf(&path, "%s/%s", d->path, name) < 0) {
        path = NULL;
        cfg_oom(c);
        return;
    }
    cfg_file_read(c, d->fd, name, path, lines, &masked);
}

/* Both folders in one order of names; an instance's own drop-in hides its template's of the same name. */
void cfg_dropins_read(struct cfg_ctx *c, int dir, const char *dir_path, const char *stem,
                      struct cfg_lines *lines)
{
    struct dropins d[2];
    size_t i = 0, j = 0;

    open_both(c, dir, dir_path, stem, d);
    while (i < d[0].names.n || j < d[1].names.n) {
        int order = i == d[0].names.n ? 1 : j == d[1].names.n ? -1 : strcmp(d[0].names.v[i], d[1].names.v[j]);
        if (order <= 0)
            read_one(c, &d[0], d[0].names.v[i++], lines);
        else
            read_one(c, &d[1], d[1].names.v[j], lines);
        j += order >= 0;
    }
    for (i = 0; i < 2; i++) {
        fd_close(d[i].fd);
        free(d[i].path);
        cfg_list_clear(&d[i].names);
    }
}

void cfg_files_list(struct cfg_ctx *c, int dir, struct cfg_list *names)
{
    list_dir(c, dir, names);
}
