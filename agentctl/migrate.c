/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/migrate.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/conf.h"
#include "agentctl/http.h"
#include "agentctl/out.h"
#include "agentctl/private.h"
#include "agentctl/verbs.h"
#include "base/str.h"

#define SETTLE_MS 10000
#define LOOK_MS 20
/* --- agentd --------------------------------------------------------------------------------------------- */

static int post(const struct migrate *m, const char *path)
{
    struct http_reply r;
    int code = http_ask(m->o, "POST", path, &r);

    if (code == EXIT_REFUSED)
        options_complain("migrate: %s: %s", path, r.message);
    http_free(&r);
    return code == EXIT_DONE ? 0 : -1;
}

static int post_worker(const struct migrate *m, const char *alias, const char *verb)
{
    char path[200];

    return post(m, http_path(path, sizeof(path), "/agentd/v1/workers/", alias, verb));
}

static int reload(const struct migrate *m)
{
    return post(m, "/agentd/v1/reload");
}

/* Without a process, and none is on its way. */
static bool is_settled(const char *state)
{
    return str_eq(state, "DOWN") || str_eq(state, "BACKOFF") || str_eq(state, "COOLDOWN");
}

struct worker {
    pid_t pid;   /* of its main process, 0 without one */
    bool wanted; /* up */
};

/* 1: it is there; 0: there is none; -1: told. One that is about to start finds its condition unmet, and is
 * down in a moment: that is waited for. */
static int find_worker(const struct migrate *m, const char *alias, struct worker *ret)
{
    char path[200], state[OUT_TEXT] = "", goal[OUT_TEXT];
    int code = EXIT_DONE, found = -1;

    http_path(path, sizeof(path), "/agentd/v1/workers/", alias, "");
    for (int waited = 0; found < 0 && code == EXIT_DONE && waited < SETTLE_MS; waited += LOOK_MS) {
        struct http_reply r;
        code = http_ask(m->o, "GET", path, &r);
        *ret = (struct worker){0};
        if (code == EXIT_DONE) {
            ret->pid = (pid_t)out_number(&r.json, r.data, "pid");
            ret->wanted = str_eq(out_text(&r.json, r.data, "goal", goal), "UP");
        }
        if (code == EXIT_DONE && (ret->pid || is_settled(out_text(&r.json, r.data, "state", state))))
            found = 1;
        else if (code == EXIT_REFUSED && r.status == 404)
            found = 0;
        else if (code == EXIT_REFUSED)
            options_complain("migrate: %s: %s", alias, r.message);
        else if (code == EXIT_DONE)
            poll(NULL, 0, LOOK_MS);
        http_free(&r);
    }
    if (found < 0 && code == EXIT_DONE)
        options_complain("migrate: %s is %s, and stays so", alias, state);
    return found;
}

static int move(const struct migrate *m, enum wire_verb verb, const char *alias, pid_t pid)
{
    bool reads = verb == WIRE_VERB_ADOPT && migrate_is(&m->peer);
    struct wire_call v = {.verb = (uint8_t)verb,
                          .name = alias,
                          .pid = (uint32_t)pid,
                          .from = reads ? (uint64_t)m->peer.pid : 0};
    struct private_reply r;
    int code = private_ask(m->o, &v, &r);

    if (code == EXIT_REFUSED)
        options_complain("migrate: %s: %s", alias, r.message[0] ? r.message : wire_error_text(r.error));
    return code == EXIT_DONE ? 0 : -1;
}

/* --- the steps ------------------------------------------------------------------------------------------ */

static int take_one(const struct migrate *m, const struct migrate_row *row)
{
    struct worker w;
    int found = find_worker(m, row->alias, &w);

    if (found <= 0) {
        if (found == 0)
            options_complain(
                "migrate: agentd does not know %s after a reload: agentctl reload --plan tells why",
                row->alias);
        return -1;
    }
    if (!row->process.pid) /* the peer had it stopped */
        return post_worker(m, row->alias, "/stop");
    if (w.pid == row->process.pid || !migrate_is(&row->process))
        return 0;
    return move(m, WIRE_VERB_ADOPT, row->alias, row->process.pid);
}

static int take_all(const struct migrate *m)
{
    for (size_t i = 0; i < m->n; i++)
        if (take_one(m, &m->rows[i]) < 0)
            return -1;
    return 0;
}

/* From here on it starts nothing, and sees no end of any. */
static int halt_peer(const struct migrate *m)
{
    int r = migrate_hold_unit(m, true);
    pid_t stray;

    if (r < 0)
        return -1;
    if ((r = migrate_signal(m, SIGSTOP)) < 0 || (r = migrate_await_stop(m)) < 0)
        return migrate_told("the peer can't be halted", r);
    if ((stray = migrate_stray(m))) {
        options_complain("migrate: the peer has started process %d meanwhile: call again", (int)stray);
        return -1;
    }
    return 0;
}

