/* SPDX-License-Identifier: Apache-2.0 */
/* proc/spawn_int: what spawn.c (parent) and spawn_child.c (child) share. */
#ifndef PROC_SPAWN_INT_H
#define PROC_SPAWN_INT_H

#include "proc/spawn.h"

enum spawn_note { SPAWN_SAYS_FAILED, SPAWN_SAYS_TOLERATED, SPAWN_SAYS_SIZE };

/* What the child writes into the status pipe: a failure ends it, the others do not. */
struct spawn_word {
    uint16_t stage;
    uint16_t note; /* enum spawn_note */
    int32_t error;
    int64_t size;   /* SIZE: length of standard error's file before the program writes to it */
    uint64_t at_us; /* and when that was, CLOCK_MONOTONIC */
};

/* One start: read by the child, in the parent's memory or a copy. */
struct spawn_run {
    const struct spawn_spec *spec;
    void *stack;
    size_t stack_size;
    int null_fd;
    int status_fd; /* the child's end */
    int gate_fd;   /* the child's end, -1: none */
    int gate_w;    /* agentd's end: the child must not hold it open itself */
    bool join;     /* the child enters cgroup_fd by itself */
    bool handlers; /* the child resets signal handlers by itself */
    bool copied;   /* the child has its own copy of the memory: libraries may be called */
    struct rlimit nofile;
};

/* The child's whole life up to exec; never returns. */
void spawn_child(void *run);

#endif
