/* SPDX-License-Identifier: Apache-2.0 */
/* ExecStart=: systemd.service(5), "Command lines". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

#define START_COMMAND_MAX 4096

CFG_PARSER(cfg_value_exec)
{
    if (*value && c->exec)
        cfg_error(c, l, CFG_AT_KEY, "a second ExecStart=; an empty ExecStart= before it forgets the first");
    c->exec = *value ? l : NULL;
}

/* --- $VARIABLES --- */

/* What a variable is looked up in. */
struct vars {
    const struct wk_def *d;
    bool now; /* the late ones are known, cfg_expand_late */
    int64_t id;
    bool late;         /* one was asked for */
    bool hide, secret; /* a value from an EnvironmentFile= is left as ${NAME}; one was asked for */
    struct cfg_ctx *c; /* to warn, or NULL */
};

static const char *late_value(const struct vars *x, const char *name, char *buf, size_t size)
{
    const struct wk_def *d = x->d;
    const char *v = buf;

    if (str_eq(name, "AGENTD_ID"))
        snprintf(buf, size, "%lld", (long long)x->id);
    else if (str_eq(name, "HOME"))
        v = d->ids.home;
    else if (str_eq(name, "SHELL"))
        v = d->ids.shell;
    else
        v = d->ids.user;
    return v ? v : "";
}

/* From an EnvironmentFile=: it may be secret, and the line for people is sent to whoever may view. */
static bool is_secret(const struct wk_def *d, const char *name)
{
    return cfg_env_get(d->env + d->n_env_plain, name) != NULL;
}

/* A variable's value; NULL if it is not set. buf may be used for it. */
static const char *lookup(struct vars *x, const char *name, char *buf, size_t size)
{
    static const char *const late[] = {"AGENTD_ID", "HOME", "SHELL", "USER", "LOGNAME"};
    const char *v;

    if (str_eq(name, "AGENTD_ALIAS"))
        return x->d->alias;
    if (is_secret(x->d, name)) {
        x->secret = true;
        snprintf(buf, size, "${%s}", name);
        return x->hide ? buf : cfg_env_get(x->d->env, name);
    }
    if ((v = cfg_env_get(x->d->env, name)))
        return v;
    for (size_t i = 0; i < ARRAY_LEN(late); i++)
        if (str_eq(name, late[i])) {
            x->late = true;
            if (x->now)
                return late_value(x, name, buf, size);
            snprintf(buf, size, "${%s}", name);
            return buf;
        }
    if (x->c)
        cfg_warn(x->c, x->c->exec, 0,
                 "$%s is not set by Environment= or EnvironmentFile=, and is taken as empty", name);
    return NULL;
}

/* "$NAME" alone: its value's words, none if it is not set. */
static int add_variable(struct vars *x, const char *name, struct cfg_list *out)
{
    char buf[160], *word;
    const char *v = lookup(x, name, buf, sizeof(buf));
    struct cfg_words w = {.s = v ? v : "", .flags = CFG_WORD_QUOTES | CFG_WORD_RELAX};
    int r;

    while ((r = cfg_word(&w, &word)) > 0)
        if (cfg_list_add(out, word) < 0)
            return -ENOMEM;
    return r;
}

/* A word with ${NAME} replaced and $$ halved; a '$' before anything else is itself. */
static int add_word(struct vars *x, const char *s, struct cfg_list *out)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
    char name[128], buf[160];
    int r;

    buf_str(&b, "");
    while (*s) {
        size_t n = *s == '$' && s[1] == '{' ? strcspn(s + 2, "}") : 0;
        if (*s == '$' && s[1] == '$') {
            buf_char(&b, '$');
            s += 2;
        } else if (n && s[2 + n] && n < sizeof(name) && cfg_env_name_ok(s + 2, n)) {
            memcpy(name, s + 2, n);
            name[n] = 0;
            const char *v = lookup(x, name, buf, sizeof(buf));
            buf_str(&b, v ? v : "");
            s += n + 3;
        } else {
            buf_char(&b, *s++);
        }
    }
    r = b.error ? b.error : cfg_list_add(out, strdup(b.p));
    buf_free(&b);
    return r;
}

