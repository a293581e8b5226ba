/* SPDX-License-Identifier: Apache-2.0 */
/* Signals and exit statuses by number and by name: signal(7), sysexits.h, systemd.exec(5). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

struct name {
    const char *name;
    unsigned value;
};

static const struct name signal_names[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT},     {"BUS", SIGBUS},     {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"USR1", SIGUSR1},
    {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},   {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},
    {"CHLD", SIGCHLD},     {"CONT", SIGCONT},   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},     {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}, {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},     {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"PWR", SIGPWR},   {"SYS", SIGSYS},
#ifdef SIGSTKFLT
    {"STKFLT", SIGSTKFLT},
#endif
    {"POLL", SIGPOLL},     {"IOT", SIGABRT},    {"CLD", SIGCHLD},
};

static const struct name exit_names[] = {
    {"SUCCESS", 0},      {"FAILURE", 1},      {"INVALIDARGUMENT", 2}, {"NOTIMPLEMENTED", 3},
    {"NOPERMISSION", 4}, {"NOTINSTALLED", 5}, {"NOTCONFIGURED", 6},   {"NOTRUNNING", 7},
    {"USAGE", 64},       {"DATAERR", 65},     {"NOINPUT", 66},        {"NOUSER", 67},
    {"NOHOST", 68},      {"UNAVAILABLE", 69}, {"SOFTWARE", 70},       {"OSERR", 71},
    {"OSFILE", 72},      {"CANTCREAT", 73},   {"IOERR", 74},          {"TEMPFAIL", 75},
    {"PROTOCOL", 76},    {"NOPERM", 77},      {"CONFIG", 78},
};

/* RTMIN, RTMIN+N, RTMAX, RTMAX-N; 0 if it is none. */
static int realtime(const char *name)
{
    bool min = str_starts(name, "RTMIN");
    const char *rest = name + 5;
    uint64_t n = 0;
    int sig;

    if (!min && !str_starts(name, "RTMAX"))
        return 0;
    if (*rest && (*rest != (min ? '+' : '-') || str_to_u64(rest + 1, 64, &n) < 0))
        return 0;
    sig = min ? SIGRTMIN + (int)n : SIGRTMAX - (int)n;
    return sig >= SIGRTMIN && sig <= SIGRTMAX ? sig : 0;
}

int cfg_signal_from_name(const char *name)
{
    uint64_t n;

    if (str_to_u64(name, (uint64_t)SIGRTMAX, &n) == 0)
        return (int)n;
    if (str_starts(name, "SIG"))
        name += 3;
    for (size_t i = 0; i < ARRAY_LEN(signal_names); i++)
        if (str_eq(signal_names[i].name, name))
            return (int)signal_names[i].value;
    return realtime(name);
}

const char *cfg_signal_name(int signal, char buf[16])
{
    for (size_t i = 0; i < ARRAY_LEN(signal_names); i++)
        if ((int)signal_names[i].value == signal) {
            snprintf(buf, 16, "SIG%s", signal_names[i].name);
            return buf;
        }
    if (signal >= SIGRTMIN && signal <= SIGRTMAX)
        snprintf(buf, 16, "SIGRTMIN+%d", signal - SIGRTMIN);
    else
        snprintf(buf, 16, "%d", signal);
    return buf;
}

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
    int sig = cfg_signal_from_name(word);

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
