/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/history: past incarnations of each worker, the last LIMIT_HISTORY of them, in
 * StateDirectory/history: a block for each alias, in it a ring of fixed slots with checksums, each written by
 * one pwrite when an incarnation begins, is ready, and ends. Nothing of it is kept in memory but where each
 * alias's block is. Found again by boot and generation, so none is there twice. Knows beginnings and ends;
 * never knows what they are for. */
#ifndef AGENTD_HISTORY_H
#define AGENTD_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct wk;

enum history_end {
    HISTORY_OPEN, /* it goes on, as far as is known */
    HISTORY_EXITED,
    HISTORY_KILLED,
    HISTORY_DUMPED,
    HISTORY_OOM,
    HISTORY_UNKNOWN, /* nobody saw it */
    HISTORY_SPAWN_FAILED,
    HISTORY_TIMEOUT,
    HISTORY_END_MAX,
};

struct history_entry {
    uint64_t boot; /* tells boots apart */
    uint32_t n;    /* counts the incarnations of this alias, from 1 */
    uint32_t generation;
    int64_t begun_us, ready_us, ended_us; /* wall clock; 0: not, or not known */
    int32_t pid, status;
    uint8_t end;           /* enum history_end */
    char how[24], why[24]; /* words of wk_fsm.def: why it was begun, and why it ended */
    char operation[24], actor[80];
};

/* 0 or -errno: then nothing is kept, and operations go on. */
int history_open(const char *state_dir);
void history_close(void);
bool history_is_failing(void);           /* the last write did not work */
int history_sync(const char *state_dir); /* in the state helper: 0 or -errno */

void history_begin(struct wk *w);
void history_ready(const struct wk *w);
void history_ended(const struct wk *w); /* as w->last says; nothing if it was ended before */
void history_given(const struct wk *w); /* it runs on, and is nobody's here */
/* After a start of agentd: what no worker has any more, and has no end, ended unseen; and what runs has
 * begun. */
void history_settle(struct wk *w);

void history_forget(struct wk *w); /* its file is gone: its generations count anew if it comes back */

/* Those of w, the newest first; how many. */
unsigned history_read(const struct wk *w, struct history_entry ret[LIMIT_HISTORY]);
bool history_is_this_boot(const struct history_entry *e);
const char *history_end_name(unsigned end);

#endif
