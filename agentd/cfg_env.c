/* SPDX-License-Identifier: Apache-2.0 */
/* Environment= and EnvironmentFile=. What an environment file says may be secret: no message quotes it. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "agentd/cfg_trust.h"
#include "base/fd.h"
#include "base/str.h"

bool cfg_env_name_ok(const char *s, size_t len)
{
    if (len == 0 || isdigit((unsigned char)*s))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return false;
    return true;
}

static bool value_ok(const char *s)
{
    for (const char *p = s; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\t' && *p != '\n') || *p == 0x7f)
            return false;
    return str_is_utf8(s, strlen(s));
}

/* Why NAME=value is no assignment; NULL if it is one. */
static const char *assignment_wrong(const char *s)
{
    size_t n = strcspn(s, "=");

    if (!s[n])
        return "is not NAME=value";
    if (!cfg_env_name_ok(s, n))
        return "has a bad name before its '='";
    return value_ok(s + n + 1) ? NULL : "has a control character or is not UTF-8";
}

static void add(struct cfg_ctx *c, const struct cfg_line *l, size_t at, struct cfg_list *list, char *s)
{
    if (list->n >= LIMIT_ENV) {
        cfg_error(c, l, at, "more than %u variables", LIMIT_ENV);
        free(s);
    } else if (cfg_list_add(list, s) < 0) {
        cfg_oom(c);
    }
}

CFG_PARSER(cfg_value_env)
{
    struct cfg_words w = {.s = value, .flags = CFG_WORD_QUOTES | CFG_WORD_ESCAPES};
    const char *why;
    char *word, *s;
    int r;

    if (!*value)
        cfg_list_clear(&c->env);
    while ((r = cfg_word(&w, &word)) > 0) {
        s = cfg_spec(c, l, w.start, word);
        free(word);
        if (s && (why = assignment_wrong(s)))
            cfg_error(c, l, w.start, "%s: \"%.*s\" %s", k->name, (int)strcspn(s, "="), s, why);
        else if (s)
            add(c, l, w.start, &c->env, TAKE_PTR(s));
        free(s);
    }
    if (r == -ENOMEM)
        cfg_oom(c);
    else if (r < 0)
        cfg_error(c, l, w.start, "%s=: %s", k->name, w.why);
}

static void forget_files(struct cfg_ctx *c)
{
    for (unsigned i = 0; i < c->n_env_files; i++)
        free(c->env_files[i].path);
    free(c->env_files);
    c->env_files = NULL;
    c->n_env_files = 0;
}

CFG_PARSER(cfg_value_env_file)
{
    struct cfg_env_file *bigger;
    bool optional = *value == '-';
    _cleanup_free_ char *path = NULL;
    const char *why;

    if (!*value) {
        forget_files(c);
        return;
    }
    if (!(path = cfg_spec(c, l, 0, value + optional)))
        return;
    if (!(why = cfg_path_wrong(path)) && strpbrk(path, "*?["))
        why = "has a wildcard, which is not supported by this version";
    if (why) {
        cfg_error(c, l, 0, "%s=%s %s", k->name, path, why);
        return;
    }
    if (!(bigger = realloc(c->env_files, (c->n_env_files + 1) * sizeof(*bigger)))) {
        cfg_oom(c);
        return;
    }
    c->env_files = bigger;
    bigger[c->n_env_files++] = (struct cfg_env_file){TAKE_PTR(path), optional, l, 0};
}

/* --- the grammar of an environment file: systemd.exec(5), EnvironmentFile= --- */

struct env_parser {
    struct cfg_ctx *c;
    const struct cfg_env_file *f;
    struct cfg_list *out;
    struct buf word; /* NAME=value so far */
    const char *p;
    unsigned line;
};

static char take(struct env_parser *e)
{
    char ch = *e->p;

    if (ch)
        e->p++;
    if (ch == '\n')
        e->line++;
    return ch;
}

/* A quoted part; in double quotes a backslash escapes what the shell would need escaped. */
static void take_quoted(struct env_parser *e, char quote)
{
    char ch;

    while ((ch = take(e)) && ch != quote) {
        if (quote == '"' && ch == '\\' && *e->p) {
            char next = take(e);
            if (!strchr("\"\\`$\n", next))
                buf_char(&e->word, '\\');
            if (next != '\n')
                buf_char(&e->word, next);
        } else {
            buf_char(&e->word, ch);
        }
    }
}

/* The bare rest of a line; blanks at its end are left out, a backslash keeps what follows, or joins lines. */
static void take_bare(struct env_parser *e, char first)
{
    size_t keep = e->word.len;

    for (char ch = first; ch && ch != '\n'; ch = take(e)) {
        bool escaped = ch == '\\';
        if (escaped && (ch = take(e)) == '\n')
            continue;
        if (!ch)
            break;
        buf_char(&e->word, ch);
        if (escaped || !isspace((unsigned char)ch))
            keep = e->word.len;
    }
    if (e->word.len > keep) {
        e->word.len = keep;
        e->word.p[keep] = 0;
    }
}

static void take_value(struct env_parser *e)
{
    char ch;

    while ((ch = take(e)) && ch != '\n') {
        if (ch == '"' || ch == '\'') {
            take_quoted(e, ch);
        } else if (!isspace((unsigned char)ch)) {
            take_bare(e, ch);
            return;
        }
    }
}

