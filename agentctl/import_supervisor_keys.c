/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of [program:x], each as what agentd has for it; and those that are not set, where supervisor's
 * default is another one than agentd's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agentctl/import_supervisor.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

/* A key, its value with all replaced, and its place in the account. */
struct key {
    struct import_supervisor_program *p;
    struct import_at at;
    const char *value; /* NULL: not set, or wrong */
    struct import_entry *e;
    bool set;
};

/* value: what it is if it is not set; NULL: then it is not in the account. */
static struct key get(struct import_supervisor_program *p, const char *name, const char *value)
{
    struct import_ini_key *i = import_ini_key(p->section, name);
    struct key k = {.p = p, .at = i ? i->at : p->w->at, .value = value, .set = i != NULL};

    if (i) {
        i->seen = true;
        k.value = import_supervisor_expand(p, i->at, i->value);
        k.e = import_key(p->im, p->w, i->at, name, i->value);
    } else if (value) {
        k.e = import_default(p->im, p->w, name, value);
    }
    return k;
}

/* One that [supervisord] may have for all. */
static struct key get_inherited(struct import_supervisor_program *p, const char *name)
{
    struct key k = get(p, name, NULL);
    const struct import_ini_key *i = k.set ? NULL : import_ini_key(p->s->main, name);

    if (!i || !(k.value = import_supervisor_main(p->s, i)))
        return k;
    k.at = i->at;
    k.e = import_default(p->im, p->w, import_print(p->im, "[supervisord] %s", name), k.value);
    return k;
}

static void wrong(const struct key *k, const char *wanted)
{
    import_error(k->p->im, k->at, "%s: %s is wanted, not \"%s\"", k->e->key, wanted, k->value);
}

static bool number(const struct key *k, uint64_t most, uint64_t *ret)
{
    if (!k->value)
        return false;
    if (str_to_u64(k->value, most, ret) == 0)
        return true;
    wrong(k, import_print(k->p->im, "a number up to %llu", (unsigned long long)most));
    return false;
}

static bool yes_or_no(const struct key *k, bool *ret)
{
    if (!k->value)
        return false;
    if (import_supervisor_bool(k->value, ret))
        return true;
    wrong(k, "true or false");
    return false;
}

/* Below [supervisord] directory=, if it is relative and there is that. NULL after an error. */
static const char *path_of(const struct key *k)
{
    const struct import_ini_key *key = import_ini_key(k->p->s->main, "directory");
    const char *dir;

    if (*k->value == '/')
        return import_words_path(k->p->im, "/", k->value);
    if (key && *k->value != '~') {
        if (!(dir = import_supervisor_main(k->p->s, key)))
            return NULL;
        if (*dir == '/')
            return import_words_path(k->p->im, dir, k->value);
    }
    wrong(k, "an absolute path (supervisord takes a relative one from the folder that it was started in)");
    return NULL;
}

/* ---- the program ---- */

static const char *find_program(const struct key *k, const char *name)
{
    const char *path;

    if (strchr(name, '/')) {
        if (*name == '/')
            return import_words_path(k->p->im, "/", name);
        import_error(k->p->im, k->at,
                     "command: %s is relative to where supervisord was started; write its absolute path",
                     name);
        return NULL;
    }
    if (!(path = import_words_program(k->p->im, name)))
        import_error(k->p->im, k->at, "command: %s is not in PATH here; write its absolute path", name);
    return path;
}

static void read_command(struct import_supervisor_program *p)
{
    struct key k = get(p, "command", NULL);
    struct import_words words = {0};
    const char *why, *path;

    if (!k.set)
        import_error(p->im, p->w->at, "[%s] has no command; give it one", p->section->name);
    if (!k.value)
        return;
    if ((why = import_words_shell(p->im, k.value, &words)))
        import_error(p->im, k.at, "command: %s", why);
    else if (words.n == 0)
        import_error(p->im, k.at, "command: it is empty");
    else if (words.n > LIMIT_ARGS)
        import_error(p->im, k.at, "command: more than the %u words that agentd takes", LIMIT_ARGS);
    else if ((path = find_program(&k, words.v[0])))
        import_to(k.e, IMPORT_SERVICE, "ExecStart", "%s", import_words_exec_as(p->im, path, &words));
    import_words_free(&words);
}

static void read_directory(struct import_supervisor_program *p)
{
    struct key k = get_inherited(p, "directory");
    const char *path = k.value ? path_of(&k) : NULL;

    if (path)
        import_to(k.e, IMPORT_SERVICE, "WorkingDirectory", "%s", import_words_plain(p->im, path));
}

