/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/passed.h"

#include <errno.h>
#include <stdlib.h>

#include "agentd/address.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"

static struct sdn_fd *all;
static unsigned n_all;

void passed_init(void)
{
    int n = sdn_take_fds(&all);

    if (n < 0)
        log_warn("passed", "what the service manager hands over can't be read");
    n_all = n < 0 ? 0 : (unsigned)n;
}

/* By its name: socket units name theirs after themselves, or as they are told to. */
static bool is_kept(const char *name)
{
    return str_eq(name, PASSED_OWN) || str_starts(name, PASSED_WORKER) || str_starts(name, PASSED_PID);
}

int passed_take(const struct cfg_listener *l, bool *ours)
{
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].fd < 0 || !address_is_at(all[i].fd, l) || !(ours || is_kept(all[i].name)))
            continue;
        if (ours)
            *ours = is_kept(all[i].name);
        return TAKE_FD(all[i].fd);
    }
    return -ENOENT;
}

int passed_take_named(const char *name)
{
    for (unsigned i = 0; i < n_all; i++)
        if (all[i].fd >= 0 && str_eq(all[i].name, name))
            return TAKE_FD(all[i].fd);
    return -ENOENT;
}

void passed_done(void)
{
    for (unsigned i = 0; i < n_all; i++) {
        if (all[i].fd >= 0 && is_kept(all[i].name))
            sdn_forget(all[i].name); /* all of that name: who has one of them says so again */
        else if (all[i].fd >= 0)
            log_warn("passed", "a socket of %s has an address that no ListenStream= or ListenTls= names",
                     all[i].name);
        fd_close(all[i].fd);
        free(all[i].name);
    }
    free(all);
    all = NULL;
    n_all = 0;
}
