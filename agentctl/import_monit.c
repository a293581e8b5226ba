/* SPDX-License-Identifier: Apache-2.0 */
/* monitrc: its processes that have a start program. monit(1), version 5. */
#include "agentctl/import_monit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define CYCLE 30 /* seconds, where no `set daemon` says otherwise */

/* One `check process` with what follows it. */
struct process {
    struct import_monit *m;
    struct import *im;
    const struct import_monit_statement *v;
    size_t n;
    struct import_worker *w;
    const char *uid, *gid; /* of its start program */
    struct import_monit_tests tests;
};

/* What is behind the first words, for the account. */
static const char *rest(struct import *im, const struct import_monit_statement *s, size_t words)
{
    const char *p = s->text;

    for (; words && *p; words--) {
        p += strcspn(p, " ");
        p += strspn(p, " ");
    }
    return import_keep(im, p);
}

static struct import_entry *note(struct import *im, struct import_worker *w,
                                 const struct import_monit_statement *s)
{
    struct import_entry *e;
    size_t words = 1;
    const char *second = import_monit_text(s, 1);

    if (import_monit_is(s, 0, "check") || import_monit_is(s, 0, "set") || import_monit_is(s, 1, "program"))
        words = 2;
    e = import_key(im, w, s->at,
                   words == 2 ? import_print(im, "%s %s", import_monit_text(s, 0), second)
                              : import_monit_text(s, 0),
                   rest(im, s, words));
    e->is_phrase = true;
    return e;
}

/* ---- programs ---- */

/* The number behind `timeout`, in seconds; 0: there is none. */
static uint64_t timeout_of(const struct import_monit_statement *s)
{
    size_t i = import_monit_find(s, 1, "timeout");
    uint64_t n = 0;

    if (str_to_u64(import_monit_text(s, i + 1), 1000000, &n) < 0)
        return 0;
    if (str_starts(import_monit_text(s, i + 2), "minute"))
        n *= 60;
    return n;
}

/* The command as a list of words. False after an error. */
static bool command_of(struct process *p, const struct import_monit_statement *s, struct import_words *words)
{
    size_t i = import_monit_is(s, 1, "program") ? 2 : 1;
    const char *why;

    i += import_monit_is(s, i, "=");
    if ((why = import_words_shell(p->im, import_monit_text(s, i), words)))
        import_error(p->im, s->at, "%s: %s", import_monit_text(s, 0), why);
    else if (words->n == 0 || *words->v[0] != '/')
        import_error(p->im, s->at, "%s program: its absolute path is wanted", import_monit_text(s, 0));
    else if (words->n > LIMIT_ARGS)
        import_error(p->im, s->at, "more than the %u words that agentd takes", LIMIT_ARGS);
    else {
        words->v[0] = import_words_path(p->im, "/", words->v[0]);
        return true;
    }
    return false;
}

static void put_name(struct process *p, const struct import_monit_statement *s, struct import_entry *e,
                     const char *to, const char *name, const char *why)
{
    if (*name && why)
        import_error(p->im, s->at, "%s %s", name, why);
    else if (*name)
        import_to(e, IMPORT_SERVICE, to, "%s", import_words_plain(p->im, name));
}

static void put_user(struct process *p, const struct import_monit_statement *s, struct import_entry *e)
{
    const char *uid = import_monit_text(s, import_monit_find(s, 1, "uid") + 1),
               *gid = import_monit_text(s, import_monit_find(s, 1, "gid") + 1);

    if (import_monit_is(s, 0, "start")) {
        p->uid = uid;
        p->gid = gid;
        put_name(p, s, e, "User", uid, import_words_user(uid));
        put_name(p, s, e, "Group", gid, import_words_group(gid));
    } else if (!str_eq(uid, p->uid) || !str_eq(gid, p->gid)) {
        import_note(e, "it runs as User= and Group= of the start program");
    }
}

#define PROGRAM_TIMEOUT 30 /* seconds: monit's own, where agentd's are 90 */

static void put_timeout(struct process *p, const struct import_monit_statement *s, struct import_entry *e)
{
    const char *verb = import_monit_text(s, 0);
    uint64_t seconds = timeout_of(s);

    if (!seconds) {
        seconds = PROGRAM_TIMEOUT;
        e = import_default(p->im, p->w, import_print(p->im, "%s program", verb),
                           import_print(p->im, "with timeout %u seconds", PROGRAM_TIMEOUT));
        e->is_phrase = true;
    }
    import_to(e, IMPORT_SERVICE, import_monit_is(s, 0, "start") ? "TimeoutStartSec" : "TimeoutStopSec",
              "%llus", (unsigned long long)seconds);
}

