/* SPDX-License-Identifier: Apache-2.0 */
/* base/clock: the three clocks, in microseconds, and wall time in print.
 * Timers use the monotonic clock, ages of processes the boot-time clock (which start ticks of /proc count in,
 * proc(5)), the wall clock is only ever printed. Tests replace this file (tests/fake/). */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_us(void);
uint64_t clock_boot_us(void);
int64_t clock_wall_us(void);

#define CLOCK_TEXT_MAX 40

/* ISO 8601 in local time with a numeric offset, with milliseconds or without: 2026-01-02T03:04:05.678+08:00.
 * Returns buf. */
char *clock_iso(int64_t wall_us, int with_ms, char buf[CLOCK_TEXT_MAX]);

#endif
