/* SPDX-License-Identifier: Apache-2.0 */
/* base/str: strings and the numbers people write in them. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define STR_USEC_INFINITY UINT64_MAX
#define STR_SIZE_INFINITY UINT64_MAX

static inline bool str_eq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline bool str_ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && memcmp(s + n - m, end, m) == 0;
}

/* Copies src into dst of size bytes, cut if it must be; always ends it. Returns dst. */
char *str_copy(char *dst, size_t size, const char *src);

/* Decimal digits only, the whole of s, at most max. 0, -EINVAL or -ERANGE. */
int str_to_u64(const char *s, uint64_t max, uint64_t *ret);

/* 1 yes y true t on | 0 no n false f off, systemd.syntax(7). 0 or -EINVAL. */
int str_to_bool(const char *s, bool *ret);

/* A time span as in systemd.time(7) ("5", "1min 20s", "500ms", "infinity"); a bare number has the
 * unit default_us (1000000: seconds). Microseconds; 0, -EINVAL or -ERANGE. */
int str_to_usec(const char *s, uint64_t default_us, uint64_t *ret);

/* A size in bytes: digits with an optional K M G T P E (base 1024), or "infinity". 0, -EINVAL or -ERANGE. */
int str_to_size(const char *s, uint64_t *ret);

/* Levenshtein distance of two short words (up to 63 bytes), for "did you mean". */
unsigned str_distance(const char *a, const char *b);

/* Copies src to dst with control characters, quotes of the log format and bytes over 0x7e that are not
 * valid UTF-8 escaped as \xNN, so that input can't forge a log line. Returns dst. */
char *str_escape(char *dst, size_t size, const char *src);

/* Length of the valid UTF-8 sequence at text (n bytes left, at least 1), 0 if there is none. RFC 3629. */
size_t str_utf8_len(const char *text, size_t n);

/* The UTF-8 of a code point up to 0x10ffff, 1 to 4 bytes at to, no NUL behind them; how many. RFC 3629. */
size_t str_utf8_put(char *to, uint32_t c);

/* True if s is valid UTF-8 without NUL (s has len bytes). */
bool str_is_utf8(const char *s, size_t len);

/* 64-bit FNV-1a over len bytes, chained through h (start with STR_HASH_INIT). Not for secrets. */
#define STR_HASH_INIT 0xcbf29ce484222325ull
uint64_t str_hash(uint64_t h, const void *p, size_t len);

#endif
