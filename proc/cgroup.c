/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/feature.h"
#include "base/str.h"
#include "proc/sys.h"

#define SUPERVISOR "supervisor"

/* Where cgroup2 is mounted; a hybrid host has it beside the first version. */
static int find_mount(char *ret, size_t size)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[4096], point[1024], *dash;
    int r = -ENOENT;

    if (!f)
        return -errno;
    while (r < 0 && fgets(line, sizeof(line), f))
        if ((dash = strstr(line, " - ")) && str_starts(dash + 3, "cgroup2 ") &&
            sscanf(line, "%*s %*s %*s %*s %1023s", point) == 1) {
            str_copy(ret, size, point);
            r = 0;
        }
    fclose(f);
    return r;
}

/* A process's cgroup in the unified hierarchy: the line "0::/PATH", proc(5) by way of cgroups(7). */
static int read_cgroup(const char *process, char *ret, size_t size)
{
    char file[32], text[4096], *line;

    snprintf(file, sizeof(file), "/proc/%s/cgroup", process);
    if (fd_read_file(AT_FDCWD, file, text, sizeof(text)) < 0)
        return -ENOENT;
    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (str_starts(line, "0::/")) {
            str_copy(ret, size, line + 3);
            return 0;
        }
    return -ENOENT;
}

/* systemd marks what it delegates (Delegate=yes), systemd.resource-control(5): trusted. for root, user. since
 * 251. */
static bool is_delegated(const char *path)
{
    char v[4] = "";

    return (getxattr(path, "trusted.delegate", v, sizeof(v)) > 0 ||
            getxattr(path, "user.delegate", v, sizeof(v)) > 0) &&
           v[0] == '1';
}

/* What systemd runs for a delegated unit beside its main process sits in a leaf of its own. */
#define CONTROL ".control"

static bool assumed;

void cgroup_assume_delegated(void)
{
    assumed = true;
}

/* Cuts our own path to that of the unit: a former image of ours moved into the leaf, or DelegateSubgroup=
 * did. */
static bool cut_to_delegated(char *path)
{
    char *last = strrchr(path, '/');

    if (is_delegated(path))
        return true;
    if (last && (str_eq(last, "/" SUPERVISOR) || str_eq(last, "/" CONTROL)))
        *last = 0;
    return assumed || is_delegated(path);
}

static int open_dir(int at, const char *path)
{
    int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 ? -errno : fd;
}

static int make_dir(int at, const char *name)
{
    if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
        return -errno;
    return open_dir(at, name);
}

/* Processes may not sit where controllers are handed down (no-internal-process rule): agentd moves into a
 * leaf. */
static int move_self(int root_fd)
{
    _cleanup_close_ int leaf = make_dir(root_fd, SUPERVISOR);

    if (leaf < 0)
        return leaf;
    return fd_write_file(leaf, "cgroup.procs", "0");
}

static int open_delegated(struct cgroup_root *root, const char *mount)
{
    char own[1024];
    int r;

    if ((r = read_cgroup("self", own, sizeof(own))) < 0)
        return r;
    if (snprintf(root->path, sizeof(root->path), "%s%s", mount, own) >= (int)sizeof(root->path))
        return -ENAMETOOLONG;
    if (!cut_to_delegated(root->path))
        return -EPERM;
    if ((root->fd = open_dir(AT_FDCWD, root->path)) < 0)
        return root->fd;
    root->delegated = true;
    return move_self(root->fd);
}

static int open_own(struct cgroup_root *root, const char *mount, const char *name)
{
    _cleanup_close_ int top = open_dir(AT_FDCWD, mount);
    char dir[64];

    if (top < 0)
        return top;
    snprintf(dir, sizeof(dir), "agentd-%s", name);
    if (snprintf(root->path, sizeof(root->path), "%s/%s", mount, dir) >= (int)sizeof(root->path))
        return -ENAMETOOLONG;
    root->fd = make_dir(top, dir);
    return root->fd < 0 ? root->fd : 0;
}

static void note_files(int root)
{
    feature_note(FEATURE_CGROUP_KILL, faccessat(root, "cgroup.kill", F_OK, 0) == 0);
    feature_note(FEATURE_CGROUP_FREEZE, faccessat(root, "cgroup.freeze", F_OK, 0) == 0);
}

int cgroup_root_open(struct cgroup_root *ret, const char *name, char *reason, size_t reason_size)
{
    struct cgroup_root root = CGROUP_ROOT_NULL;
    char mount[1024];
    int r;

    *ret = root;
    feature_note(FEATURE_CGROUP2, false);
    if (find_mount(mount, sizeof(mount)) < 0) {
        snprintf(reason, reason_size, "no cgroup2 file system is mounted");
        return -ENOENT;
    }
    r = open_delegated(&root, mount);
    if (r < 0 && geteuid() == 0) {
        root.fd = fd_close(root.fd);
        root.delegated = false;
        r = open_own(&root, mount, name);
    }
    if (r < 0) {
        snprintf(reason, reason_size, "%s: %s", root.path[0] ? root.path : mount, strerror(-r));
        fd_close(root.fd);
        return r;
    }
    feature_note(FEATURE_CGROUP2, true);
    note_files(root.fd);
    *ret = root;
    return 0;
}

