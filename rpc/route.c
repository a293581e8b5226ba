/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/route.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* Decodes n bytes at s; -EINVAL if they do not fit or hold a control character. */
static int decode(const char *s, size_t n, int plus_is_blank, char *buf, size_t size)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%' && n - i > 2) {
            c = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (at + 1 >= size || (unsigned char)c < 0x20 || c == 0x7f)
            return -EINVAL;
        buf[at++] = c;
    }
    buf[at] = 0;
    return str_is_utf8(buf, at) ? 0 : -EINVAL;
}

/* Walks a row's path and the target's side by side. */
static int matches(const char *pattern, const char *path, size_t len, struct route *ret)
{
    const char *end = path + len;
    int params = 0;

    while (*pattern) {
        if (*pattern != '{') {
            if (path == end || *path++ != *pattern++)
                return 0;
            continue;
        }
        size_t n = 0;
        while (path + n < end && path[n] != '/')
            n++;
        if (n == 0 || decode(path, n, 0, ret->param[params++], ROUTE_PARAM) < 0)
            return 0;
        path += n;
        pattern = strchr(pattern, '}') + 1;
    }
    return path == end;
}

static unsigned verbs_of(const struct method_info *m)
{
    return m->verb[0] == 'G' ? ROUTE_GET | ROUTE_HEAD : m->verb[0] == 'D' ? ROUTE_DELETE : ROUTE_POST;
}

int route_match(const char *target, enum route_verb verb, struct route *ret)
{
    size_t len = strcspn(target, "?"), prefix = sizeof(METHOD_PREFIX) - 1;

    ret->query = target[len] == '?' ? target + len + 1 : "";
    ret->method = -1;
    ret->allowed = 0;
    ret->param[0][0] = ret->param[1][0] = 0;
    if (str_starts(target, METHOD_PREFIX "/")) {
        target += prefix;
        len -= prefix;
    }
    for (int i = 0; i < METHOD_COUNT; i++) {
        const struct method_info *m = &method_table[i];
        unsigned verbs = verbs_of(m);
        if (!matches(m->path, target, len, ret))
            continue;
        ret->allowed |= verbs | ROUTE_OPTIONS;
        if (verbs & verb)
            ret->method = i;
    }
    return ret->allowed ? 0 : -ENOENT;
}

const char *route_allow(unsigned allowed, char *buf, size_t size)
{
    snprintf(buf, size, "%s%s%s%sOPTIONS", allowed & ROUTE_GET ? "GET, " : "",
             allowed & ROUTE_HEAD ? "HEAD, " : "", allowed & ROUTE_POST ? "POST, " : "",
             allowed & ROUTE_DELETE ? "DELETE, " : "");
    return buf;
}

int route_query(const char *query, const char *name, char *buf, size_t size)
{
    size_t want = strlen(name);
    int found = 0;

    while (*query) {
        size_t n = strcspn(query, "&"), key = strcspn(query, "&=");
        if (key == want && memcmp(query, name, want) == 0) {
            size_t skip = key < n ? key + 1 : n;
            if (found || decode(query + skip, n - skip, 1, buf, size) < 0)
                return -EINVAL;
            found = 1;
        }
        query += n + (query[n] == '&');
    }
    return found;
}
