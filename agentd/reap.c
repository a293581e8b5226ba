/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/reap.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agentd/loop.h"
#include "base/fd.h"
#include "base/log.h"
#include "proc/sys.h"

/* Open addressing, linear probing; pid 0: free, -1: removed. At most half full. */
struct child {
    pid_t pid;
    reap_fn fn;
    void *arg;
};

static struct child *children;
static size_t size, used; /* used counts removed ones too */
static int signal_fd = -1;
static struct loop_watch *watch;

static struct child *find(pid_t pid)
{
    for (size_t i = (size_t)pid * 2654435761u;; i++) {
        struct child *c = &children[i & (size - 1)];
        if (c->pid == pid || c->pid == 0)
            return c;
    }
}

static int grow(void)
{
    struct child *old = children;
    size_t old_size = size, live = 0;

    for (size_t i = 0; i < old_size; i++)
        live += old[i].pid > 0;
    for (size = 64; size < live * 4; size *= 2)
        ;
    if (!(children = calloc(size, sizeof(*children)))) {
        children = old;
        size = old_size;
        return -ENOMEM;
    }
    for (size_t i = 0; i < old_size; i++)
        if (old[i].pid > 0)
            *find(old[i].pid) = old[i];
    used = live;
    free(old);
    return 0;
}

int reap_add(pid_t pid, reap_fn fn, void *arg)
{
    struct child *c;

    if (used * 2 >= size && grow() < 0)
        return -ENOMEM;
    c = find(pid);
    used += c->pid == 0;
    *c = (struct child){pid, fn, arg};
    return 0;
}

void reap_remove(pid_t pid, const void *arg)
{
    struct child *c = size ? find(pid) : NULL;

    if (c && c->pid == pid && c->arg == arg)
        c->pid = -1;
}

bool reap_knows(pid_t pid)
{
    return size && find(pid)->pid == pid;
}

void reap_sweep(void)
{
    siginfo_t si;
    pid_t pid;

    while ((pid = sys_wait_any(&si)) > 0) {
        struct child *c = size ? find(pid) : NULL;
        if (!c || c->pid != pid) {
            log_debug("reap", "orphan %d ended", (int)pid);
            continue;
        }
        c->pid = -1;
        c->fn(pid, si.si_code, si.si_status, c->arg);
    }
}

static void on_signal(int fd, short what, void *arg)
{
    struct signalfd_siginfo si;

    while (read(fd, &si, sizeof(si)) == sizeof(si))
        ;
    reap_sweep();
}

int reap_init(void)
{
    sigset_t set;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1L) < 0)
        log_warn("reap", "orphans of workers go to process 1: PR_SET_CHILD_SUBREAPER: %m");
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    if ((signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return -errno;
    watch = loop_io(signal_fd, LOOP_READ, on_signal, NULL);
    return watch ? grow() : -ENOMEM;
}

void reap_done(void)
{
    loop_free(&watch);
    signal_fd = fd_close(signal_fd);
    free(children);
    children = NULL;
    size = used = 0;
}
