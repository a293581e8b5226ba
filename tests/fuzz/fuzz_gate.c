/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/gate: the verdict never depends on how the bytes were cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "rpc/gate.h"

static const struct gate_limits limits = {.target = 64, .head = 1024, .headers = 8, .body = 256};

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    enum gate_verdict whole, single = GATE_FINE, two;
    struct gate a, b, c;
    size_t cut = n ? p[0] % n : 0;

    gate_init(&a, &limits);
    whole = gate_feed(&a, p, n);
    gate_init(&b, &limits);
    for (size_t i = 0; i < n && single == GATE_FINE; i++)
        single = gate_feed(&b, p + i, 1);
    gate_init(&c, &limits);
    two = gate_feed(&c, p, cut);
    if (two == GATE_FINE)
        two = gate_feed(&c, p + cut, n - cut);
    must(whole == single && whole == two);
    must(a.requests == b.requests && a.requests == c.requests);
    must(a.whole == b.whole && a.whole == c.whole && a.whole <= n);
    if (whole == GATE_REFUSED)
        must(a.error == b.error && a.reason && strcmp(a.reason, b.reason) == 0);
    else
        must(a.inside == b.inside && a.inside == (a.whole < n) && a.fed == n);
    return 0;
}
