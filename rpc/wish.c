/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/wish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define MS_MAX (24 * 3600 * 1000u)

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t");
}

/* ---- If-Match ---- */

/* The end of an entity tag at s, its opaque part in [*from, *to); NULL: it is none. */
static const char *read_tag(const char *s, bool *weak, const char **from, const char **to)
{
    *weak = s[0] == 'W' && s[1] == '/';
    s += *weak ? 2 : 0;
    if (*s++ != '"')
        return NULL;
    for (*from = s; *s != '"'; s++)
        if ((unsigned char)*s <= 0x20 || *s == 0x7f)
            return NULL;
    *to = s;
    return s + 1;
}

/* Compared byte by byte, so only as we write it. */
static bool is_generation(const char *from, const char *to)
{
    char text[12];
    uint64_t v;
    size_t n = (size_t)(to - from);

    if (n == 0 || n >= sizeof(text) || (n > 1 && *from == '0'))
        return false;
    memcpy(text, from, n);
    text[n] = 0;
    return str_to_u64(text, UINT32_MAX, &v) == 0;
}

static int add(char *buf, size_t size, const char *from, const char *to)
{
    size_t len = strlen(buf), n = (size_t)(to - from);

    if (len + n + 2 > size)
        return -EINVAL;
    snprintf(buf + len, size - len, "%s%.*s", len ? "," : "", (int)n, from);
    return 0;
}

int wish_match(const char *value, char *buf, size_t size)
{
    const char *s = skip_blanks(value), *from, *to;
    bool weak, any = false;

    buf[0] = 0;
    if (*s == '*')
        return *skip_blanks(s + 1) ? -EINVAL : 0;
    while (*s) {
        if (*s == ',') { /* an element may be empty */
            s = skip_blanks(s + 1);
            continue;
        }
        if (!(s = read_tag(s, &weak, &from, &to)))
            return -EINVAL;
        any = true;
        /* a weak one never matches here */
        if (!weak && is_generation(from, to) && add(buf, size, from, to) < 0)
            return -EINVAL;
        s = skip_blanks(s);
        if (*s && *s != ',')
            return -EINVAL;
    }
    if (any && !buf[0])
        str_copy(buf, size, "-");
    return any ? 0 : -EINVAL;
}

/* ---- Prefer ---- */

/* The end of one preference: a comma that is not inside of quotes. */
static const char *end_of(const char *s)
{
    for (bool quoted = false; *s && (quoted || *s != ','); s++) {
        if (quoted && *s == '\\' && s[1])
            s++;
        else if (*s == '"')
            quoted = !quoted;
    }
    return s;
}

static void take_wait(const char *s, size_t n, struct wish *w)
{
    char text[12];
    uint64_t v;
    size_t digits;

    if (n && *s == '"')
        s++, n--;
    digits = strspn(s, "0123456789");
    if (w->has_wait || digits == 0 || digits > n || digits >= sizeof(text))
        return; /* the first one counts */
    memcpy(text, s, digits);
    text[digits] = 0;
    if (str_to_u64(text, UINT64_MAX, &v) < 0)
        return;
    w->has_wait = true;
    w->wait_ms = v > MS_MAX / 1000 ? MS_MAX : (uint32_t)v * 1000;
}

/* token [ "=" value ] *( ";" parameter ) */
static void take_one(const char *s, size_t n, struct wish *w)
{
    size_t name = strcspn(s, "=;, \t");
    const char *value = skip_blanks(s + name);

    if (name == strlen("respond-async") && strncasecmp(s, "respond-async", name) == 0)
        w->async = true;
    if (name == strlen("wait") && strncasecmp(s, "wait", name) == 0 && *value == '=') {
        value = skip_blanks(value + 1);
        if (value < s + n)
            take_wait(value, n - (size_t)(value - s), w);
    }
}

struct wish wish_prefer(const char *value)
{
    struct wish w = {false, false, 0};

    while (*value) {
        const char *end = end_of(value);
        value = skip_blanks(value);
        if (value < end)
            take_one(value, (size_t)(end - value), &w);
        value = *end ? end + 1 : end;
    }
    return w;
}

/* ---- Accept-Encoding ---- */

/* Behind a coding, n bytes: a weight of 0 says no. One that is none says nothing. */
static bool has_no_weight(const char *s, size_t n)
{
    const char *end = s + n;

    s = skip_blanks(s);
    if (s >= end || *s != ';')
        return false;
    s = skip_blanks(s + 1);
    if (end - s < 3 || (*s | 32) != 'q' || s[1] != '=' || s[2] != '0')
        return false;
    s += 3;
    if (s < end && *s == '.')
        for (s++; s < end && *s == '0';)
            s++;
    return skip_blanks(s) >= end;
}

bool wish_gzip(const char *value)
{
    bool any = false, named = false, takes = false;

    for (; *value; value += *value == ',') {
        size_t n, name;
        value = skip_blanks(value);
        n = strcspn(value, ",");
        name = strcspn(value, ",; \t");
        if ((name == 4 && strncasecmp(value, "gzip", name) == 0) ||
            (name == 6 && strncasecmp(value, "x-gzip", name) == 0)) {
            takes = !has_no_weight(value + name, n - name) || takes;
            named = true;
        } else if (name == 1 && *value == '*') {
            any = !has_no_weight(value + name, n - name);
        }
        value += n;
    }
    return named ? takes : any;
}
