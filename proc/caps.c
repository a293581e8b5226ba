/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/caps.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"

static const cap_value_t spawn_caps[] = {CAP_SETUID,          CAP_SETGID,       CAP_SETPCAP, CAP_SYS_RESOURCE,
                                         CAP_SYS_NICE,        CAP_DAC_OVERRIDE, CAP_CHOWN,   CAP_FOWNER,
                                         CAP_DAC_READ_SEARCH, CAP_KILL};
static const cap_value_t signal_caps[] = {CAP_KILL, CAP_DAC_OVERRIDE};
static const cap_value_t look_caps[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
static const cap_value_t files_caps[] = {CAP_DAC_OVERRIDE, CAP_CHOWN,        CAP_FOWNER, CAP_NET_BIND_SERVICE,
                                         CAP_KILL,         CAP_SYS_RESOURCE, CAP_FSETID};

static cap_t sets[CAPS_SCOPE_MAX];
static enum caps_scope current = CAPS_NONE;
static bool privileged;

/* The current permitted and inheritable sets with `n` values effective, as far as they are permitted. */
static cap_t make_set(const cap_value_t *values, int n)
{
    cap_t c = cap_get_proc();

    if (!c)
        return NULL;
    cap_clear_flag(c, CAP_EFFECTIVE);
    for (int i = 0; i < n; i++) {
        cap_flag_value_t have = CAP_CLEAR;
        if (cap_get_flag(c, values[i], CAP_PERMITTED, &have) == 0 && have == CAP_SET)
            cap_set_flag(c, CAP_EFFECTIVE, 1, &values[i], CAP_SET);
    }
    return c;
}

int caps_init(void)
{
    if (geteuid() != 0)
        return 0;
    sets[CAPS_NONE] = make_set(NULL, 0);
    sets[CAPS_SPAWN] = make_set(spawn_caps, (int)ARRAY_LEN(spawn_caps));
    sets[CAPS_SIGNAL] = make_set(signal_caps, (int)ARRAY_LEN(signal_caps));
    sets[CAPS_LOOK] = make_set(look_caps, (int)ARRAY_LEN(look_caps));
    sets[CAPS_FILES] = make_set(files_caps, (int)ARRAY_LEN(files_caps));
    for (int i = 0; i < CAPS_SCOPE_MAX; i++)
        if (!sets[i])
            return -ENOMEM;
    privileged = true;
    caps_enter(CAPS_NONE);
    return 0;
}

enum caps_scope caps_enter(enum caps_scope scope)
{
    enum caps_scope before = current;

    if (privileged && scope != current)
        cap_set_proc(sets[scope]);
    current = scope;
    return before;
}

int caps_from_name(const char *name, unsigned *ret)
{
    char lower[64];
    cap_value_t v;
    size_t n = 0;

    if (strncasecmp(name, "CAP_", 4) != 0)
        n = (size_t)snprintf(lower, sizeof(lower), "cap_");
    for (; *name && n < sizeof(lower) - 1; name++)
        lower[n++] = (char)tolower((unsigned char)*name);
    lower[n] = 0;
    if (*name || cap_from_name(lower, &v) < 0)
        return -EINVAL;
    *ret = (unsigned)v;
    return 0;
}

const char *caps_to_name(unsigned cap)
{
    static char upper[64];
    char *name = cap_to_name((cap_value_t)cap);
    size_t i = 0;

    if (!name)
        return NULL;
    for (; name[i] && i < sizeof(upper) - 1; i++)
        upper[i] = (char)toupper((unsigned char)name[i]);
    upper[i] = 0;
    cap_free(name);
    return upper;
}

uint64_t caps_all(void)
{
    int n = cap_max_bits();

    return n >= 64 ? UINT64_MAX : (1ull << n) - 1;
}

int caps_drop_bounding(uint64_t keep)
{
    for (int i = 0; i < cap_max_bits(); i++)
        if (!(keep >> i & 1) && cap_get_bound(i) == CAP_SET && cap_drop_bound(i) < 0)
            return -errno;
    return 0;
}

int caps_keep_over_uid_change(void)
{
    return prctl(PR_SET_KEEPCAPS, 1L) < 0 ? -errno : 0;
}

int caps_set_ambient(uint64_t ambient)
{
    cap_t c = cap_init();
    int r = c ? 0 : -ENOMEM;

    for (int i = 0; r == 0 && i < cap_max_bits(); i++) {
        cap_value_t v = i;
        if (ambient >> i & 1 && (cap_set_flag(c, CAP_PERMITTED, 1, &v, CAP_SET) < 0 ||
                                 cap_set_flag(c, CAP_INHERITABLE, 1, &v, CAP_SET) < 0))
            r = -errno;
    }
    if (r == 0 && cap_set_proc(c) < 0)
        r = -errno;
    for (int i = 0; r == 0 && i < cap_max_bits(); i++)
        if (ambient >> i & 1 && cap_set_ambient(i, CAP_SET) < 0)
            r = -errno;
    cap_free(c);
    return r;
}
