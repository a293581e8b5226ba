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

#define MIGRATE_UNIT 256   /* unit names have up to 255 bytes, systemd.unit(5) */
#define MIGRATE_VALUE 1024 /* of a property of a unit, cut */
/* Of the workers' files and of the peer's unit; sorts behind what people call theirs. */
#define MIGRATE_DROP_IN "zz-agentctl-migrate.conf"

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
    char unit[MIGRATE_UNIT]; /* of systemd, that runs the peer; "": none */
    bool ending;             /* there is no way back: agentd has all of it, and the peer is to be ended */
    bool earlier_boot;       /* what is on record was begun before the host was started anew */
    struct migrate_row *rows;
    size_t n, size;
    struct import import;
};

/* --- migrate_files.c: 0, or -1, and it was told. --- */
int migrate_told(const char *what, int error); /* says what -errno is of; -1 */
int migrate_put_drop_in(const char *folder, const char *text);
void migrate_remove_drop_in(const char *folder); /* and the folder, unless there is more in it */
/* Nothing is written over: no file at all at the first call, and no administrator's later. */
int migrate_judge_files(const struct migrate *m, bool first);
int migrate_write_files(struct migrate *m); /* each with a drop-in that keeps agentd from starting it */
void migrate_remove_drop_ins(const struct migrate *m);
void migrate_remove_workers(const struct migrate *m); /* those that are import's */

/* --- migrate_peer.c: who it is and what it runs. 0, or -1, and it was told. --- */
int migrate_find(struct migrate *m);
/* The same process as it was. */
bool migrate_is(const struct migrate_process *p);
struct migrate_process migrate_look(pid_t pid); /* none: there is no such process, or it has ended */
/* SIGSTOP, SIGCONT, SIGKILL to the peer, unless it has ended. 0 or -errno. */
int migrate_signal(const struct migrate *m, int sig);
int migrate_await_stop(const struct migrate *m); /* after SIGSTOP; 0 or -errno */
int migrate_await_end(const struct migrate *m);  /* of the peer; 0 or -errno */
/* A child of the peer that is none of the rows: it was started after they were listed. 0: there is none. */
pid_t migrate_stray(const struct migrate *m);
pid_t migrate_parent(pid_t pid); /* 0: there is no such process */
/* Runs a program by PATH, and reads what it says if said is not NULL. Its exit status, or -errno. */
int migrate_program(const char *const words[], struct buf *said);
/* Whether the peer that the configuration speaks of runs, whoever has started it; for after a reboot. */
bool migrate_runs(const struct migrate *m);

/* --- migrate_unit.c: 0, or a negative number, and it was told --- */
int migrate_find_unit(struct migrate *m); /* sets unit */
/* Nothing makes systemd start it (on), and its end runs nothing; or as before. */
int migrate_hold_unit(const struct migrate *m, bool on);
int migrate_retire_unit(const struct migrate *m); /* it is not started at the next boot either */
int migrate_await_unit(const struct migrate *m);  /* until systemd has seen its end, 10 s at most */

/* --- migrate_pipes.c: wait up to 5 s, while the halted peer is there. 0; -ETIMEDOUT, and the pid; or -errno
 * --- */
/* agentd-drain has each pipe between the peer and anybody else, as the peer has it. */
int migrate_await_readers(const struct migrate *m, pid_t *ret_user);
int migrate_await_no_readers(const struct migrate *m, pid_t *ret_reader); /* it reads none any more */

/* --- migrate_record.c --- */
/* Until the process ends nobody else may be at it. 0; -EWOULDBLOCK: somebody is; or -errno. */
int migrate_lock(const struct migrate *m);
int migrate_save(const struct migrate *m);   /* 0 or -errno */
int migrate_load(struct migrate *m);         /* 1: it was read; 0: there is none; -errno */
int migrate_forget(const struct migrate *m); /* 0 or -errno */

#endif
