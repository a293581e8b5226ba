/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_mix.h"
#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

#define WK(field) offsetof(struct wk_def, field), sizeof(((struct wk_def *)0)->field)
#define AG(field) offsetof(struct cfg, field), sizeof(((struct cfg *)0)->field)
#define CFG_KEY(section, name, parse, target, flags, min, max, cost, mixer) \
    {section, name, parse, target, flags, min, max, cost, mixer},
static const struct cfg_key keys[] = {
#include "agentd/cfg_keys.def"
};

struct known {
    enum cfg_section section;
    const char *name;
};

#define CFG_SYSTEMD(section, name) {section, name},
static const struct known of_systemd[] = {
#include "agentd/cfg_systemd.def"
};

static const char *const sections[CFG_SECTION_MAX] = {"Unit", "Service", "Worker", "Install", "Agent", "Rpc"};

/* Where the plain defaults are; what is not named is zero. */
static const struct wk_def default_def = {
    .operable = true,
    .type = CFG_SIMPLE,
    .umask = 0022,
    .dir_modes = {0755, 0755, 0755, 0755},
    .ignore_sigpipe = true,
    .restart = CFG_RESTART_DEFAULT,
    .restart_us = 100000,
    .restart_max_us = 30000000,
    .limit_interval_us = 10000000,
    .limit_burst = 5,
    .stop_timeout_us = 90000000,
    .kill_signal = SIGTERM,
    .kill_mode = CFG_KILL_CGROUP,
    .send_sigkill = true,
    .health_interval_us = 10000000,
    .health_timeout_us = 5000000,
    .health_retries = 3,
    .log_max_files = 10,
};
static const struct cfg default_cfg = {
    .agent = {.stop_workers = CFG_STOP_AUTO,
              .start_pressure = 95,
              .sample_max_age_ms = 1000,
              .upgrade_timeout_ms = 20000},
    .rpc = {.reply_deadline_ms = 120000,
            .request_deadline_ms = LIMIT_HTTP_REQUEST_SEC * 1000,
            .max_connections = LIMIT_HTTP_CONNECTIONS,
            .max_request_bytes = LIMIT_HTTP_BODY,
            .max_per_source = LIMIT_HTTP_PER_SOURCE,
            .max_header_bytes = LIMIT_HTTP_HEADER_BYTES,
            .max_headers = LIMIT_HTTP_HEADERS,
            .max_requests = LIMIT_HTTP_REQUESTS,
            .max_log_streams = LIMIT_HTTP_STREAMS,
            .max_event_streams = LIMIT_HTTP_EVENTS,
            .max_operations = LIMIT_OPERATIONS,
            .idle_ms = LIMIT_HTTP_IDLE_SEC * 1000,
            .heartbeat_ms = LIMIT_HTTP_HEARTBEAT_SEC * 1000},
};

void cfg_keys_defaults(struct cfg *cfg, struct wk_def *def)
{
    if (cfg)
        *cfg = default_cfg;
    if (def)
        *def = default_def;
}

const struct cfg_key *cfg_keys_all(size_t *n)
{
    *n = ARRAY_LEN(keys);
    return keys;
}

bool cfg_keys_of_worker(enum cfg_section s)
{
    return s == CFG_UNIT || s == CFG_SERVICE || s == CFG_WORKER || s == CFG_INSTALL;
}

/* The section of that name that this kind of file has, or CFG_SECTION_MAX. */
static enum cfg_section section_of(struct cfg_ctx *c, const char *name)
{
    for (unsigned s = 0; s < CFG_SECTION_MAX; s++)
        if (cfg_keys_of_worker(s) == (c->def != NULL) && str_eq(sections[s], name))
            return s;
    return CFG_SECTION_MAX;
}

static void heading(struct cfg_ctx *c, const struct cfg_line *l)
{
    enum cfg_section s = section_of(c, l->section);
    char hint[CFG_HINT_MAX];
    const char *best = NULL;
    unsigned distance = 0;

    if (s == CFG_INSTALL)
        cfg_warn(c, l, CFG_AT_KEY,
                 "[Install] has no effect: agentd starts every worker of WorkersDirectory=");
    if (s != CFG_SECTION_MAX || str_starts(l->section, "X-"))
        return;
    for (unsigned i = 0; i < CFG_SECTION_MAX; i++)
        if (cfg_keys_of_worker(i) == (c->def != NULL))
            cfg_nearer(l->section, sections[i], &best, &distance);
    cfg_error(c, l, CFG_AT_KEY, "unknown section [%s]%s", l->section,
              cfg_hint(l->section, best, distance, hint));
}

static const struct cfg_key *find(enum cfg_section s, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (keys[i].section == s && str_eq(keys[i].name, name))
            return &keys[i];
    return NULL;
}

static bool knows(const struct known *v, size_t n, enum cfg_section s, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].section == s && str_eq(v[i].name, name))
            return true;
    return false;
}

static void unknown(struct cfg_ctx *c, enum cfg_section s, const struct cfg_line *l)
{
    char hint[CFG_HINT_MAX];
    const char *best = NULL;
    unsigned distance = 0;

    for (unsigned other = 0; other < CFG_SECTION_MAX; other++)
        if (other != s && cfg_keys_of_worker(other) == cfg_keys_of_worker(s) && find(other, l->key)) {
            cfg_error(c, l, CFG_AT_KEY, "%s= belongs in [%s], not in [%s]", l->key, sections[other],
                      sections[s]);
            return;
        }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (keys[i].section == s)
            cfg_nearer(l->key, keys[i].name, &best, &distance);
    cfg_error(c, l, CFG_AT_KEY, "unknown key %s= in [%s]%s", l->key, sections[s],
              cfg_hint(l->key, best, distance, hint));
}

/* "Key=": back to the default, where the parser itself has nothing else to do. */
static bool reset(struct cfg_ctx *c, const struct cfg_key *k, void *target)
{
    const char *defaults = c->def ? (const char *)&default_def : (const char *)&default_cfg;

    if (k->flags & CFG_PLAIN)
        memcpy(target, defaults + k->offset, k->size);
    if (k->flags & CFG_STRING) {
        free(*(char **)target);
        *(char **)target = NULL;
    }
    return k->flags & (CFG_PLAIN | CFG_STRING);
}

static void apply(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l)
{
    void *target = (c->def ? (char *)c->def : (char *)c->cfg) + k->offset;
    _cleanup_free_ char *value = NULL;

    if (!*l->value && k->parse != cfg_value_timeout_both && reset(c, k, target))
        return;
    if (!(k->flags & CFG_SPECIFIERS))
        k->parse(c, k, l, l->value, target);
    else if ((value = cfg_spec(c, l, 0, l->value)))
        k->parse(c, k, l, value, target);
}

static void assign(struct cfg_ctx *c, const struct cfg_line *l)
{
    enum cfg_section s = section_of(c, l->section);
    const struct cfg_key *k;

    if (s == CFG_SECTION_MAX || s == CFG_INSTALL || str_starts(l->key, "X-"))
        return;
    if ((k = find(s, l->key)))
        apply(c, k, l);
    else if (knows(of_systemd, ARRAY_LEN(of_systemd), s, l->key))
        cfg_warn(c, l, CFG_AT_KEY, "%s= is systemd's, agentd does not have it, and it has no effect", l->key);
    else
        unknown(c, s, l);
}

void cfg_keys_apply(struct cfg_ctx *c, const struct cfg_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        if (lines->v[i].key)
            assign(c, &lines->v[i]);
        else
            heading(c, &lines->v[i]);
}
