/* SPDX-License-Identifier: Apache-2.0 */
/* The later image's half: from its first instruction to the confirmation; and the return to the earlier one.
 * The environment says AGENTD_UPGRADE=MODE:MEMFD:OLD:CONFIRM:REASON, with descriptors as numbers. MODE: n a
 * new image, b back in the same process, r run by the guardian, s run from the stored program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg.h"
#include "agentd/op.h"
#include "agentd/upgrade.h"
#include "agentd/upgrade_image.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"
#include "proc/spawn.h"
#include "wire/wire.h"

static struct {
    enum upgrade_role role;
    int state_fd, old, confirm;
    struct state state;
    bool has_state;
    char reason[600], operation[32], runtime_dir[512];
} self = {.state_fd = -1, .old = -1, .confirm = -1};

const char *upgrade_program(void)
{
    return upgrade_image_path();
}

void upgrade_dirs(const char *runtime_dir, const char *state_dir, const char *rpc_path, unsigned deadline_ms)
{
    upgrade_image_dirs(runtime_dir, state_dir, rpc_path, deadline_ms);
}

enum upgrade_role upgrade_role(void)
{
    return self.role;
}

const struct state *upgrade_state(void)
{
    return self.has_state ? &self.state : NULL;
}

void upgrade_give_up(const char *why)
{
    int r;

    if (self.role != UPGRADE_NEW || self.old < 0)
        return;
    log_write(LOG_ERR, "upgrade", &(struct log_about){.event = "upgrade-failed"},
              "%s: the earlier program goes on", why);
    state_each_fd(&self.state, true);
    r = upgrade_image_run(self.old, 'b', self.state_fd, -1, self.confirm, why);
    log_error("upgrade", "the earlier program can't be run again: %s", strerror(-r));
}

static enum upgrade_role role_of(char mode)
{
    return mode == 'n'                  ? UPGRADE_NEW
           : mode == 'b'                ? UPGRADE_BACK
           : mode == 'r' || mode == 's' ? UPGRADE_ROLLBACK
                                        : UPGRADE_NONE;
}

static void take_words(const char *text)
{
    char mode = 0, rest[1300] = "";
    char *path;

    if (sscanf(text, "%c:%d:%d:%d:%1299[^\n]", &mode, &self.state_fd, &self.old, &self.confirm, rest) < 4)
        return;
    self.role = role_of(mode);
    if (mode == 's' && (path = strrchr(rest, '\t'))) { /* where it was installed */
        *path = 0;
        upgrade_image_set_path(path + 1);
    }
    str_copy(self.reason, sizeof(self.reason), rest);
}

static void take_line(void)
{
    const char *l = state_next(&self.state, "upgrade", NULL);
    _cleanup_free_ char *operation = l ? state_get_text(&self.state, l, "operation") : NULL,
                        *installed = l ? state_get_text(&self.state, l, "path") : NULL;

    if (operation)
        str_copy(self.operation, sizeof(self.operation), operation);
    /* Where the earlier program was may be known to nobody else by now. */
    if (installed && self.role != UPGRADE_NEW)
        upgrade_image_set_path(installed);
}

enum upgrade_role upgrade_begin(char **argv)
{
    const char *text = getenv(UPGRADE_ENV);
    struct err err = {0};

    upgrade_image_init(argv);
    if (!text)
        return UPGRADE_NONE;
    take_words(text);
    unsetenv(UPGRADE_ENV);
    if (self.state_fd < 0)
        return self.role;
    self.has_state = state_read(self.state_fd, &self.state, &err) == 0;
    if (!self.has_state) {
        upgrade_give_up(err.text);
        log_error("upgrade", "%s", err.text);
    } else {
        take_line();
    }
    return self.role;
}

/* The limits that the first image was started with are the workers'. */
static void take_limits(void)
{
    const char *l = state_next(&self.state, "upgrade", NULL);

    if (l && state_get_u64(&self.state, l, "nofile_max"))
        spawn_set_first_nofile((struct rlimit){state_get_u64(&self.state, l, "nofile_cur"),
                                               state_get_u64(&self.state, l, "nofile_max")});
}

