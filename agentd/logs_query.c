/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_query.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/logs_plan.h"
#include "agentd/logs_work.h"
#include "agentd/reload.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/sys.h"
#include "wire/logstream.h"

#define NICENESS 10 /* workers go first */

/* --- one user's part --------------------------------------------------------------------------------------
 */

/* A pattern may want more than any of it is worth: then its own process dies of that. Of the processor's time
 * by SIGXCPU, which says why, and comes at the soft limit only: at the hard one it is SIGKILL. setrlimit(2).
 */
static void bound(bool zip)
{
    char text[128] = "";
    unsigned long pages = 0;
    rlim_t cpu = zip ? LIMIT_LOG_DOWNLOAD_SEC : LIMIT_LOG_QUERY_SEC + 5;

    fd_read_file(-1, "/proc/self/statm", text, sizeof(text));
    sscanf(text, "%*u %*u %*u %*u %*u %lu", &pages); /* what it has of agentd */
    rlim_t data = pages * (rlim_t)sysconf(_SC_PAGESIZE) + LIMIT_LOG_QUERY_MEMORY;
    setrlimit(RLIMIT_DATA, &(struct rlimit){data, data});
    setrlimit(RLIMIT_CPU, &(struct rlimit){cpu, cpu + 5});
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    alarm(LIMIT_LOG_OPEN_SEC);
}

typedef void (*part_fn)(const struct logs_work *w, const struct logs_wanted *wanted);

static void end_part(pid_t pid)
{
    enum caps_scope scope = caps_enter(CAPS_SIGNAL); /* it has become a worker's user */

    sys_kill(pid, SIGKILL);
    caps_enter(scope);
}

/* Until it has ended, or until nobody reads any more: then it is ended, whatever it waits for. */
static int wait_for_part(pid_t pid, int out)
{
    _cleanup_close_ int fd = sys_pidfd_open(pid);
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = out}};
    int status;

    while (fd >= 0 && !fds[0].revents && !fds[1].revents)
        poll(fds, 2, -1);
    if (fds[1].revents)
        end_part(pid);
    return waitpid(pid, &status, 0) < 0 ? SIGKILL : status;
}

/* How it ended: 0, or the signal that ended it. */
static int run_part(const struct logs_work *w, const struct logs_wanted *wanted, part_fn part)
{
    pid_t pid = helper_fork();
    int status;

    if (pid == 0) {
        reload_forget_secrets(); /* what is read is that user's, and so may be who reads it, in the end */
        if (helper_become(&wanted->defs[0]->ids) < 0)
            _exit(1);
        bound(w->query->zip);
        part(w, wanted);
        _exit(0);
    }
    if (pid < 0)
        return SIGKILL;
    status = wait_for_part(pid, w->out);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    return WEXITSTATUS(status) == 0 ? 0 : WEXITSTATUS(status) == LOGS_WORK_GONE ? SIGPIPE : SIGABRT;
}

static bool are_same_ids(const struct cfg_ids *a, const struct cfg_ids *b)
{
    if (!a->set || !b->set)
        return a->set == b->set;
    return a->uid == b->uid && a->gid == b->gid && a->n_groups == b->n_groups &&
           memcmp(a->groups, b->groups, a->n_groups * sizeof(a->groups[0])) == 0;
}

static bool has_logs(const struct wk_def *d)
{
    return d->log_pattern[0] || d->out.kind == CFG_OUT_APPEND || d->err.kind == CFG_OUT_APPEND;
}

/* --- all of them -------------------------------------------------------------------------------------------
 */

struct search {
    struct logs_work w;
    struct logs_wanted wanted;
    const struct wk_def **all, **part;
    unsigned n_all;
    bool is_alias[LIMIT_LOG_TYPES], only_aliases;
};

static bool is_meant(const struct search *s, const struct wk_def *d)
{
    if (!s->only_aliases)
        return true;
    for (unsigned i = 0; i < s->w.query->n_types; i++)
        if (str_eq(s->w.query->types[i], d->alias))
            return true;
    return false;
}

static int gather(struct search *s)
{
    const struct logs_query *q = s->w.query;
    struct wk *w;

    s->all = calloc(sup_count() + 1, sizeof(s->all[0]));
    s->part = calloc(sup_count() + 1, sizeof(s->part[0]));
    if (!s->all || !s->part)
        return -ENOMEM;
    s->only_aliases = true;
    for (unsigned i = 0; i < q->n_types; i++)
        s->only_aliases &= s->is_alias[i] = sup_find_alias(q->types[i]) != NULL;
    TAILQ_FOREACH (w, &sup_workers, link)
        if (has_logs(w->def) && is_meant(s, w->def))
            s->all[s->n_all++] = w->def;
    s->wanted = (struct logs_wanted){.defs = s->part, .query = q, .is_alias = s->is_alias};
    return 0;
}

/* A part is no more than its user: what the next one, of another user, goes on with has its bounds, and its
 * texts an end. */
static void settle(struct logs_result *r)
{
    r->message[sizeof(r->message) - 1] = r->types[sizeof(r->types) - 1] = 0;
    r->zip.max = LIMIT_LOG_SOURCES;
    if (r->zip.n > r->zip.max)
        r->zip.n = r->zip.max;
    for (uint32_t i = 0; i < r->zip.n; i++)
        r->zip.v[i].name[LOGS_ZIP_NAME - 1] = 0;
}

/* Takes what is the first one's user's out of all, in its order. */
static void take_part(struct search *s, unsigned first)
{
    const struct wk_def *of = s->all[first];

    s->wanted.n = 0;
    for (unsigned i = first; i < s->n_all; i++)
        if (s->all[i] && are_same_ids(&s->all[i]->ids, &of->ids)) {
            s->part[s->wanted.n++] = s->all[i];
            s->all[i] = NULL;
        }
}