/* By its file, if that can be read still. */
static bool runs_once(const struct migrate *m, const char *alias)
{
    const struct import_worker *w = import_find(&m->import, alias);

    for (size_t i = 0; w && i < w->n; i++)
        if (str_eq(w->lines[i].key, "Restart") && str_eq(w->lines[i].value, "no"))
            return true;
    return false;
}

/* What ended while nobody could start it is started now, unless it was to end, or an operator has stopped it.
 * After a boot nothing has run. */
static int start_ended(const struct migrate *m)
{
    int bad = 0;
    struct worker w;

    for (size_t i = 0; i < m->n; i++) {
        const struct migrate_row *row = &m->rows[i];
        if (!row->process.pid || find_worker(m, row->alias, &w) != 1 || w.pid || !w.wanted ||
            (runs_once(m, row->alias) && !m->earlier_boot))
            continue;
        bad |= post_worker(m, row->alias, "/start");
    }
    return bad;
}

static int give_back(const struct migrate *m)
{
    struct worker w;

    for (size_t i = 0; i < m->n; i++) {
        const struct migrate_row *row = &m->rows[i];
        int found = find_worker(m, row->alias, &w);
        if (found < 0)
            return -1;
        if (found && w.pid && w.pid == row->process.pid &&
            move(m, WIRE_VERB_RELEASE, row->alias, m->peer.pid) < 0)
            return -1;
    }
    return 0;
}

/* One that a worker's user holds up is waited for, but not for ever: a line of that worker may be torn, and
 * all others have their supervisor again. */
static int leave_outputs(const struct migrate *m)
{
    pid_t reader;
    int r = migrate_await_no_readers(m, &reader);

    if (r == -ETIMEDOUT)
        options_complain("migrate: process %d reads still beside the peer", (int)reader);
    else if (r < 0)
        return migrate_told("the pipes of the peer can't be looked at", r);
    return 0;
}

/* The peer is halted: what its processes write is read by agentd-drain, all of it, or by nobody. A
 * worker that was taken over by a call that was killed may lack its own: it is given back, and taken again.
 */
static int take_outputs(const struct migrate *m)
{
    pid_t writer;
    int r = migrate_await_readers(m, &writer);

    if (r == -ETIMEDOUT && give_back(m) == 0 && leave_outputs(m) == 0 && take_all(m) == 0)
        r = migrate_await_readers(m, &writer);
    if (r == -ETIMEDOUT)
        options_complain(
            "migrate: nobody would have the other end of process %d's pipe once the peer has ended, "
            "and that may end it",
            (int)writer);
    else if (r < 0)
        migrate_told("the pipes of the peer can't be looked at", r);
    return r;
}

/* The workers first, then their files, then the peer: each process has one owner all the time. */
static int remove_files(const struct migrate *m)
{
    migrate_remove_workers(m);
    migrate_remove_drop_ins(m);
    return reload(m);
}

/* Another than that of the record: what it is, its file says. */
static bool peer_runs(struct migrate *m)
{
    if (!m->import.n_sources) {
        m->import.format = m->kind;
        if (import_read(&m->import, m->config) < 0)
            return false;
    }
    return migrate_runs(m);
}

static int forget(const struct migrate *m)
{
    int r = migrate_forget(m);

    return r < 0 ? migrate_told(m->record, r) : 0;
}

/* It goes on, whatever failed before: on record it stays then, and is undone again. */
static int resume_peer(const struct migrate *m)
{
    int r = migrate_hold_unit(m, false), sent = migrate_signal(m, SIGCONT);

    return sent < 0 ? migrate_told("the peer can't go on", sent) : r;
}

/* The peer of the record has ended, and another one runs: that has all of it, by its file. */
static int leave_to_another(const struct migrate *m)
{
    if (m->ending) {
        options_complain("migrate: the peer was started again, and agentd has all of it: stop the peer, and "
                         "call again");
        return -1;
    }
    options_complain("migrate: the peer was started anew meanwhile: what was begun is undone");
    return remove_files(m) < 0 || migrate_hold_unit(m, false) < 0 ? -1 : forget(m);
}

static int undo(struct migrate *m)
{
    int bad;

    if (!migrate_is(&m->peer) && !m->ending && peer_runs(m))
        return leave_to_another(m);
    if (m->ending || !migrate_is(&m->peer)) {
        options_complain("migrate: the peer %s: call agentctl migrate without --undo, and it is finished",
                         m->ending ? "is being ended"
                                   : "has ended, there is nobody to give its processes to");
        return -1;
    }
    if (give_back(m) < 0 || leave_outputs(m) < 0)
        return -1;
    bad = remove_files(m);
    if (resume_peer(m) < 0 || bad < 0)
        return -1;
    return forget(m);
}

