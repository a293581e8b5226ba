/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/when.h"

#include <stddef.h>
#include <time.h>

/* Exactly so many digits. */
static bool digits(const char **s, int n, int *ret)
{
    *ret = 0;
    for (; n > 0; n--, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        *ret = *ret * 10 + **s - '0';
    }
    return true;
}

static bool skip(const char **s, char c)
{
    if (**s != c)
        return false;
    (*s)++;
    return true;
}

static bool fraction(const char **s, int64_t *us)
{
    int64_t unit = 100000;
    const char *from;

    *us = 0;
    if (!skip(s, '.'))
        return true;
    for (from = *s; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
        *us += (**s - '0') * unit;
    return *s > from;
}

static bool zone(const char **s, int64_t *seconds)
{
    int hours, minutes, sign;

    *seconds = 0;
    if (skip(s, 'Z') || skip(s, 'z'))
        return true;
    sign = skip(s, '+') ? 1 : skip(s, '-') ? -1 : 0;
    if (!sign || !digits(s, 2, &hours) || !skip(s, ':') || !digits(s, 2, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *seconds = sign * (hours * INT64_C(3600) + minutes * 60);
    return true;
}

/* The day exists if it comes back as it was. */
static bool seconds_of(int year, int month, int day, int64_t *ret)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day}, same = tm;

    *ret = timegm(&tm);
    return tm.tm_year == same.tm_year && tm.tm_mon == same.tm_mon && tm.tm_mday == same.tm_mday;
}

bool when_read(const char *s, int64_t *ret)
{
    int year, month, day, hour, minute, second;
    int64_t us, offset, at;

    if (!digits(&s, 4, &year) || !skip(&s, '-') || !digits(&s, 2, &month) || !skip(&s, '-') ||
        !digits(&s, 2, &day) || !(skip(&s, 'T') || skip(&s, 't') || skip(&s, ' ')) || !digits(&s, 2, &hour) ||
        !skip(&s, ':') || !digits(&s, 2, &minute) || !skip(&s, ':') || !digits(&s, 2, &second) ||
        !fraction(&s, &us) || !zone(&s, &offset) || *s)
        return false;
    if (!seconds_of(year, month, day, &at) || hour > 23 || minute > 59 || second > 60)
        return false;
    *ret = (at + hour * 3600 + minute * 60 + second - offset) * 1000000 + us;
    return true;
}
