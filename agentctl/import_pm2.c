/* SPDX-License-Identifier: Apache-2.0 */
/* pm2's ecosystem file: which processes its apps stand for. pm2 5, lib/Common.js and lib/API/schema.json. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/import_pm2.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct import_node *import_pm2_get(struct import_pm2 *a, const char *const *names, struct import_entry **ret)
{
    struct import_node *n = NULL;

    *ret = NULL;
    for (; !n && *names; names++)
        n = import_node_get(a->node, *names);
    if (!n)
        return NULL;
    n->seen = true;
    *ret = import_key(a->im, a->w, n->key_at, n->key, import_node_show(a->im, n));
    if (n->kind == IMPORT_NODE_NULL) {
        import_same(*ret, "it is empty");
        return NULL;
    }
    return n;
}

void import_pm2_wrong(struct import_pm2 *a, const struct import_node *n, const char *wanted)
{
    import_error(a->im, n->at, "%s: %s is wanted, not \"%s\"", n->key ? n->key : "a value", wanted,
                 import_node_show(a->im, n));
}

/* ---- numbers ---- */

/* The fewest digits that read back as the same number, as ECMA-262 has it; 1.50 is 1.5, and 1e3 is 1000. What
 * JavaScript writes with an exponent stays as it is. */
static const char *number_text(struct import *im, const char *text)
{
    double v = strtod(text, NULL), size = v < 0 ? -v : v;

    if (v == 0)
        return "0";
    if (text[strspn(text, "0123456789")] == 0 && *text != '0')
        return text;
    for (int digits = 0; size >= 1e-6 && size < 1e21 && digits <= 24; digits++) {
        const char *s = import_print(im, "%.*f", digits, v);
        if (strtod(s, NULL) == v)
            return s;
    }
    return text;
}

const char *import_pm2_text(struct import_pm2 *a, const struct import_node *n)
{
    return n->kind == IMPORT_NODE_NULL     ? "null"
           : n->kind == IMPORT_NODE_NUMBER ? number_text(a->im, n->text)
                                           : n->text;
}

/* ---- args: words, quotes around them taken off ---- */