/* --- the end -------------------------------------------------------------------------------------------- */

static int set_ending(struct migrate *m, bool ending)
{
    int r;

    m->ending = ending;
    r = migrate_save(m);
    return r < 0 ? migrate_told(m->record, r) : 0;
}

/* From here on there is no way back. Not started at boot any more is the peer before agentd starts anything:
 * whenever the host goes down in between, one of them has all of it. */
static int retire(struct migrate *m)
{
    if (set_ending(m, true) < 0)
        return -1;
    if (migrate_retire_unit(m) == 0)
        return 0;
    set_ending(m, false);
    options_complain("migrate: the peer is halted still: call again, or with --undo");
    return -1;
}

/* Killed it can't tell its children to end. */
static int end_peer(const struct migrate *m)
{
    int r;

    if ((r = migrate_signal(m, SIGKILL)) < 0 || (r = migrate_await_end(m)) < 0)
        return migrate_told("the peer can't be ended", r);
    if ((r = migrate_await_unit(m)) < 0) /* its end is judged by what the drop-in says */
        return r;
    return migrate_hold_unit(m, false);
}

static int commit(struct migrate *m)
{
    if (retire(m) < 0)
        return -1;
    migrate_remove_drop_ins(m);
    if (reload(m) < 0 || end_peer(m) < 0 || start_ended(m) < 0)
        return -1;
    return forget(m);
}

/* No process that is on record is left, and none of agentd's has started meanwhile: the one that is started
 * at boot is the owner. */
static int after_boot(struct migrate *m)
{
    m->peer = (struct migrate_process){0};
    if (!m->ending || peer_runs(m)) {
        options_complain(
            "migrate: the host was started anew meanwhile: what was begun is undone, and the peer "
            "has all of it");
        return remove_files(m) < 0 ? -1 : forget(m);
    }
    options_complain("migrate: the host was started anew meanwhile: it is finished");
    return commit(m);
}

/* --- what there is -------------------------------------------------------------------------------------- */

/* The peer knows what its file says, all of it. */
static int judge_rows(const struct migrate *m)
{
    for (size_t i = 0; i < m->import.n_workers; i++) {
        const char *alias = m->import.workers[i]->alias;
        bool known = false;
        for (size_t k = 0; k < m->n; k++)
            known |= str_eq(m->rows[k].alias, alias);
        if (!known) {
            options_complain(
                "migrate: %s has %s, which the peer does not know: let it read its file again first",
                m->config, alias);
            return -1;
        }
    }
    return 0;
}

static int judge_agentd(const struct migrate *m)
{
    struct worker w;

    for (size_t i = 0; i < m->n; i++) {
        int found = find_worker(m, m->rows[i].alias, &w);
        if (found > 0)
            options_complain("migrate: agentd has a worker %s already", m->rows[i].alias);
        if (found != 0)
            return -1;
    }
    return 0;
}

static int look_at_peer(struct migrate *m)
{
    if (!realpath(m->o->words[2], m->config))
        return migrate_told(m->o->words[2], -errno);
    if (strchr(m->config, '\n')) /* it would end its line on record */
        return migrate_told(m->config, -EINVAL);
    m->import.format = m->kind;
    if (import_read(&m->import, m->config) < 0 || migrate_find(m) < 0 || judge_rows(m) < 0)
        return -1;
    return judge_agentd(m) < 0 ? -1 : migrate_judge_files(m, true);
}

static void tell_rows(const struct migrate *m, const char *does)
{
    if (m->o->json)
        printf("{\"peer\":%d,\"workers\":[", (int)m->peer.pid);
    for (size_t i = 0; i < m->n; i++) {
        const struct migrate_row *row = &m->rows[i];
        if (m->o->json)
            printf("%s{\"alias\":\"%s\",\"pid\":%d}", i ? "," : "", row->alias, (int)row->process.pid);
        else if (row->process.pid)
            printf("%s: process %d %s\n", row->alias, (int)row->process.pid, does);
        else
            printf("%s: it is stopped, and stays so\n", row->alias);
    }
    if (m->o->json)
        printf("]}\n");
}

/* --- the verb ------------------------------------------------------------------------------------------- */

/* What was begun is taken back, but for a peer that is not there any more. */
static int give_up(struct migrate *m)
{
    if (migrate_is(&m->peer))
        options_complain("migrate: it is undone%s", undo(m) < 0 ? ", but not all of it: see above" : "");
    return EXIT_REFUSED;
}