/* Those of one user go together, where the first of them is: the order is the same each time. Uses all up. */
static int each_user(struct search *s, part_fn part)
{
    struct logs_result *r = s->w.result;
    int sig = 0;

    for (unsigned i = 0; i < s->n_all && !sig && !r->error && !r->full && !r->late; i++) {
        if (!s->all[i])
            continue;
        take_part(s, i);
        sig = run_part(&s->w, &s->wanted, part);
        settle(r);
    }
    return sig;
}

/* --- its end
 * -------------------------------------------------------------------------------------------------- */

static void say_types(struct search *s)
{
    struct logs_result *r = s->w.result;
    struct wk *w;

    /* Parts of the users have had it in their hands. */
    memset(r->types, 0, sizeof(r->types));
    r->types_len = 0;
    s->n_all = 0;
    TAILQ_FOREACH (w, &sup_workers, link)
        if (has_logs(w->def)) {
            s->all[s->n_all++] = w->def;
            logs_work_name(r, w->def->alias, strlen(w->def->alias));
        }
    each_user(s, logs_work_tell);
}

static void send_error(const struct search *s, int error, const char *message)
{
    struct wire_log_head head = {.error = error};

    if (fd_write_all(s->w.out, &head, sizeof(head)) == 0)
        fd_write_all(s->w.out, message, strlen(message));
}

static void refuse_types(struct search *s)
{
    char message[LIMIT_LOG_TYPES_TOLD + 400];

    say_types(s);
    snprintf(message, sizeof(message), "logType: no log is called %.300s; there are %s", s->w.query->types[0],
             s->w.result->types_len ? s->w.result->types : "none");
    send_error(s, ENOENT, message);
}

static void say_late(const struct search *s)
{
    const struct logs_result *r = s->w.result;
    char message[512], id[LOGS_WORK_ID];

    snprintf(
        message, sizeof(message),
        "nothing was found within %d s: go on with lastQueryFileId \"%s\" and lastQueryFileOffset %" PRIu64,
        LIMIT_LOG_QUERY_SEC, logs_work_id(&r->where, id), r->where.at);
    send_error(s, ETIMEDOUT, message);
}

static const char *name_of(int sig)
{
    return sig == SIGXCPU   ? "it took too long"
           : sig == SIGALRM ? "the files do not answer"
           : sig == SIGABRT ? "it could not be done"
                            : "it was killed";
}

/* True: there is nothing good to tell. */
static bool fail(struct search *s, int sig)
{
    struct logs_result *r = s->w.result;
    char message[64];

    if (r->head_sent)
        return sig || r->error; /* the answer stays without its end */
    snprintf(message, sizeof(message), "the search has failed: %s", name_of(sig));
    if (sig)
        send_error(s, EIO, message);
    else if (r->error)
        send_error(s, r->error, r->message);
    else if (!r->files)
        refuse_types(s);
    else if (s->w.query->has_cursor && !r->found)
        send_error(s, EINVAL, "lastQueryFileId: none of the files of this log");
    else if (r->late && !r->entries)
        say_late(s);
    else if (!r->has_where && r->unreadable)
        send_error(s, EACCES, r->message);
    else
        return false;
    return true;
}

static void finish(const struct search *s)
{
    static const struct logs_place none;
    const struct logs_query *q = s->w.query;
    struct logs_result *r = s->w.result;
    const struct logs_place *p = r->has_where ? &r->where : q->has_cursor ? &q->cursor : &none;
    char tail[160], id[LOGS_WORK_ID] = "0";

    if (p->ino)
        logs_work_id(p, id);
    if (logs_work_head(r, s->w.out, q->zip) < 0)
        return;
    if (q->zip) {
        logs_zip_finish(&r->zip, s->w.out);
        return;
    }
    snprintf(tail, sizeof(tail), "],\"fileId\":\"%s\",\"fileOffset\":%" PRIu64 "}" WIRE_LOG_WHOLE, id, p->at);
    fd_write_all(s->w.out, tail, strlen(tail));
}

static int run(int out, void *arg)
{
    static struct logs_query query;
    struct search s = {.w = {.query = &query, .out = out}};
    int sig;

    signal(SIGPIPE, SIG_IGN);
    setpriority(PRIO_PROCESS, 0, NICENESS);
    s.w.result = mmap(NULL, LOGS_RESULT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.w.result == MAP_FAILED || logs_match_read(arg, &query) < 0 || gather(&s) < 0) {
        send_error(&s, s.w.result == MAP_FAILED ? ENOMEM : EINVAL, "the search can't be read");
        return 1;
    }
    s.w.result->zip.max = LIMIT_LOG_SOURCES;
    if (!query.zip)
        s.w.deadline_us = clock_mono_us() + LIMIT_LOG_QUERY_SEC * 1000000ull;
    sig = each_user(&s, logs_work_run);
    if (!fail(&s, sig))
        finish(&s);
    return 0;
}

static unsigned under_way;

static void gone(void *arg)
{
    under_way--;
}

int logs_query_start(const char *text)
{
    _cleanup_free_ char *copy = strdup(text);
    int fds[2], r;

    if (under_way >= LIMIT_LOG_QUERIES)
        return -EAGAIN;
    if (!copy)
        return -ENOMEM;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    r = helper_detach(run, copy, fds[1], gone, NULL);
    fd_close(fds[1]);
    if (r < 0) {
        fd_close(fds[0]);
        return r;
    }
    under_way++;
    return fds[0];
}