static bool in_flag(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The length of NAME="..." at s, 0 if it is none. */
static size_t flag_length(const char *s)
{
    size_t n = 0;
    const char *end;

    while (in_flag(s[n]))
        n++;
    if (!n || s[n] != '=' || (s[n + 1] != '"' && s[n + 1] != '\'') || !(end = strchr(s + n + 2, s[n + 1])))
        return 0;
    return (size_t)(end - s) + 1;
}

static void add_piece(struct import_pm2 *a, struct import_words *words, const char *from, const char *to)
{
    if (to > from)
        import_words_add(a->im, words, import_keep_n(a->im, from, (size_t)(to - from)));
}

/* pm2 cuts at blanks, around "..." and '...', and keeps NAME="..." as it is. */
static void split(struct import_pm2 *a, const char *s, struct import_words *words)
{
    const char *start = s, *end;
    size_t n;

    while (*s) {
        if (in_flag(*s) && (s == start) && (n = flag_length(s))) {
            add_piece(a, words, s, s + n);
            start = s += n;
        } else if ((*s == '"' || *s == '\'') && (end = strchr(s + 1, *s))) {
            add_piece(a, words, start, s);
            add_piece(a, words, s + 1, end);
            start = s = end + 1;
        } else if (strchr(" \t\r\n", *s)) {
            add_piece(a, words, start, s);
            start = ++s;
        } else {
            s++;
        }
    }
    add_piece(a, words, start, s);
}

void import_pm2_words(struct import_pm2 *a, const struct import_node *n, struct import_words *words)
{
    if (n->kind == IMPORT_NODE_MAP) {
        import_pm2_wrong(a, n, "a text or a list of them");
    } else if (n->kind != IMPORT_NODE_LIST) {
        split(a, import_pm2_text(a, n), words);
    } else {
        for (const struct import_node *c = n->first; c; c = c->next)
            if (c->kind == IMPORT_NODE_LIST || c->kind == IMPORT_NODE_MAP)
                import_pm2_wrong(a, c, "a text");
            else
                import_words_add(a->im, words, import_pm2_text(a, c));
    }
}

/* ---- what is run ---- */

static bool is_program(const char *path)
{
    char magic[4] = "";
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    return fd >= 0 && read(fd, magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0;
}

static const char *by_ending(const char *script)
{
    static const struct {
        const char *ending, *interpreter;
    } endings[] = {{".sh", "bash"},    {".py", "python3"},   {".rb", "ruby"},  {".php", "php"},
                   {".pl", "perl"},    {".js", "node"},      {".mjs", "node"}, {".cjs", "node"},
                   {".ts", "ts-node"}, {".coffee", "coffee"}};
    const char *dot = strrchr(import_base(script), '.');

    for (size_t i = 0; dot && i < ARRAY_LEN(endings); i++)
        if (str_eq(dot, endings[i].ending))
            return endings[i].interpreter;
    return NULL;
}

/* The absolute path of an interpreter. NULL after an error. */
static const char *interpreter_path(struct import_pm2 *a, const struct import_node *n, const char *name)
{
    const char *path =
        strchr(name, '/') ? import_words_path(a->im, a->cwd, name) : import_words_program(a->im, name);

    if (!path)
        import_error(a->im, n->at,
                     "%s, which runs it, is not in PATH here; write its absolute path as interpreter", name);
    return path;
}

/* alone: pm2 puts the command line in the place of its args. */
static void put_command(struct import_pm2 *a, struct import_words *words, struct import_entry *e, bool alone)
{
    static const char *const args[] = {"args", NULL};
    struct import_entry *of_args;
    const struct import_node *n = import_pm2_get(a, args, &of_args);

    if (n && !alone)
        import_pm2_words(a, n, words);
    if (words->n > LIMIT_ARGS) {
        import_error(a->im, a->w->at, "more than the %u words that agentd takes", LIMIT_ARGS);
        return;
    }
    import_to(e, IMPORT_SERVICE, "ExecStart", "%s", import_words_exec(a->im, words));
    if (n && alone)
        import_none(of_args,
                    "a script with a blank in it is a whole command line, and pm2 does not use them");
    else if (n)
        import_into(of_args, "ExecStart=");
}

/* bash -c, or sh -c: what pm2 does with a script that has a blank in it. */
static bool add_shell(struct import_pm2 *a, const struct import_node *script, struct import_words *words)
{
    const char *shell = import_words_program(a->im, "bash");

    if (!shell && !(shell = import_words_program(a->im, "sh"))) {
        import_error(a->im, script->at, "neither bash nor sh is in PATH here");
        return false;
    }
    import_words_add(a->im, words, shell);
    import_words_add(a->im, words, "-c");
    import_words_add(a->im, words, script->text);
    return true;
}

static bool add_script(struct import_pm2 *a, const struct import_node *script,
                       const struct import_node *interpreter, const struct import_node *flags,
                       struct import_words *words)
{
    const char *path = import_words_path(a->im, a->cwd, script->text),
               *by = interpreter ? interpreter->text : NULL;
    const char *found = strchr(script->text, '/') || access(path, F_OK) == 0
                            ? NULL
                            : import_words_program(a->im, script->text);

    if (found) { /* a command: pm2 runs it as it is */
        path = found;
        by = by ? by : "none";
    }
    if (!by)
        by = by_ending(path);
    if (!by)
        by = is_program(path) ? "none" : "node";
    a->by_node = strstr(by, "node") != NULL;
    if (!str_eq(by, "none")) {
        if (!(by = interpreter_path(a, interpreter ? interpreter : script, by)))
            return false;
        import_words_add(a->im, words, by);
        if (flags)
            import_pm2_words(a, flags, words);
    }
    import_words_add(a->im, words, path);
    return true;
}

static void read_command(struct import_pm2 *a)
{
    static const char *const scripts[] = {"script", "cmd", "command", NULL},
                             *const interpreters[] = {"interpreter", "exec_interpreter", NULL},
                             *const flag_names[] = {"node_args", "interpreter_args", NULL};
    struct import_entry *e, *of_interpreter, *of_flags;
    const struct import_node *script = import_pm2_get(a, scripts, &e),
                             *interpreter = import_pm2_get(a, interpreters, &of_interpreter),
                             *flags = import_pm2_get(a, flag_names, &of_flags);
    struct import_words words = {0};
    bool shell = script && strpbrk(script->text, " \t") && !interpreter;

    if (!script || !*script->text) {
        import_error(a->im, a->node->at, "an app has no script; give it one");
        return;
    }
    if (shell ? add_shell(a, script, &words) : add_script(a, script, interpreter, flags, &words))
        put_command(a, &words, e, shell);
    if (interpreter)
        import_into(of_interpreter, "ExecStart=");
    if (flags && !shell)
        import_into(of_flags, "ExecStart=");
    import_words_free(&words);
}

static void read_cwd(struct import_pm2 *a, const char *dir)
{
    static const char *const names[] = {"cwd", NULL};
    struct import_entry *e;
    const struct import_node *n = import_pm2_get(a, names, &e);

    a->cwd = n ? import_words_path(a->im, dir, n->text) : dir;
    if (n && *n->text == '~') {
        import_pm2_wrong(a, n, "an absolute path");
        return;
    }
    if (!n)
        e = import_default(a->im, a->w, "cwd", a->cwd);
    import_to(e, IMPORT_SERVICE, "WorkingDirectory", "%s", import_words_plain(a->im, a->cwd));
    if (!n || *n->text != '/')
        import_note(e, "from the folder of the file, where pm2 takes the one that it is called in");
}

/* ---- the environment ---- */

static void put_variable(struct import_pm2 *a, struct import_entry *e, const struct import_node *n,
                         unsigned add)
{
    const char *value = import_pm2_text(a, n), *why;
    char *both;

    if (n->kind == IMPORT_NODE_LIST || n->kind == IMPORT_NODE_MAP) {
        import_pm2_wrong(a, n, "a text");
        return;
    }
    if (add)
        value = import_print(a->im, "%ld", strtol(value, NULL, 10) + (long)add);
    if ((why = import_words_env(a->im, n->key, value, &both)))
        import_error(a->im, n->at, "env: %s: %s", n->key, why);
    else
        import_to(e, IMPORT_SERVICE, "Environment", "%s", both);
}

static void read_env(struct import_pm2 *a)
{
    static const char *const names[] = {"env", NULL}, *const counts[] = {"increment_var", NULL},
                             *const numbers[] = {"instance_var", NULL};
    struct import_entry *e, *of_count, *of_number;
    const struct import_node *env = import_pm2_get(a, names, &e),
                             *count = import_pm2_get(a, counts, &of_count),
                             *number = import_pm2_get(a, numbers, &of_number);
    const char *name = number ? number->text : "NODE_APP_INSTANCE";
    char *both;

    if (env && env->kind != IMPORT_NODE_MAP)
        import_pm2_wrong(a, env, "an object");
    else if (env && !env->first)
        import_same(e, "it is empty");
    for (const struct import_node *n = env && env->kind == IMPORT_NODE_MAP ? env->first : NULL; n;
         n = n->next)
        put_variable(a, e, n, count && str_eq(count->text, n->key) ? a->number : 0);
    if (count)
        import_into(of_count, "Environment=");
    if (!number)
        of_number = import_default(a->im, a->w, "instance_var", name);
    if (import_words_env(a->im, name, import_print(a->im, "%u", a->number), &both))
        import_error(a->im, number ? number->at : a->node->at, "instance_var: no variable's name");
    else
        import_to(of_number, IMPORT_SERVICE, "Environment", "%s", both);
    import_environment(a->im, a->w, "pm2");
}

/* ---- apps ---- */

static bool by_processors(const struct import_node *instances)
{
    return str_eq(instances->text, "max") || *instances->text == '-' || str_eq(instances->text, "0");
}

/* How many; 0 after an error. */
static unsigned instances(struct import_pm2 *a)
{
    const struct import_node *n = import_node_get(a->node, "instances");
    uint64_t v;

    if (!n || n->kind == IMPORT_NODE_NULL)
        return 1;
    if (by_processors(n))
        return 1;
    if (str_to_u64(n->text, LIMIT_IMPORT_WORKERS, &v) == 0)
        return (unsigned)v;
    import_pm2_wrong(a, n, "a number or \"max\"");
    return 0;
}

#define CLUSTER                                                                                         \
    "each worker has a process of its own, and node does not share a port among them: write exec_mode " \
    "\"fork\" and a port for each, or have the program use SO_REUSEPORT or ListenStream="

static void read_instances(struct import_pm2 *a)
{
    static const char *const names[] = {"instances", NULL}, *const modes[] = {"exec_mode", NULL};
    struct import_entry *e;
    const struct import_node *n = import_pm2_get(a, names, &e);

    if (n && by_processors(n))
        import_none(e, "agentd makes no workers by the number of processors: there is one; write how many "
                       "there are to be");
    else if (n)
        import_into(e, "%s.conf", a->w->alias);
    if (n && !import_node_get(a->node, "exec_mode") && a->by_node) /* as pm2 has it then */
        import_none(import_default(a->im, a->w, "exec_mode", "cluster"), CLUSTER);
    if (!(n = import_pm2_get(a, modes, &e)))
        return;
    if (str_starts(n->text, "cluster"))
        import_none(e, CLUSTER);
    else
        import_same(e, "a process of its own");
}

static const char *name_of(struct import_pm2 *a, struct import_at *at)
{
    static const char *const keys[] = {"name", "script", "cmd", "command", NULL};
    const struct import_node *n = NULL;
    const char *base, *dot;
    size_t end;

    for (size_t i = 0; !n && keys[i]; i++)
        if ((n = import_node_get(a->node, keys[i])) && (n->kind == IMPORT_NODE_NULL || !n->text || !*n->text))
            n = NULL;
    if (!n)
        return NULL;
    *at = n->at;
    if (str_eq(n->key, "name"))
        return n->text;
    end = strlen(n->text); /* a folder may end in slashes: node finds in it what it runs */
    while (end > 1 && n->text[end - 1] == '/')
        end--;
    base = import_base(import_keep_n(a->im, n->text, end));
    dot = strrchr(base, '.');
    return dot && dot != base ? import_keep_n(a->im, base, (size_t)(dot - base)) : base;
}

static void read_name(struct import_pm2 *a)
{
    static const char *const names[] = {"name", NULL};
    struct import_entry *e;

    if (import_pm2_get(a, names, &e))
        import_into(e, "%s.conf", a->w->alias);
}

static void read_app(struct import *im, struct import_source *src, struct import_node *app)
{
    struct import_pm2 a = {.im = im, .node = app};
    struct import_at at = app->at;
    const char *name;
    unsigned n;

    if (app->kind != IMPORT_NODE_MAP) {
        import_error(im, app->at, "an app is an object with script and so on");
        return;
    }
    if (!(name = name_of(&a, &at))) {
        import_error(im, app->at, "an app has no script; give it one");
        return;
    }
    n = a.count = instances(&a);
    for (a.number = 0; a.number < n; a.number++) {
        for (struct import_node *k = app->first; k; k = k->next)
            k->seen = false;
        if (!(a.w = import_worker(im, at, import_print(im, "pm2, app %s", name),
                                  n > 1 ? import_print(im, "%s-%u", name, a.number) : name)))
            return;
        read_name(&a);
        read_cwd(&a, src->dir);
        read_command(&a);
        read_env(&a);
        read_instances(&a);
        import_pm2_keys(&a);
    }
}

/* ---- the file ---- */

static struct import_node *parse(struct import_tree *t)
{
    const char *name = t->src->path, *first = t->src->text + strspn(t->src->text, " \t\r\n");

    if (str_ends(name, ".yaml") || str_ends(name, ".yml"))
        return import_yaml_parse(t);
    if (str_ends(name, ".json"))
        return import_json_parse(t);
    if (str_ends(name, ".js") || str_ends(name, ".cjs") || str_ends(name, ".mjs") ||
        import_js_fits(t->src->text))
        return import_js_parse(t);
    return *first == '{' || *first == '[' ? import_json_parse(t) : import_yaml_parse(t);
}

static void read_top(struct import *im, struct import_source *src, struct import_node *root)
{
    struct import_node *apps = import_node_get(root, "apps");

    for (struct import_node *n = root->first; n; n = n->next)
        if (n != apps)
            import_none(import_key(im, NULL, n->key_at, n->key, import_node_show(im, n)), "%s",
                        str_eq(n->key, "deploy") ? "agentd deploys nothing" : "pm2 has no such key either");
    if (!apps)
        import_error(im, root->at, "no `apps`, as an ecosystem file has them");
    else if (apps->kind == IMPORT_NODE_MAP)
        read_app(im, src, apps);
    else if (apps->kind != IMPORT_NODE_LIST)
        import_error(im, apps->at, "`apps` is a list of objects");
    else
        for (struct import_node *n = apps->first; n; n = n->next)
            read_app(im, src, n);
}

void import_pm2_read(struct import *im, struct import_source *src)
{
    struct import_tree t = {.im = im, .src = src, .yaml_1_2 = true};
    struct import_node *root = parse(&t);

    if (root && root->kind == IMPORT_NODE_LIST)
        for (struct import_node *n = root->first; n; n = n->next)
            read_app(im, src, n);
    else if (root && root->kind == IMPORT_NODE_MAP && import_node_get(root, "script") &&
             !import_node_get(root, "apps"))
        read_app(im, src, root);
    else if (root && root->kind == IMPORT_NODE_MAP)
        read_top(im, src, root);
    else if (root)
        import_error(im, root->at, "an object with `apps` is wanted");
    import_node_free(&t);
}
