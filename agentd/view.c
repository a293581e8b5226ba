/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/notify.h"
#include "agentd/sup.h"
#include "agentd/wk_hook.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/caps.h"
#include "proc/ports.h"
#include "proc/snap.h"
#include "wire/wire.h"

#define PORTS_TEXT (LIMIT_WIRE_STRING + 1)
#define IDS_MAX 256 /* cgroups of one worker that its sockets are looked up by */
#define JUST_STARTED_US 500
#define LEFTOVERS_TEXT 1024

static int tree_of(const struct wk *w, struct snap_tree *tree)
{
    if (w->leaf.fd < 0 && !w->main.pid) { /* up by RemainAfterExit= */
        *tree = (struct snap_tree){0};
        return 0;
    }
    return w->leaf.fd >= 0 ? snap_tree_of_leaf(&w->leaf, tree) : snap_tree_seen(w->main.pid, tree);
}

/* The cgroups that a worker's sockets are known by. 0: they are to be found by descriptors, since there is no
 * leaf, or the kernel does not tell the cgroup of a socket, or the leaf has more below it than are looked up,
 * or it was adopted and its sockets may be older than its leaf, or agentd made some of them. */
static size_t find_cgroups(const struct wk *w, const struct ports_table *t, uint64_t ids[IDS_MAX])
{
    bool own = t->by_cgroup && w->leaf.fd >= 0 && !w->adopted && !w->def->n_sockets;
    ssize_t n = own ? cgroup_leaf_ids(&w->leaf, ids, IDS_MAX) : 0;

    return n > 0 && n <= IDS_MAX ? (size_t)n : 0;
}

static char *find_ports(const struct wk *w, const struct ports_table *t, const struct snap_tree *tree,
                        char *text)
{
    enum caps_scope scope;
    uint64_t ids[IDS_MAX];
    size_t n = find_cgroups(w, t, ids);

    if (n)
        return ports_of_cgroups(t, ids, n, text, PORTS_TEXT);
    scope = caps_enter(CAPS_LOOK);
    ports_of_pids(t, tree->pids, tree->n, text, PORTS_TEXT);
    caps_enter(scope);
    return text;
}

/* As the leaf counts it, which knows also those that have ended; but only of those that were born there. */
static bool take_usage_of_leaf(struct wk *w, bool *has_memory)
{
    uint64_t cpu;

    *has_memory = false;
    if (w->leaf.fd < 0 || !w->cpu_from || cgroup_res_read(&w->leaf, "cpu.stat", "usage_usec", &cpu) < 0)
        return false;
    *has_memory = wk_host.cgroups.controllers & CGROUP_MEMORY &&
                  cgroup_res_read(&w->leaf, "memory.current", NULL, &w->memory) == 0;
    w->cpu_us = cpu + 1 > w->cpu_from ? cpu + 1 - w->cpu_from : 0;
    return true;
}

static void take_usage(struct wk *w, const struct snap_tree *tree)
{
    struct snap_usage usage = {.processes = (unsigned)tree->n};
    bool has_memory, has_cpu = take_usage_of_leaf(w, &has_memory);

    if (!has_cpu || !has_memory)
        snap_usage(tree, &usage);
    w->processes = usage.processes;
    w->cpu_us = has_cpu ? w->cpu_us : usage.cpu_us;
    w->memory = has_memory ? w->memory : usage.memory;
}

static void take_sample(struct wk *w, const struct ports_table *t)
{
    struct snap_tree tree;
    char text[PORTS_TEXT];

    w->sampled_us = clock_mono_us();
    if (!wk_is_alive(w) || tree_of(w, &tree) < 0)
        return;
    take_usage(w, &tree);
    find_ports(w, t, &tree, text);
    w->active_us = clock_wall_us();
    if (!w->ports || !str_eq(w->ports, text)) {
        free(w->ports);
        w->ports = text[0] ? strdup(text) : NULL;
    }
    snap_tree_done(&tree);
    wk_changed(w);
}

