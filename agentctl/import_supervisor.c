/* SPDX-License-Identifier: Apache-2.0 */
/* supervisord.conf: its sections, what they include, and which processes they stand for. supervisor 4,
 * options.py. */
#include "agentctl/import_supervisor.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

/* ---- %(name)s ---- */

/* Of two with one name the last counts, as in Python's dictionaries. */
static const char *in_environment(const struct import_words *list, const char *name)
{
    for (size_t i = list->n; i >= 2; i -= 2)
        if (str_eq(list->v[i - 2], name))
            return list->v[i - 1];
    return NULL;
}

static const char *of_program(const struct import_supervisor_program *p, const char *name)
{
    if (str_eq(name, "program_name"))
        return p->name;
    if (str_eq(name, "group_name"))
        return p->group;
    if (str_eq(name, "process_num"))
        return import_print(p->im, "%u", p->number);
    return str_eq(name, "numprocs") ? import_print(p->im, "%u", p->numprocs) : NULL;
}

/* The environment of the program, of [supervisord], and of supervisord itself, which ours stands for. */
static const char *variable(const struct import_supervisor_program *p, const char *name)
{
    static char node[sizeof(((struct utsname *)NULL)->nodename)];
    struct utsname u;
    const char *v;

    if (str_eq(name, "here"))
        return p->here;
    if (str_eq(name, "host_node_name") && uname(&u) == 0)
        return str_copy(node, sizeof(node), u.nodename);
    if (!str_starts(name, "ENV_"))
        return p->section ? of_program(p, name) : NULL;
    name += strlen("ENV_");
    if ((v = in_environment(&p->variables, name)) || (v = in_environment(&p->s->of_main, name)))
        return v;
    return getenv(name);
}

/* One %(name)02d at *at, which is moved behind it. False after an error. */
static bool put_variable(const struct import_supervisor_program *p, struct import_at at, const char **text,
                         struct buf *b)
{
    size_t n = strcspn(*text + 2, ")"), flags;
    const char *name = import_keep_n(p->im, *text + 2, n), *end = *text + 2 + n, *v;
    int width;

    if (!*end) {
        import_error(p->im, at, "%%( without its ); write %%%% for a percent sign");
        return false;
    }
    flags = strspn(++end, "0123456789");
    width = flags < 4 ? atoi(end) : 0;
    if (end[flags] != 's' && end[flags] != 'd') {
        import_error(p->im, at, "%%(%s) is not followed by s or d", name);
        return false;
    }
    if (!(v = variable(p, name))) {
        import_error(
            p->im, at, "%%(%s)s is not known here%s", name,
            str_starts(name, "ENV_") ? "; set it in the environment of agentctl as supervisord has it" : "");
        return false;
    }
    if (end[flags] == 'd' && *end == '0')
        buf_printf(b, "%0*d", width, atoi(v));
    else
        buf_printf(b, "%*s", width, v);
    *text = end + flags + 1;
    return true;
}

const char *import_supervisor_expand(const struct import_supervisor_program *p, struct import_at at,
                                     const char *text)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE * 2);

    while (*text && b.len < LIMIT_IMPORT_FILE) {
        if (*text != '%') {
            buf_char(&b, *text++);
        } else if (text[1] == '%') {
            buf_char(&b, '%');
            text += 2;
        } else if (text[1] != '(') {
            import_error(p->im, at, "a %% alone; write %%%% for a percent sign");
            buf_free(&b);
            return NULL;
        } else if (!put_variable(p, at, &text, &b)) {
            buf_free(&b);
            return NULL;
        }
    }
    return import_take(p->im, &b);
}

const char *import_supervisor_main(struct import_supervisor *s, const struct import_ini_key *k)
{
    const struct import_supervisor_program p = {.s = s, .im = s->im, .here = s->main->src->dir};

    return import_supervisor_expand(&p, k->at, k->value);
}