static int substitute(struct vars *x, char *const *words, struct cfg_list *out)
{
    int r = 0;

    for (size_t i = 0; r == 0 && words[i]; i++) {
        const char *s = words[i];
        if (i == 0 && str_eq(s, x->d->exec_path)) /* the program may not be a variable */
            r = cfg_list_add(out, strdup(s));
        else if (*s == '$' && s[1] != '{' && s[1] != '$' && cfg_env_name_ok(s + 1, strlen(s + 1)))
            r = add_variable(x, s + 1, out);
        else
            r = add_word(x, s, out);
    }
    return r;
}

/* --- the line for people --- */

static char *command_text(const struct wk_def *d, char *const *words)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE * 2);
    char *text;

    buf_str(&b, d->exec_path);
    for (size_t i = 1; words[0] && words[i] && b.len <= START_COMMAND_MAX; i++) {
        const char *quote = !words[i][0] || strpbrk(words[i], " \t\n\"'") ? "\"" : "";
        buf_printf(&b, " %s%s%s", quote, words[i], quote);
    }
    if (b.len > START_COMMAND_MAX) { /* cut between characters */
        for (b.len = START_COMMAND_MAX; b.len && (b.p[b.len] & 0xc0) == 0x80; b.len--)
            ;
        buf_str(&b, "...");
    }
    text = b.error ? NULL : strdup(b.p);
    buf_free(&b);
    return text;
}

static int set_argv(struct wk_def *d, const struct cfg_list *words)
{
    char **argv = cfg_list_pack(words->v, words->n);

    if (!argv)
        return -ENOMEM;
    free(d->argv);
    d->argv = argv;
    return 0;
}

static int set_text(struct wk_def *d, const struct cfg_list *words)
{
    char *text = command_text(d, words->v);

    if (!text)
        return -ENOMEM;
    free(d->start_command);
    d->start_command = text;
    return 0;
}

/* The words with their variables replaced. */
static int replaced(struct vars *x, char *const *words, struct cfg_list *out)
{
    int r = substitute(x, words, out);

    if (r == 0 && out->n == 0) /* argv[0] was an empty variable */
        r = cfg_list_add(out, strdup(x->d->exec_path));
    return r;
}

/* argv and the line for people from words; the latter without what may be secret. */
static int set_both(struct wk_def *d, struct vars *x, char *const *words)
{
    struct cfg_list real = {0}, shown = {0};
    int r = replaced(x, words, &real);

    if (r == 0)
        r = set_argv(d, &real);
    x->hide = true;
    x->c = NULL;
    if (r == 0)
        r = replaced(x, words, &shown);
    if (r == 0)
        r = set_text(d, &shown);
    cfg_list_clear(&real);
    cfg_list_clear(&shown);
    return r;
}

int cfg_expand_late(struct wk_def *d, int64_t id)
{
    struct vars x = {.d = d, .now = true, .id = id};

    return d->argv_late && set_both(d, &x, d->argv_late) < 0 ? -ENOMEM : 0;
}

/* --- words --- */

struct line {
    bool minus, at, colon;
    size_t path_at;
    struct cfg_list words; /* argv before substitution */
};

/* What stands before the program. */
static bool prefixes(struct cfg_ctx *c, struct cfg_words *w, struct line *x)
{
    const struct cfg_line *l = c->exec;

    for (;; w->at++) {
        char p = w->s[w->at];
        bool *flag = p == '-' ? &x->minus : p == '@' ? &x->at : p == ':' ? &x->colon : NULL;
        if (p == '+' || p == '!' || p == '|') {
            cfg_error(c, l, w->at, "ExecStart=: the prefix %c is not supported by this version", p);
            return false;
        }
        if (!flag)
            return true;
        if (*flag) {
            cfg_error(c, l, w->at, "ExecStart=: the prefix %c is given twice", p);
            return false;
        }
        *flag = true;
    }
}

/* A program without a slash, looked for where systemd looks for one; malloc'ed, or NULL. */
static char *search(const char *name)
{
    static const char *const folders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};
    char *path;
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        if (asprintf(&path, "%s/%s", folders[i], name) < 0)
            return NULL;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
            return path;
        free(path);
    }
    return NULL;
}