void view_sample(struct wk *w)
{
    struct ports_table t;

    if (ports_dump(&t) < 0)
        return;
    take_sample(w, &t);
    ports_done(&t);
}

void view_sample_all(void)
{
    struct ports_table t;
    struct wk *w;

    if (ports_dump(&t) < 0)
        return;
    TAILQ_FOREACH (w, &sup_workers, link)
        take_sample(w, &t);
    ports_done(&t);
}

/* At its exec a process is alone in a leaf that was seen empty and has no descriptor but the first three: it
 * has no port, and nobody has to be asked while the new program wants the processor. */
void view_sample_new(struct wk *w)
{
    if (w->leaf.fd < 0 || w->def->type == CFG_NOTIFY || w->def->ready || w->def->n_sockets ||
        wk_lived_us(w) > JUST_STARTED_US) {
        view_sample(w);
        return;
    }
    free(TAKE_PTR(w->ports));
    w->processes = 1;
    w->cpu_us = w->memory = 0;
    w->active_us = clock_wall_us();
    wk_changed(w);
}

int view_listens(struct wk *w, unsigned port)
{
    struct ports_table t;
    struct snap_tree tree;
    uint64_t ids[IDS_MAX];
    size_t n;
    int found;

    if ((found = ports_dump(&t)) < 0)
        return found;
    if ((n = find_cgroups(w, &t, ids))) {
        found = ports_cgroups_listen(&t, ids, n, port);
    } else if ((found = tree_of(w, &tree)) == 0) {
        enum caps_scope scope = caps_enter(CAPS_LOOK);
        found = ports_pids_listen(&t, tree.pids, tree.n, port);
        caps_enter(scope);
        snap_tree_done(&tree);
    }
    ports_done(&t);
    return found;
}

