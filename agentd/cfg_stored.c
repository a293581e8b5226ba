/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's definition as it was taken over, main file and drop-ins in one, kept beside the facts: what runs
 * stays on it after agentd's death or upgrade, although its file has become wrong or is gone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_trust.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

#define FOLDER "definitions"

char *cfg_stored_text(const struct cfg_lines *lines)
{
    struct buf b = BUF_INIT(2 * LIMIT_CONFIG_FILE);
    const char *section = "";

    for (size_t i = 0; i < lines->n; i++) {
        const struct cfg_line *l = &lines->v[i];
        if (!l->key)
            continue;
        if (!str_eq(section, l->section))
            buf_printf(&b, "[%s]\n", l->section);
        section = l->section;
        buf_printf(&b, "%s=%s\n", l->key, l->value);
    }
    if (b.error)
        buf_free(&b);
    return b.p;
}

static int open_folder(const char *runtime_dir, bool make)
{
    char path[600];
    int fd;

    snprintf(path, sizeof(path), "%s/" FOLDER, runtime_dir);
    if (make)
        mkdir(path, 0700);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static const char *name_of(const struct wk_def *def)
{
    const char *slash = strrchr(def->file, '/');

    return slash ? slash + 1 : def->file;
}

static int write_new(int dir, const char *text)
{
    _cleanup_close_ int fd = openat(dir, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

/* As after agentd's own death: a thousand new files would take longer than all else that it has to do then.
 */
static bool is_stored(int dir, const char *name, const char *text)
{
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    _cleanup_free_ char *there = NULL;
    size_t n = strlen(text);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == n &&
           fd_read_all(fd, n, &there) == (ssize_t)n && memcmp(there, text, n) == 0;
}

int cfg_stored_save(const char *runtime_dir, struct wk_def *def)
{
    _cleanup_free_ char *text = TAKE_PTR(def->source);
    _cleanup_close_ int dir = text ? open_folder(runtime_dir, true) : -ENOENT;
    int r;

    if (dir < 0)
        return text ? dir : 0;
    if (is_stored(dir, name_of(def), text))
        return 0;
    if ((r = write_new(dir, text)) < 0)
        return r;
    return renameat(dir, ".new", dir, name_of(def)) < 0 ? -errno : 0;
}

void cfg_stored_forget(const char *runtime_dir, const struct wk_def *def)
{
    _cleanup_close_ int dir = open_folder(runtime_dir, false);

    if (dir >= 0)
        unlinkat(dir, name_of(def), 0);
}

void cfg_stored_prune(const char *runtime_dir, unsigned expected, bool (*is_used)(const char *name))
{
    _cleanup_close_ int dir = open_folder(runtime_dir, false);
    int fd = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    unsigned n = 0;

    if (!d) {
        fd_close(fd);
        return;
    }
    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    if (n > expected) {
        rewinddir(d);
        while ((e = readdir(d)))
            if (e->d_name[0] != '.' && !is_used(e->d_name))
                unlinkat(dir, e->d_name, 0);
    }
    closedir(d);
}

bool cfg_stored_is_of(const char *name, const struct wk_def *def)
{
    return str_eq(name, name_of(def));
}

static int add(struct cfg *cfg, struct wk_def *def)
{
    struct wk_def **bigger = realloc(cfg->workers, (cfg->n_workers + 1) * sizeof(struct wk_def *));

    if (!bigger)
        return -ENOMEM;
    cfg->workers = bigger;
    bigger[cfg->n_workers++] = def;
    return 0;
}

static void read_one(struct cfg *cfg, int dir, const char *path, const char *name,
                     bool (*wants)(const char *alias))
{
    struct cfg_report quiet;
    struct cfg_entry e;

    cfg_report_init(&quiet);
    cfg_worker_read(cfg, &quiet, dir, path, name, &e);
    if (!e.broken && !e.masked && wants(e.def->alias)) {
        e.def->stored = true;
        free(TAKE_PTR(e.def->source)); /* it stands there already */
        if (add(cfg, e.def) == 0)
            e.def = NULL;
    }
    cfg_entry_forget(&e);
    cfg_report_free(&quiet);
}

void cfg_stored_read(struct cfg *cfg, bool (*wants)(const char *alias))
{
    struct cfg_report quiet;
    struct cfg_ctx c = {.report = &quiet, .cfg = cfg, .file = FOLDER};
    struct cfg_list names = {0};
    struct err e = {0};
    char path[600];
    int dir;

    snprintf(path, sizeof(path), "%s/" FOLDER, cfg->agent.runtime_dir);
    if ((dir = cfg_trust_open(AT_FDCWD, path, CFG_TRUST_DIR, &e)) < 0)
        return;
    cfg_report_init(&quiet);
    cfg_files_list(&c, dir, &names);
    for (size_t i = 0; i < names.n && i < LIMIT_WORKERS; i++)
        read_one(cfg, dir, path, names.v[i], wants);
    cfg_list_clear(&names);
    cfg_report_free(&quiet);
    close(dir);
}
