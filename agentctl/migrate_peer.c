/* SPDX-License-Identifier: Apache-2.0 */
/* The peer: its process by its own pid file, proven by its name; what it runs by its own word (supervisorctl)
 * or by its pid files (obagent). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentctl/migrate.h"
#include "base/array.h"
#include "base/fd.h"
#include "base/str.h"

#define SAID_MAX (1 << 20)
#define END_MS 10000
#define LOOK_MS 50

extern char **environ;

/* --- processes ------------------------------------------------------------------------------------------ */

/* False: there is no such process. */
static bool read_stat(pid_t pid, char *ret_state, int *ret_parent, uint64_t *ret_start)
{
    char path[32], text[1024];
    const char *end;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return fd_read_file(AT_FDCWD, path, text, sizeof(text)) > 0 && (end = strrchr(text, ')')) &&
           sscanf(end + 1,
                  " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                  ret_state, ret_parent, ret_start) == 3;
}

struct migrate_process migrate_look(pid_t pid)
{
    struct migrate_process p = {.pid = pid};
    char state;
    int parent;

    if (pid > 1 && read_stat(pid, &state, &parent, &p.start) && state != 'Z' && state != 'X')
        return p;
    return (struct migrate_process){0};
}

pid_t migrate_parent(pid_t pid)
{
    uint64_t start;
    char state;
    int parent;

    return read_stat(pid, &state, &parent, &start) ? parent : 0;
}

bool migrate_is(const struct migrate_process *p)
{
    struct migrate_process now = migrate_look(p->pid);

    return p->pid && now.pid && now.start == p->start;
}

/* Its pidfd, taken before the look that proves that it is the same. -ESRCH: it has ended. */
static int hold(const struct migrate_process *p)
{
    int fd = (int)syscall(SYS_pidfd_open, p->pid, 0u);

    if (fd < 0)
        return -errno;
    if (migrate_is(p))
        return fd;
    fd_close(fd);
    return -ESRCH;
}

int migrate_signal(const struct migrate *m, int sig)
{
    _cleanup_close_ int fd = m->peer.pid ? hold(&m->peer) : -ESRCH;

    if (fd >= 0)
        return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0u) < 0 ? -errno : 0;
    if (fd == -ESRCH)
        return 0;
    /* a kernel before 5.3: between the look and the signal the number could become another's */
    return fd != -ENOSYS ? fd : !migrate_is(&m->peer) || kill(m->peer.pid, sig) == 0 ? 0 : -errno;
}

int migrate_await_end(const struct migrate *m)
{
    for (int waited = 0; waited < END_MS; waited += LOOK_MS) {
        _cleanup_close_ int fd = hold(&m->peer);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (!migrate_is(&m->peer))
            return 0;
        poll(&p, 1, LOOK_MS);
    }
    return -ETIMEDOUT;
}

/* All its threads: one may be just making another process. */
static bool is_stopped(const struct migrate_process *p)
{
    char path[48];
    struct dirent *e;
    bool stopped = true;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)p->pid);
    if (!(dir = opendir(path)))
        return true; /* it has ended */
    while (stopped && (e = readdir(dir))) {
        pid_t thread = (pid_t)strtol(e->d_name, NULL, 10);
        uint64_t start;
        char state;
        int parent;
        stopped = thread <= 0 || !read_stat(thread, &state, &parent, &start) || strchr("TtZX", state);
    }
    closedir(dir);
    return stopped;
}

int migrate_await_stop(const struct migrate *m)
{
    for (int waited = 0; waited < END_MS; waited += LOOK_MS) {
        if (is_stopped(&m->peer))
            return 0;
        poll(NULL, 0, LOOK_MS);
    }
    return -ETIMEDOUT;
}

static bool is_known(const struct migrate *m, pid_t pid)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->rows[i].process.pid == pid)
            return true;
    return false;
}

