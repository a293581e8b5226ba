/* SPDX-License-Identifier: Apache-2.0 */
/* An app's keys: when it is started again, how it is stopped, where its output goes; and what has no
 * counterpart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import_pm2.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static struct import_node *get(struct import_pm2 *a, const char *name, struct import_entry **ret)
{
    const char *const names[] = {name, NULL};

    return import_pm2_get(a, names, ret);
}

/* A time: a number of milliseconds, or with h, m or s. False: not set, or wrong. */
static bool span(struct import_pm2 *a, const struct import_node *n, double *ret_us)
{
    if (!n)
        return false;
    if ((n->kind == IMPORT_NODE_NUMBER || n->kind == IMPORT_NODE_STRING) &&
        import_words_span(n->text, 1000, ret_us))
        return true;
    import_pm2_wrong(a, n, "a time in milliseconds, or such as \"10s\",");
    return false;
}

/* ---- again ---- */

static void read_autorestart(struct import_pm2 *a)
{
    struct import_entry *e;
    const struct import_node *n = get(a, "autorestart", &e);

    if (!n)
        e = e ? e : import_default(a->im, a->w, "autorestart", "true");
    import_to(e, IMPORT_SERVICE, "Restart", n && !import_node_true(n) ? "no" : "always");
}

static void read_stop_codes(struct import_pm2 *a)
{
    struct import_entry *e;
    const struct import_node *n = get(a, "stop_exit_codes", &e);
    const char *list = n ? import_node_show(a->im, n) : "";

    if (!n)
        return;
    if (!*list) {
        import_same(e, "it is empty");
        return;
    }
    for (const char *s = list; *s;) {
        char *end;
        long v = strtol(s, &end, 10);
        if (end == s || v < 0 || v > 255 || (*end && *end != ' ')) {
            import_pm2_wrong(a, n, "a list of numbers from 0 to 255");
            return;
        }
        s = end + (*end == ' ');
    }
    import_to(e, IMPORT_SERVICE, "RestartPreventExitStatus", "%s", list);
}

/* delay_us: the longest before a start. */
static void read_limit(struct import_pm2 *a, double delay_us)
{
    struct import_entry *e, *of_uptime;
    const struct import_node *n = get(a, "max_restarts", &e), *uptime = get(a, "min_uptime", &of_uptime);
    double us = 1e6;
    uint64_t times = 16;
    char buf[IMPORT_SPAN];

    if (n && str_to_u64(n->text ? n->text : "", 1000000, &times) < 0) {
        import_pm2_wrong(a, n, "a number");
        return;
    }
    if (uptime && !span(a, uptime, &us))
        return;
    times += times == 0;
    if (!e)
        e = import_default(a->im, a->w, "max_restarts", "16");
    if (!of_uptime)
        of_uptime = import_default(a->im, a->w, "min_uptime", "1000");
    import_to(e, IMPORT_UNIT, "StartLimitBurst", "%llu", (unsigned long long)times);
    import_note(e, "then it cools down and is tried again, where pm2 gives up (errored)");
    import_to(of_uptime, IMPORT_UNIT, "StartLimitIntervalSec", "%s",
              import_words_write_span(us > 0 ? (us + delay_us) * (double)times : 0, buf));
    import_note(of_uptime, "what lives so long, max_restarts times in a row, is not counted");
}

#define GROWN_US 15e6 /* what exp_backoff_restart_delay grows to */

static double put_delay(struct import_entry *e, double us, double most_us)
{
    char buf[IMPORT_SPAN];

    most_us = most_us > us ? most_us : us;
    import_to(e, IMPORT_SERVICE, "RestartSec", "%s", import_words_write_span(us, buf));
    import_to(e, IMPORT_SERVICE, "RestartMaxDelaySec", "%s", import_words_write_span(most_us, buf));
    import_note(e, "the first retry is at once");
    return most_us;
}

/* The longest delay before a start, in microseconds. */
static double read_delay(struct import_pm2 *a)
{
    struct import_entry *e, *of_growing;
    const struct import_node *n = get(a, "restart_delay", &e),
                             *growing = get(a, "exp_backoff_restart_delay", &of_growing);
    double us = 0, growing_us = 0;

    if ((n && !span(a, n, &us)) || (growing && !span(a, growing, &growing_us)))
        return 0;
    if (growing && growing_us == 0)
        import_same(of_growing, "it does not grow");
    if (growing_us > 0) {
        if (n)
            import_none(e, "exp_backoff_restart_delay says it");
        return put_delay(of_growing, growing_us, GROWN_US);
    }
    if (!e)
        e = import_default(a->im, a->w, "restart_delay", "0");
    return put_delay(e, us >= 1000 ? us : IMPORT_DELAY_US, 0);
}

