/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "base/fd.h"

char *str_copy(char *dst, size_t size, const char *src)
{
    size_t n = strnlen(src, size - 1);

    memcpy(dst, src, n);
    dst[n] = 0;
    return dst;
}

/* Digits from *s on into *ret, *s moved behind them. */
static int take_digits(const char **s, uint64_t *ret)
{
    uint64_t v = 0;

    if (!isdigit((unsigned char)**s))
        return -EINVAL;
    for (; isdigit((unsigned char)**s); (*s)++) {
        unsigned d = (unsigned)(**s - '0');
        if (v > (UINT64_MAX - d) / 10)
            return -ERANGE;
        v = v * 10 + d;
    }
    *ret = v;
    return 0;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
    uint64_t v;
    int r = take_digits(&s, &v);

    if (r < 0)
        return r;
    if (*s)
        return -EINVAL;
    if (v > max)
        return -ERANGE;
    *ret = v;
    return 0;
}

int str_to_bool(const char *s, bool *ret)
{
    static const char *const words[2][6] = {
        {"0", "no", "n", "false", "f", "off"},
        {"1", "yes", "y", "true", "t", "on"},
    };

    for (int v = 0; v < 2; v++)
        for (size_t i = 0; i < ARRAY_LEN(words[v]); i++)
            if (strcasecmp(s, words[v][i]) == 0) {
                *ret = v;
                return 0;
            }
    return -EINVAL;
}

static const struct {
    const char *name;
    uint64_t us;
} time_units[] = {
    {"seconds", 1000000},
    {"second", 1000000},
    {"sec", 1000000},
    {"s", 1000000},
    {"minutes", 60000000},
    {"minute", 60000000},
    {"min", 60000000},
    {"m", 60000000},
    {"hours", 3600000000ull},
    {"hour", 3600000000ull},
    {"hr", 3600000000ull},
    {"h", 3600000000ull},
    {"days", 86400000000ull},
    {"day", 86400000000ull},
    {"d", 86400000000ull},
    {"weeks", 604800000000ull},
    {"week", 604800000000ull},
    {"w", 604800000000ull},
    {"msec", 1000},
    {"ms", 1000},
    {"usec", 1},
    {"us", 1},
    {"months", 2629800000000ull},
    {"month", 2629800000000ull},
    {"M", 2629800000000ull},
    {"years", 31557600000000ull},
    {"year", 31557600000000ull},
    {"y", 31557600000000ull},
};

/* The unit that s starts with, the letters up to a blank or digit; *s moved behind it. 0: unknown. */
static uint64_t take_unit(const char **s, uint64_t default_us)
{
    size_t n = 0;

    while (isalpha((unsigned char)(*s)[n]))
        n++;
    if (n == 0)
        return default_us;
    for (size_t i = 0; i < ARRAY_LEN(time_units); i++)
        if (strlen(time_units[i].name) == n && strncmp(*s, time_units[i].name, n) == 0) {
            *s += n;
            return time_units[i].us;
        }
    return 0;
}

/* ".25" of unit us; *s moved behind the digits. */
static int take_fraction(const char **s, uint64_t *ret_millionths)
{
    uint64_t scale = 100000;

    *ret_millionths = 0;
    if (**s != '.')
        return 0;
    (*s)++;
    if (!isdigit((unsigned char)**s))
        return -EINVAL;
    for (; isdigit((unsigned char)**s); (*s)++, scale /= 10)
        *ret_millionths += scale * (uint64_t)(**s - '0');
    return 0;
}

int str_to_usec(const char *s, uint64_t default_us, uint64_t *ret)
{
    uint64_t sum = 0, n, frac, unit;
    bool any = false;

    while (*s == ' ')
        s++;
    if (str_eq(s, "infinity")) {
        *ret = STR_USEC_INFINITY;
        return 0;
    }
    for (; *s; any = true) {
        int r = 0;
        n = 0;
        if (*s != '.') /* ".5s" */
            r = take_digits(&s, &n);
        if (r < 0 || (r = take_fraction(&s, &frac)) < 0)
            return r;
        while (*s == ' ' && isalpha((unsigned char)s[1]))
            s++;
        if (!(unit = take_unit(&s, default_us)))
            return -EINVAL;
        if (n > (UINT64_MAX / 2 - sum) / unit)
            return -ERANGE;
        sum += n * unit + (uint64_t)((__uint128_t)frac * unit / 1000000);
        while (*s == ' ')
            s++;
    }
    *ret = sum;
    return any ? 0 : -EINVAL;
}

int str_to_size(const char *s, uint64_t *ret)
{
    static const char units[] = "KMGTPE";
    uint64_t v;
    const char *u;
    int r;

    if (str_eq(s, "infinity")) {
        *ret = STR_SIZE_INFINITY;
        return 0;
    }
    if ((r = take_digits(&s, &v)) < 0)
        return r;
    if (*s && *s != 'B') {
        if (!(u = strchr(units, *s)))
            return -EINVAL;
        unsigned shift = 10u * (unsigned)(u - units + 1);
        if (v > UINT64_MAX >> shift)
            return -ERANGE;
        v <<= shift;
        s++;
    }
    if (*s == 'B')
        s++;
    *ret = v;
    return *s ? -EINVAL : 0;
}

unsigned str_distance(const char *a, const char *b)
{
    unsigned row[64], la = (unsigned)strnlen(a, 63), lb = (unsigned)strnlen(b, 63);

    for (unsigned j = 0; j <= lb; j++)
        row[j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned best = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

size_t str_utf8_len(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    uint32_t c;

    if (len <= 1 || len > n)
        return len == 1 && s[0] ? 1 : 0;
    c = s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    return c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
}

size_t str_utf8_put(char *to, uint32_t c)
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(n == 1 ? c : (0xf0u << (4 - n)) | c);
    return n;
}

bool str_is_utf8(const char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n)
        if (!(n = str_utf8_len(s + i, len - i)))
            return false;
    return true;
}

char *str_escape(char *dst, size_t size, const char *src)
{
    size_t left = strlen(src), at = 0;

    while (left) {
        size_t n = str_utf8_len(src, left);
        unsigned char c = (unsigned char)*src;
        bool c1 = n == 2 && c == 0xc2 && (unsigned char)src[1] < 0xa0; /* a terminal may obey these too */
        bool plain = (n > 1 && !c1) || (n == 1 && c >= 0x20 && c != 0x7f);

        if (at + (plain ? n : 4) >= size)
            break;
        if (plain) {
            memcpy(dst + at, src, n);
            at += n;
        } else {
            n = 1;
            at += (size_t)snprintf(dst + at, size - at, "\\x%02x", c);
        }
        src += n;
        left -= n;
    }
    dst[at] = 0;
    return dst;
}

uint64_t str_hash(uint64_t h, const void *p, size_t len)
{
    const unsigned char *at = p;

    while (len--)
        h = (h ^ *at++) * 0x100000001b3ull;
    return h;
}
