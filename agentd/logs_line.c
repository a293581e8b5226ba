/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_line.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/str.h"

#define LEVEL_WORDS 5   /* behind the time, among which a level is looked for */
#define LEVEL_BYTES 120 /* and how far */
#define DAY_US INT64_C(86400000000)

/* What is left of a line. */
struct text {
    const char *p, *end;
};

static bool skip(struct text *t, char c)
{
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool skip_word(struct text *t, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
        return false;
    t->p += n;
    return true;
}

/* Exactly so many digits. */
static bool number(struct text *t, int digits, int *ret)
{
    int v = 0;

    if (t->end - t->p < digits)
        return false;
    for (int i = 0; i < digits; i++) {
        if (t->p[i] < '0' || t->p[i] > '9')
            return false;
        v = v * 10 + t->p[i] - '0';
    }
    t->p += digits;
    *ret = v;
    return true;
}

struct moment {
    int year, month, day, hour, minute, second; /* month from 1 */
    int32_t fraction_us;
    bool has_zone;
    int32_t offset;
};

static bool is_sound(const struct moment *m)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = m->year % 4 == 0 && (m->year % 100 != 0 || m->year % 400 == 0);

    return m->year >= 1 && m->month >= 1 && m->month <= 12 && m->day >= 1 && m->day <= days[m->month - 1] &&
           (m->month != 2 || m->day < 29 || leap) && m->hour < 24 && m->minute < 60 && m->second <= 60;
}

static bool clock_of(struct text *t, struct moment *m)
{
    return number(t, 2, &m->hour) && skip(t, ':') && number(t, 2, &m->minute) && skip(t, ':') &&
           number(t, 2, &m->second);
}

/* ".5" or ",123456789"; what is finer than a microsecond is left out. */
static bool fraction(struct text *t, struct moment *m)
{
    int32_t unit = 100000;
    const char *from;

    if (!skip(t, '.') && !skip(t, ','))
        return true;
    for (from = t->p; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++, unit /= 10)
        m->fraction_us += (*t->p - '0') * unit;
    return t->p > from && t->p - from <= 9;
}

/* "Z", "+08:00", "-0330", also behind a blank; what is no zone is left alone. */
static void zone(struct text *t, struct moment *m)
{
    struct text at = *t;
    int hours, minutes, sign;

    if (skip(&at, 'Z')) {
        m->has_zone = true;
        *t = at;
        return;
    }
    skip(&at, ' ');
    sign = skip(&at, '+') ? 1 : skip(&at, '-') ? -1 : 0;
    if (!sign || !number(&at, 2, &hours))
        return;
    skip(&at, ':');
    if (!number(&at, 2, &minutes) || hours > 18 || minutes > 59 ||
        (at.p < at.end && isdigit((unsigned char)*at.p)))
        return;
    m->has_zone = true;
    m->offset = sign * (hours * 3600 + minutes * 60);
    *t = at;
}

/* "2024-01-02T03:04:05.123+08:00", with a blank for the T and without what follows the second. */
static bool iso(struct text *t, struct moment *m)
{
    char dash;

    if (!number(t, 4, &m->year) || t->p == t->end || (*t->p != '-' && *t->p != '/'))
        return false;
    dash = *t->p;
    if (!skip(t, dash) || !number(t, 2, &m->month) || !skip(t, dash) || !number(t, 2, &m->day) ||
        !(skip(t, 'T') || skip(t, ' ')) || !clock_of(t, m) || !fraction(t, m))
        return false;
    zone(t, m);
    return is_sound(m) && (t->p == t->end || !isalnum((unsigned char)*t->p));
}

/* "Jan  2 03:04:05 " and a word, RFC 3164. */
static bool syslog_of_old(struct text *t, struct moment *m)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (m->month = 1; m->month <= 12; m->month++)
        if ((size_t)(t->end - t->p) > 3 && memcmp(t->p, names + 3 * (m->month - 1), 3) == 0)
            break;
    if (m->month > 12)
        return false;
    t->p += 3;
    m->year = 2000; /* a leap year, until the right one is found */
    if (!skip(t, ' ') || !(skip(t, ' ') ? number(t, 1, &m->day) : number(t, 2, &m->day)) || !skip(t, ' ') ||
        !clock_of(t, m) || !skip(t, ' '))
        return false;
    return is_sound(m) && t->p < t->end && isalnum((unsigned char)*t->p);
}

/* --- into the time that the kernel counts --------------------------------------------------------------- */

static int64_t days_of(int year, int month, int day)
{
    int y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    int era = y / 400, of_era = y - era * 400;

    return (int64_t)era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 -
           719468;
}

