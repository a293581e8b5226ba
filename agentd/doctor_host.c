/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/doctor.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "agentd/listen.h"
#include "agentd/reload.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/limits.h"
#include "proc/caps.h"
#include "wire/wire.h"

static void look_at_limits(struct buf *b)
{
    unsigned long long need = LIMIT_DOCTOR_FDS;
    const struct wk *w;
    struct rlimit l;

    TAILQ_FOREACH (w, &sup_workers, link)
        need += LIMIT_DOCTOR_FDS_WORKER + w->def->n_sockets + w->def->fdstore_max;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= need)
        return;
    doctor_say(
        b, "warning",
        "systemctl edit agentd: [Service] LimitNOFILE=1024:524288 (workers get the first, agentd the second)",
        "agentd may have %llu descriptors (RLIMIT_NOFILE), and its %u workers can need %llu",
        (unsigned long long)l.rlim_cur, sup_count(), need);
}

/* What was written later than now was written before the clock was set back. */
static void look_at_clock(struct buf *b)
{
    struct timex t = {0};
    char path[600];
    struct stat st;
    long long behind;

    if (adjtimex(&t) >= 0 && t.status & STA_UNSYNC)
        doctor_say(
            b, "info", "timedatectl set-ntp true, or another client of NTP",
            "the wall clock is not synchronised: times that are told may be wrong, and the Date of signed "
            "requests is held against it");
    snprintf(path, sizeof(path), "%s/state", reload_current()->agent.state_dir);
    if (stat(path, &st) < 0 || (behind = st.st_mtim.tv_sec - clock_wall_us() / 1000000) <= 1)
        return;
    doctor_say(b, "warning", "set the clock right; date tells it",
               "the wall clock is %lld s behind the last write of %s", behind, path);
}

/* Meanwhile a worker that ends is started by nobody. */
static void look_at_migration(struct buf *b)
{
    char path[600];

    snprintf(path, sizeof(path), "%s/" WIRE_MIGRATION_FILE, reload_current()->agent.state_dir);
    if (access(path, F_OK) == 0)
        doctor_say(b, "warning", "agentctl migrate, which finishes it, or agentctl migrate --undo",
                   "workers of another supervisor are being taken over: it is halted, and starts nothing");
}

static void look_at_sockets(struct buf *b)
{
    const struct listen_socket *l;

    for (unsigned i = 0; (l = listen_get(i)); i++)
        if (l->path && !listen_is_there(l))
            doctor_say(b, "warning", "make its folder again, then send SIGUSR1 to agentd",
                       "nobody can reach %s: it was removed or replaced", l->path);
}

/* It was judged when the configuration was read, and may have changed since. */
static void look_at_secret(struct buf *b, const char *path, mode_t forbidden, const char *advice)
{
    struct stat st;

    if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    if (st.st_mode & forbidden)
        doctor_say(b, "error", advice, "others may use %s (mode %04o)", path, (unsigned)st.st_mode & 07777);
    else if (st.st_uid != 0 && st.st_uid != geteuid())
        doctor_say(b, "error", advice, "%s belongs to uid %u", path, (unsigned)st.st_uid);
}

static void look_at_secrets(struct buf *b)
{
    const struct cfg_rpc *rpc = &reload_current()->rpc;
    enum caps_scope scope = caps_enter(CAPS_LOOK);

    look_at_secret(b, rpc->credentials, 077,
                   "chmod 0600, chown root, and new credentials: agentctl credential add");
    if (rpc->n_tls)
        look_at_secret(b, rpc->tls_files[CFG_TLS_KEY].path, 027,
                       "chmod 0600, chown root, and a new key and certificate");
    caps_enter(scope);
}

void doctor_look_at_host(struct buf *b)
{
    if (geteuid() != 0)
        doctor_say(b, "warning", "run it as root to serve workers of other users", "agentd runs as uid %u",
                   (unsigned)geteuid());
    look_at_limits(b);
    look_at_clock(b);
    look_at_migration(b);
    look_at_sockets(b);
    look_at_secrets(b);
}
