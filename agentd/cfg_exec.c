/* SPDX-License-Identifier: Apache-2.0 */
/* ExecStart= and its hooks: systemd.service(5), "Command lines". */
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

static const char *const hook_keys[CFG_HOOK_MAX] = {
    [CFG_HOOK_START_PRE] = "ExecStartPre",
    [CFG_HOOK_START] = "ExecStart",
    [CFG_HOOK_START_POST] = "ExecStartPost",
    [CFG_HOOK_RELOAD] = "ExecReload",
    [CFG_HOOK_STOP] = "ExecStop",
    [CFG_HOOK_STOP_POST] = "ExecStopPost",
};

const char *cfg_hook_key(enum cfg_hook h)
{
    return hook_keys[h];
}

/* "Key=" forgets the lines of its key before it. */
static void forget_lines(struct cfg_ctx *c, enum cfg_hook hook)
{
    unsigned n = 0;

    for (unsigned i = 0; i < c->n_execs; i++)
        if (c->execs[i].hook != hook)
            c->execs[n++] = c->execs[i];
    c->n_execs = n;
}

static void take_line(struct cfg_ctx *c, const struct cfg_line *l, enum cfg_hook hook)
{
    struct cfg_exec_line *more;

    if (!*l->value) {
        forget_lines(c, hook);
    } else if (c->n_execs == LIMIT_COMMANDS) {
        cfg_error(c, l, CFG_AT_KEY, "more than %u command lines", LIMIT_COMMANDS);
    } else if (!(more = realloc(c->execs, (c->n_execs + 1) * sizeof(*more)))) {
        cfg_oom(c);
    } else {
        c->execs = more;
        c->execs[c->n_execs++] = (struct cfg_exec_line){hook, l};
    }
}

CFG_PARSER(cfg_value_exec)
{
    take_line(c, l, CFG_HOOK_START);
}

CFG_PARSER(cfg_value_hook)
{
    take_line(c, l, (enum cfg_hook)k->min);
}

void cfg_command_done(struct cfg_command *c)
{
    free(c->path);
    free(c->argv);
    free(c->late);
    free(c->text);
    *c = (struct cfg_command){0};
}

void cfg_commands_done(struct cfg_commands *c)
{
    for (unsigned i = 0; i < c->n; i++)
        cfg_command_done(&c->v[i]);
    free(c->v);
    *c = (struct cfg_commands){0};
}

/* --- $VARIABLES --- */

/* What a variable is looked up in. */
struct vars {
    const struct wk_def *d;
    const char *path;  /* the program */
    bool hook;         /* it may use what only hooks have */
    char *const *more; /* that, once it is known; NULL: not yet */
    bool now;          /* the late ones are known, cfg_expand_late */
    int64_t id;
    bool late;         /* one was asked for */
    bool hide, secret; /* a value from an EnvironmentFile= is left as ${NAME}; one was asked for */
    struct cfg_ctx *c; /* to warn, or NULL */
    const struct cfg_line *line;
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
    else if (str_eq(name, "USER") || str_eq(name, "LOGNAME"))
        v = d->ids.user;
    else
        v = ""; /* a hook's, and not among what it is told now */
    return v ? v : "";
}

/* From an EnvironmentFile=: it may be secret, and the line for people is sent to whoever may view. */
static bool is_secret(const struct wk_def *d, const char *name)
{
    return cfg_env_get(d->env + d->n_env_plain, name) != NULL;
}

/* Those that come from agentd, when they are known. */
static bool is_late(const struct vars *x, const char *name)
{
    static const char *const late[] = {"AGENTD_ID", "HOME", "SHELL", "USER", "LOGNAME"}, *const of_hooks[] = {
                                                                                             "MAINPID",
                                                                                             "SERVICE_RESULT",
                                                                                             "EXIT_CODE",
                                                                                             "EXIT_STATUS"};

    for (size_t i = 0; i < ARRAY_LEN(late); i++)
        if (str_eq(name, late[i]))
            return true;
    for (size_t i = 0; x->hook && i < ARRAY_LEN(of_hooks); i++)
        if (str_eq(name, of_hooks[i]))
            return true;
    return false;
}