static int finish(struct migrate *m)
{
    if (commit(m) < 0)
        return EXIT_REFUSED;
    tell_rows(m, "is taken over");
    if (!*m->unit && !m->o->json)
        printf("what starts the peer at boot is not known here: remove it, or all is started twice\n");
    return EXIT_DONE;
}

static int go_on(struct migrate *m)
{
    bool gone = !migrate_is(&m->peer); /* somebody else has ended it */

    if (m->ending)
        return finish(m);
    if ((!gone && halt_peer(m) < 0) || migrate_write_files(m) < 0 || reload(m) < 0 || take_all(m) < 0 ||
        take_outputs(m) < 0)
        return give_up(m);
    if (m->o->hold && !gone) {
        tell_rows(m, "is taken over, and the peer is halted");
        return EXIT_DONE;
    }
    return finish(m);
}

static int begin(struct migrate *m)
{
    int r;

    if (look_at_peer(m) < 0)
        return EXIT_REFUSED;
    if (m->o->check) {
        tell_rows(m, "would be taken over");
        return EXIT_DONE;
    }
    if (reload(m) < 0) /* what keeps agentd from it now would do so later */
        return EXIT_REFUSED;
    if ((r = migrate_save(m)) < 0) {
        migrate_told(m->record, r);
        return EXIT_REFUSED;
    }
    return go_on(m);
}

static int again(struct migrate *m)
{
    if (m->earlier_boot && !m->o->check)
        return after_boot(m) < 0 ? EXIT_REFUSED : EXIT_DONE;
    if (m->o->undo) {
        if (undo(m) < 0)
            return EXIT_REFUSED;
        tell_rows(m, "is the peer's again");
        return EXIT_DONE;
    }
    if (m->o->check) {
        tell_rows(m, "is being taken over: call without --check to finish it, or with --undo");
        return EXIT_DONE;
    }
    m->import.format = m->kind;
    if (import_read(&m->import, m->config) < 0 && !m->ending)
        return EXIT_REFUSED;
    if (!migrate_is(&m->peer) && migrate_runs(m))
        return leave_to_another(m) < 0 ? EXIT_REFUSED : EXIT_DONE;
    return !m->ending && (judge_rows(m) < 0 || migrate_judge_files(m, false) < 0) ? EXIT_REFUSED : go_on(m);
}

static int setting(const struct options *o, const char *key, const char *otherwise, char value[PATH_MAX])
{
    char path[PATH_MAX];
    int r = conf_find(o->config ? o->config : OPTIONS_CONFIG, key, value, PATH_MAX, path);

    if (r < 0)
        return migrate_told(path, r);
    if (r == 0)
        str_copy(value, PATH_MAX, otherwise);
    return 0;
}

static int prepare(struct migrate *m)
{
    char state[PATH_MAX];

    if (setting(m->o, "WorkersDirectory", "/etc/agentd/workers.d", m->folder) < 0 ||
        setting(m->o, "StateDirectory", "/var/lib/agentd", state) < 0)
        return -1;
    if (snprintf(m->record, sizeof(m->record), "%s/" WIRE_MIGRATION_FILE, state) >= (int)sizeof(m->record))
        return migrate_told(state, -ENAMETOOLONG);
    return 0;
}

static int lock(const struct migrate *m)
{
    int r = migrate_lock(m);

    if (r == -EWOULDBLOCK)
        options_complain("migrate: another agentctl migrate is at work");
    else if (r < 0)
        migrate_told(m->record, r);
    return r;
}

static int usage(const struct options *o)
{
    const char *kind = o->count > 1 ? o->words[1] : "";

    if (o->url)
        options_complain("migrate is for this host, and takes no --url");
    else if (o->count != 1 &&
             (o->undo || o->count != 3 || !(str_eq(kind, "supervisord") || str_eq(kind, "obagent"))))
        options_complain("migrate supervisord FILE, or migrate obagent FILE: with the peer's configuration; "
                         "then migrate, which finishes it, or migrate --undo");
    else if (geteuid() != 0)
        options_complain("migrate is for root");
    else
        return EXIT_DONE;
    return EXIT_USAGE;
}

int migrate_run(const struct options *o)
{
    struct migrate m = {.o = o};
    int code = usage(o), found = -1;

    if (code != EXIT_DONE)
        return code;
    if (o->count > 1)
        str_copy(m.kind, sizeof(m.kind), o->words[1]);
    code = EXIT_REFUSED;
    if (prepare(&m) == 0 && lock(&m) == 0 && (found = migrate_load(&m)) < 0)
        migrate_told(m.record, found);
    else if (found == 1)
        code = again(&m);
    else if (found == 0 && o->count == 1)
        options_complain("migrate: nothing is under way");
    else if (found == 0)
        code = begin(&m);
    free(m.rows);
    import_free(&m.import);
    return code;
}
