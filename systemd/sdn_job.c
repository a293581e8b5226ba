/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd is about to do with our unit, and how that is set, asked over its own socket: the bus may be
 * gone at a shutdown. */
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

/* Our unit is one of a user's manager, not of the system's. */
static bool is_users(char **ret_unit)
{
    return sd_pid_get_user_unit(0, ret_unit) >= 0;
}

/* A manager's own socket: root's, or in the user's own directory. The system's manager hears others over the
 * bus alone. */
static int connect_to(sd_bus **ret, bool users)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");
    char address[300];
    int r;

    if (!users && geteuid() != 0)
        return sd_bus_open_system(ret);
    if (users)
        snprintf(address, sizeof(address), "unix:path=%s/systemd/private", dir ? dir : "/run");
    else
        snprintf(address, sizeof(address), "unix:path=/run/systemd/private");
    if ((r = sd_bus_new(ret)) < 0)
        return r;
    if ((r = sd_bus_set_address(*ret, address)) < 0 || (r = sd_bus_start(*ret)) < 0)
        *ret = sd_bus_unref(*ret);
    return r;
}

/* Its manager and our own unit's path there. */
static int find_unit(sd_bus **ret, char **ret_path)
{
    char *unit = NULL;
    bool users = is_users(&unit);
    int r = users ? 0 : sd_pid_get_unit(0, &unit);

    if (r >= 0 && (r = connect_to(ret, users)) >= 0)
        r = sd_bus_path_encode(ROOT, unit, ret_path);
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

    if ((r = find_unit(&bus, &unit)) >= 0) {
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
    if ((r = find_unit(&bus, &unit)) >= 0 && (r = job_path(bus, unit, &id, path, sizeof(path))) >= 0 && id)
        r = sd_bus_get_property_string(bus, MANAGER, path, MANAGER ".Job", "JobType", NULL, &word);
    if (r >= 0 && word)
        snprintf(type, size, "%s", word);
    free(word);
    free(unit);
    sd_bus_unref(bus);
    return r < 0 ? r : 0;
}

/* With the types that they travel as: a string, numbers, a list of strings. */
static const struct {
    const char *name;
    char type;
} settings[] = {
    {"KillMode", 's'},         {"OOMPolicy", 's'},
    {"Restart", 's'},          {"TasksMax", 't'},
    {"MemoryMax", 't'},        {"FileDescriptorStoreMax", 'u'},
    {"RuntimeDirectory", 'a'}, {"RuntimeDirectoryPreserve", 's'},
};

static int get_text(sd_bus *bus, const char *unit, const char *name, char *value, size_t size)
{
    char *text = NULL;
    int r = sd_bus_get_property_string(bus, MANAGER, unit, MANAGER ".Service", name, NULL, &text);

    if (r >= 0)
        snprintf(value, size, "%s", text);
    free(text);
    return r;
}

/* The first of a list: whether there is one. */
static int get_list(sd_bus *bus, const char *unit, const char *name, char *value, size_t size)
{
    char **list = NULL;
    int r = sd_bus_get_property_strv(bus, MANAGER, unit, MANAGER ".Service", name, NULL, &list);

    if (r >= 0)
        snprintf(value, size, "%s", list && list[0] ? list[0] : "");
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
    return r;
}

static int get_number(sd_bus *bus, const char *unit, const char *name, char type, char *value, size_t size)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;
    int r = sd_bus_get_property_trivial(bus, MANAGER, unit, MANAGER ".Service", name, NULL, type,
                                        type == 't' ? (void *)&wide : &narrow);

    if (r >= 0 && wide == UINT64_MAX)
        snprintf(value, size, "infinity");
    else if (r >= 0)
        snprintf(value, size, "%llu", (unsigned long long)wide + narrow);
    return r;
}

/* One that this systemd does not have is left out. */
static size_t put_setting(sd_bus *bus, const char *unit, unsigned i, char *text, size_t size)
{
    const char *name = settings[i].name;
    char value[256];
    int r = settings[i].type == 's'   ? get_text(bus, unit, name, value, sizeof(value))
            : settings[i].type == 'a' ? get_list(bus, unit, name, value, sizeof(value))
                                      : get_number(bus, unit, name, settings[i].type, value, sizeof(value));
    int n = r < 0 ? 0 : snprintf(text, size, "%s=%s\n", name, value);

    return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

int sdn_unit(char *text, size_t size)
{
    char *unit = NULL;
    sd_bus *bus = NULL;
    size_t at = 0;
    int r;

    text[0] = 0;
    if ((r = find_unit(&bus, &unit)) >= 0)
        for (unsigned i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
            at += put_setting(bus, unit, i, text + at, size - at);
            text[at] = 0;
        }
    free(unit);
    sd_bus_unref(bus);
    return r < 0 ? r : at ? 0 : -EIO;
}