bool import_supervisor_bool(const char *s, bool *ret)
{
    bool known = str_to_bool(s, ret) == 0;

    return known && !str_eq(s, "t") && !str_eq(s, "f") && !str_eq(s, "y") && !str_eq(s, "n");
}

/* ---- environment= : shlex of Python, without posix ---- */

static size_t token(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.+-():\"'";
    size_t n;

    if (*s == '"' || *s == '\'') {
        const char *end = strchr(s + 1, *s);
        return end ? (size_t)(end - s) + 1 : 0;
    }
    n = strspn(s, letters);
    return n ? n : 1;
}

static const char *strip_quotes(struct import *im, const char *s, size_t n)
{
    while (n && (s[n - 1] == '"' || s[n - 1] == '\''))
        n--;
    while (n && (*s == '"' || *s == '\'')) {
        s++;
        n--;
    }
    return import_keep_n(im, s, n);
}

bool import_supervisor_variables(struct import *im, struct import_at at, const char *text,
                                 struct import_words *ret)
{
    const char *part[4], *s = text;
    size_t n[4] = {0}, k = 0;

    for (;;) {
        s += strspn(s, " \t\r\n");
        if (*s && !(n[k] = token(s))) {
            import_error(im, at, "environment: a quote that is not closed");
            return false;
        }
        part[k] = s;
        s += *s ? n[k] : 0;
        if (*part[k] && ++k < 4)
            continue;
        if (k == 0 && !*part[0])
            return true;
        if (k < 3 || n[1] != 1 || *part[1] != '=') {
            import_error(im, at, "environment: it is written KEY=\"value\",KEY2=\"value2\"");
            return false;
        }
        import_words_add(im, ret, import_keep_n(im, part[0], n[0]));
        import_words_add(im, ret, strip_quotes(im, part[2], n[2]));
        if (k < 4)
            return true;
        k = 0;
    }
}

/* ---- which processes there are ---- */

static bool number(struct import *im, const struct import_ini_section *s, const char *name, long least,
                   long most, long otherwise, long *ret)
{
    const struct import_ini_key *k = import_ini_key(s, name);
    char *end;

    *ret = otherwise;
    if (!k)
        return true;
    *ret = strtol(k->value, &end, 10);
    if (!*end && *k->value && *ret >= least && *ret <= most)
        return true;
    import_error(im, k->at, "%s: a number from %ld to %ld is wanted, not \"%s\"", name, least, most,
                 k->value);
    return false;
}

static bool in_list(const char *list, const char *name)
{
    size_t n;

    for (; *list; list += n, list += *list == ',') {
        const char *start = list + strspn(list, " \t\n");
        size_t len;
        n = strcspn(list, ",");
        len = list + n > start ? (size_t)(list + n - start) : 0;
        while (len && strchr(" \t\n", start[len - 1]))
            len--;
        if (len == strlen(name) && strncmp(start, name, len) == 0)
            return true;
    }
    return false;
}

/* The [group:] that names the program, or NULL. In two of them it would be two programs of supervisord's. */
static const struct import_ini_section *group_of(const struct import_supervisor *s, const char *program)
{
    const struct import_ini_section *found = NULL;

    for (size_t i = 0; i < s->ini.n; i++) {
        const struct import_ini_section *g = s->ini.sections[i];
        const struct import_ini_key *k = str_starts(g->name, "group:") ? import_ini_key(g, "programs") : NULL;
        if (!k || !in_list(k->value, program))
            continue;
        if (found)
            import_error(s->im, k->at,
                         "[%s] and [%s] both have %s; agentctl makes one of it: take it out of one",
                         found->name, g->name, program);
        else
            found = g;
    }
    return found;
}

static const char *worker_name(struct import_supervisor_program *p)
{
    const struct import_ini_key *k = import_ini_key(p->section, "process_name");
    const char *name = k ? import_supervisor_expand(p, k->at, k->value) : p->name;

    if (!name || str_eq(name, p->group))
        return name;
    return import_print(p->im, "%s:%s", p->group, name); /* as supervisorctl names it */
}

