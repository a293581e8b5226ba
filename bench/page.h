/* SPDX-License-Identifier: Apache-2.0 */
/* bench/page: the memory that a benchmark shares with its workers. */
#ifndef BENCH_PAGE_H
#define BENCH_PAGE_H

#include <stdint.h>
#include <sys/types.h>

#define PAGE_SLOTS 1024

struct page {
    struct {
        uint32_t count; /* incarnations so far; a futex */
        pid_t pid[3];
        uint64_t ns; /* CLOCK_MONOTONIC of the newest one's first instruction */
    } slot[PAGE_SLOTS];
};

#endif