/* A variable's value; NULL if it is not set. buf may be used for it. */
static const char *lookup(struct vars *x, const char *name, char *buf, size_t size)
{
    const char *v;

    if (x->more && (v = cfg_env_get(x->more, name)))
        return v;

    if (str_eq(name, "AGENTD_ALIAS"))
        return x->d->alias;
    if (is_secret(x->d, name)) {
        x->secret = true;
        snprintf(buf, size, "${%s}", name);
        return x->hide ? buf : cfg_env_get(x->d->env, name);
    }
    if ((v = cfg_env_get(x->d->env, name)))
        return v;
    if (is_late(x, name)) {
        x->late = true;
        if (x->now)
            return late_value(x, name, buf, size);
        snprintf(buf, size, "${%s}", name);
        return buf;
    }
    if (x->c)
        cfg_warn(x->c, x->line, 0,
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
        if (i == 0 && str_eq(s, x->path)) /* the program may not be a variable */
            r = cfg_list_add(out, strdup(s));
        else if (*s == '$' && s[1] != '{' && s[1] != '$' && cfg_env_name_ok(s + 1, strlen(s + 1)))
            r = add_variable(x, s + 1, out);
        else
            r = add_word(x, s, out);
    }
    return r;
}

/* --- the line for people --- */

static char *command_text(const char *path, char *const *words)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_FILE * 2);
    char *text;

    buf_str(&b, path);
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

static int set_argv(struct cfg_command *cmd, const struct cfg_list *words)
{
    char **argv = cfg_list_pack(words->v, words->n);

    if (!argv)
        return -ENOMEM;
    free(cmd->argv);
    cmd->argv = argv;
    return 0;
}

static int set_text(struct cfg_command *cmd, const struct cfg_list *words)
{
    char *text = command_text(cmd->path, words->v);

    if (!text)
        return -ENOMEM;
    free(cmd->text);
    cmd->text = text;
    return 0;
}

/* The words with their variables replaced. */
static int replaced(struct vars *x, char *const *words, struct cfg_list *out)
{
    int r = substitute(x, words, out);

    if (r == 0 && out->n == 0) /* argv[0] was an empty variable */
        r = cfg_list_add(out, strdup(x->path));
    return r;
}

/* argv and the line for people from words; the latter without what may be secret. */
static int set_both(struct cfg_command *cmd, struct vars *x, char *const *words)
{
    struct cfg_list real = {0}, shown = {0};
    int r = replaced(x, words, &real);

    if (r == 0)
        r = set_argv(cmd, &real);
    x->hide = true;
    x->c = NULL;
    if (r == 0)
        r = replaced(x, words, &shown);
    if (r == 0)
        r = set_text(cmd, &shown);
    cfg_list_clear(&real);
    cfg_list_clear(&shown);
    return r;
}

int cfg_expand_late(struct wk_def *d, int64_t id)
{
    struct vars x = {.d = d, .path = d->exec.path, .now = true, .id = id};

    return d->exec.late && set_both(&d->exec, &x, d->exec.late) < 0 ? -ENOMEM : 0;
}

char **cfg_expand_hook(const struct wk_def *d, const struct cfg_command *cmd, int64_t id, char *const *more)
{
    struct vars x = {.d = d, .path = cmd->path, .hook = true, .more = more, .now = true, .id = id};
    struct cfg_list out = {0};
    char **argv = NULL;
    size_t n = 0;

    if (!cmd->late) {
        while (cmd->argv[n])
            n++;
        return cfg_list_pack(cmd->argv, n);
    }
    if (replaced(&x, cmd->late, &out) == 0)
        argv = cfg_list_pack(out.v, out.n);
    cfg_list_clear(&out);
    return argv;
}

/* --- words --- */

/* One command of a line, while it is read. */
struct line {
    const struct cfg_line *l;
    const char *key;
    bool minus, at, colon, plus, bang;
    size_t path_at;
    char *path;
    struct cfg_list words; /* argv before substitution */
};

static bool *flag_of(struct line *x, char p)
{
    return p == '-'   ? &x->minus
           : p == '@' ? &x->at
           : p == ':' ? &x->colon
           : p == '+' ? &x->plus
           : p == '!' ? &x->bang
                      : NULL;
}

/* What stands before the program. "!!" means something on kernels without ambient capabilities only: nothing.
 */