static size_t put_members(const struct cgroup_leaf *leaf, char *text, size_t at, size_t size)
{
    struct snap_tree tree;

    if (snap_tree_of_leaf(leaf, &tree) < 0)
        return at;
    for (size_t i = 0; i < tree.n && at + 12 < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%d", at ? "," : "", (int)tree.pids[i]);
    snap_tree_done(&tree);
    return at;
}

/* Those in leaves that are retired and not empty yet; and, when nothing runs, in the last one. */
void view_leftovers(const struct wk *w, char *text, size_t size)
{
    unsigned n = w->state == WK_DOWN ? w->leaf_no + 1u : w->leaf_no;
    char name[LIMIT_ALIAS + 8];
    struct cgroup_leaf leaf;
    enum caps_scope scope;
    size_t at = 0;

    text[0] = 0;
    if (wk_host.cgroups.fd < 0 || w->def->kill_mode != CFG_KILL_PROCESS)
        return;
    scope = caps_enter(CAPS_FILES);
    for (unsigned no = 0; no < n; no++) {
        wk_leaf_name(w, no, name);
        if (cgroup_leaf_find(&wk_host.cgroups, name, &leaf) < 0)
            continue;
        at = put_members(&leaf, text, at, size);
        cgroup_leaf_done(&leaf);
    }
    caps_enter(scope);
}

static const char *exit_kind(const struct wk_exit *e, const struct wk_oom *o)
{
    static const char *const kinds[] = {
        [WK_END_EXITED] = "exited",   [WK_END_SIGNALLED] = "killed",          [WK_END_DUMPED] = "dumped",
        [WK_END_UNKNOWN] = "unknown", [WK_END_SPAWN_FAILED] = "spawn-failed", [WK_END_TIMEOUT] = "timeout"};

    return !e->at_us ? "" : o->main ? "oom-killed" : kinds[e->end];
}

/* The kernel's uid in words, if it is the one that was configured. */
static const char *user_of(const struct wk *w, char *text, size_t size)
{
    if (w->def->ids.user && (w->main.pid == 0 || w->uid == w->def->ids.uid))
        return w->def->ids.user;
    if (w->def->fault) /* nobody, but this is who was wanted */
        return w->def->user_name;
    snprintf(text, size, "%u", (unsigned)w->uid);
    return text;
}

/* As many ports as a record has room for beside its other long texts. */
static const char *fit_ports(const struct wire_record *r, const char *ports)
{
    static char cut[PORTS_TEXT];
    size_t others = 1024 + strlen(r->description) + strlen(r->start_command) + strlen(r->log_pattern) +
                    strlen(r->output) + (r->message ? strlen(r->message) : 0);
    size_t room = others + 1024 < LIMIT_WIRE_RECORD ? LIMIT_WIRE_RECORD - others : 1024;

    if (!ports || strlen(ports) <= room)
        return ports;
    str_copy(cut, room + 1, ports);
    *strrchr(cut, ',') = 0;
    return cut;
}

static void fill_process(const struct wk *w, struct wire_record *r)
{
    if (!wk_is_alive(w))
        return;
    r->alive = 1;
    r->ownership = w->adopted ? "adopted" : "child";
    r->pid = (uint32_t)w->main.pid;
    r->start_ticks = w->main.start;
    r->start_boot_us = pidref_start_us(w->main.start);
    r->ports = fit_ports(r, w->ports);
    r->processes = w->processes;
    r->cpu_us = w->cpu_us;
    r->memory = w->memory;
}

static const char *stale_of(const struct wk *w)
{
    static const char *const words[] = {
        "",        "definition",         "file",         "definition,file",
        "program", "definition,program", "file,program", "definition,file,program"};

    return words[w->stale + 2 * w->broken + 4 * w->stale_program];
}

void view_put_record(struct wk *w, struct buf *b)
{
    const struct wk_def *d = w->def;
    char user[16], lost[200], oom[200], leftovers[LEFTOVERS_TEXT];
    struct wire_record r = {
        .id = w->id,
        .alias = d->alias,
        .description = d->description,
        .state = wk_fsm_state_name(w->state),
        .goal = w->goal == WK_GOAL_UP ? "UP" : "DOWN",
        .reason = wk_fsm_reason_name(w->reason),
        .message = w->message,
        .ready = w->ready,
        .operable = d->operable,
        .generation = w->generation,
        .uid = w->uid,
        .user = user_of(w, user, sizeof(user)),
        .cgroup_id = w->leaf.id,
        .start_command = d->exec.text,
        .log_pattern = d->log_pattern,
        .output = d->out.kind == CFG_OUT_APPEND ? d->out.path : "",
        .sampled_us = w->sampled_us,
        .restarts = w->restarts,
        .attempts = w->backoff.attempts,
        .since_us = w->since_us,
        .active_us = w->active_us,
        .create_us = w->create_us,
        .update_us = w->update_us,
        .retry_us = w->retry_us,
        .exit_kind = exit_kind(&w->last, &w->last_oom),
        .exit_status = w->last.status,
        .exit_us = w->last.at_us,
        .exit_pid = (uint32_t)w->last.pid,
        .goal_by = w->goal_by ? w->goal_by : "config",
        .goal_us = w->goal_us,
        .stale = stale_of(w),
        .status_text = notify_status(w),
        .phase = w->waiting || w->stop_waits ? "waiting"
                 : w->hook                   ? wk_hook_phase(w)
                                             : notify_phase(w),
        .health = wk_health_name(w),
        .health_why = wk_health_why(w),
        .leftovers = leftovers,
        .no_effect = wk_res_lost(w, "", lost, sizeof(lost)),
        .exit_message = wk_res_oom_text(&w->last_oom, oom, sizeof(oom)),
    };

    view_leftovers(w, leftovers, sizeof(leftovers));
    fill_process(w, &r);
    wire_put_record(b, &r);
}