static void read_user(struct import_supervisor_program *p)
{
    struct key k = get_inherited(p, "user");
    const char *why;

    if (!k.value)
        return;
    if ((why = import_words_user(k.value)))
        import_error(p->im, k.at, "user: %s %s", k.value, why);
    else
        import_to(k.e, IMPORT_SERVICE, "User", "%s", import_words_plain(p->im, k.value));
}

static void read_umask(struct import_supervisor_program *p)
{
    struct key k = get_inherited(p, "umask");
    char *end;
    unsigned long v;

    if (!k.value)
        return;
    v = strtoul(k.value, &end, 8);
    if (*end || !*k.value || v > 0777)
        wrong(&k, "an octal number up to 777");
    else
        import_to(k.e, IMPORT_SERVICE, "UMask", "%04lo", v);
}

static void put_variables(struct import_supervisor_program *p, struct key *k, const struct import_words *list)
{
    const char *why;
    char *both;

    for (size_t i = 0; i + 1 < list->n; i += 2)
        if ((why = import_words_env(p->im, list->v[i], list->v[i + 1], &both)))
            import_error(p->im, k->at, "environment: %s: %s", list->v[i], why);
        else
            import_to(k->e, IMPORT_SERVICE, "Environment", "%s", both);
}

static void read_environment(struct import_supervisor_program *p)
{
    const struct import_ini_key *i = import_ini_key(p->s->main, "environment");
    struct key k = {.p = p};

    if (i) {
        k.at = i->at;
        k.e = import_default(p->im, p->w, "[supervisord] environment", p->s->main_environment);
        put_variables(p, &k, &p->s->of_main);
    }
    k = get(p, "environment", NULL);
    if (k.set && p->variables.n)
        put_variables(p, &k, &p->variables);
    else if (k.set)
        import_same(k.e, "it is empty");
    import_environment(p->im, p->w, "supervisord");
}

/* ---- starting again ---- */

/* The list of exitcodes without blanks; false after an error. *ret_zero: 0 is among them. */
static bool exit_codes(const struct key *k, char *list, size_t size, bool *ret_zero)
{
    size_t n = 0;

    *list = 0;
    *ret_zero = false;
    for (const char *s = k->value; s && *s;) {
        char *end;
        long v = strtol(s, &end, 10);
        end += strspn(end, " \t\n");
        if (end == s || (*end && *end != ',') || v < 0 || v > 255 || n + 5 > size) {
            wrong(k, "a list of numbers from 0 to 255, with commas");
            return false;
        }
        *ret_zero |= v == 0;
        n += (size_t)snprintf(list + n, size - n, "%s%ld", n ? " " : "", v);
        s = *end ? end + 1 : end;
    }
    return k->value != NULL;
}

/* Status 0 is a success for agentd in any case. */
static void unexpected(struct key *restart, struct key *codes, const char *list, bool zero)
{
    import_to(restart->e, IMPORT_SERVICE, "Restart", zero ? "on-failure" : "always");
    if (zero) {
        import_note(restart->e, "an end by SIGHUP, SIGINT, SIGTERM or SIGPIPE is no failure");
        if (!str_eq(list, "0"))
            import_to(codes->e, IMPORT_SERVICE, "SuccessExitStatus", "%s", list);
        else
            import_same(codes->e, "0 is a success");
        return;
    }
    if (!*list) {
        import_into(codes->e, "Restart=always");
        return;
    }
    import_to(codes->e, IMPORT_SERVICE, "SuccessExitStatus", "%s", list);
    import_to(codes->e, IMPORT_SERVICE, "RestartPreventExitStatus", "%s", list);
}

static void read_restart(struct import_supervisor_program *p)
{
    struct key restart = get(p, "autorestart", "unexpected"), codes = get(p, "exitcodes", "0");
    char list[1024];
    bool zero, yes;

    if (!exit_codes(&codes, list, sizeof(list), &zero) || !restart.value)
        return;
    if (strcasecmp(restart.value, "unexpected") == 0) {
        unexpected(&restart, &codes, list, zero);
        return;
    }
    if (!yes_or_no(&restart, &yes))
        return;
    import_to(restart.e, IMPORT_SERVICE, "Restart", yes ? "always" : "no");
    if (!yes)
        import_note(restart.e, "a start that fails is not retried either");
    if (*list && !str_eq(list, "0"))
        import_to(codes.e, IMPORT_SERVICE, "SuccessExitStatus", "%s", list);
    else
        import_same(codes.e, "0 is a success");
}