pid_t migrate_stray(const struct migrate *m)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    pid_t found = 0;

    while (dir && !found && (e = readdir(dir))) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        uint64_t start;
        char state;
        int parent;
        if (pid > 1 && read_stat(pid, &state, &parent, &start) && parent == m->peer.pid && state != 'Z' &&
            state != 'X' && !is_known(m, pid))
            found = pid;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* --- programs ------------------------------------------------------------------------------------------- */

int migrate_program(const char *const words[], struct buf *said)
{
    posix_spawn_file_actions_t actions;
    int ends[2] = {-1, -1}, status, error;
    char chunk[4096];
    ssize_t n;
    pid_t pid;

    if (said && pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    if (said)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    /* it takes them as they are, posix_spawn(3): only its declaration is older than const */
    error = posix_spawnp(&pid, words[0], &actions, NULL, (char **)(uintptr_t)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    fd_close(ends[1]);
    while (!error && said && ((n = read(ends[0], chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0)
            buf_put(said, chunk, (size_t)n);
    fd_close(ends[0]);
    if (error)
        return -error;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

/* --- the peer's process --------------------------------------------------------------------------------- */

static pid_t read_pid(const char *path)
{
    char text[32];

    if (fd_read_file(AT_FDCWD, path, text, sizeof(text)) <= 0)
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

/* The name of its program, or, of an interpreted one, that of its script. */
static bool is_named(pid_t pid, const char *name)
{
    char path[32], text[4096];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    if ((n = fd_read_file(AT_FDCWD, path, text, sizeof(text) - 1)) <= 0)
        return false;
    text[n] = 0;
    for (const char *w = text; w < text + n && w < text + 512; w += strlen(w) + 1)
        if (str_eq(import_base(w), name))
            return true;
    return false;
}

/* A key of no worker, as it stands in the source. */
static const char *setting(const struct migrate *m, const char *key, const char *otherwise)
{
    for (size_t i = 0; i < m->import.n_entries; i++)
        if (!m->import.entries[i]->worker && str_eq(m->import.entries[i]->key, key))
            return m->import.entries[i]->value;
    return otherwise;
}

/* obagent's placeholder: the folder above that of its configuration. */
static void put_home(const struct migrate *m, const char *value, char path[PATH_MAX])
{
    static const char name[] = "${obagent.home.path}";
    const char *at = strstr(value, name), *dir = m->import.n_sources ? m->import.sources[0]->dir : "";
    const char *slash = strrchr(dir, '/');

    if (at)
        snprintf(path, PATH_MAX, "%.*s%.*s%s", (int)(at - value), value, slash ? (int)(slash - dir) : 0, dir,
                 at + strlen(name));
    else
        str_copy(path, PATH_MAX, value);
}

/* Where it says who it is. Returns the name of its program. */
static const char *find_pid_file(const struct migrate *m, char path[PATH_MAX])
{
    char folder[PATH_MAX];

    if (str_eq(m->kind, "supervisord")) {
        put_home(m, setting(m, "[supervisord] pidfile", "supervisord.pid"), path);
        return "supervisord";
    }
    put_home(m, setting(m, "runDir", ""), folder);
    snprintf(path, PATH_MAX, "%.4000s/ob_agentd.pid", folder);
    return "ob_agentd";
}

bool migrate_runs(const struct migrate *m)
{
    char file[PATH_MAX];
    const char *program = find_pid_file(m, file);
    pid_t pid = read_pid(file);

    return pid > 1 && is_named(pid, program);
}

static int find_process(struct migrate *m)
{
    char file[PATH_MAX];
    const char *program = find_pid_file(m, file);
    pid_t pid = read_pid(file);

    if (pid <= 1 || !is_named(pid, program)) {
        options_complain("migrate: %s does not name a running %s", file, program);
        return -1;
    }
    m->peer = migrate_look(pid);
    return m->peer.pid ? 0 : -1;
}

/* --- what it runs --------------------------------------------------------------------------------------- */

static int add_row(struct migrate *m, const char *alias, pid_t pid)
{
    struct migrate_row row = {.process = pid ? migrate_look(pid) : (struct migrate_process){0}};

    if (!import_find(&m->import, alias)) {
        options_complain(
            "migrate: the peer runs %s, which %s does not have: let it read its file again first", alias,
            m->config);
        return -1;
    }
    if (pid && !row.process.pid) {
        options_complain("migrate: %s, process %d, has just ended: try again when it runs or is stopped",
                         alias, (int)pid);
        return -1;
    }
    if (array_room(&m->rows, m->n, &m->size, sizeof(*m->rows)) < 0)
        return -1;
    str_copy(row.alias, sizeof(row.alias), alias);
    m->rows[m->n++] = row;
    return 0;
}

/* "group:name   RUNNING   pid 17, uptime 0:00:01" */
static int take_status(struct migrate *m, char *line)
{
    char *name = strtok(line, " \t"), *state = strtok(NULL, " \t"), *rest = strtok(NULL, ""), *colon, *at;
    char alias[IMPORT_ALIAS];
    pid_t pid = 0;

    if (!name || !state)
        return 0;
    colon = strchr(name, ':');
    if (colon && strncmp(name, colon + 1, (size_t)(colon - name)) == 0 && !colon[1 + (colon - name)])
        name = colon + 1;
    if (rest && (at = strstr(rest, "pid ")))
        pid = (pid_t)strtol(at + 4, NULL, 10);
    if (!pid && (str_eq(state, "STARTING") || str_eq(state, "STOPPING") || str_eq(state, "BACKOFF"))) {
        options_complain("migrate: %s is %s: try again when it runs or is stopped", name, state);
        return -1;
    }
    return add_row(m, import_alias(name, alias), pid);
}

static int list_supervisor(struct migrate *m)
{
    const char *const words[] = {"supervisorctl", "-c", m->config, "status", NULL};
    struct buf said = BUF_INIT(SAID_MAX);
    char *save = NULL, *text;
    int r = migrate_program(words, &said), bad = 0;

    buf_char(&said, 0);
    text = said.error ? NULL : said.p;
    /* 3: some are not running */
    if ((r != 0 && r != 3) || !text) {
        options_complain("migrate: supervisorctl does not answer: %s", r < 0  ? strerror(-r)
                                                                       : text ? text
                                                                              : "?");
        bad = -1;
    }
    for (char *l = bad ? NULL : strtok_r(text, "\n", &save); l && !bad; l = strtok_r(NULL, "\n", &save))
        bad = take_status(m, l);
    buf_free(&said);
    return bad;
}

/* supervisorctl may have asked another supervisord than the one of the pid file. */
static int judge_parents(const struct migrate *m)
{
    for (size_t i = 0; i < m->n; i++) {
        pid_t pid = m->rows[i].process.pid;
        if (pid && migrate_parent(pid) != m->peer.pid) {
            options_complain("migrate: %s is process %d, which is no child of supervisord, process %d",
                             m->rows[i].alias, (int)pid, (int)m->peer.pid);
            return -1;
        }
    }
    return 0;
}

static int list_obagent(struct migrate *m)
{
    char folder[PATH_MAX], path[PATH_MAX + 80];

    put_home(m, setting(m, "runDir", ""), folder);
    for (size_t i = 0; i < m->import.n_workers; i++) {
        const char *alias = m->import.workers[i]->alias;
        pid_t pid;
        snprintf(path, sizeof(path), "%s/%s.pid", folder, alias);
        if ((pid = read_pid(path)) <= 0) { /* stopped, or just between two: that can't be told */
            options_complain(
                "migrate: %s names no process of %s: start it, or take it out of %s, and try again", path,
                alias, m->config);
            return -1;
        }
        if (add_row(m, alias, pid) < 0)
            return -1;
    }
    return 0;
}

int migrate_find(struct migrate *m)
{
    bool supervisor = str_eq(m->kind, "supervisord");
    int r = find_process(m);

    if (r == 0)
        r = supervisor ? list_supervisor(m) : list_obagent(m);
    if (r == 0 && supervisor)
        r = judge_parents(m);
    return r < 0 ? r : migrate_find_unit(m);
}