static void read_memory(struct import_pm2 *a)
{
    struct import_entry *e;
    const struct import_node *n = get(a, "max_memory_restart", &e);
    uint64_t v;

    if (!n)
        return;
    if (!n->text || !import_words_size(n->text, &v)) {
        import_pm2_wrong(a, n, "a size such as \"300M\"");
        return;
    }
    if (v == 0) {
        import_same(e, "no limit");
        return;
    }
    import_to(e, IMPORT_SERVICE, "MemoryMax", "%llu", (unsigned long long)v);
    import_note(e, "the kernel holds it for the whole tree and at once, where pm2 looks at one process from "
                   "time to time");
}

/* ---- stopping ---- */

static void read_stop(struct import_pm2 *a)
{
    static const char *const names[] = {"kill_timeout", "kill_timeout_ms", NULL};
    struct import_entry *e, *of_tree;
    const struct import_node *n = import_pm2_get(a, names, &e), *tree = get(a, "treekill", &of_tree);
    double us = 1600000;
    char buf[IMPORT_SPAN];

    if (n && !span(a, n, &us))
        return;
    if (!e)
        e = import_default(a->im, a->w, "kill_timeout", "1600");
    import_to(e, IMPORT_SERVICE, "TimeoutStopSec", "%s", import_words_write_timeout(us, buf));
    e = import_default(a->im, a->w, "(signal)", "SIGINT");
    import_to(e, IMPORT_SERVICE, "KillSignal", "SIGINT");
    import_note(e, "pm2's own, unless PM2_KILL_SIGNAL is set");
    if (tree && !import_node_true(tree)) {
        import_to(of_tree, IMPORT_SERVICE, "KillMode", "mixed");
        import_note(of_tree,
                    "what is left of its tree is killed at the end; KillMode=process leaves it, as pm2 does");
    } else if (tree) {
        import_same(of_tree, "the whole tree is ended");
    }
}

static void read_ready(struct import_pm2 *a)
{
    struct import_entry *e, *of_timeout;
    const struct import_node *n = get(a, "wait_ready", &e), *timeout = get(a, "listen_timeout", &of_timeout);
    bool waits = n && import_node_true(n);
    double us;
    char buf[IMPORT_SPAN];

    if (waits)
        import_none(e, "process.send('ready') goes to pm2's own channel; use Type=notify with sd_notify(3), "
                       "or ReadyCheck=");
    else if (n)
        import_same(e, "it is ready as soon as it runs");
    if (!timeout || !span(a, timeout, &us))
        return;
    if (waits && us > 0)
        import_to(of_timeout, IMPORT_SERVICE, "TimeoutStartSec", "%s", import_words_write_timeout(us, buf));
    else
        import_none(of_timeout, "it belongs to wait_ready and to clusters");
}

/* ---- output ---- */

static void put_output(struct import_pm2 *a, const struct import_node *n, struct import_entry *e,
                       const char *to)
{
    if (n->kind == IMPORT_NODE_LIST || n->kind == IMPORT_NODE_MAP)
        import_pm2_wrong(a, n, "a path");
    else if (str_eq(n->text, "/dev/null") || str_eq(n->text, "NULL"))
        import_to(e, IMPORT_SERVICE, to, "null");
    else if (*n->text == '~')
        import_pm2_wrong(a, n, "an absolute path");
    else if (str_starts(n->text, "/dev/"))
        import_none(e, "it is pm2's own output; agentd has a file for it: ALIAS.log in LogDirectory=");
    else
        import_to(e, IMPORT_SERVICE, to, "append:%s",
                  import_words_plain(a->im, import_words_path(a->im, a->cwd, n->text)));
}

/* pm2 has a file of its own for what is not named, and one for each instance. */
static void note_files(struct import_pm2 *a, const struct import_node *out, const struct import_node *err)
{
    static const char *const names[] = {"merge_logs", "combine_logs", NULL};
    struct import_entry *e;
    const struct import_node *n;

    if (out && !err) {
        e = import_default(a->im, a->w, "error_file", "a file of its own");
        if (str_eq(out->text, "/dev/null") || str_eq(out->text, "NULL"))
            import_to(e, IMPORT_SERVICE, "StandardError", "journal");
        else
            import_none(e, "it goes to where the standard output goes");
    }
    if ((!out && !err) || a->count < 2)
        return;
    n = import_pm2_get(a, names, &e);
    if (n && import_node_true(n))
        import_same(e, "what instances share is appended to by all");
    else
        import_none(e ? e : import_default(a->im, a->w, "merge_logs", "false"),
                    "each worker has the file that is named for it, which its instances share");
}

