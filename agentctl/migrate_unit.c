/* SPDX-License-Identifier: Apache-2.0 */
/* systemd's unit of the peer. Believed is only what systemd says of it now, before and after each change:
 * systemctl show. systemd.unit(5), systemd.service(5). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/migrate.h"
#include "base/fd.h"
#include "base/str.h"

#define RUNTIME "/run/systemd/system"
#define SAID_MAX (1 << 20)
#define END_MS 10000
#define LOOK_MS 50
#define ANCESTORS 64 /* looks up the tree */

/* --- systemctl ------------------------------------------------------------------------------------------ */

static int systemctl(const char *verb, const char *unit)
{
    const char *const words[] = {"systemctl", "--quiet", verb, unit, NULL};
    int r = migrate_program(words, NULL);

    if (r != 0)
        options_complain("migrate: systemctl %s failed", verb);
    return r == 0 ? 0 : -EIO;
}

/* What systemd has of the unit now. 0, or -EIO, and it was told. Free ret. */
static int show(const struct migrate *m, struct buf *ret)
{
    const char *const words[] = {
        "systemctl",
        "show",
        "--property=MainPID,Restart,RestartForceExitStatus,KillMode,ExecStop,ExecStopPost,"
        "WatchdogUSec,TriggeredBy,UpheldBy,OnSuccess,BoundBy,UnitFileState,WantedBy,RequiredBy,"
        "ActiveState",
        "--",
        m->unit,
        NULL};
    int r = migrate_program(words, ret);

    buf_char(ret, 0);
    if (r == 0 && !ret->error)
        return 0;
    options_complain("migrate: systemctl show %s failed", m->unit);
    return -EIO;
}

/* "": it is not there, or not set. */
static const char *property(const struct buf *said, const char *name, char value[MIGRATE_VALUE])
{
    size_t len = strlen(name);
    const char *at = said->p;

    value[0] = 0;
    while (at && *at && !(strncmp(at, name, len) == 0 && at[len] == '='))
        at = (at = strchr(at, '\n')) ? at + 1 : NULL;
    if (at && *at)
        snprintf(value, MIGRATE_VALUE, "%.*s", (int)strcspn(at + len + 1, "\n"), at + len + 1);
    return value;
}

/* --- which it is ---------------------------------------------------------------------------------------- */

/* The first part of a cgroup's path that is a service's: "/system.slice/NAME.service/...". */
static bool name_in(const char *path, char unit[MIGRATE_UNIT])
{
    for (const char *at = path; *at; at += strcspn(at, "/")) {
        size_t n;
        at += strspn(at, "/");
        n = strcspn(at, "/");
        if (n > strlen(".service") && n < MIGRATE_UNIT &&
            strncmp(at + n - strlen(".service"), ".service", strlen(".service")) == 0) {
            snprintf(unit, MIGRATE_UNIT, "%.*s", (int)n, at);
            return true;
        }
    }
    return false;
}

/* cgroups(7): a line is "number:controllers:path". */
static void find_name(struct migrate *m)
{
    char path[32], text[4096], *save = NULL, *line, *at;

    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)m->peer.pid);
    if (fd_read_file(AT_FDCWD, path, text, sizeof(text)) <= 0)
        return;
    for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if ((at = strchr(line, ':')) && (at = strchr(at + 1, ':')) && name_in(at + 1, m->unit))
            return;
}

static bool descends(pid_t pid, pid_t from)
{
    for (int i = 0; i < ANCESTORS && pid > 1; i++)
        if ((pid = migrate_parent(pid)) == from)
            return true;
    return false;
}

/* NULL, or what would start it anew all the same, whatever is done with the unit. */
static const char *unfit(const struct buf *said, char value[MIGRATE_VALUE])
{
    if (*property(said, "TriggeredBy", value))
        return "starts it: stop and disable that first";
    if (*property(said, "UpheldBy", value))
        return "keeps it up: that can't be disabled from here";
    if (*property(said, "OnSuccess", value))
        return "would be started by its end: take it out of OnSuccess= first";
    if (*property(said, "BoundBy", value))
        return "would be stopped with it: take it out of that one's BindsTo= first";
    property(said, "WatchdogUSec", value);
    if (*value && !str_eq(value, "0") && !str_eq(value, "infinity"))
        return "is its WatchdogSec=: halted it would be killed. Unset it first, and restart the unit";
    property(said, "UnitFileState", value);
    if (str_eq(value, "static") &&
        (*property(said, "WantedBy", value) || *property(said, "RequiredBy", value)))
        return "starts it at boot, and it has no [Install] section: remove that first";
    return NULL;
}

/* Without a unit: who has started it may do so again. One that was left to process 1 has nobody. */
static int judge_parent(const struct migrate *m)
{
    pid_t parent = migrate_parent(m->peer.pid);

    if (parent == 1)
        return 0;
    options_complain("migrate: the peer is a child of process %d, which may start it anew: end that one, or "
                     "let systemd run the peer, first",
                     (int)parent);
    return -1;
}

