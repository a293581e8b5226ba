/* SPDX-License-Identifier: Apache-2.0 */
#include "base/signals.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/str.h"

static const struct {
    const char *name;
    int value;
} names[] = {
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

int signals_from_name(const char *name)
{
    uint64_t n;

    if (str_to_u64(name, (uint64_t)SIGRTMAX, &n) == 0)
        return (int)n;
    if (str_starts(name, "SIG"))
        name += 3;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(names[i].name, name))
            return names[i].value;
    return realtime(name);
}

const char *signals_name(int signal, char buf[16])
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].value == signal) {
            snprintf(buf, 16, "SIG%s", names[i].name);
            return buf;
        }
    if (signal >= SIGRTMIN && signal <= SIGRTMAX)
        snprintf(buf, 16, "SIGRTMIN+%d", signal - SIGRTMIN);
    else
        snprintf(buf, 16, "%d", signal);
    return buf;
}
