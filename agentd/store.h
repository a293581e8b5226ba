/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/store: what lasts over a reboot: ids, createTime and the wanted state of every worker that ever was,
 * in StateDirectory/state. Written whole by a helper (temporary file, fsync, rename, fsync of the folder),
 * one at a time; a change meanwhile makes another write follow. Never knows who waits. */
#ifndef AGENTD_STORE_H
#define AGENTD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct store_entry {
    char *alias;
    int64_t id;
    int64_t create_us, update_us, goal_us; /* wall clock */
    bool goal_up;
    char *goal_by;
    uint64_t def_hash_all;
    struct store_entry *next;
};

/* Waits for a helper of a dead agentd to finish its write (at most 10 s), then reads the state. A file that
 * can't be read is set aside as state.bad, and said. 0 or -errno with err filled. */
int store_open(const char *dir, struct err *err);
void store_close(void);
struct store_entry *store_find(const char *alias); /* NULL: never seen */
/* The entry of an alias, new if need be; id 0: allocates one that no entry has. NULL: no memory. */
struct store_entry *store_get(const char *alias, int64_t id);
int64_t store_created_us(void); /* when this state was first made */
bool store_is_new(void);        /* by this agentd */

/* Something changed: write now, or again when the write that is under way has ended. The number of the write
 * that has it, counted from 1; store_written is that of the last one that was done. done (set once) hears of
 * each write's end. */
uint64_t store_changed(void);
uint64_t store_written(void);
void store_changed_soon(void);    /* within a second, with what else has changed by then */
void store_also(int (*fn)(void)); /* in the helper, after the state is written: 0 or -errno */
bool store_is_busy(void);
bool store_is_failing(void); /* the last write did not work */
void store_on_written(void (*done)(bool ok));
void store_set_collect(void (*collect)(void)); /* called before each write: bring the entries up to date */
void store_flush(void);                        /* at exit: writes now, waiting for it */

#endif