static bool prefixes(struct cfg_ctx *c, struct cfg_words *w, struct line *x)
{
    bool *flag;

    for (;; w->at++) {
        char p = w->s[w->at];
        if (p == '|') {
            cfg_error(c, x->l, w->at, "%s=: the prefix | is not supported by this version", x->key);
            return false;
        }
        if (p == '!' && w->s[w->at + 1] == '!') {
            w->at++;
            continue;
        }
        if (!(flag = flag_of(x, p)))
            return true;
        if (*flag) {
            cfg_error(c, x->l, w->at, "%s=: the prefix %c is given twice", x->key, p);
            return false;
        }
        *flag = true;
        if (x->plus && x->bang) {
            cfg_error(c, x->l, w->at, "%s=: the prefixes + and ! say different things", x->key);
            return false;
        }
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

static bool set_program(struct cfg_ctx *c, struct line *x, const char *word)
{
    if (!*word) {
        cfg_error(c, x->l, x->path_at, "%s= has an empty program name", x->key);
    } else if (!strchr(word, '/')) {
        if (!(x->path = search(word)))
            cfg_error(c, x->l, x->path_at, "%s=: \"%s\" is neither an absolute path nor in a system folder",
                      x->key, word);
    } else if (*word != '/' || word[strlen(word) - 1] == '/' || strlen(word) >= 4096) {
        cfg_error(c, x->l, x->path_at, "%s=: \"%s\" is not the absolute path of a program", x->key, word);
    } else if ((x->path = cfg_dup(c, word))) {
        cfg_path_simplify(x->path);
    }
    return x->path != NULL;
}

static bool blank_or_end(char ch)
{
    return !ch || ch == ' ' || ch == '\t';
}

/* The next word with its specifiers replaced. 1, 0 at the end of the command, -1 after an error. */
static int next_word(struct cfg_ctx *c, struct cfg_words *w, const struct line *x, char **ret)
{
    _cleanup_free_ char *word = NULL;
    const char *s;
    int r;

    w->at += strspn(w->s + w->at, " \t");
    s = w->s + w->at;
    if (*s == ';' && blank_or_end(s[1]))
        return 0;
    if (*s == '\\' && s[1] == ';' && blank_or_end(s[2])) {
        w->start = w->at;
        w->at += 2;
        return (*ret = cfg_dup(c, ";")) ? 1 : -1;
    }
    if ((r = cfg_word(w, &word)) == 0)
        return 0;
    if (r == -EINVAL)
        cfg_error(c, x->l, w->start, "%s=: %s", x->key, w->why);
    else if (r < 0)
        cfg_oom(c);
    return r > 0 && (*ret = cfg_spec(c, x->l, w->start, word)) ? 1 : -1;
}

static bool take_words(struct cfg_ctx *c, struct cfg_words *w, struct line *x)
{
    char *word;
    int r;

    while ((r = next_word(c, w, x, &word)) > 0) {
        if (x->words.n == LIMIT_ARGS) {
            cfg_error(c, x->l, w->start, "%s= has more than %u words", x->key, LIMIT_ARGS);
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

static bool parse_command(struct cfg_ctx *c, struct cfg_words *w, struct line *x)
{
    _cleanup_free_ char *program = NULL;
    int r;

    if (!prefixes(c, w, x))
        return false;
    x->path_at = w->at;
    if ((r = next_word(c, w, x, &program)) == 0)
        cfg_error(c, x->l, x->path_at, "%s= names no program", x->key);
    if (r <= 0 || !set_program(c, x, program))
        return false;
    /* argv[0] is the program, except after '@' */
    if (!x->at && cfg_list_add(&x->words, cfg_dup(c, x->path)) < 0)
        return false;
    if (!take_words(c, w, x))
        return false;
    if (x->words.n == 0)
        cfg_error(c, x->l, 0, "%s=@ wants argv[0] after the program", x->key);
    return x->words.n > 0;
}

static int expand(struct cfg_ctx *c, const struct line *x, bool hook, struct cfg_command *cmd)
{
    struct vars v = {.d = c->def, .path = cmd->path, .hook = hook, .c = c, .line = x->l};
    int r;

    if (x->colon)
        return (r = set_argv(cmd, &x->words)) < 0 ? r : set_text(cmd, &x->words);
    r = set_both(cmd, &v, x->words.v);
    if (r == 0 && (v.late || v.secret) && !(cmd->late = cfg_list_pack(x->words.v, x->words.n)))
        r = -ENOMEM;
    return r;
}

static void finish_command(struct cfg_ctx *c, struct line *x, bool hook, struct cfg_command *cmd)
{
    int r;

    *cmd = (struct cfg_command){
        .path = TAKE_PTR(x->path), .ignore_failure = x->minus, .privileged = x->plus, .keeps_user = x->bang};
    r = c->def->env ? expand(c, x, hook, cmd) : 0;
    if (r == -EFBIG)
        cfg_error(c, x->l, 0, "%s= is too long with its variables replaced", x->key);
    else if (r < 0)
        cfg_oom(c);
}

static struct cfg_command *add_command(struct cfg_ctx *c, enum cfg_hook hook)
{
    struct cfg_commands *list = &c->def->hooks[hook];
    struct cfg_command *more = realloc(list->v, (list->n + 1) * sizeof(*more));

    if (!more) {
        cfg_oom(c);
        return NULL;
    }
    list->v = more;
    more[list->n] = (struct cfg_command){0};
    return &more[list->n++];
}

/* ExecStart= is in d->exec; with a second one the one before becomes one of its hooks. */
static struct cfg_command *place(struct cfg_ctx *c, const struct cfg_exec_line *e)
{
    struct wk_def *d = c->def;
    struct cfg_command *cmd;

    if (e->hook != CFG_HOOK_START)
        return add_command(c, e->hook);
    if (d->exec.path) {
        if (d->type != CFG_ONESHOT) {
            cfg_error(c, e->line, CFG_AT_KEY,
                      "a second ExecStart=, which only Type=oneshot may have; an empty ExecStart= before it "
                      "forgets the first");
            return NULL;
        }
        if (!(cmd = add_command(c, CFG_HOOK_START)))
            return NULL;
        *cmd = d->exec;
        d->exec = (struct cfg_command){0};
    }
    return &d->exec;
}

/* The commands of one line; " ; " is between two. */
static void finish_line(struct cfg_ctx *c, const struct cfg_exec_line *e)
{
    struct cfg_words w = {.s = e->line->value, .flags = CFG_WORD_QUOTES | CFG_WORD_ESCAPES};
    bool more = true;

    while (more) {
        struct line x = {.l = e->line, .key = cfg_hook_key(e->hook)};
        struct cfg_command *cmd;
        if ((more = parse_command(c, &w, &x) && (cmd = place(c, e))))
            finish_command(c, &x, e->hook != CFG_HOOK_START, cmd);
        free(x.path);
        cfg_list_clear(&x.words);
        if (!more || w.s[w.at] != ';')
            return;
        w.at++;
        w.at += strspn(w.s + w.at, " \t");
        more = w.s[w.at] != 0; /* one at the end is none */
    }
}

void cfg_exec_finish(struct cfg_ctx *c)
{
    for (unsigned i = 0; i < c->n_execs; i++)
        finish_line(c, &c->execs[i]);
    for (unsigned i = 0; i < c->n_execs; i++)
        if (c->execs[i].hook == CFG_HOOK_START)
            return;
    cfg_error_in(c, c->file, 1, 1, "no ExecStart= in [Service]");
}

void cfg_exec_check(struct cfg_ctx *c, const struct cfg_line *l, struct cfg_command *ret)
{
    struct cfg_words w = {.s = l->value, .flags = CFG_WORD_QUOTES | CFG_WORD_ESCAPES, .at = strlen("exec:")};
    struct line x = {.l = l, .key = l->key};

    w.at += strspn(w.s + w.at, " \t");
    if (parse_command(c, &w, &x)) {
        if (w.s[w.at] == ';')
            cfg_error(c, l, w.at, "%s=exec: is one command only; write \\; for a semicolon", l->key);
        else if (x.minus || x.plus)
            cfg_error(c, l, strlen("exec:"), "%s=exec: has none of the prefixes - and +", l->key);
        else
            finish_command(c, &x, true, ret);
    }
    free(x.path);
    cfg_list_clear(&x.words);
}
