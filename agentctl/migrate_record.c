/* SPDX-License-Identifier: Apache-2.0 */
/* What is under way, as lines: it has to be there before the first step. Processes in it are those of one
 * boot. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/migrate.h"
#include "base/array.h"
#include "base/fd.h"
#include "base/str.h"

#define HEAD "agentctl-migration 1"
#define BOOT 64

static int read_boot(char boot[BOOT])
{
    ssize_t n = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot, BOOT);

    if (n > 0)
        boot[strcspn(boot, "\n")] = 0;
    return n > 0 ? 0 : -EIO;
}

static int put(const struct migrate *m, struct buf *b)
{
    char boot[BOOT];

    if (read_boot(boot) < 0)
        return -EIO;
    buf_printf(b, HEAD "\nboot %s\nstate %s\nkind %s\nconfig %s\nunit %s\npeer %d %" PRIu64 "\n", boot,
               m->ending ? "ending" : "held", m->kind, m->config, m->unit, (int)m->peer.pid, m->peer.start);
    for (size_t i = 0; i < m->n; i++)
        buf_printf(b, "worker %s %d %" PRIu64 "\n", m->rows[i].alias, (int)m->rows[i].process.pid,
                   m->rows[i].process.start);
    return b->error;
}

static int write_whole(int fd, const struct buf *b)
{
    int r = fd_write_all(fd, b->p, b->len);

    return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

static int sync_folder(const char *path)
{
    _cleanup_free_ char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    _cleanup_close_ int fd = -1;

    if (!slash)
        return -ENOMEM;
    *slash = 0;
    if ((fd = open(*folder ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -errno;
    return fsync(fd) < 0 ? -errno : 0;
}

/* A lock of the process, fcntl(2): no child of ours has it, and it goes with us. */
int migrate_lock(const struct migrate *m)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX + 8];
    int fd; /* stays open */

    snprintf(path, sizeof(path), "%s.lock", m->record);
    if ((fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
        return -errno;
    if (fcntl(fd, F_SETLK, &l) == 0)
        return 0;
    return errno == EACCES || errno == EAGAIN ? -EWOULDBLOCK : -errno;
}

int migrate_save(const struct migrate *m)
{
    struct buf b = BUF_INIT(1 << 20);
    char path[PATH_MAX + 8];
    _cleanup_close_ int fd = -1;
    int r = put(m, &b);

    snprintf(path, sizeof(path), "%s.new", m->record);
    if (r == 0 && (fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
        r = -errno;
    if (r == 0)
        r = write_whole(fd, &b);
    if (r == 0 && rename(path, m->record) < 0)
        r = -errno;
    buf_free(&b);
    return r < 0 ? r : sync_folder(m->record);
}

static bool take_process(const char *text, struct migrate_process *p)
{
    char rest;
    int pid;

    if (sscanf(text, "%d %" SCNu64 "%c", &pid, &p->start, &rest) != 2 || pid < 0)
        return false;
    p->pid = pid;
    return true;
}

static bool take_worker(struct migrate *m, char *text)
{
    char *blank = strchr(text, ' ');
    struct migrate_row row = {0};

    if (!blank || !take_process(blank + 1, &row.process) ||
        array_room(&m->rows, m->n, &m->size, sizeof(*m->rows)) < 0)
        return false;
    *blank = 0;
    str_copy(row.alias, sizeof(row.alias), text);
    m->rows[m->n++] = row;
    return true;
}

static bool take_line(struct migrate *m, char *line, char boot[BOOT])
{
    char *value = strchr(line, ' ');

    if (!value)
        return false;
    *value++ = 0;
    if (str_eq(line, "boot"))
        str_copy(boot, BOOT, value);
    else if (str_eq(line, "state"))
        m->ending = str_eq(value, "ending");
    else if (str_eq(line, "kind"))
        str_copy(m->kind, sizeof(m->kind), value);
    else if (str_eq(line, "config"))
        str_copy(m->config, sizeof(m->config), value);
    else if (str_eq(line, "unit"))
        str_copy(m->unit, sizeof(m->unit), value);
    else if (str_eq(line, "peer"))
        return take_process(value, &m->peer);
    else
        return str_eq(line, "worker") && take_worker(m, value);
    return true;
}

int migrate_load(struct migrate *m)
{
    _cleanup_close_ int fd = open(m->record, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    char boot[BOOT] = "", now[BOOT], *save = NULL, *line;
    bool good;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fd_read_all(fd, 1 << 20, &text) < 0)
        return -EIO;
    line = strtok_r(text, "\n", &save);
    good = line && str_eq(line, HEAD);
    while (good && (line = strtok_r(NULL, "\n", &save)))
        good = take_line(m, line, boot);
    if (!good)
        return -EBADMSG;
    if (read_boot(now) < 0)
        return -EIO;
    m->earlier_boot = !str_eq(boot, now);
    return 1;
}

int migrate_forget(const struct migrate *m)
{
    return unlink(m->record) < 0 && errno != ENOENT ? -errno : sync_folder(m->record);
}
