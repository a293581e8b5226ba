/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "drain/drain.h"

#define PIPES 3 /* standard output and error, and input */
#define CHUNK 65536

struct end {
    int in, out; /* out -1: in is only held */
};

static volatile sig_atomic_t told_to_end;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    if (info->si_code == SI_QUEUE && info->si_value.sival_int == DRAIN_VALUE)
        told_to_end = 1;
}

static void set_signals(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigset_t set;

    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (sig != DRAIN_SIGNAL)
            signal(sig, SIG_IGN);
    sigaction(DRAIN_SIGNAL, &sa, NULL);
    sigemptyset(&set); /* it is heard in ppoll only, so that no byte is between read and write then */
    sigaddset(&set, DRAIN_SIGNAL);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

/* One that another agentd-drain reads is its own: two would tear lines. */
static int take(const char *word, struct end *ret)
{
    char text[32], *colon;
    uint64_t in, out;

    str_copy(text, sizeof(text), word);
    if (!(colon = strchr(text, ':')))
        return -EINVAL;
    *colon = 0;
    if (str_to_u64(text, INT32_MAX, &in) < 0)
        return -EINVAL;
    *ret = (struct end){(int)in, -1};
    if (!str_eq(colon + 1, "-") && str_to_u64(colon + 1, INT32_MAX, &out) < 0)
        return -EINVAL;
    if (!str_eq(colon + 1, "-"))
        ret->out = (int)out;
    if (flock(ret->in, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    return fd_nonblock(ret->in, 1);
}

/* What can't be written is lost, as it were if the worker had written it itself; but the worker goes on. */
static void move(struct end *e)
{
    static char chunk[CHUNK];
    ssize_t n = e->out < 0 ? 0 : read(e->in, chunk, sizeof(chunk));

    if (n > 0)
        fd_write_all(e->out, chunk, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        e->in = fd_close(e->in);
}

static bool is_open(const struct end *ends, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ends[i].in >= 0)
            return true;
    return false;
}

static void run(struct end *ends, size_t n)
{
    struct pollfd polls[PIPES];
    sigset_t none;

    sigemptyset(&none);
    for (size_t i = 0; i < n; i++) /* without a writer since before they were opened, poll says nothing */
        if (ends[i].out >= 0)
            move(&ends[i]);
    while (!told_to_end && is_open(ends, n)) {
        for (size_t i = 0; i < n; i++)
            polls[i] = (struct pollfd){.fd = ends[i].in, .events = ends[i].out < 0 ? 0 : POLLIN};
        if (ppoll(polls, n, NULL, &none) <= 0)
            continue;
        for (size_t i = 0; i < n; i++)
            if (polls[i].revents) /* of one that is held: POLLERR, its last reader has gone */
                move(&ends[i]);
    }
}

int main(int argc, char *argv[])
{
    struct end ends[PIPES];
    size_t n = 0;
    int r = 0;

    set_signals();
    if (argc < 2 || argc > 1 + PIPES) {
        fputs(DRAIN_PROGRAM " is started by agentd: IN:OUT or HELD:- ..., numbers of descriptors\n", stderr);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        if ((r = take(argv[i], &ends[n])) == 0)
            n++;
        else if (r != -EWOULDBLOCK) {
            fprintf(stderr, DRAIN_PROGRAM ": %s: %s\n", argv[i], strerror(-r));
            return 2;
        }
    }
    run(ends, n);
    return 0;
}
