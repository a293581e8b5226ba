/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/audit.h"
#include "agentd/facts.h"
#include "agentd/history.h"
#include "agentd/op.h"
#include "agentd/rotate.h"
#include "agentd/state.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/view.h"
#include "agentd/wk.h"
#include "base/feature.h"
#include "base/limits.h"
#include "base/str.h"
#include "proc/cgroup_res.h"
#include "proc/pressure.h"

#define ROOM_LEFT 400 /* of a reply, for the last line */

static char cgroups[256];

void doctor_note_cgroups(const char *why)
{
    str_copy(cgroups, sizeof(cgroups), why);
}

void doctor_say(struct buf *b, const char *severity, const char *advice, const char *fmt, ...)
{
    char what[256], line[1024];
    va_list ap;

    if (b->len > LIMIT_WIRE_STRING - ROOM_LEFT)
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    buf_printf(b, "%s\t%s\t%s\n", severity, str_escape(line, sizeof(line), what), advice);
}

static void look_at_disks(struct buf *b)
{
    if (!op_is_durable())
        doctor_say(b, "error", "free space in RuntimeDirectory",
                   "the journal of operations can't be written: what is under way is "
                   "forgotten if agentd dies");
    if (!facts_are_kept())
        doctor_say(b, "error", "free space in RuntimeDirectory",
                   "the facts of workers can't be written: a worker may not be found again if "
                   "agentd dies");
    if (audit_lost())
        doctor_say(b, "error", "free space in StateDirectory; agentctl audit verify",
                   "the audit trail can't be written: %llu records are lost",
                   (unsigned long long)audit_lost());
    if (history_is_failing())
        doctor_say(b, "warning", "free space in StateDirectory",
                   "the history of workers can't be written: incarnations will be missing in it");
    if (store_is_failing())
        doctor_say(b, "error", "free space in StateDirectory",
                   "the state can't be written: what was wanted may be lost after a reboot");
}

static void look_at_output(struct buf *b, const struct wk *w)
{
    const char *why = rotate_trouble(w);
    char pids[160];

    if (why)
        doctor_say(
            b, "warning",
            "it is tried again, at SIGUSR1 at once; it takes room for a copy, on ext4, xfs, btrfs or tmpfs",
            "%s: its output cannot be rotated: %s", w->def->alias, why);
    view_leftovers(w, pids, sizeof(pids));
    if (pids[0])
        doctor_say(b, "info", "end them if nobody wants them: KillMode=process has left them alone",
                   "%s: processes of an earlier start live on: %s", w->def->alias, pids);
}

static void look_at_worker(struct buf *b, const struct wk *w)
{
    const char *alias = w->def->alias;
    char keys[200];

    if (w->broken)
        doctor_say(b, "error", "agentd --check-config says where",
                   "%s: its file is wrong: it stays on its last good definition", alias);
    if (w->held.pid)
        doctor_say(b, "error", "end that process, or agentctl restart",
                   "%s: process %d may be this worker, but that can't be proven", alias, (int)w->held.pid);
    if (w->stale || w->stale_program)
        doctor_say(b, "info", "agentctl restart brings it up to date", "%s: runs an earlier %s", alias,
                   w->stale ? "definition" : "program");
    if (w->res_lost)
        doctor_say(b, "warning", "Delegate=yes in the unit, or those controllers in the cgroup2 mount",
                   "%s: without effect: %s", alias, wk_res_lost(w, "=", keys, sizeof(keys)));
    if (w->state == WK_COOLDOWN)
        doctor_say(b, "warning", "its message tells why: agentctl status",
                   "%s: was started too often in a short time", alias);
    if (w->clamped)
        doctor_say(b, "info", "give agentd the right to set it, or lower it",
                   "%s: a limit or score was refused by the kernel", alias);
    look_at_output(b, w);
}

/* clang-format off */
#define FEATURE(id, name, since, severity, cost, cure) name "\tuntried\t\n"
enum {
    LONGEST = sizeof(
#include "base/feature.def"
    )
};
#undef FEATURE
/* clang-format on */
_Static_assert(LONGEST + 2 * sizeof(cgroups) <= LIMIT_WIRE_FEATURES, "all of them fit");

void doctor_look_at_features(struct buf *b)
{
    char why[2 * sizeof(cgroups)];

    cgroup_res_find_features(&wk_host.cgroups);
    pressure_avg10(PRESSURE_CPU);
    feature_note(FEATURE_MEMFD, state_can_seal());
    str_escape(why, sizeof(why), cgroups);
    for (unsigned i = 0; i < FEATURE_MAX; i++)
        buf_printf(b, "%s\t%s\t%s\n", feature_table[i].name, feature_state_name(feature_state(i)),
                   i == FEATURE_CGROUP2 ? why : "");
}

void doctor_look(struct buf *b)
{
    struct wk *w;

    doctor_look_at_host(b);
    look_at_disks(b);
    TAILQ_FOREACH (w, &sup_workers, link)
        look_at_worker(b, w);
}
