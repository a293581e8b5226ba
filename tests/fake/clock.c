/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/clock_fake.h"

#define clock_mono_us real_mono_us
#define clock_boot_us real_boot_us
#define clock_wall_us real_wall_us
#include "base/clock.c"
#undef clock_mono_us
#undef clock_boot_us
#undef clock_wall_us
#undef BASE_CLOCK_H
#include "base/clock.h"

static uint64_t mono = 1000000, boot = 5000000;
static int64_t wall = 1700000000000000;

void clock_fake_set(int64_t wall_us)
{
    wall = wall_us;
}

void clock_fake_pass(uint64_t us)
{
    mono += us;
    boot += us;
    wall += (int64_t)us;
}

uint64_t clock_mono_us(void)
{
    return mono;
}

uint64_t clock_boot_us(void)
{
    return boot;
}

int64_t clock_wall_us(void)
{
    return wall;
}
