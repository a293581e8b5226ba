/* SPDX-License-Identifier: Apache-2.0 */
/* obagent's agentd.yaml. What it does with its keys is taken from its sources (agentd/config.go, service.go,
 * lib/process). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import_node.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct service {
    struct import *im;
    struct import_worker *w;
    const struct import_node *node;
    const char *home, *run_dir; /* home: NULL: not known */
    bool failed;
};

/* ---- placeholders ---- */

/* FILE is HOME/conf/agentd.yaml where obagent is installed. */
static const char *home_of(struct import *im, const struct import_source *src)
{
    if (!str_eq(import_base(src->dir), "conf"))
        return NULL;
    return import_words_path(im, src->dir, "..");
}

static const char *placeholder(const struct service *s, const char *name, size_t n)
{
    static const struct {
        const char *name, *below;
    } folders[] = {{"obagent.home.path", ""}, {"agent_dir", ""}, {"conf_dir", "/conf"}, {"bin_dir", "/bin"}};

    if (n == 7 && strncmp(name, "run_dir", n) == 0)
        return s->run_dir;
    for (size_t i = 0; s->home && i < ARRAY_LEN(folders); i++)
        if (strlen(folders[i].name) == n && strncmp(folders[i].name, name, n) == 0)
            return import_print(s->im, "%s%s", s->home, folders[i].below);
    return NULL;
}

/* A text is empty where YAML has a null. */
static const char *text_of(const struct import_node *n)
{
    return n->kind == IMPORT_NODE_NULL ? "" : n->text;
}

/* The text with its ${...} replaced. */
static const char *replaced(struct service *s, const struct import_node *n)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE * 2);

    buf_str(&b, "");
    for (const char *p = text_of(n); *p && b.len < LIMIT_IMPORT_FILE; p++) {
        size_t len = p[0] == '$' && p[1] == '{' ? strcspn(p + 2, "}") : 0;
        const char *v = len ? placeholder(s, p + 2, len) : NULL;
        if (!len || !p[2 + len]) {
            buf_char(&b, *p);
            continue;
        }
        if (!v) {
            import_error(s->im, n->at,
                         "${%.*s} is not known here; write its value, or name the file where obagent has it, "
                         "HOME/conf/agentd.yaml",
                         (int)len, p + 2);
            s->failed = true;
        }
        buf_str(&b, v ? v : "");
        p += 2 + len;
    }
    return import_take(s->im, &b);
}

/* ---- keys ---- */

static struct import_entry *note(struct service *s, const char *key)
{
    struct import_node *n = import_node_get(s->node, key);

    if (!n)
        return NULL;
    n->seen = true;
    return import_key(s->im, s->w, n->key_at, key, import_node_show(s->im, n));
}

static struct import_node *get(struct service *s, const char *key)
{
    struct import_node *n = import_node_get(s->node, key);

    if (n && (n->kind == IMPORT_NODE_MAP || n->kind == IMPORT_NODE_LIST)) {
        import_error(s->im, n->at, "%s: takes one value", key);
        s->failed = true;
        return NULL;
    }
    return n;
}

static const char *program_of(struct service *s, const struct import_node *n)
{
    const char *p = replaced(s, n), *found;

    if (s->failed)
        return p;
    if (!strchr(p, '/')) {
        if ((found = import_words_program(s->im, p)))
            return found;
        import_error(s->im, n->at, "program: %s is not in PATH here; write its absolute path", p);
    } else if (*p != '/') {
        import_error(s->im, n->at,
                     "program: %s is relative to where obagent's agentd was started; write its "
                     "absolute path",
                     p);
    } else {
        return import_words_path(s->im, "/", p);
    }
    s->failed = true;
    return p;
}

static void read_command(struct service *s)
{
    const struct import_node *program = get(s, "program"), *args = import_node_get(s->node, "args");
    struct import_words words = {0};
    struct import_entry *e;
    const char *path;

    if (!program || !*text_of(program)) {
        import_error(s->im, s->w->at, "%s: has no program; give it one", s->w->alias);
        return;
    }
    path = program_of(s, program);
    import_words_add(s->im, &words, replaced(s, program));
    if (args && args->kind != IMPORT_NODE_LIST)
        import_error(s->im, args->at, "args is a list");
    for (const struct import_node *a = args ? args->first : NULL; a; a = a->next)
        import_words_add(s->im, &words, replaced(s, a));
    e = note(s, "program");
    import_to(e, IMPORT_SERVICE, "ExecStart", "%s", import_words_exec_as(s->im, path, &words));
    if ((e = note(s, "args")))
        import_into(e, "ExecStart=");
    import_words_free(&words);
}

static void read_cwd(struct service *s)
{
    const struct import_node *n = get(s, "cwd");
    struct import_entry *e = note(s, "cwd");
    bool set = n && *text_of(n);
    const char *path = set ? replaced(s, n) : s->home;

    if (set && *path != '/') {
        import_error(s->im, n->at,
                     "cwd: %s is relative to where obagent's agentd was started; write an absolute path",
                     path);
        return;
    }
    if (!e)
        e = import_default(s->im, s->w, "cwd", path ? path : "");
    if (path)
        import_to(e, IMPORT_SERVICE, "WorkingDirectory", "%s",
                  import_words_plain(s->im, import_words_path(s->im, "/", path)));
    else
        import_none(e, "obagent's home, which is not known here: WorkingDirectory= is /");
}