static void read_outputs(struct import_pm2 *a)
{
    static const char *const outs[] = {"out_file", "output", "out", NULL},
                             *const errs[] = {"error_file", "error", "err", NULL},
                             *const both[] = {"log_file", "log", NULL};
    struct import_entry *of_out, *of_err, *of_both;
    const struct import_node *out = import_pm2_get(a, outs, &of_out), *err = import_pm2_get(a, errs, &of_err),
                             *all = import_pm2_get(a, both, &of_both),
                             *off = import_node_get(a->node, "disable_logs");

    bool is_off = off && import_node_true(off);

    if (is_off) {
        struct import_entry *e;
        get(a, "disable_logs", &e);
        import_to(e, IMPORT_SERVICE, "StandardOutput", "null");
        if (out)
            import_none(of_out, "disable_logs says it");
        if (err)
            import_none(of_err, "disable_logs says it");
        out = err = NULL;
    }
    if (out)
        put_output(a, out, of_out, "StandardOutput");
    if (err)
        put_output(a, err, of_err, "StandardError");
    note_files(a, out, err);
    if (all && !out && !err && !is_off && !import_node_get(a->node, "out_file"))
        put_output(a, all, of_both, "StandardOutput");
    else if (all)
        import_none(of_both, "each output has one place");
}

/* ---- who ---- */

static void read_user(struct import_pm2 *a)
{
    static const char *const users[] = {"uid", "user", NULL}, *const groups[] = {"gid", NULL};
    static const struct {
        const char *const *names;
        const char *to;
        const char *(*wrong)(const char *s);
    } both[] = {{users, "User", import_words_user}, {groups, "Group", import_words_group}};

    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        struct import_entry *e;
        const struct import_node *n = import_pm2_get(a, both[i].names, &e);
        const char *why = n ? both[i].wrong(n->text) : NULL;
        if (why)
            import_error(a->im, n->at, "%s: %s %s", n->key, n->text, why);
        else if (n)
            import_to(e, IMPORT_SERVICE, both[i].to, "%s", import_words_plain(a->im, n->text));
    }
}

/* ---- the rest ---- */

static const char *why_none(const char *key, bool on)
{
    static const struct {
        const char *key, *why;
    } keys[] = {
        {"watch", "agentd restarts nothing because a file has changed"},
        {"ignore_watch", "agentd restarts nothing because a file has changed"},
        {"watch_delay", "agentd restarts nothing because a file has changed"},
        {"watch_options", "agentd restarts nothing because a file has changed"},
        {"cron_restart", "agentd has no schedules; cron or a systemd timer may call `agentctl restart`"},
        {"merge_logs",
         "each worker has the file that is named for it; what instances share is appended to by all"},
        {"combine_logs",
         "each worker has the file that is named for it; what instances share is appended to by all"},
        {"log_date_format", "agentd writes no date before a line"},
        {"time", "agentd writes no date before a line"},
        {"log_type", "agentd leaves lines as they are"},
        {"shutdown_with_message", "agentd sends a signal, no message"},
        {"namespace", "agentd has no namespaces: --match 'NAME*'"},
        {"version", "agentd knows no versions of programs"},
        {"source_map_support", "it is about node; write it in interpreter_args"},
        {"disable_source_map_support", "agentd does not touch source maps"},
        {"vizion", "agentd does not look at version control"},
        {"pmx", "agentd measures from outside"},
        {"automation", "agentd measures from outside"},
        {"trace", "agentd measures from outside"},
        {"deep_monitoring", "agentd measures from outside"},
        {"post_update", "agentd updates nothing"},
        {"append_env_to_name", "the alias is the name"},
        {"filter_env", "a worker has none of agentd's environment anyway"},
        {"force", "an alias is there once"},
        {"execute_command", "it is about how pm2 starts it"},
        {"write", "it is about pm2's own list"},
        {"disable_logs", "its output is kept"},
    };

    if (!on && !str_eq(key, "version"))
        return NULL; /* what is off is as agentd has it */
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq(keys[i].key, key))
            return keys[i].why;
    if (str_starts(key, "env_"))
        return "it is for `pm2 --env`; a drop-in ALIAS.conf.d/*.conf with Environment= does the same";
    return "agentctl does not know it";
}

static void read_rest(struct import_pm2 *a)
{
    for (struct import_node *n = a->node->first; n; n = n->next) {
        struct import_entry *e;
        const char *why;
        if (n->seen)
            continue;
        e = import_key(a->im, a->w, n->key_at, n->key, import_node_show(a->im, n));
        if ((why = why_none(n->key, import_node_true(n))))
            import_none(e, "%s", why);
        else
            import_same(e, "it is off");
    }
}

void import_pm2_keys(struct import_pm2 *a)
{
    read_autorestart(a);
    read_stop_codes(a);
    read_limit(a, read_delay(a));
    read_memory(a);
    read_stop(a);
    read_ready(a);
    read_outputs(a);
    read_user(a);
    read_rest(a);
}