static int64_t seconds_utc(const struct moment *m)
{
    return days_of(m->year, m->month, m->day) * 86400 + m->hour * 3600 + m->minute * 60 + m->second;
}

/* This host's offset then. mktime(3) takes longer than all the rest, and lines come in their order: what one
 * hour had is remembered. */
static int32_t local_offset(const struct moment *m)
{
    static int64_t known = INT64_MIN;
    static int32_t offset;
    int64_t hour = days_of(m->year, m->month, m->day) * 24 + m->hour;
    struct tm tm = {.tm_year = m->year - 1900,
                    .tm_mon = m->month - 1,
                    .tm_mday = m->day,
                    .tm_hour = m->hour,
                    .tm_isdst = -1};

    if (hour != known) {
        mktime(&tm);
        offset = (int32_t)tm.tm_gmtoff; /* 0 if it could not tell */
        known = hour;
    }
    return offset;
}

static void settle(const struct moment *m, struct logs_line *ret)
{
    ret->offset = m->has_zone ? m->offset : local_offset(m);
    ret->us = (seconds_utc(m) - ret->offset) * 1000000 + m->fraction_us;
}

static void settle_year(struct moment *m, int64_t latest_us, struct logs_line *ret)
{
    time_t latest = latest_us / 1000000 + 86400;
    struct tm tm;

    if (!gmtime_r(&latest, &tm))
        tm.tm_year = 70;
    m->year = tm.tm_year + 1900 + 1;
    do
        m->year--;
    while (m->year > 1970 && (!is_sound(m) || (settle(m, ret), ret->us > latest_us + DAY_US)));
    if (!is_sound(m)) /* the 29th of February of no year */
        m->day = 28;
    settle(m, ret);
}

/* --- levels --------------------------------------------------------------------------------------------- */

static const struct {
    const char *word, *level;
} levels[] = {
    {"INFO", "INFO"},         {"WARN", "WARN"},     {"ERROR", "ERROR"}, {"DEBUG", "DEBUG"},
    {"TRACE", "TRACE"},       {"WDIAG", "WDIAG"},   {"EDIAG", "EDIAG"}, {"WARNING", "WARN"},
    {"FATAL", "FATAL"},       {"NOTICE", "NOTICE"}, {"ERR", "ERROR"},   {"CRIT", "CRITICAL"},
    {"CRITICAL", "CRITICAL"}, {"ALERT", "ALERT"},   {"EMERG", "EMERG"}, {"PANIC", "PANIC"},
};

const char *logs_line_level(const char *word, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strlen(levels[i].word) == n && strncasecmp(levels[i].word, word, n) == 0)
            return levels[i].level;
    return NULL;
}

static bool is_between(char c)
{
    return c && strchr(" \t[](){}<>|:,;=\"-", c) != NULL;
}

static bool is_upper(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] >= 'a' && p[i] <= 'z')
            return false;
    return true;
}

/* In small letters it may be a word like any other, unless a bracket, a colon or the like is beside it. */
static bool is_marked(const char *from, const char *p, size_t n, const char *end)
{
    return is_upper(p, n) || (p > from && strchr("[<(|=", p[-1])) || (p + n < end && strchr("])>|:", p[n]));
}

static void find_level(const struct text *t, char level[LOGS_LEVEL])
{
    const char *p = t->p, *end = t->end - p > LEVEL_BYTES ? p + LEVEL_BYTES : t->end;

    level[0] = 0;
    for (int words = 0; words < LEVEL_WORDS; words++) {
        const char *found;
        size_t n = 0;
        while (p < end && is_between(*p))
            p++;
        while (p + n < end && !is_between(p[n]))
            n++;
        if (!n)
            return;
        if ((found = logs_line_level(p, n)) && is_marked(t->p, p, n, end)) {
            str_copy(level, LOGS_LEVEL, found);
            return;
        }
        p += n;
    }
}

bool logs_line_read(const char *p, size_t n, int64_t latest_us, struct logs_line *ret)
{
    struct text t = {p, p + n};
    struct moment m = {0};
    bool bracket = skip(&t, '[');

    if (!bracket && skip_word(&t, "time="))
        skip(&t, '"');
    if (t.p == t.end)
        return false;
    if (*t.p >= '0' && *t.p <= '9') {
        if (!iso(&t, &m) || (bracket && !skip(&t, ']')))
            return false;
        settle(&m, ret);
    } else {
        if (t.p != p || !syslog_of_old(&t, &m))
            return false;
        settle_year(&m, latest_us, ret);
    }
    find_level(&t, ret->level);
    return true;
}