/* It is RUNNING after startsecs; each retry waits a second more than the one before. */
static void read_start(struct import_supervisor_program *p)
{
    struct key secs = get(p, "startsecs", "1"), tries = get(p, "startretries", "3");
    uint64_t s, n;

    if (!number(&secs, 1000000, &s) || !number(&tries, 1000, &n))
        return;
    if (s == 0)
        import_same(secs.e, "it is ready as soon as it runs");
    else
        import_to(secs.e, IMPORT_WORKER, "ReadyCheck", "stable:%llus", (unsigned long long)s);
    if (s >= 90)
        import_to(secs.e, IMPORT_SERVICE, "TimeoutStartSec", "%llus", (unsigned long long)s + 90);
    import_to(tries.e, IMPORT_UNIT, "StartLimitBurst", "%llu", (unsigned long long)n + 1);
    import_to(tries.e, IMPORT_UNIT, "StartLimitIntervalSec", "%llus",
              (unsigned long long)((n + 1) * (s + 1) + n * (n + 1) / 2));
    import_to(tries.e, IMPORT_SERVICE, "RestartSec", "1s");
    if (n > 0)
        import_to(tries.e, IMPORT_SERVICE, "RestartMaxDelaySec", "%llus", (unsigned long long)n);
    import_note(tries.e, "then it cools down and is tried again, where supervisord gives up (FATAL)");
}

static void read_autostart(struct import_supervisor_program *p)
{
    struct key k = get(p, "autostart", NULL);
    bool yes;

    if (!yes_or_no(&k, &yes))
        return;
    if (yes)
        import_same(k.e, "agentd starts every worker");
    else
        import_none(k.e, "agentd starts every worker; `agentctl stop %s` keeps it down, over reboots too",
                    p->w->alias);
}

/* ---- stopping ---- */

static void read_signal(struct import_supervisor_program *p)
{
    struct key k = get(p, "stopsignal", NULL);
    char buf[16];
    const char *name = k.value ? import_words_signal(k.value, buf) : NULL;

    if (k.value && !name)
        wrong(&k, "a signal's name, such as TERM");
    else if (name)
        import_to(k.e, IMPORT_SERVICE, "KillSignal", "%s", name);
}

static void read_stop(struct import_supervisor_program *p)
{
    struct key secs = get(p, "stopwaitsecs", "10"), stop = get(p, "stopasgroup", NULL),
               kill = get(p, "killasgroup", NULL);
    bool stop_all = false, kill_all;
    char buf[IMPORT_SPAN];
    uint64_t n;

    read_signal(p);
    if (number(&secs, 1000000, &n))
        import_to(secs.e, IMPORT_SERVICE, "TimeoutStopSec", "%s",
                  import_words_write_timeout((double)n * 1e6, buf));
    if ((stop.set && !yes_or_no(&stop, &stop_all)) || (kill.set && !yes_or_no(&kill, &kill_all)))
        return;
    if (!kill.set)
        kill_all = stop_all;
    if (stop_all && !kill_all) {
        wrong(&kill, "true, as stopasgroup is,");
        return;
    }
    if (!stop.set)
        stop.e = import_default(p->im, p->w, "stopasgroup", "false");
    import_to(stop.e, IMPORT_SERVICE, "KillMode", stop_all ? "control-group" : "mixed");
    if (!kill_all)
        import_note(
            stop.e,
            "what is left of its tree is killed at the end; KillMode=process leaves it, as supervisord does");
    if (kill.set && kill_all)
        import_into(kill.e, "KillMode=%s", stop_all ? "control-group" : "mixed");
    else if (kill.set)
        import_none(kill.e, "agentd ends the whole tree");
}

/* ---- output ---- */

static bool is_word(const char *s, const char *word)
{
    return strcasecmp(s, word) == 0;
}

/* True: to a file of its own, which may be rotated. */
static bool put_output(const struct key *k, const char *to, bool syslog)
{
    const char *path;

    if (is_word(k->value, "auto") || !*k->value) {
        import_same(k->e, "agentd has a file for it: ALIAS.log in LogDirectory=");
        return true;
    }
    if (is_word(k->value, "none") || is_word(k->value, "off")) {
        if (syslog)
            import_into(k->e, "%s=journal", to);
        else
            import_to(k->e, IMPORT_SERVICE, to, "null");
        return false;
    }
    if (is_word(k->value, "syslog")) {
        import_to(k->e, IMPORT_SERVICE, to, "journal");
        return false;
    }
    if (str_starts(k->value, "/dev/std") || str_starts(k->value, "/dev/fd/") ||
        str_starts(k->value, "/proc/self/fd/")) {
        import_none(k->e,
                    "it is supervisord's own output; agentd has a file for it: ALIAS.log in LogDirectory=");
        return false;
    }
    if ((path = path_of(k)))
        import_to(k->e, IMPORT_SERVICE, to, "append:%s", import_words_plain(k->p->im, path));
    return true;
}