static bool set_program(struct cfg_ctx *c, const struct line *x, const char *word)
{
    const struct cfg_line *l = c->exec;

    if (!*word) {
        cfg_error(c, l, x->path_at, "ExecStart= has an empty program name");
    } else if (!strchr(word, '/')) {
        if (!(c->def->exec_path = search(word)))
            cfg_error(c, l, x->path_at,
                      "ExecStart=: \"%s\" is neither an absolute path nor in a system folder", word);
    } else if (*word != '/' || word[strlen(word) - 1] == '/' || strlen(word) >= 4096) {
        cfg_error(c, l, x->path_at, "ExecStart=: \"%s\" is not the absolute path of a program", word);
    } else if ((c->def->exec_path = cfg_dup(c, word))) {
        cfg_path_simplify(c->def->exec_path);
    }
    return c->def->exec_path != NULL;
}

static bool blank_or_end(char ch)
{
    return !ch || ch == ' ' || ch == '\t';
}

/* The next word with its specifiers replaced. 1, 0 at the end, -1 after an error. */
static int next_word(struct cfg_ctx *c, struct cfg_words *w, char **ret)
{
    _cleanup_free_ char *word = NULL;
    const char *s;
    int r;

    w->at += strspn(w->s + w->at, " \t");
    s = w->s + w->at;
    if (*s == ';' && blank_or_end(s[1])) {
        cfg_error(c, c->exec, w->at, "ExecStart= has one command only; write \\; for a semicolon");
        return -1;
    }
    if (*s == '\\' && s[1] == ';' && blank_or_end(s[2])) {
        w->start = w->at;
        w->at += 2;
        return (*ret = cfg_dup(c, ";")) ? 1 : -1;
    }
    if ((r = cfg_word(w, &word)) == 0)
        return 0;
    if (r == -EINVAL)
        cfg_error(c, c->exec, w->start, "ExecStart=: %s", w->why);
    else if (r < 0)
        cfg_oom(c);
    return r > 0 && (*ret = cfg_spec(c, c->exec, w->start, word)) ? 1 : -1;
}

static bool take_words(struct cfg_ctx *c, struct cfg_words *w, struct line *x)
{
    char *word;
    int r;

    while ((r = next_word(c, w, &word)) > 0) {
        if (x->words.n == LIMIT_ARGS) {
            cfg_error(c, c->exec, w->start, "ExecStart= has more than %u words", LIMIT_ARGS);
            free(word);
            return false;
        }
        if (cfg_list_add(&x->words, word) < 0) {
            cfg_oom(c);
            return false;
        }
    }
    return r == 0;
}

static bool parse_line(struct cfg_ctx *c, struct line *x)
{
    struct cfg_words w = {.s = c->exec->value, .flags = CFG_WORD_QUOTES | CFG_WORD_ESCAPES};
    _cleanup_free_ char *program = NULL;
    int r;

    if (!prefixes(c, &w, x))
        return false;
    x->path_at = w.at;
    if ((r = next_word(c, &w, &program)) == 0)
        cfg_error(c, c->exec, x->path_at, "ExecStart= names no program");
    if (r <= 0 || !set_program(c, x, program))
        return false;
    /* argv[0] is the program, except after '@' */
    if (!x->at && cfg_list_add(&x->words, cfg_dup(c, c->def->exec_path)) < 0)
        return false;
    if (!take_words(c, &w, x))
        return false;
    if (x->words.n == 0)
        cfg_error(c, c->exec, 0, "ExecStart=@ wants argv[0] after the program");
    return x->words.n > 0;
}

static int expand(struct cfg_ctx *c, const struct line *x)
{
    struct wk_def *d = c->def;
    struct vars v = {.d = d, .c = c};
    int r;

    if (x->colon)
        return (r = set_argv(d, &x->words)) < 0 ? r : set_text(d, &x->words);
    r = set_both(d, &v, x->words.v);
    if (r == 0 && (v.late || v.secret) && !(d->argv_late = cfg_list_pack(x->words.v, x->words.n)))
        r = -ENOMEM;
    return r;
}

void cfg_exec_finish(struct cfg_ctx *c)
{
    struct line x = {0};
    int r;

    if (!c->exec) {
        cfg_error_in(c, c->file, 1, 1, "no ExecStart= in [Service]");
        return;
    }
    if (parse_line(c, &x)) {
        c->def->exec_ignore_failure = x.minus;
        r = c->def->env ? expand(c, &x) : 0;
        if (r == -EFBIG)
            cfg_error(c, c->exec, 0, "ExecStart= is too long with its variables replaced");
        else if (r < 0)
            cfg_oom(c);
    }
    cfg_list_clear(&x.words);
}
