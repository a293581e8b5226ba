/* SPDX-License-Identifier: Apache-2.0 */
/* Exit statuses and signals by number and by name: sysexits.h, systemd.exec(5). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/signals.h"
#include "base/str.h"

struct name {
    const char *name;
    unsigned value;
};

static const struct name exit_names[] = {
    {"SUCCESS", 0},      {"FAILURE", 1},      {"INVALIDARGUMENT", 2}, {"NOTIMPLEMENTED", 3},
    {"NOPERMISSION", 4}, {"NOTINSTALLED", 5}, {"NOTCONFIGURED", 6},   {"NOTRUNNING", 7},
    {"USAGE", 64},       {"DATAERR", 65},     {"NOINPUT", 66},        {"NOUSER", 67},
    {"NOHOST", 68},      {"UNAVAILABLE", 69}, {"SOFTWARE", 70},       {"OSERR", 71},
    {"OSFILE", 72},      {"CANTCREAT", 73},   {"IOERR", 74},          {"TEMPFAIL", 75},
    {"PROTOCOL", 76},    {"NOPERM", 77},      {"CONFIG", 78},
};

static bool add_code(struct cfg_status_set *set, const char *word)
{
    uint64_t code = 256;

    for (size_t i = 0; i < ARRAY_LEN(exit_names); i++)
        if (str_eq(exit_names[i].name, word))
            code = exit_names[i].value;
    if (code == 256 && str_to_u64(word, 255, &code) < 0)
        return false;
    set->codes[code / 64] |= 1ull << (code % 64);
    return true;
}

static bool add_signal(struct cfg_status_set *set, const char *word)
{
    int sig = signals_from_name(word);

    if (sig <= 0 || sig > 64)
        return false;
    set->signals |= 1ull << (sig - 1);
    return true;
}

CFG_PARSER(cfg_value_status)
{
    struct cfg_words w = {.s = value};
    char *word;
    int r;

    while ((r = cfg_word(&w, &word)) > 0) {
        /* A number is an exit status: signals have names here. */
        if (!add_code(target, word) && ((*word >= '0' && *word <= '9') || !add_signal(target, word)))
            cfg_error(c, l, w.start,
                      "%s=: \"%s\" is neither an exit status from 0 to 255 nor a signal's name", k->name,
                      word);
        free(word);
    }
    if (r < 0)
        cfg_oom(c);
}

bool cfg_status_has(const struct cfg_status_set *set, int code, int status)
{
    if (code == CLD_EXITED)
        return status >= 0 && status < 256 && set->codes[status / 64] >> (status % 64) & 1;
    if (code == CLD_KILLED || code == CLD_DUMPED)
        return status > 0 && status <= 64 && set->signals >> (status - 1) & 1;
    return false;
}
