/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/facts: what must be known after agentd was killed at any instruction, and is void after a reboot:
 * one fixed slot per worker in RuntimeDirectory/facts, written with one pwrite *before* acting.
 * RuntimeDirectory is a tmpfs. Never knows what the facts are used for. */
#ifndef AGENTD_FACTS_H
#define AGENTD_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum facts_phase {
    FACTS_NONE,    /* nothing runs, none is being made */
    FACTS_INTENT,  /* this generation is being made: pid unknown */
    FACTS_SPAWNED, /* pid is on record */
    FACTS_READY,   /* and it became ready */
    FACTS_ENDING,  /* and was ready until it was told to end: from now on parts of it may be gone */
    FACTS_RESTED,  /* it ended, and by its policy stays down although it is wanted up */
};

#define FACTS_NO_LEAF 255 /* this generation was made outside of any leaf */

struct facts {
    char alias[LIMIT_ALIAS + 1];
    uint8_t phase;
    uint8_t leaf; /* number of the leaf in use, for its name */
    uint32_t generation;
    int32_t pid;
    uint64_t start;
    uint64_t def_hash;
    int64_t ready_us, started_us; /* wall clock */
    /* how the last incarnation ended, as in struct wk_exit */
    uint8_t last_end;
    int32_t last_status, last_pid;
    int64_t last_us;
    uint32_t restarts;
    uint64_t program_dev, program_ino; /* what /proc/PID/exe was when it became ready; 0: not known */
    uint64_t watchdog_us;              /* that it was told to keep; 0: none */
    /* as in struct wk */
    uint64_t cpu_from, kills_before, ooms_before;
    uint32_t last_kills;
    uint8_t last_main_killed;
    uint64_t last_limit;
    uint8_t traces;
};

/* Opens or makes dir/facts and reads what an earlier agentd of this boot left; a file of another boot or
 * format is emptied. found is called for each slot of a worker. 0 or -errno: then nothing is written. */
typedef void (*facts_found_fn)(const struct facts *f, void *arg);
int facts_open(const char *dir, facts_found_fn found, void *arg);
void facts_close(void);

/* The slot of an alias: found again, or a free one. -ENOSPC beyond LIMIT_WORKERS. */
int facts_slot(const char *alias);
void facts_free_slot(int slot);
void facts_free_alias(const char *alias); /* if it has one */

/* The listener and those that only finish what they hold: a successor sees them gone before it opens a
 * socket. */
#define FACTS_LISTENERS 16
struct facts_process {
    int32_t pid;
    uint64_t start;
};
void facts_set_listeners(const struct facts_process *list, unsigned n);
/* Those of an earlier agentd of this boot, as facts_open found them; how many. */
unsigned facts_listeners(struct facts_process ret[FACTS_LISTENERS]);

/* 0 or -errno; a failure (full tmpfs) costs crash-safety of this worker only: the caller says so and goes on.
 * What could not be written is kept, for facts_put_again: true if there is nothing left. */
int facts_put(int slot, const struct facts *f);
bool facts_put_again(void);
bool facts_are_late(void); /* there is something left */
bool facts_are_kept(void); /* all of them are in the file */

#endif