static int judge(struct migrate *m, const struct buf *said)
{
    char value[MIGRATE_VALUE];
    pid_t main = (pid_t)strtol(property(said, "MainPID", value), NULL, 10);
    const char *why;

    if (main && main != m->peer.pid && descends(m->peer.pid, main)) {
        options_complain(
            "migrate: the peer runs below process %d of %s, which may start it anew: let systemd "
            "run it directly first",
            (int)main, m->unit);
        return -1;
    }
    if (main && main != m->peer.pid) { /* started by hand out of some service: not its business */
        m->unit[0] = 0;
        return judge_parent(m);
    }
    if ((why = unfit(said, value)))
        options_complain("migrate: %s: %s %s", m->unit, value, why);
    return why ? -1 : 0;
}

int migrate_find_unit(struct migrate *m)
{
    struct buf said = BUF_INIT(SAID_MAX);
    int r = 0;

    m->unit[0] = 0;
    if (access(RUNTIME, F_OK) == 0)
        find_name(m);
    if (!m->unit[0])
        return judge_parent(m);
    r = show(m, &said) < 0 ? -1 : judge(m, &said);
    buf_free(&said);
    return r;
}

/* --- holding it ----------------------------------------------------------------------------------------- */

/* In /run: a reboot forgets it. SuccessExitStatus: killed as it will be it has not failed, which would run
 * OnFailure=. Dependencies can't be taken away from a unit, all else can. */
static const char drop_in[] = "# agentctl migrate is at work: " MIGRATE_DROP_IN "\n"
                              "[Unit]\nConditionPathExists=/proc/self/agentctl-migrate\n"
                              "[Service]\nRestart=no\nRestartForceExitStatus=\nSuccessExitStatus=SIGKILL\n"
                              "ExecStop=\nExecStopPost=\nKillMode=process\n";

/* Another drop-in may sort behind ours. 0, or -EIO, and it was told. */
static int check_hold(const struct migrate *m)
{
    static const struct {
        const char *name, *value;
    } wanted[] = {{"Restart", "no"},
                  {"RestartForceExitStatus", ""},
                  {"KillMode", "process"},
                  {"ExecStop", ""},
                  {"ExecStopPost", ""}};
    struct buf said = BUF_INIT(SAID_MAX);
    char value[MIGRATE_VALUE];
    int r = show(m, &said);

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(wanted); i++)
        if (!str_eq(property(&said, wanted[i].name, value), wanted[i].value)) {
            options_complain(
                "migrate: %s=%s of %s can't be changed by a drop-in: another one has the last word",
                wanted[i].name, value, m->unit);
            r = -EIO;
        }
    buf_free(&said);
    return r;
}

int migrate_hold_unit(const struct migrate *m, bool on)
{
    char folder[PATH_MAX];
    int r;

    if (!*m->unit)
        return 0;
    snprintf(folder, sizeof(folder), RUNTIME "/%s.d", m->unit);
    if (on && (r = migrate_put_drop_in(folder, drop_in)) < 0)
        return r;
    if (!on)
        migrate_remove_drop_in(folder);
    if ((r = systemctl("daemon-reload", NULL)) < 0)
        return r;
    return on ? check_hold(m) : 0;
}

/* --- ending it ------------------------------------------------------------------------------------------ */

/* What the unit was before is put back if it can't be done. */
int migrate_retire_unit(const struct migrate *m)
{
    struct buf said = BUF_INIT(SAID_MAX);
    char value[MIGRATE_VALUE];
    bool enabled;
    int r;

    if (!*m->unit)
        return 0;
    if ((r = show(m, &said)) == 0) {
        enabled = str_eq(property(&said, "UnitFileState", value), "enabled");
        buf_reset(&said);
        r = systemctl("disable", m->unit) < 0 || systemctl("daemon-reload", NULL) < 0 || show(m, &said) < 0
                ? -EIO
                : 0;
        if (r == 0 && (*property(&said, "WantedBy", value) || *property(&said, "RequiredBy", value))) {
            options_complain("migrate: %s is disabled, and %s starts it all the same", m->unit, value);
            r = -EIO;
        }
        if (r < 0 && enabled)
            systemctl("enable", m->unit);
    }
    buf_free(&said);
    return r;
}

int migrate_await_unit(const struct migrate *m)
{
    char value[MIGRATE_VALUE] = "";
    int r = 0;

    for (int waited = 0; *m->unit && r == 0 && waited < END_MS; waited += LOOK_MS) {
        struct buf said = BUF_INIT(SAID_MAX);
        if ((r = show(m, &said)) == 0)
            property(&said, "ActiveState", value);
        buf_free(&said);
        if (r < 0 || str_eq(value, "inactive") || str_eq(value, "failed"))
            return r;
        poll(NULL, 0, LOOK_MS);
    }
    if (*m->unit)
        options_complain("migrate: %s is %s still", m->unit, value);
    return *m->unit ? -ETIMEDOUT : 0;
}