static void read_syslog(struct import_supervisor_program *p, const char *name, const char *to,
                        const char *file, bool *ret)
{
    struct key k = get(p, name, NULL);

    *ret = false;
    if (!k.set || !yes_or_no(&k, ret))
        return;
    if (!*ret)
        import_same(k.e, "it does not go there");
    else if (is_word(file, "none") || is_word(file, "off"))
        import_to(k.e, IMPORT_SERVICE, to, "journal");
    else
        import_none(k.e, "to a file or to the journal, not to both");
}

static const uint64_t least_rotation = 65536;

static bool size_of(const struct key *k, uint64_t *ret)
{
    if (!k->value)
        return false;
    if (import_words_size(k->value, ret))
        return true;
    wrong(k, "a size such as 50MB");
    return false;
}

static void read_rotation(struct import_supervisor_program *p, bool wanted)
{
    struct key size = get(p, "stdout_logfile_maxbytes", wanted ? "50MB" : NULL),
               backups = get(p, "stdout_logfile_backups", wanted ? "10" : NULL);
    uint64_t bytes, n;

    if ((size.set || wanted) && size_of(&size, &bytes)) {
        if (bytes == 0 || !wanted)
            import_same(size.e, "it is not rotated");
        else
            import_to(size.e, IMPORT_WORKER, "LogMaxSize", "%llu",
                      (unsigned long long)(bytes < least_rotation ? least_rotation : bytes));
        if (bytes && wanted && bytes < least_rotation)
            import_note(size.e, "the least that agentd takes is 64K");
    }
    if ((backups.set || wanted) && number(&backups, 1000000, &n)) {
        if (!wanted)
            import_same(backups.e, "it is not rotated");
        else
            import_to(backups.e, IMPORT_WORKER, "LogMaxFiles", "%llu",
                      (unsigned long long)(n == 0                ? 1
                                           : n > LIMIT_LOG_FILES ? LIMIT_LOG_FILES
                                                                 : n));
        if (wanted && (n == 0 || n > LIMIT_LOG_FILES))
            import_note(backups.e, "agentd keeps from 1 to %u", LIMIT_LOG_FILES);
    }
}

static void read_error_rotation(struct import_supervisor_program *p)
{
    static const char *const names[] = {"stderr_logfile_maxbytes", "stderr_logfile_backups"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct key k = get(p, names[i], NULL);
        if (k.set)
            import_none(k.e, "LogMaxSize= and LogMaxFiles= are for both outputs, and are as stdout has it");
    }
}

/* to_file: the standard output goes to a file, where the other may go along. */
static void read_stderr(struct import_supervisor_program *p, bool redirected, bool to_file)
{
    struct key k = get(p, "stderr_logfile", redirected ? NULL : "AUTO");
    bool syslog;

    read_syslog(p, "stderr_syslog", "StandardError", k.value ? k.value : "", &syslog);
    read_error_rotation(p);
    if (redirected && k.set)
        import_none(k.e, "with redirect_stderr=true supervisord does not use it either");
    else if (k.value && (is_word(k.value, "auto") || !*k.value) && to_file)
        import_same(k.e, "it goes to where the standard output goes");
    else if (k.value && (is_word(k.value, "auto") || !*k.value))
        import_to(k.e, IMPORT_SERVICE, "StandardError", "journal");
    else if (k.value)
        put_output(&k, "StandardError", syslog);
}

static void read_outputs(struct import_supervisor_program *p)
{
    struct key out = get(p, "stdout_logfile", "AUTO"), redirect = get(p, "redirect_stderr", NULL);
    bool redirected = false, syslog, to_file = false;

    if (redirect.set && yes_or_no(&redirect, &redirected)) {
        if (redirected)
            import_same(redirect.e, "StandardError= is as StandardOutput= unless it is set");
        else
            import_same(redirect.e, "stderr_logfile says where that goes");
    }
    read_syslog(p, "stdout_syslog", "StandardOutput", out.value ? out.value : "", &syslog);
    if (out.value)
        read_rotation(p, to_file = put_output(&out, "StandardOutput", syslog));
    read_stderr(p, redirected, to_file || out.e->verdict == IMPORT_NONE);
}

