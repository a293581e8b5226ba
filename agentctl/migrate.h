/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/migrate: the workers of another supervisor become agentd's without an end of any of them. The peer
 * is halted first, so that from then on it starts nothing; each of its processes is taken over with the
 * proofs of adopt; only then the peer is ended. What is under way is on record before it is done, and so a
 * second call goes on where the first ended, or undoes it. */
#ifndef AGENTCTL_MIGRATE_H
#define AGENTCTL_MIGRATE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agentctl/import.h"
#include "agentctl/options.h"

struct migrate_process {
    pid_t pid;      /* 0: none */
    uint64_t start; /* field 22 of /proc/PID/stat: with the pid, what tells a process from any other */
};

struct migrate_row {
    char alias[IMPORT_ALIAS];
    struct migrate_process process; /* as the peer runs it; none: it does not */
};

struct migrate {
    const struct options *o;
    char kind[16], config[PATH_MAX];         /* "supervisord", the peer's configuration */
    char folder[PATH_MAX], record[PATH_MAX]; /* WorkersDirectory=; where it is on record what is under way */
    struct migrate_process peer;
    char unit[256]; /* of systemd, that runs the peer; "": none */
    struct migrate_row *rows;
    size_t n, size;
    struct import import;
};

/* --- migrate_peer.c: who it is and what it runs. 0, or -1, and it was told. --- */
int migrate_find(struct migrate *m);
/* The same process as it was. */
bool migrate_is(const struct migrate_process *p);
struct migrate_process migrate_look(pid_t pid); /* none: there is no such process, or it has ended */
/* SIGSTOP, SIGCONT, SIGKILL to the peer, unless it has ended. 0 or -errno. */
int migrate_signal(const struct migrate *m, int sig);
int migrate_await_end(const struct migrate *m); /* of the peer; 0 or -errno */
/* It is not started anew by systemd when it ends (on), or as before. */
int migrate_hold_unit(const struct migrate *m, bool on);
int migrate_retire_unit(const struct migrate *m); /* nor at the next boot */

/* --- migrate_record.c --- */
int migrate_save(const struct migrate *m);   /* 0 or -errno */
int migrate_load(struct migrate *m);         /* 1: one of this boot was read; 0: there is none; -errno */
int migrate_forget(const struct migrate *m); /* 0 or -errno */

#endif