int cgroup_release_controllers(void)
{
    char own[1024], mount[1024], path[2100], text[512], word[64], *save = NULL;
    _cleanup_close_ int fd = -1;
    int r;

    if ((r = find_mount(mount, sizeof(mount))) < 0 || (r = read_cgroup("self", own, sizeof(own))) < 0)
        return r;
    snprintf(path, sizeof(path), "%s%s", mount, own);
    if (!cut_to_delegated(path))
        return 0; /* nothing was handed down in it */
    if ((fd = open_dir(AT_FDCWD, path)) < 0)
        return fd;
    if ((r = fd_read_file(fd, "cgroup.subtree_control", text, sizeof(text))) < 0)
        return r;
    r = 0;
    for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
        snprintf(word, sizeof(word), "-%s", w);
        int e = fd_write_file(fd, "cgroup.subtree_control", word);
        r = r < 0 ? r : e < 0 ? e : 0;
    }
    return r;
}

int cgroup_root_repair(struct cgroup_root *root)
{
    struct stat st;
    int fd;

    if (root->fd < 0 || root->delegated)
        return -EOPNOTSUPP;
    if (stat(root->path, &st) == 0)
        return -EEXIST; /* what is missing is something else */
    if ((fd = make_dir(AT_FDCWD, root->path)) < 0)
        return fd;
    fd_close(root->fd);
    root->fd = fd;
    return 0;
}

void cgroup_root_done(struct cgroup_root *root)
{
    if (root->fd >= 0 && !root->delegated)
        rmdir(root->path); /* succeeds only when it is empty */
    root->fd = fd_close(root->fd);
}

static int open_leaf(const struct cgroup_root *root, const char *name, bool make, struct cgroup_leaf *ret)
{
    struct stat st;
    int fd;

    if (root->fd < 0)
        return -EOPNOTSUPP;
    fd = open_dir(root->fd, name);
    if (fd == -ENOENT && make)
        fd = make_dir(root->fd, name);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0) {
        fd_close(fd);
        return -errno;
    }
    *ret = (struct cgroup_leaf){fd, st.st_ino};
    return 0;
}

int cgroup_leaf_open(const struct cgroup_root *root, const char *name, struct cgroup_leaf *ret)
{
    return open_leaf(root, name, true, ret);
}

int cgroup_leaf_find(const struct cgroup_root *root, const char *name, struct cgroup_leaf *ret)
{
    return open_leaf(root, name, false, ret);
}

int cgroup_of(pid_t pid, struct cgroup_leaf *ret)
{
    char process[16], own[1024], mount[1024], path[2100];
    struct stat st;
    int r;

    *ret = (struct cgroup_leaf)CGROUP_LEAF_NULL;
    snprintf(process, sizeof(process), "%d", (int)pid);
    if ((r = find_mount(mount, sizeof(mount))) < 0 || (r = read_cgroup(process, own, sizeof(own))) < 0)
        return r;
    snprintf(path, sizeof(path), "%s%s", mount, own);
    if ((r = open_dir(AT_FDCWD, path)) < 0)
        return r;
    *ret = (struct cgroup_leaf){r, fstat(r, &st) == 0 ? st.st_ino : 0};
    return 0;
}

int cgroup_leaf_add(const struct cgroup_leaf *leaf, pid_t pid)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", (int)pid);
    return fd_write_file(leaf->fd, "cgroup.procs", text);
}

void cgroup_leaf_done(struct cgroup_leaf *leaf)
{
    leaf->fd = fd_close(leaf->fd);
    leaf->id = 0;
}

