/* SPDX-License-Identifier: Apache-2.0 */
/* tests/fake/clock: stands for base/clock.c at link time: time is what the test says. */
#ifndef FAKE_CLOCK_FAKE_H
#define FAKE_CLOCK_FAKE_H

#include <stdint.h>

void clock_fake_set(int64_t wall_us); /* the other clocks stay */
void clock_fake_pass(uint64_t us);    /* all three go on */

#endif
