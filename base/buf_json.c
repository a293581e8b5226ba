/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of JSON, RFC 8259. */
#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_control(struct buf *b, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char shorts[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

    for (size_t i = 0; i < sizeof(shorts) - 1; i += 2)
        if ((unsigned char)shorts[i] == c) {
            text[1] = shorts[i + 1];
            buf_put(b, text, 2);
            return;
        }
    buf_put(b, text, 6);
}

/* How many bytes of s it took. */
static size_t put_special(struct buf *b, const char *s, size_t n)
{
    unsigned char c = (unsigned char)*s;
    size_t len = str_utf8_len(s, n);

    if (c < 0x80)
        put_control(b, c);
    else if (len == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0)
        put_control(b, (unsigned char)s[1]); /* a terminal may obey these too */
    else
        buf_put(b, len ? s : "\xef\xbf\xbd", len ? len : 3);
    return len ? len : 1;
}

void buf_json(struct buf *b, const char *s, size_t n)
{
    const char *end = s + n;

    buf_char(b, '"');
    while (s < end) {
        const char *from = s;
        while (s < end && is_plain((unsigned char)*s))
            s++;
        if (s > from)
            buf_put(b, from, (size_t)(s - from));
        if (s < end)
            s += put_special(b, s, (size_t)(end - s));
    }
    buf_char(b, '"');
}