/* ---- the rest ---- */

static void read_numbers(struct import_supervisor_program *p)
{
    static const char *const names[] = {"numprocs", "numprocs_start", "process_name"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct key k = get(p, names[i], NULL);
        if (k.set)
            import_into(k.e, "%s.conf", p->w->alias);
    }
}

static void read_priority(struct import_supervisor_program *p)
{
    struct import_supervisor *s = p->s;
    struct key k = get(p, "priority", NULL);

    import_room(&s->places, s->n_places, &s->size_places, sizeof(*s->places));
    s->places[s->n_places++] = (struct import_supervisor_place){p->w, k.e, {p->priority[0], p->priority[1]}};
}

static const char *why_none(const struct import_supervisor_program *p, const char *key)
{
    static const struct {
        const char *key, *why;
    } keys[] = {
        {"stdout_capture_maxbytes", "agentd has no capture mode"},
        {"stderr_capture_maxbytes", "agentd has no capture mode"},
        {"stdout_events_enabled", "agentd makes no events of what is written"},
        {"stderr_events_enabled", "agentd makes no events of what is written"},
        {"serverurl", "no SUPERVISOR_SERVER_URL is passed"},
        {"socket", "supervisord passes it as descriptor 0, agentd those of ListenStream= from 3 on, as "
                   "sd_listen_fds(3) has it: the program has to be told"},
        {"socket_owner", "a socket of ListenStream= is open to every user"},
        {"socket_mode", "a socket of ListenStream= is open to every user"},
        {"socket_backlog", "agentd's is fixed"},
    };

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq(keys[i].key, key) && (!str_starts(key, "socket") || str_starts(p->section->name, "fcgi-")))
            return keys[i].why;
    return "supervisord has no such key either";
}

static void read_rest(struct import_supervisor_program *p)
{
    for (size_t i = 0; i < p->section->n; i++) {
        const struct import_ini_key *k = &p->section->keys[i];
        if (!k->seen && !k->replaced)
            import_none(import_key(p->im, p->w, k->at, k->name, k->value), "%s", why_none(p, k->name));
    }
}

void import_supervisor_program(struct import_supervisor_program *p)
{
    read_command(p);
    read_numbers(p);
    read_directory(p);
    read_user(p);
    read_umask(p);
    read_environment(p);
    read_autostart(p);
    read_restart(p);
    read_start(p);
    read_stop(p);
    read_outputs(p);
    read_priority(p);
    read_rest(p);
}

/* ---- order ---- */

static int compare(const void *pa, const void *pb)
{
    const struct import_supervisor_place *a = pa, *b = pb;

    for (int i = 0; i < 2; i++)
        if (a->priority[i] != b->priority[i])
            return a->priority[i] < b->priority[i] ? -1 : 1;
    return strcmp(a->w->alias, b->w->alias);
}

static bool same_level(const struct import_supervisor_place *a, const struct import_supervisor_place *b)
{
    return a->priority[0] == b->priority[0] && a->priority[1] == b->priority[1];
}

/* After= those from first to end, which are the ones just before it. */
static void put_after(struct import *im, const struct import_supervisor_place *to,
                      const struct import_supervisor_place *first, const struct import_supervisor_place *end)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
    struct import_entry *e = to->entry;

    if (!e)
        e = import_default(im, to->w, "priority", import_print(im, "%ld", to->priority[1]));
    if (end - first > LIMIT_NEEDS) {
        import_none(e, "more than %u workers would stand in After=", LIMIT_NEEDS);
        return;
    }
    for (const struct import_supervisor_place *p = first; p < end; p++)
        buf_printf(&b, "%s%s", p == first ? "" : " ", p->w->alias);
    import_to(e, IMPORT_UNIT, "After", "%s", import_take(im, &b));
    import_note(e, "a start waits until they are ready, which supervisord's does not");
}

void import_supervisor_order(struct import_supervisor *s)
{
    size_t first = 0, start = 0; /* of the level before, and of this one */

    if (s->n_places)
        qsort(s->places, s->n_places, sizeof(*s->places), compare);
    for (size_t i = 0; i < s->n_places; i++) {
        if (i && !same_level(&s->places[i], &s->places[i - 1])) {
            first = start;
            start = i;
        }
        if (start)
            put_after(s->im, &s->places[i], &s->places[first], &s->places[start]);
        else if (s->places[i].entry)
            import_same(s->places[i].entry, "nothing is started before it");
    }
}