/* Cgroups that a worker made below its leaf go first. */
static int remove_tree(int at, const char *name, int depth)
{
    int fd = open_dir(at, name);
    struct dirent *e;
    DIR *d;

    if (fd < 0)
        return fd;
    if (!(d = fdopendir(fd))) {
        fd_close(fd);
        return -ENOMEM;
    }
    while (depth > 0 && (e = readdir(d)))
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            remove_tree(fd, e->d_name, depth - 1);
    closedir(d);
    return unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int cgroup_leaf_remove(const struct cgroup_root *root, const char *name)
{
    if (root->fd < 0)
        return -EOPNOTSUPP;
    if (unlinkat(root->fd, name, AT_REMOVEDIR) == 0)
        return 0;
    return remove_tree(root->fd, name, 16);
}

static int parse_populated(const char *text)
{
    const char *at = strstr(text, "populated ");

    return at ? at[10] == '1' : -EBADMSG;
}

int cgroup_leaf_populated(const struct cgroup_leaf *leaf)
{
    char text[256];

    if (leaf->fd < 0)
        return -EOPNOTSUPP;
    ssize_t n = fd_read_file(leaf->fd, "cgroup.events", text, sizeof(text));
    return n < 0 ? (int)n : parse_populated(text);
}

int cgroup_events_populated(int events_fd)
{
    char text[256];
    ssize_t n = pread(events_fd, text, sizeof(text) - 1, 0);

    if (n < 0)
        return -errno;
    text[n] = 0;
    return parse_populated(text);
}

int cgroup_leaf_events(const struct cgroup_leaf *leaf)
{
    int fd = openat(leaf->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

/* Appends the pids of one cgroup's cgroup.procs. */
static int read_procs(int dir, pid_t *ret, size_t max, size_t *n)
{
    int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    char buf[4096];
    pid_t pid = 0;
    ssize_t len;

    if (fd < 0)
        return -errno;
    do {
        len = read(fd, buf, sizeof(buf));
        for (ssize_t i = 0; i < len; i++) {
            if (buf[i] != '\n') {
                pid = pid * 10 + (buf[i] - '0');
                continue;
            }
            if (pid > 0 && *n < max) /* 0: of another pid namespace */
                ret[*n] = pid;
            if (pid > 0)
                (*n)++;
            pid = 0;
        }
    } while (len > (ssize_t)sizeof(buf) / 2); /* the kernel fills what fits */
    fd_close(fd);
    return len < 0 ? -errno : 0;
}

/* What a walk gathers: pids or ids, whichever is not NULL; n counts also what did not fit. */
struct gathered {
    pid_t *pids;
    uint64_t *ids;
    size_t n, max;
};

static int gather_one(int dir, const struct stat *st, struct gathered *g)
{
    if (g->pids)
        return read_procs(dir, g->pids, g->max, &g->n);
    if (g->n < g->max)
        g->ids[g->n] = st->st_ino;
    g->n++;
    return 0;
}

/* A cgroup and those below it. */
static int gather(int dir, struct gathered *g, int depth)
{
    struct dirent *e;
    struct stat st;
    DIR *d;
    int fd, r;

    if (fstat(dir, &st) < 0)
        return -errno;
    /* One link more than "." and ".." for each cgroup below: most leaves have none. */
    if ((r = gather_one(dir, &st, g)) < 0 || depth == 0 || st.st_nlink <= 2)
        return r;
    if ((fd = open_dir(dir, ".")) < 0)
        return fd;
    if (!(d = fdopendir(fd))) {
        fd_close(fd);
        return -ENOMEM;
    }
    while ((e = readdir(d)))
        if (e->d_type == DT_DIR && e->d_name[0] != '.') {
            _cleanup_close_ int sub = open_dir(fd, e->d_name);
            if (sub >= 0)
                gather(sub, g, depth - 1);
        }
    closedir(d);
    return 0;
}

static ssize_t gather_leaf(const struct cgroup_leaf *leaf, struct gathered *g)
{
    int r = leaf->fd < 0 ? -EOPNOTSUPP : gather(leaf->fd, g, 16);

    return r < 0 ? r : (ssize_t)g->n;
}

ssize_t cgroup_leaf_pids(const struct cgroup_leaf *leaf, pid_t *ret, size_t max)
{
    return gather_leaf(leaf, &(struct gathered){.pids = ret, .max = max});
}

ssize_t cgroup_leaf_ids(const struct cgroup_leaf *leaf, uint64_t *ret, size_t max)
{
    return gather_leaf(leaf, &(struct gathered){.ids = ret, .max = max});
}

int cgroup_leaf_freeze(const struct cgroup_leaf *leaf, bool on)
{
    return leaf->fd < 0 ? -EOPNOTSUPP : fd_write_file(leaf->fd, "cgroup.freeze", on ? "1" : "0");
}

/* Frozen members can't fork, so that every member is met; SIGKILL works on the frozen. */
static int kill_one_by_one(const struct cgroup_leaf *leaf)
{
    pid_t pids[512];
    ssize_t n;
    bool frozen = cgroup_leaf_freeze(leaf, true) == 0;

    for (int round = 0; round < 16; round++) {
        n = cgroup_leaf_pids(leaf, pids, ARRAY_LEN(pids));
        for (ssize_t i = 0; i < n && i < (ssize_t)ARRAY_LEN(pids); i++)
            sys_kill(pids[i], SIGKILL);
        if (n <= (ssize_t)ARRAY_LEN(pids))
            break;
    }
    if (frozen)
        cgroup_leaf_freeze(leaf, false);
    return n < 0 ? (int)n : 0;
}

int cgroup_leaf_kill(const struct cgroup_leaf *leaf)
{
    int r;

    if (leaf->fd < 0)
        return -EOPNOTSUPP;
    r = fd_write_file(leaf->fd, "cgroup.kill", "1");
    return r == -ENOENT || r == -EOPNOTSUPP ? kill_one_by_one(leaf) : r;
}

int cgroup_root_list(const struct cgroup_root *root, void (*fn)(const char *name, void *arg), void *arg)
{
    int fd, r;
    struct dirent *e;
    DIR *d;

    if (root->fd < 0)
        return -EOPNOTSUPP;
    if ((fd = open_dir(root->fd, ".")) < 0)
        return fd;
    if (!(d = fdopendir(fd))) {
        fd_close(fd);
        return -ENOMEM;
    }
    while (errno = 0, (e = readdir(d)))
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && !str_eq(e->d_name, SUPERVISOR))
            fn(e->d_name, arg);
    r = -errno;
    closedir(d);
    return r;
}