/* False: no more of this program. */
static bool read_process(struct import_supervisor_program *p)
{
    const struct import_ini_key *env = import_ini_key(p->section, "environment");
    const char *text, *name;
    char origin[300];

    p->variables = (struct import_words){0};
    p->w = NULL;
    if (env && (!(text = import_supervisor_expand(p, env->at, env->value)) ||
                !import_supervisor_variables(p->im, env->at, text, &p->variables))) {
        import_words_free(&p->variables);
        return false;
    }
    snprintf(origin, sizeof(origin), "supervisord, [%s]", p->section->name);
    if ((name = worker_name(p)) && (p->w = import_worker(p->im, p->section->at, origin, name)))
        import_supervisor_program(p);
    import_words_free(&p->variables);
    return p->w != NULL;
}

static void read_program(struct import_supervisor *s, struct import_ini_section *section)
{
    const char *name = strchr(section->name, ':') + 1;
    const struct import_ini_section *group = group_of(s, name);
    struct import_supervisor_program p = {.s = s, .im = s->im, .section = section, .name = name};
    const struct import_ini_key *k = import_ini_key(section, "process_name");
    long numprocs, first;
    bool more = true;

    p.group = group ? group->name + strlen("group:") : name;
    p.here = section->src->dir;
    if (!*name || strpbrk(name, " :/")) {
        import_error(s->im, section->at, "[%s]: a program's name has no blank, colon or slash",
                     section->name);
        return;
    }
    if (!number(s->im, section, "numprocs", 0, LIMIT_IMPORT_WORKERS, 1, &numprocs) ||
        !number(s->im, section, "numprocs_start", 0, 1000000, 0, &first) ||
        !number(s->im, section, "priority", -1000000, 1000000, 999, &p.priority[1]) ||
        !number(s->im, group ? group : section, "priority", -1000000, 1000000, 999, &p.priority[0]))
        return;
    if (numprocs > 1 && !(k && strstr(k->value, "%(process_num)"))) {
        import_error(s->im, k ? k->at : section->at,
                     "numprocs is more than 1: process_name has to have %%(process_num) in it");
        return;
    }
    p.numprocs = (unsigned)numprocs;
    for (long i = 0; more && i < numprocs; i++) {
        p.number = (unsigned)(first + i);
        for (size_t n = 0; n < section->n; n++)
            section->keys[n].seen = false;
        more = read_process(&p);
    }
}

/* ---- sections without a counterpart ---- */

static const char *why_none(const char *section, const char *key)
{
    static const struct {
        const char *section, *why;
    } sections[] = {
        {"unix_http_server", "agentd has ListenStream= in agentd.conf"},
        {"inet_http_server",
         "agentd has ListenStream= and ListenTls= in agentd.conf, and `agentctl credential`"},
        {"supervisorctl", "agentctl takes --socket or --url"},
        {"rpcinterface:", "agentd has its own HTTP interface"},
        {"ctlplugin:", "agentctl has no plugins"},
        {"eventlistener:", "agentd has no listeners to its events; GET /agentd/v1/events tells them"},
        {"include", "the files that it names are read"},
    };

    if (str_starts(section, "group:"))
        return str_eq(key, "priority") ? "it is in the order of the programs' workers"
                                       : "the workers' aliases begin with the group's name: --match 'NAME:*'";
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (str_starts(section, sections[i].section))
            return sections[i].why;
    return "supervisord has no such section either";
}

static void name_key(struct import *im, const struct import_ini_section *s, struct import_at at,
                     const char *name, const char *value, const char *why)
{
    struct import_entry *e = import_key(im, NULL, at, name, value);

    if (str_eq(s->name, "include") || str_starts(s->name, "group:"))
        import_same(e, "%s", why);
    else
        import_none(e, "%s", why);
}