static void read_output(struct service *s, const char *key, const char *to)
{
    const struct import_node *n = get(s, key);
    struct import_entry *e = note(s, key);
    const char *path;

    if (!e || !n)
        return;
    path = replaced(s, n);
    if (!*path)
        import_same(e, "a file of agentd's");
    else if (*path != '/')
        import_error(s->im, n->at,
                     "%s: %s is relative to where obagent's agentd was started; write an absolute path", key,
                     path);
    else
        import_to(e, IMPORT_SERVICE, to, "append:%s",
                  import_words_plain(s->im, import_words_path(s->im, "/", path)));
}

static void note_stderr(struct service *s)
{
    const struct import_node *out = import_node_get(s->node, "stdout"),
                             *err = import_node_get(s->node, "stderr");

    if (out && *text_of(out) && !(err && *text_of(err)))
        import_none(import_default(s->im, s->w, "stderr", "kept by obagent"),
                    "it goes to where the standard output goes");
}

/* A duration of Go's; a bare number is nanoseconds. 0 if it is not set. */
static double span(struct service *s, const char *key)
{
    const struct import_node *n = get(s, key);
    double us = 0;

    if (n && n->kind != IMPORT_NODE_NULL && !import_words_span(n->text, 0.001, &us)) {
        import_error(s->im, n->at, "%s: \"%s\" is no time such as 5s", key, n->text);
        s->failed = true;
        us = 0;
    }
    return us;
}

static void read_stop(struct service *s)
{
    double kill = span(s, "killWait"), final = span(s, "finalWait");
    struct import_entry *k = note(s, "killWait"), *f = note(s, "finalWait");
    char buf[IMPORT_SPAN];

    if (k && kill > 0)
        import_to(k, IMPORT_SERVICE, "TimeoutStopSec", "%s", import_words_write_timeout(kill, buf));
    else if (k)
        import_same(k, "no SIGKILL of its own before finalWait is over");
    if (f && final > 0 && kill > 0)
        import_same(f, "after SIGKILL agentd waits until the whole tree is gone");
    else if (f && final > 0)
        import_to(f, IMPORT_SERVICE, "TimeoutStopSec", "%s", import_words_write_timeout(final, buf));
    else if (f)
        import_none(f, "agentd always waits for the end of a worker that it stops: TimeoutStopSec= is 90s");
    f = import_default(s->im, s->w, "(signals)", "to the main process only");
    import_to(f, IMPORT_SERVICE, "KillMode", "mixed");
    import_note(f, "what is left of its tree is killed at the end, which obagent does not do");
}

static void read_restart(struct service *s)
{
    double least = span(s, "minLiveTime");
    const struct import_node *n = get(s, "quickExitLimit");
    struct import_entry *limit = note(s, "quickExitLimit"), *live = note(s, "minLiveTime"), *e;
    uint64_t times = 0;
    char buf[IMPORT_SPAN];

    if (n && n->kind != IMPORT_NODE_NULL && str_to_u64(n->text, 1000, &times) < 0)
        import_error(s->im, n->at, "quickExitLimit: \"%s\" is no number up to 1000", n->text);
    times += times == 0; /* the first quick exit is the last */
    e = import_default(s->im, s->w, "(restart)", "unless it exits with 0");
    import_to(e, IMPORT_SERVICE, "Restart", "on-failure");
    import_note(e, "an end by SIGHUP, SIGINT, SIGTERM or SIGPIPE is none");
    e = import_default(s->im, s->w, "(delay)", "none");
    import_to(e, IMPORT_SERVICE, "RestartSec", "%s", import_words_write_span(IMPORT_DELAY_US, buf));
    import_to(e, IMPORT_SERVICE, "RestartMaxDelaySec", "%s", import_words_write_span(IMPORT_DELAY_US, buf));
    if (least > 0) {
        if (!live)
            return;
        import_to(live, IMPORT_UNIT, "StartLimitIntervalSec", "%s",
                  import_words_write_span((least + IMPORT_DELAY_US) * (double)times, buf));
        if (!limit)
            limit = import_default(s->im, s->w, "quickExitLimit", "0");
        import_to(limit, IMPORT_UNIT, "StartLimitBurst", "%llu", (unsigned long long)times);
        import_note(limit, "then it cools down and is tried again, which obagent does not do");
        return;
    }
    if (!live)
        live = import_default(s->im, s->w, "minLiveTime", "0");
    import_to(live, IMPORT_UNIT, "StartLimitIntervalSec", "0");
    if (limit)
        import_same(limit, "without minLiveTime no exit is a quick one");
}

