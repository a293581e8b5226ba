/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_scan: in a helper: the entries of one file that fit a search. An entry is a line with a time
 * and the lines without one that follow it; lines before the first time are entries of their own, without a
 * time: those are in a span if the file was written in it. */
#ifndef AGENTD_LOGS_SCAN_H
#define AGENTD_LOGS_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/logs_line.h"
#include "agentd/logs_match.h"
#include "base/buf.h"

struct logs_source;

struct logs_entry {
    const char *text; /* not ended by NUL */
    size_t n;
    bool has_time;
    struct logs_line line;
    uint64_t end; /* place behind it */
};

enum logs_go { LOGS_GO_ON, LOGS_GO_STOP };

struct logs_scan {
    struct logs_query *query;
    const struct logs_source *source;
    /* Takes one. STOP: it was the last; -errno is none of it: a broken pipe ends the process. */
    enum logs_go (*take)(const struct logs_entry *e, void *arg);
    /* Asked before each piece: may it go on? */
    enum logs_go (*look)(void *arg);
    void *arg;

    uint64_t at; /* from here on; then: behind what was taken or left out for good */
    char why[256];

    /* of the work */
    bool is_open; /* there is an entry whose end is not known yet */
    bool seen;    /* a time was before */
    struct logs_line line;
    struct buf text;
};

enum logs_end { LOGS_END_DONE, LOGS_END_STOPPED, LOGS_END_STALE, LOGS_END_FAILED, LOGS_END_WRONG };

/* From s->at on. STALE: its files have moved; plan anew and go on at s->at. FAILED: s->why. WRONG: so
 * is what was told of it: s->why. may_skip: what has gone is left out. */
enum logs_end logs_scan_run(struct logs_scan *s, bool may_skip);

#endif