static bool is_self(const struct upgrade_marker *m)
{
    struct stat st;

    return stat("/proc/self/exe", &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino;
}

void upgrade_look_back(const char *runtime_dir)
{
    struct upgrade_marker m;
    char text[1300];
    int fd;

    str_copy(self.runtime_dir, sizeof(self.runtime_dir), runtime_dir);
    if (self.has_state)
        take_limits();
    if (self.role == UPGRADE_NEW || self.role == UPGRADE_BACK || upgrade_image_marker(runtime_dir, &m) < 0)
        return;
    str_copy(self.operation, sizeof(self.operation), m.operation);
    if (self.role == UPGRADE_NONE) {
        self.role = UPGRADE_ROLLBACK;
        str_copy(self.reason, sizeof(self.reason), m.reason);
        if (!is_self(&m))
            return; /* another program was installed since: that is what is wanted now */
        log_write(LOG_ERR, "upgrade", &(struct log_about){.event = "upgrade-failed"},
                  "%s: the program of before is run", m.reason);
        snprintf(text, sizeof(text), "%s\t%s", m.reason, m.path);
        setenv("AGENTD_RPC", m.rpc, 1);
        fd = open(m.stored, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        sdn_pass_on(); /* it is this process's start as much as it is ours */
        if (fd >= 0)
            upgrade_image_run(fd, 's', -1, -1, -1, text);
        fd_close(fd);
        log_error("upgrade", "%s can't be run: %s", m.stored, strerror(errno));
    }
}

#define TELL_TRIES 3

/* It would end us: one failure is not believed. */
static void tell_guardian(void)
{
    for (int i = 0; i < TELL_TRIES; i++)
        if (write(self.confirm, "C", 1) == 1)
            return;
    log_error("upgrade", "the guardian does not hear: %s", strerror(errno));
}

void upgrade_confirm(void)
{
    struct op *o;
    char text[200];

    if (self.role != UPGRADE_NEW && self.role != UPGRADE_BACK)
        return;
    upgrade_image_unmark(self.runtime_dir);
    if (self.confirm >= 0)
        tell_guardian();
    self.confirm = fd_close(self.confirm);
    self.old = fd_close(self.old);
    if (self.role == UPGRADE_NEW && (o = (struct op *)op_find(self.operation)) && o->result == OP_RUNNING) {
        snprintf(text, sizeof(text), "agentd %s has taken over", PACKAGE_VERSION);
        op_end(o, true, WIRE_OK, text);
    }
    self.role = UPGRADE_NONE;
}

const char *upgrade_unconfirmed(void)
{
    return self.role == UPGRADE_NEW ? self.operation : NULL;
}

static void tell(struct op *o)
{
    bool own = str_eq(o->id, self.operation);
    char text[700];

    if (self.role == UPGRADE_NEW && own)
        return;
    if (self.role != UPGRADE_NONE && own)
        snprintf(text, sizeof(text), "rolled back: %s", self.reason);
    else
        str_copy(text, sizeof(text), "agentd ended before the new program was run");
    op_end(o, false, WIRE_E_UPGRADE_FAILED, text);
}

void upgrade_verdict(void)
{
    struct op *o;

    TAILQ_FOREACH (o, &op_all, link)
        if (o->verb == WIRE_VERB_UPGRADE && o->result == OP_RUNNING)
            tell(o);
    if (self.role == UPGRADE_ROLLBACK)
        upgrade_image_unmark(self.runtime_dir);
    if (self.role == UPGRADE_BACK)
        upgrade_confirm(); /* it is what ran before: nothing is left to wait for */
}

/* The guardian kept the workers' pidfds open for their status. */
static void close_pidfds(void)
{
    for (const char *l = state_next(&self.state, "worker", NULL); l; l = state_next(&self.state, "worker", l))
        fd_close(state_get_fd(&self.state, l, "main_fd"));
}

void upgrade_release(void)
{
    if (self.role == UPGRADE_ROLLBACK && self.has_state)
        close_pidfds();
    state_done(&self.state);
    self.has_state = false;
    self.state_fd = fd_close(self.state_fd);
}

/* --- before: would it work? ---------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    printf("%s\n", why);
    return 2;
}

static bool has_wire(const struct state *s)
{
    for (const char *l = state_next(s, "peer", NULL); l; l = state_next(s, "peer", l)) {
        int64_t v = state_get(s, l, "wire");
        if (v && (v < WIRE_VERSION - 1 || v > WIRE_VERSION + 1))
            return false;
    }
    return true;
}

int upgrade_check(const char *config_file)
{
    const char *number = getenv(UPGRADE_CHECK_ENV);
    struct cfg_report report;
    struct cfg *cfg = NULL;
    struct state s;
    struct err err = {0};
    int r;

    if (!number || state_read(atoi(number), &s, &err) < 0)
        return refuse(number ? err.text : "--check-state is what an agentd runs before it upgrades");
    r = has_wire(&s) ? 0 : refuse("its wire to listeners that are still at work is too far from this one's");
    state_done(&s);
    if (r)
        return r;
    cfg_report_init(&report);
    r = cfg_load(config_file, &report, &cfg);
    if (r < 0)
        refuse(report.errors.len ? report.errors.p : "the configuration can't be read");
    cfg_free(cfg);
    cfg_report_free(&report);
    return r < 0 ? 2 : 0;
}