static void read_cpu(struct service *s, const struct import_node *n)
{
    struct import_entry *e = import_key(s->im, s->w, n->key_at, "limit.cpuQuota", n->text);
    char *end;
    double v = strtod(n->text, &end);

    if (n->kind != IMPORT_NODE_NULL && (*end || !*n->text || !(v >= 0) || v > 10000))
        import_error(s->im, n->at, "cpuQuota: \"%s\" is no number such as 1.5", n->text);
    else if (v * 100 < 1)
        import_same(e, "no limit");
    else
        import_to(e, IMPORT_SERVICE, "CPUQuota", "%.0f%%", v * 100);
}

static void read_memory(struct service *s, const struct import_node *n)
{
    struct import_entry *e = import_key(s->im, s->w, n->key_at, "limit.memoryQuota", n->text);
    uint64_t v = 0;

    if (n->kind != IMPORT_NODE_NULL && !import_words_size(n->text, &v))
        import_error(s->im, n->at, "memoryQuota: \"%s\" is no size such as 1024MB", n->text);
    else if (v == 0)
        import_same(e, "no limit");
    else
        import_to(e, IMPORT_SERVICE, "MemoryMax", "%llu", (unsigned long long)v);
}

static void read_limit(struct service *s)
{
    struct import_node *limit = import_node_get(s->node, "limit");

    if (!limit)
        return;
    limit->seen = true;
    if (limit->kind == IMPORT_NODE_NULL)
        return;
    if (limit->kind != IMPORT_NODE_MAP) {
        import_error(s->im, limit->at, "limit has cpuQuota and memoryQuota");
        return;
    }
    for (struct import_node *n = limit->first; n; n = n->next)
        if (n->kind == IMPORT_NODE_MAP || n->kind == IMPORT_NODE_LIST)
            import_error(s->im, n->at, "%s: takes one value", n->key);
        else if (str_eq(n->key, "cpuQuota"))
            read_cpu(s, n);
        else if (str_eq(n->key, "memoryQuota"))
            read_memory(s, n);
        else
            import_none(import_key(s->im, s->w, n->key_at, import_print(s->im, "limit.%s", n->key), n->text),
                        "obagent has no such key either");
}

static void read_rest(struct service *s)
{
    struct import_entry *e = note(s, "runDir");

    if (e)
        import_none(
            e,
            "agentd keeps no pid files; ${run_dir} is replaced by it. A program that puts its socket there "
            "still finds it, if the folder is there");
    for (struct import_node *n = s->node->first; n; n = n->next)
        if (!n->seen)
            import_none(import_key(s->im, s->w, n->key_at, n->key, import_node_show(s->im, n)),
                        "obagent has no such key either");
}

static void read_service(struct import *im, const struct import_node *n, const char *home)
{
    char origin[300];
    struct service s = {.im = im, .node = n, .home = home};
    const struct import_node *run;

    if (n->kind != IMPORT_NODE_MAP) {
        import_error(im, n->at, "services.%s: a map with program and so on is wanted", n->key);
        return;
    }
    snprintf(origin, sizeof(origin), "obagent, services.%s", n->key);
    if (!(s.w = import_worker(im, n->key_at, origin, n->key)))
        return;
    if ((run = get(&s, "runDir")))
        s.run_dir = replaced(&s, run);
    read_command(&s);
    read_cwd(&s);
    read_output(&s, "stdout", "StandardOutput");
    read_output(&s, "stderr", "StandardError");
    note_stderr(&s);
    import_environment(im, s.w, "obagent");
    read_restart(&s);
    read_stop(&s);
    read_limit(&s);
    read_rest(&s);
}

/* ---- the file ---- */

static void read_top(struct import *im, const struct import_node *n)
{
    static const struct {
        const char *key, *why;
    } keys[] = {
        {"runDir", "agentd has RuntimeDirectory= in agentd.conf"},
        {"logDir", "obagent reads it and never uses it; agentd has LogDirectory= in agentd.conf"},
        {"logLevel", "agentd takes --log-level on its command line"},
        {"cleanupdangling", "agentd takes over what an earlier one left, or ends it"},
    };
    const char *why = "obagent has no such key either";
    struct import_entry *e = import_key(im, NULL, n->key_at, n->key, import_node_show(im, n));

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq(keys[i].key, n->key))
            why = keys[i].why;
    import_none(e, "%s", why);
}

void import_obagent_read(struct import *im, struct import_source *src)
{
    struct import_tree t = {.im = im, .src = src};
    struct import_node *root = import_yaml_parse(&t), *services = import_node_get(root, "services");
    const char *home = home_of(im, src);

    if (root && (!services || services->kind != IMPORT_NODE_MAP))
        import_error(im, services ? services->at : (struct import_at){src->path, 1, 1},
                     "no map `services:`, as obagent's agentd.yaml has it");
    for (struct import_node *n = root && root->kind == IMPORT_NODE_MAP ? root->first : NULL; n; n = n->next)
        if (n != services)
            read_top(im, n);
    for (struct import_node *n = services && services->kind == IMPORT_NODE_MAP ? services->first : NULL; n;
         n = n->next)
        read_service(im, n, home);
    import_node_free(&t);
}
