/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/json_dec: whatever is taken can be walked whole, and stays within the text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_dec.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int ok)
{
    if (!ok)
        abort();
}

static int walk(const struct json *j, int t, const char *text, size_t n)
{
    enum json_kind kind = json_kind(j, t);
    int seen = 1, items = 0, value;
    char small[8];
    int64_t number;
    size_t len;
    const char *raw = json_raw(j, t, &len);
    char *s = json_text(j, t);

    must(kind != JSON_NONE && raw >= text && raw + len <= text + n);
    must((s != NULL) == (kind == JSON_STRING));
    must(!s || (strlen(s) <= len && str_is_utf8(s, strlen(s))));
    free(s);
    must(strlen(json_copy(j, t, small, sizeof(small))) < sizeof(small));
    json_to_int(j, t, &number);
    if (kind != JSON_OBJECT && kind != JSON_ARRAY)
        return seen;
    for (int i = json_first(j, t); i >= 0; i = json_next(j, i), items++) {
        seen += walk(j, i, text, n);
        if (kind != JSON_OBJECT)
            continue;
        must((value = json_value(j, i)) >= 0);
        seen += walk(j, value, text, n);
    }
    must(items == json_count(j, t));
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char *text = malloc(n ? n : 1); /* no byte more: it need not end in NUL */
    struct json j;

    if (n)
        memcpy(text, p, n);
    if (json_parse(&j, text, n, 256) == 0) {
        must(str_is_utf8(text, n));
        must(walk(&j, 0, text, n) == j.count);
    }
    json_free(&j);
    free(text);
    return 0;
}