static void finish_assignment(struct env_parser *e, unsigned line)
{
    const char *why = e->word.error ? "is too long" : assignment_wrong(e->word.p);

    if (why)
        cfg_warn_in(e->c, e->f->path, line, 1, "the assignment %s; it is left out", why);
    else
        add(e->c, e->f->line, e->f->at, e->out, cfg_dup(e->c, e->word.p));
}

static void take_line(struct env_parser *e)
{
    unsigned line = e->line;
    char ch;

    buf_reset(&e->word);
    while (*e->p && *e->p != '\n' && isspace((unsigned char)*e->p))
        take(e);
    if (*e->p == '#' || *e->p == ';' || *e->p == '\n') {
        while ((ch = take(e)) && ch != '\n')
            ;
        return;
    }
    while ((ch = take(e)) && ch != '\n' && ch != '=')
        buf_char(&e->word, ch);
    if (ch != '=') {
        if (e->word.len)
            cfg_warn_in(e->c, e->f->path, line, 1, "not NAME=value; the line is left out");
        return;
    }
    while (e->word.len && isspace((unsigned char)e->word.p[e->word.len - 1]))
        e->word.p[--e->word.len] = 0;
    buf_char(&e->word, '=');
    take_value(e);
    finish_assignment(e, line);
}

static void parse_env_file(struct cfg_ctx *c, const struct cfg_env_file *f, const char *text,
                           struct cfg_list *out)
{
    struct env_parser e = {
        .c = c, .f = f, .out = out, .word = BUF_INIT(LIMIT_CONFIG_FILE), .p = text, .line = 1};

    while (*e.p)
        take_line(&e);
    if (e.word.p)
        explicit_bzero(e.word.p, e.word.size);
    buf_free(&e.word);
}

static void read_env_file(struct cfg_ctx *c, const struct cfg_env_file *f, struct cfg_list *out)
{
    struct err e = {0};
    _cleanup_close_ int fd = cfg_trust_open(AT_FDCWD, f->path, 0, &e);
    char *text = NULL;
    ssize_t n;

    if (fd == -ENOENT && f->optional)
        return;
    if (fd < 0) {
        cfg_error(c, f->line, f->at, "EnvironmentFile=%s: %s", f->path, e.text);
        return;
    }
    n = fd_read_all(fd, LIMIT_CONFIG_FILE, &text);
    if (n < 0)
        cfg_error(c, f->line, f->at, "EnvironmentFile=%s: %s", f->path, strerror((int)-n));
    else if (strlen(text) != (size_t)n)
        cfg_error(c, f->line, f->at, "EnvironmentFile=%s has a NUL byte", f->path);
    else
        parse_env_file(c, f, text, out);
    if (n >= 0)
        explicit_bzero(text, (size_t)n);
    free(text);
}

/* --- the whole --- */

const char *cfg_env_get(char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

static bool set_later(const struct cfg_list *list, size_t from, const char *assignment)
{
    size_t n = strcspn(assignment, "=") + 1;

    for (size_t i = from; i < list->n; i++)
        if (strncmp(list->v[i], assignment, n) == 0)
            return true;
    return false;
}

/* Both lists without what a later assignment replaces; the files win, as in systemd. Borrowed pointers. */
static size_t merge(const struct cfg_list *plain, const struct cfg_list *files, char **all, unsigned *n_plain)
{
    size_t n = 0;

    for (size_t i = 0; i < plain->n; i++)
        if (!set_later(plain, i + 1, plain->v[i]) && !set_later(files, 0, plain->v[i]))
            all[n++] = plain->v[i];
    *n_plain = (unsigned)n;
    for (size_t i = 0; i < files->n; i++)
        if (!set_later(files, i + 1, files->v[i]))
            all[n++] = files->v[i];
    return n;
}

static char **pack_file_names(struct cfg_ctx *c)
{
    struct cfg_list names = {0};
    char **block = NULL;
    struct buf b = BUF_INIT(LIMIT_CONFIG_LINE * 4);

    for (unsigned i = 0; i < c->n_env_files; i++) {
        buf_reset(&b);
        buf_printf(&b, "%s%s", c->env_files[i].optional ? "-" : "", c->env_files[i].path);
        if (b.error || cfg_list_add(&names, strdup(b.p)) < 0)
            cfg_oom(c);
    }
    if (names.n && !(block = cfg_list_pack(names.v, names.n)))
        cfg_oom(c);
    buf_free(&b);
    cfg_list_clear(&names);
    return block;
}

void cfg_env_finish(struct cfg_ctx *c)
{
    char *all[2 * LIMIT_ENV];
    struct cfg_list files = {0};
    size_t n;

    for (unsigned i = 0; i < c->n_env_files; i++)
        read_env_file(c, &c->env_files[i], &files);
    n = merge(&c->env, &files, all, &c->def->n_env_plain);
    if (n > LIMIT_ENV)
        cfg_error_in(c, c->file, 1, 1, "more than %u variables", LIMIT_ENV);
    if (!(c->def->env = cfg_list_pack(all, n)))
        cfg_oom(c);
    c->def->env_files = pack_file_names(c);
    forget_files(c);
    for (size_t i = 0; i < files.n; i++)
        explicit_bzero(files.v[i], strlen(files.v[i]));
    cfg_list_clear(&files);
    cfg_list_clear(&c->env);
}
