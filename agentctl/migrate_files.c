/* SPDX-License-Identifier: Apache-2.0 */
/* The workers' files of a migration, and the drop-ins that hold them and the peer's unit. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/migrate.h"
#include "base/fd.h"

/* What keeps agentd from starting a worker that is not taken over yet, or is just being given back. */
static const char drop_in[] = "# agentctl migrate is at work: nothing is started meanwhile.\n"
                              "[Unit]\nConditionPathExists=/proc/self/agentctl-migrate\n";

int migrate_told(const char *what, int error)
{
    options_complain("migrate: %s: %s", what, strerror(-error));
    return -1;
}

static void folder_of(const struct migrate *m, const char *alias, char folder[PATH_MAX + 80])
{
    snprintf(folder, PATH_MAX + 80, "%s/%s.conf.d", m->folder, alias);
}

/* On the disk: with the worker's file alone a boot would start it. */
static int put_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));

    return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int migrate_put_drop_in(const char *folder, const char *text)
{
    char path[PATH_MAX + 120];
    int r = mkdir(folder, 0755) < 0 && errno != EEXIST ? -errno : 0;

    snprintf(path, sizeof(path), "%.4175s/" MIGRATE_DROP_IN, folder);
    if (r == 0)
        r = put_text(path, text);
    return r < 0 ? migrate_told(path, r) : 0;
}

void migrate_remove_drop_in(const char *folder)
{
    char path[PATH_MAX + 120];

    snprintf(path, sizeof(path), "%.4175s/" MIGRATE_DROP_IN, folder);
    unlink(path);
    rmdir(folder); /* unless there is more in it */
}

/* What import was writing when it was killed. */
static void remove_temporaries(const struct migrate *m, const char *alias)
{
    char pattern[IMPORT_ALIAS + 32], path[PATH_MAX + 300];
    DIR *dir = opendir(m->folder);
    struct dirent *e;

    snprintf(pattern, sizeof(pattern), ".%s.conf.????????", alias);
    while (dir && (e = readdir(dir)))
        if (fnmatch(pattern, e->d_name, 0) == 0) {
            snprintf(path, sizeof(path), "%s/%s", m->folder, e->d_name);
            unlink(path);
        }
    if (dir)
        closedir(dir);
}

void migrate_remove_drop_ins(const struct migrate *m)
{
    char folder[PATH_MAX + 80];

    for (size_t i = 0; i < m->n; i++) {
        folder_of(m, m->rows[i].alias, folder);
        migrate_remove_drop_in(folder);
        remove_temporaries(m, m->rows[i].alias);
    }
}

static void file_of(const struct migrate *m, const char *alias, char path[PATH_MAX + 80])
{
    snprintf(path, PATH_MAX + 80, "%s/%s.conf", m->folder, alias);
}

/* And not an administrator. */
static bool is_imported(const char *path)
{
    char text[512];

    return fd_read_file(AT_FDCWD, path, text, sizeof(text)) > 0 && import_is_text(text);
}

void migrate_remove_workers(const struct migrate *m)
{
    char path[PATH_MAX + 80];

    for (size_t i = 0; i < m->n; i++) {
        file_of(m, m->rows[i].alias, path);
        if (is_imported(path))
            unlink(path);
    }
}

int migrate_judge_files(const struct migrate *m, bool first)
{
    char path[PATH_MAX + 80];

    for (size_t i = 0; i < m->n; i++) {
        file_of(m, m->rows[i].alias, path);
        if (access(path, F_OK) == 0 && (first || !is_imported(path))) {
            options_complain("migrate: %s is there already", path);
            return -1;
        }
    }
    return 0;
}

/* The drop-ins first: a worker's file alone would be started at the next reload, whoever asks for that. */
int migrate_write_files(struct migrate *m)
{
    char folder[PATH_MAX + 80];

    for (size_t i = 0; i < m->n; i++) {
        folder_of(m, m->rows[i].alias, folder);
        if (migrate_put_drop_in(folder, drop_in) < 0)
            return -1;
    }
    return import_write(&m->import, m->folder, true) == EXIT_DONE ? 0 : -1;
}
