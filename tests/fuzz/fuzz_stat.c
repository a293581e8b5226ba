/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel and people write: /proc/PID/stat, numbers, spans, and text on its way into the log. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "proc/pidref.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void escape(const char *s, size_t size)
{
    char *out = malloc(size);

    str_escape(out, size, s);
    must(strlen(out) < size && str_is_utf8(out, strlen(out)));
    for (const char *at = out; *at; at++)
        must((unsigned char)*at >= 0x20 && *at != 0x7f);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char *s = malloc(n + 1);
    struct pidref_stat st;
    uint64_t v;
    bool b;

    memcpy(s, p, n);
    s[n] = 0;
    pidref_parse_stat(s, &st);
    if (str_to_usec(s, 1000000, &v) == 0)
        must(v == STR_USEC_INFINITY || v <= UINT64_MAX / 2 + 1000000);
    str_to_size(s, &v);
    if (str_to_u64(s, 1000, &v) == 0)
        must(v <= 1000);
    str_to_bool(s, &b);
    must(str_distance(s, s) == 0);
    must(str_distance(s, "restart") <= 63);
    escape(s, 1 + n % 40);
    escape(s, 4 * n + 1);
    free(s);
    return 0;
}