static void read_program(struct process *p, const struct import_monit_statement *s, struct import_entry *e)
{
    bool start = import_monit_is(s, 0, "start");
    struct import_words words = {0};

    if (import_monit_is(s, 0, "restart")) {
        import_none(e, "agentd restarts by ExecStop= and ExecStart=");
        return;
    }
    if (command_of(p, s, &words))
        import_to(e, IMPORT_SERVICE, start ? "ExecStart" : "ExecStop", "%s",
                  import_words_exec(p->im, &words));
    put_timeout(p, s, e);
    put_user(p, s, e);
    import_words_free(&words);
}

/* ---- other statements ---- */

static void read_check(struct process *p, const struct import_monit_statement *s, struct import_entry *e)
{
    size_t i = import_monit_find(s, 2, "pidfile");
    const char *path = import_monit_text(s, i + 1);

    import_to(e, IMPORT_SERVICE, "Type", "forking");
    import_note(e, "if its start program stays in the foreground, write Type=simple");
    if (i == s->n)
        import_note(e, "the main process is the first that its start program leaves, not one that matches");
    else if (*path != '/')
        import_error(p->im, s->at, "pidfile: an absolute path is wanted, not \"%s\"", path);
    else
        import_to(e, IMPORT_SERVICE, "PIDFile", "%s",
                  import_words_plain(p->im, import_words_path(p->im, "/", path)));
}

/* The process of that name in this file, that has a start program. */
static bool is_process(const struct import_monit *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct import_monit_statement *s = &m->statements[i];
        if (!import_monit_is(s, 0, "check") || !import_monit_is(s, 1, "process") ||
            !str_eq(import_monit_text(s, 2), name))
            continue;
        for (size_t k = i + 1; k < m->n && !import_monit_is(&m->statements[k], 0, "check"); k++)
            if (import_monit_is(&m->statements[k], 0, "start"))
                return true;
    }
    return false;
}

static bool is_check(const struct import_monit *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (import_monit_is(&m->statements[i], 0, "check") &&
            !import_monit_is(&m->statements[i], 1, "process") &&
            str_eq(import_monit_text(&m->statements[i], 2), name))
            return true;
    return false;
}

static void read_depends(struct process *p, const struct import_monit_statement *s, struct import_entry *e)
{
    for (size_t i = import_monit_is(s, 1, "on") ? 2 : 1; i < s->n; i++) {
        char alias[IMPORT_ALIAS];
        const char *name = import_monit_text(s, i);
        if (str_eq(name, ","))
            continue;
        import_alias(name, alias);
        if (is_process(p->m, name) || import_find(p->im, alias))
            import_to(e, IMPORT_UNIT, "BindsTo", "%s", alias);
        else if (is_check(p->m, name))
            import_none(e, "%s is no process, and no worker", name);
        else {
            import_to(e, IMPORT_UNIT, "After", "%s", alias);
            import_note(e, "%s is not in this file: if it is a worker, write BindsTo=", name);
        }
    }
}

static void read_mode(const struct import_monit_statement *s, struct import_entry *e)
{
    if (import_monit_is(s, 1, "active"))
        import_same(e, "agentd keeps every worker up");
    else
        import_none(e, "agentd keeps every worker up; Restart=no, or `agentctl stop`, leaves it down");
}

static void read_onreboot(const struct import_monit_statement *s, struct import_entry *e)
{
    if (import_monit_is(s, 1, "laststate"))
        import_same(e, "a worker that was stopped stays so, over reboots too");
    else
        import_none(e, "agentd starts every worker, and one that was stopped stays so, over reboots too");
}

