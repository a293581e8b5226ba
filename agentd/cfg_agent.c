/* SPDX-License-Identifier: Apache-2.0 */
/* agentd.conf: its lines, the defaults that need all of them, and what they name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_trust.h"
#include "base/fd.h"
#include "base/str.h"

#ifndef SBINDIR
#define SBINDIR "/usr/local/sbin"
#endif

static void or_default(struct cfg_ctx *c, char **field, const char *value)
{
    if (!*field)
        *field = cfg_dup(c, value);
}

/* The folder that agentd is installed below: the one above SBINDIR. */
static void default_home(struct cfg_ctx *c, char **field)
{
    char home[] = SBINDIR;
    char *slash = strrchr(home, '/');

    if (slash && slash != home)
        *slash = 0;
    or_default(c, field, home);
}

static void check_workers_dir(struct cfg_ctx *c)
{
    struct err e = {0};
    const char *path = c->cfg->agent.workers_dir;
    _cleanup_close_ int fd = path ? cfg_trust_open(AT_FDCWD, path, CFG_TRUST_DIR, &e) : -1;

    if (fd >= 0 || !path)
        return;
    if (c->workers_dir_at)
        cfg_error(c, c->workers_dir_at, 0, "WorkersDirectory=%s: %s", path, e.text);
    else
        cfg_error_in(c, c->file, 1, 1, "WorkersDirectory=%s: %s", path, e.text);
}

static void finish(struct cfg_ctx *c)
{
    struct cfg_agent *a = &c->cfg->agent;
    struct cfg_rpc *r = &c->cfg->rpc;

    default_home(c, &a->install_home);
    if (!a->host_ip && !(a->host_ip = cfg_listen_host_ip()))
        cfg_oom(c);
    or_default(c, &a->workers_dir, "/etc/agentd/workers.d");
    or_default(c, &a->runtime_dir, "/run/agentd");
    or_default(c, &a->state_dir, "/var/lib/agentd");
    or_default(c, &a->log_dir, "/var/log/agentd");
    if (a->agent_id == 0)
        a->agent_id = a->host_id;
    or_default(c, &r->credentials, "/etc/agentd/credentials");
    or_default(c, &r->user, "agentd-rpc");
    or_default(c, &r->manager_group, "agentd");
    or_default(c, &r->viewer_group, "");
    if (a->runtime_dir)
        cfg_listen_finish(c);
    if (r->credentials)
        cfg_credentials_check(c);
    cfg_tls_finish(c);
    check_workers_dir(c);
}

/* The drop-ins beside file. */
static void read_dropins(struct cfg_ctx *c, const char *file, struct cfg_lines *lines)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    size_t n = strlen(name), stem = n > 5 && str_eq(name + n - 5, ".conf") ? n - 5 : n;
    _cleanup_free_ char *dir =
        slash ? strndup(file, slash == file ? 1 : (size_t)(slash - file)) : strdup(".");
    _cleanup_free_ char *copy = strndup(name, stem);
    struct err e = {0};
    _cleanup_close_ int fd = -1;

    if (!dir || !copy) {
        cfg_oom(c);
        return;
    }
    if (stem == n || (fd = cfg_trust_open(AT_FDCWD, dir, CFG_TRUST_DIR, &e)) < 0)
        return; /* the file itself has come that way: nothing is lost without its folder */
    cfg_dropins_read(c, fd, dir, copy, lines);
}

int cfg_agent_read(struct cfg *cfg, struct cfg_report *report)
{
    struct cfg_ctx c = {.report = report, .cfg = cfg, .file = cfg->file, .names = {"agentd", "agentd"}};
    struct cfg_lines lines = {0};
    bool masked;

    if (cfg_file_read(&c, AT_FDCWD, cfg->file, cfg->file, &lines, &masked)) {
        read_dropins(&c, cfg->file, &lines);
        cfg_keys_apply(&c, &lines);
        finish(&c);
    }
    cfg_lines_free(&lines);
    return c.n_errors ? -EINVAL : 0;
}
