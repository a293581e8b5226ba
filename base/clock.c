/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t clock_mono_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_boot_us(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_wall_us(void)
{
    return (int64_t)read_clock(CLOCK_REALTIME);
}

char *clock_iso(int64_t wall_us, int with_ms, char buf[CLOCK_TEXT_MAX])
{
    time_t sec = (time_t)(wall_us / 1000000);
    struct tm tm;
    long off;
    size_t n;

    localtime_r(&sec, &tm);
    n = strftime(buf, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (with_ms)
        n += (size_t)snprintf(buf + n, CLOCK_TEXT_MAX - n, ".%03d", (int)(wall_us / 1000 % 1000));
    off = tm.tm_gmtoff / 60;
    snprintf(buf + n, CLOCK_TEXT_MAX - n, "%c%02ld:%02ld", off < 0 ? '-' : '+', (off < 0 ? -off : off) / 60,
             (off < 0 ? -off : off) % 60);
    return buf;
}
