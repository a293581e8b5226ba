/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: signal, wait on pidfds, vfork and exec, wait for the new program's first instruction. Nothing
 * else. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

pid_t floor_spawn(struct host *h, unsigned slot, unsigned processes)
{
    char a[16], b[16];
    pid_t pid;

    snprintf(a, sizeof(a), "%u", slot);
    snprintf(b, sizeof(b), "%u", processes);
    pid = vfork();
    if (pid == 0) {
        execl(h->worker, h->worker, h->page_path, a, b, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void end_all(struct host *h, unsigned slot, unsigned processes, int sig)
{
    struct pollfd p[3];

    for (unsigned i = 0; i < processes; i++) {
        p[i].fd = (int)syscall(SYS_pidfd_open, h->page->slot[slot].pid[i], 0);
        p[i].events = POLLIN;
    }
    for (unsigned i = 0; i < processes; i++)
        syscall(SYS_pidfd_send_signal, p[i].fd, sig, NULL, 0);
    for (unsigned i = 0; i < processes; i++) {
        poll(&p[i], 1, 5000);
        close(p[i].fd);
    }
    waitpid(h->page->slot[slot].pid[0], NULL, 0);
}

void floor_end(struct host *h, unsigned slot, unsigned processes)
{
    end_all(h, slot, processes, SIGKILL);
}

void floor_restart(struct host *h, unsigned slot, unsigned processes, int sig)
{
    uint32_t before = h->page->slot[slot].count;

    end_all(h, slot, processes, sig);
    floor_spawn(h, slot, processes);
    host_wait_count(h, slot, before);
}
