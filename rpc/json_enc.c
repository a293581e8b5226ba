/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/json_enc.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

/* Seconds whose text is kept: a record's times hardly ever change, and printing one costs more than all the
 * rest of the record. */
#define TIME_SLOTS 32

static struct {
    int64_t sec;
    char text[CLOCK_TEXT_MAX]; /* without milliseconds */
} times[TIME_SLOTS];

static void separate(struct buf *b)
{
    char last = b->len ? b->p[b->len - 1] : '[';

    if (last != '{' && last != '[' && last != ':' && last != ',')
        buf_char(b, ',');
}

void json_open(struct buf *b, char bracket)
{
    separate(b);
    buf_char(b, bracket);
}

void json_close(struct buf *b, char bracket)
{
    buf_char(b, bracket);
}

void json_key(struct buf *b, const char *name)
{
    separate(b);
    buf_char(b, '"');
    buf_str(b, name);
    buf_put(b, "\":", 2);
}

void json_put_str(struct buf *b, const char *s)
{
    separate(b);
    buf_json(b, s, strlen(s));
}

void json_put_uint(struct buf *b, uint64_t v)
{
    separate(b);
    buf_uint(b, v);
}

void json_put_int(struct buf *b, int64_t v)
{
    if (v >= 0) {
        json_put_uint(b, (uint64_t)v);
        return;
    }
    separate(b);
    buf_printf(b, "%lld", (long long)v);
}

void json_str(struct buf *b, const char *name, const char *s)
{
    json_key(b, name);
    json_put_str(b, s);
}

void json_int(struct buf *b, const char *name, int64_t v)
{
    json_key(b, name);
    json_put_int(b, v);
}

void json_uint(struct buf *b, const char *name, uint64_t v)
{
    json_key(b, name);
    json_put_uint(b, v);
}

void json_bool(struct buf *b, const char *name, bool v)
{
    json_key(b, name);
    buf_str(b, v ? "true" : "false");
}

void json_null(struct buf *b, const char *name)
{
    json_key(b, name);
    buf_str(b, "null");
}

void json_time(struct buf *b, const char *name, int64_t wall_us, bool with_ms)
{
    int64_t sec = wall_us / 1000000;
    size_t slot = (size_t)(uint64_t)sec % TIME_SLOTS;
    unsigned ms = (unsigned)(wall_us / 1000 % 1000);
    char fraction[] = {'.', (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)};

    if (wall_us <= 0) {
        json_null(b, name);
        return;
    }
    if (times[slot].sec != sec) {
        clock_iso(sec * 1000000, 0, times[slot].text);
        times[slot].sec = sec;
    }
    json_key(b, name);
    buf_char(b, '"');
    /* the text is YYYY-MM-DDTHH:MM:SS and the zone: 19 bytes as long as years have four digits */
    buf_put(b, times[slot].text, 19);
    if (with_ms)
        buf_put(b, fraction, sizeof(fraction));
    buf_str(b, times[slot].text + 19);
    buf_char(b, '"');
}

void json_numbers(struct buf *b, const char *name, const char *list)
{
    json_key(b, name);
    buf_char(b, '[');
    while (*list) {
        char *end;
        unsigned long long v = strtoull(list, &end, 10);
        if (end != list && *list >= '0' && *list <= '9')
            json_put_uint(b, v);
        else
            end = (char *)list + 1;
        list = end;
    }
    buf_char(b, ']');
}

void json_words(struct buf *b, const char *name, const char *list)
{
    char word[LIMIT_JSON_WORD];

    json_key(b, name);
    buf_char(b, '[');
    while (*list) {
        size_t n = strcspn(list, ",");
        if (n && n < sizeof(word)) {
            memcpy(word, list, n);
            word[n] = 0;
            json_put_str(b, word);
        }
        list += n + (list[n] == ',');
    }
    buf_char(b, ']');
}
