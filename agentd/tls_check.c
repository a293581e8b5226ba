/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/tls_check.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/link_creds.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"

#define ANSWER_MAX 16384
#define ANSWER_SEC 10

static pid_t start(const char *rpc, int theirs)
{
    static char name[] = "agentd-rpc", verb[] = "--check-tls";
    char *argv[] = {name, verb, NULL}, *envp[] = {NULL};
    posix_spawn_file_actions_t to;
    pid_t pid = -1;
    int r;

    if (posix_spawn_file_actions_init(&to) != 0)
        return -1;
    r = posix_spawn_file_actions_adddup2(&to, theirs, STDIN_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&to, theirs, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn(&pid, rpc, &to, NULL, argv, envp);
    posix_spawn_file_actions_destroy(&to);
    errno = r;
    return r == 0 ? pid : -1;
}

static bool send_all(int fd, const char *p, size_t n)
{
    ssize_t done;

    for (; n; p += done, n -= (size_t)done)
        if ((done = send(fd, p, n, MSG_NOSIGNAL)) < 0)
            return false;
    return shutdown(fd, SHUT_WR) == 0;
}

static bool ask(const struct cfg *cfg, int fd)
{
    struct buf b = BUF_INIT(LIMIT_TLS_FRAMES);
    bool sent;

    link_put_tls(&cfg->rpc, &b, NULL, NULL);
    sent = !b.error && send_all(fd, b.p ? b.p : "", b.len);
    if (b.p)
        explicit_bzero(b.p, b.len);
    buf_free(&b);
    return sent;
}

static int fail(const struct cfg *cfg, struct cfg_report *report, const char *rpc, const char *why)
{
    buf_printf(&report->errors, "%s:1:1: ListenTls= can't be checked: %s --check-tls: %s\n", cfg->file, rpc,
               why);
    report->n_errors++;
    report->n_agent_errors++;
    return -EINVAL;
}

/* "e1\twhy": an error of the second part. */
static void take_line(const struct cfg *cfg, struct cfg_report *report, const char *line)
{
    unsigned part = line[0] ? (unsigned)(line[1] - '0') : CFG_TLS_MAX;
    bool error = line[0] == 'e';
    const char *file = part < CFG_TLS_MAX ? cfg->rpc.tls_files[part].path : NULL;

    if (!file || line[2] != '\t')
        return;
    buf_printf(error ? &report->errors : &report->warnings, "%s:1:1: %s\n", file, line + 3);
    if (error) {
        report->n_errors++;
        report->n_agent_errors++;
    } else {
        report->n_warnings++;
    }
}

static void take_answer(const struct cfg *cfg, struct cfg_report *report, char *text)
{
    char *save = NULL;

    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        take_line(cfg, report, l);
}

/* It answers at once when it is at work at all. */
static bool set_patience(int fd)
{
    struct timeval tv = {ANSWER_SEC, 0};

    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0;
}

static int check(const struct cfg *cfg, const char *rpc, struct cfg_report *report)
{
    _cleanup_close_ int ours = -1, theirs = -1;
    _cleanup_free_ char *answer = NULL;
    int fds[2], status = -1;
    pid_t pid;
    bool told;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return fail(cfg, report, rpc, strerror(errno));
    ours = fds[0];
    theirs = fds[1];
    if ((pid = start(rpc, theirs)) < 0)
        return fail(cfg, report, rpc, strerror(errno));
    theirs = fd_close(theirs);
    told = set_patience(ours) && ask(cfg, ours) && fd_read_all(ours, ANSWER_MAX, &answer) >= 0;
    if (!told)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (told)
        take_answer(cfg, report, answer);
    if (report->n_agent_errors)
        return -EINVAL;
    return told && status == 0 ? 0 : fail(cfg, report, rpc, "it gave no answer");
}

int tls_check(const struct cfg *cfg, const char *rpc, struct cfg_report *report)
{
    struct cfg_report own;
    int r;

    if (!cfg->rpc.n_tls)
        return 0;
    cfg_report_init(&own);
    r = check(cfg, rpc, &own);
    cfg_report_before(report, &own);
    cfg_report_free(&own);
    return r;
}
