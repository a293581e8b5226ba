/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd is about to do with our unit, asked over its own socket: the bus may be gone at a shutdown. */
#include "systemd/sdn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>

#define MANAGER "org.freedesktop.systemd1"
#define ANSWER_US 2000000
#define ROOT "/org/freedesktop/systemd1/unit"

bool sdn_is_there(void)
{
    return getenv("NOTIFY_SOCKET") && (geteuid() != 0 || sd_booted() > 0);
}

/* A user's manager has its socket in the user's own directory. */
static int connect_to(sd_bus **ret)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");
    char address[300];
    int r;

    if (geteuid() == 0)
        snprintf(address, sizeof(address), "unix:path=/run/systemd/private");
    else
        snprintf(address, sizeof(address), "unix:path=%s/systemd/private", dir ? dir : "/run");
    if ((r = sd_bus_new(ret)) < 0)
        return r;
    if ((r = sd_bus_set_address(*ret, address)) < 0 || (r = sd_bus_start(*ret)) < 0)
        *ret = sd_bus_unref(*ret);
    return r;
}

static int own_unit(char **ret)
{
    char *unit = NULL;
    int r = geteuid() == 0 ? sd_pid_get_unit(0, &unit) : sd_pid_get_user_unit(0, &unit);

    if (r >= 0)
        r = sd_bus_path_encode(ROOT, unit, ret);
    free(unit);
    return r;
}

static int job_path(sd_bus *bus, const char *unit, uint32_t *id, char *path, size_t size)
{
    sd_bus_message *m = NULL;
    const char *p = "";
    int r = sd_bus_get_property(bus, MANAGER, unit, MANAGER ".Unit", "Job", NULL, &m, "(uo)");

    if (r >= 0)
        r = sd_bus_message_read(m, "(uo)", id, &p);
    if (r >= 0)
        snprintf(path, size, "%s", p);
    sd_bus_message_unref(m);
    return r;
}

int sdn_is_delegated(void)
{
    char *unit = NULL;
    sd_bus *bus = NULL;
    int yes = 0, r;

    if ((r = own_unit(&unit)) >= 0 && (r = connect_to(&bus)) >= 0) {
        sd_bus_set_method_call_timeout(bus, ANSWER_US);
        r = sd_bus_get_property_trivial(bus, MANAGER, unit, MANAGER ".Service", "Delegate", NULL, 'b', &yes);
    }
    free(unit);
    sd_bus_unref(bus);
    return r < 0 ? r : yes;
}

int sdn_job(char *type, size_t size)
{
    char *unit = NULL, *word = NULL, path[256];
    sd_bus *bus = NULL;
    uint32_t id = 0;
    int r;

    type[0] = 0;
    if ((r = connect_to(&bus)) >= 0 && (r = own_unit(&unit)) >= 0 &&
        (r = job_path(bus, unit, &id, path, sizeof(path))) >= 0 && id)
        r = sd_bus_get_property_string(bus, MANAGER, path, MANAGER ".Job", "JobType", NULL, &word);
    if (r >= 0 && word)
        snprintf(type, size, "%s", word);
    free(word);
    free(unit);
    sd_bus_unref(bus);
    return r < 0 ? r : 0;
}