static void name_section(struct import *im, const struct import_ini_section *s)
{
    name_key(im, s, s->at, import_print(im, "[%s]", s->name), "", why_none(s->name, ""));
    for (size_t i = 0; i < s->n; i++) {
        const struct import_ini_key *k = &s->keys[i];
        bool secret = strstr(k->name, "password") != NULL;
        if (!k->replaced)
            name_key(im, s, k->at, import_print(im, "[%s] %s", s->name, k->name), secret ? "..." : k->value,
                     why_none(s->name, k->name));
    }
}

/* Of [supervisord] its processes have these, unless they have their own. */
static void name_main(struct import *im, const struct import_ini_section *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct import_ini_key *k = &s->keys[i];
        struct import_entry *e;
        if (k->replaced)
            continue;
        e = import_key(im, NULL, k->at, import_print(im, "[%s] %s", s->name, k->name), k->value);
        if (str_eq(k->name, "user") || str_eq(k->name, "umask") || str_eq(k->name, "directory") ||
            str_eq(k->name, "environment"))
            import_into(e, "every worker that has none of its own");
        else
            import_none(e, "it is about supervisord itself; agentd.conf(5) has what there is for agentd");
    }
}

static void read_sections(struct import_supervisor *s)
{
    for (size_t i = 0; i < s->ini.n; i++) {
        struct import_ini_section *section = s->ini.sections[i];
        if (str_starts(section->name, "program:") || str_starts(section->name, "fcgi-program:"))
            read_program(s, section);
        else if (str_eq(section->name, "supervisord"))
            name_main(s->im, section);
        else
            name_section(s->im, section);
    }
    import_supervisor_order(s);
}

/* ---- [include] ---- */

static bool include_pattern(struct import_supervisor *s, const struct import_ini_key *k, const char *dir,
                            const char *pattern)
{
    glob_t found = {0};
    bool fine = true;
    char *path = *pattern == '/' ? import_keep(s->im, pattern) : import_print(s->im, "%s/%s", dir, pattern);
    struct import_source *src;

    if (glob(path, 0, NULL, &found) != 0)
        import_none(import_key(s->im, NULL, k->at, "[include] files", pattern), "no file matches");
    for (size_t i = 0; i < found.gl_pathc; i++)
        if (!(src = import_load(s->im, found.gl_pathv[i], &k->at)) || !import_ini_read(s->im, &s->ini, src))
            fine = false;
    globfree(&found);
    return fine;
}

/* What is included includes nothing itself. */
static bool include(struct import_supervisor *s, const struct import_source *src)
{
    const struct import_ini_key *k = import_ini_key(import_ini_section(&s->ini, "include"), "files");
    struct import_supervisor_program p = {.s = s, .im = s->im, .here = src->dir};
    const char *text = k ? import_supervisor_expand(&p, k->at, k->value) : NULL;
    bool fine = !k || text;

    for (size_t n; text && *text; text += n) {
        text += strspn(text, " \t\n");
        n = strcspn(text, " \t\n");
        if (n)
            fine = include_pattern(s, k, src->dir, import_keep_n(s->im, text, n)) && fine;
    }
    return fine;
}

/* supervisord puts it into what the programs' keys are expanded with. */
static bool read_main_environment(struct import_supervisor *s)
{
    const struct import_ini_key *k = import_ini_key(s->main, "environment");

    if (!k)
        return true;
    s->main_environment = import_supervisor_main(s, k);
    return s->main_environment && import_supervisor_variables(s->im, k->at, s->main_environment, &s->of_main);
}

void import_supervisor_read(struct import *im, struct import_source *src)
{
    struct import_supervisor s = {.im = im};
    bool fine = import_ini_read(im, &s.ini, src);

    fine = include(&s, src) && fine;
    s.main = import_ini_section(&s.ini, "supervisord");
    if (fine && read_main_environment(&s))
        read_sections(&s);
    import_words_free(&s.of_main);
    free(s.places);
    import_ini_free(&s.ini);
}