static void read_statement(struct process *p, const struct import_monit_statement *s)
{
    struct import_entry *e = note(p->im, p->w, s);

    if (import_monit_is(s, 0, "check"))
        read_check(p, s, e);
    else if (import_monit_is(s, 0, "start") || import_monit_is(s, 0, "stop") ||
             import_monit_is(s, 0, "restart"))
        read_program(p, s, e);
    else if (import_monit_is(s, 0, "if"))
        import_monit_if(p->im, s, e, &p->tests);
    else if (import_monit_is(s, 0, "depends") || import_monit_is(s, 0, "depend"))
        read_depends(p, s, e);
    else if (import_monit_is(s, 0, "mode"))
        read_mode(s, e);
    else if (import_monit_is(s, 0, "onreboot"))
        read_onreboot(s, e);
    else if (import_monit_is(s, 0, "group"))
        import_none(e, "agentd has no groups: --match 'NAME*'");
    else if (import_monit_is(s, 0, "every"))
        import_none(e, "agentd hears of an end at once; of a check HealthInterval= says how often");
    else if (import_monit_is(s, 0, "alert") || import_monit_is(s, 0, "noalert"))
        import_none(e, "agentd sends no mail; GET /agentd/v1/events tells what happens");
    else if (import_monit_is(s, 0, "include"))
        import_none(e, "it is not read; give its files to agentctl import, too");
    else
        import_none(e, "agentctl does not know it");
}

/* The start program's user is known before the stop program is read. */
static const struct import_monit_statement *find(const struct process *p, const char *word)
{
    for (size_t i = 0; i < p->n; i++)
        if (import_monit_is(&p->v[i], 0, word))
            return &p->v[i];
    return NULL;
}

static void read_process(struct import_monit *m, const struct import_monit_statement *v, size_t n)
{
    struct process p = {.m = m, .im = m->im, .v = v, .n = n, .uid = "", .gid = ""};
    const struct import_monit_statement *start = find(&p, "start");
    const char *name = import_monit_text(v, 2);
    struct import_entry *e;

    p.tests.cycle = m->im->monit_cycle ? m->im->monit_cycle : CYCLE;
    if (!start) {
        for (size_t i = 0; i < n; i++)
            import_none(note(m->im, NULL, &v[i]),
                        "%s has no start program: there is nothing that agentd could run", name);
        return;
    }
    if (!(p.w = import_worker(m->im, v->at, import_print(m->im, "monit, check process %s", name), name)))
        return;
    e = import_default(m->im, p.w, "if does not exist", "then restart");
    e->is_phrase = true;
    import_to(e, IMPORT_SERVICE, "Restart", "always");
    for (size_t i = 0; i < n; i++)
        if (&v[i] == start || !import_monit_is(&v[i], 0, "start"))
            read_statement(&p, &v[i]);
        else
            import_error(m->im, v[i].at, "%s has two start programs; take one out", name);
}

/* ---- the file ---- */

static const char *why_none(const struct import_monit_statement *s)
{
    if (import_monit_is(s, 0, "include"))
        return "it is not read; give its files to agentctl import, too";
    if (import_monit_is(s, 1, "daemon"))
        return "agentd does not poll; HealthInterval= of a check is as long";
    if (import_monit_is(s, 0, "set"))
        return "it is about monit itself";
    return "agentd looks after processes only";
}

static void read_cycle(struct import_monit *m)
{
    uint64_t n;

    for (size_t i = 0; i < m->n; i++)
        if (import_monit_is(&m->statements[i], 0, "set") && import_monit_is(&m->statements[i], 1, "daemon") &&
            str_to_u64(import_monit_text(&m->statements[i], 2), 86400, &n) == 0 && n)
            m->im->monit_cycle = (unsigned)n;
}

static bool is_top(const struct import_monit_statement *s)
{
    return import_monit_is(s, 0, "check") || import_monit_is(s, 0, "set");
}

static void read_blocks(struct import_monit *m)
{
    for (size_t i = 0, end; i < m->n; i = end) {
        const struct import_monit_statement *s = &m->statements[i];
        bool process = import_monit_is(s, 0, "check") && import_monit_is(s, 1, "process");
        for (end = i + 1; end < m->n && !is_top(&m->statements[end]); end++)
            ;
        if (process) {
            read_process(m, s, end - i);
            continue;
        }
        for (size_t k = i; k < end; k++)
            import_none(note(m->im, NULL, &m->statements[k]), "%s",
                        import_monit_is(&m->statements[k], 0, "include") ? why_none(&m->statements[k])
                                                                         : why_none(s));
    }
}

void import_monit_read(struct import *im, struct import_source *src)
{
    struct import_monit m = {.im = im, .src = src};

    if (import_monit_parse(&m)) {
        if (m.n == 0)
            import_error(im, (struct import_at){src->path, 1, 1}, "the file is empty");
        read_cycle(&m);
        read_blocks(&m);
    }
    import_monit_free(&m);
}
