/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_name.h"

#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"

#define DATE_DIGITS 8 /* so many are no number that was counted up to */

bool logs_name_is_packed(const char *name)
{
    static const char *const ends[] = {LOGS_NAME_PACKED, ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip"};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (str_ends(name, ends[i]) && !str_eq(name, ends[i]))
            return true;
    return false;
}

const char *logs_name_split(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return NULL;
    snprintf(folder, size, "%.*s", (int)(slash + 1 - path), path);
    return slash + 1;
}

static bool is_readable(const char *name, size_t n)
{
    static const char *const others[] = {".rotating", ".rotated", ".packing"};

    if (n == 0 || n > 255 || name[0] == '.' || strpbrk(name, "\t\n/") ||
        (logs_name_is_packed(name) && !str_ends(name, LOGS_NAME_PACKED)))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (str_ends(name, others[i]))
            return false;
    return true;
}

bool logs_name_read(const char *name, struct logs_name *ret)
{
    size_t n = strlen(name), digits = 0;

    if (!is_readable(name, n))
        return false;
    *ret = (struct logs_name){.kind = LOGS_NAME_PLAIN, .packed = str_ends(name, LOGS_NAME_PACKED)};
    n -= ret->packed ? strlen(LOGS_NAME_PACKED) : 0;
    ret->stem = n;
    while (digits < n && name[n - digits - 1] >= '0' && name[n - digits - 1] <= '9')
        digits++;
    if (!digits || digits + 1 >= n)
        return true;
    if (name[n - digits - 1] == '.' || (name[n - digits - 1] == '-' && digits >= DATE_DIGITS)) {
        ret->stem = n - digits - 1;
        ret->kind = digits >= DATE_DIGITS ? LOGS_NAME_DATE : LOGS_NAME_NUMBER;
    }
    return true;
}

/* ".12.gz" */
struct tail {
    enum logs_name_kind kind;
    const char *digits;
    size_t n;
};

static struct tail tail_of(const char *s)
{
    struct tail t = {.kind = LOGS_NAME_PLAIN, .digits = s + (*s == '.' || *s == '-')};

    t.n = strspn(t.digits, "0123456789");
    if (t.n)
        t.kind = t.n >= DATE_DIGITS ? LOGS_NAME_DATE : LOGS_NAME_NUMBER;
    return t;
}

static int by_digits(const struct tail *a, const struct tail *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    return strncmp(a->digits, b->digits, a->n);
}

/* Dates of different lengths: the longer one only says the same more finely. */
static int by_date(const struct tail *a, const struct tail *b)
{
    int r = strncmp(a->digits, b->digits, a->n < b->n ? a->n : b->n);

    return r ? r : by_digits(a, b);
}

int logs_name_compare(const char *a, const char *b)
{
    struct tail x = tail_of(a), y = tail_of(b);
    int r;

    if (x.kind != y.kind)
        return (int)x.kind - (int)y.kind;
    r = x.kind == LOGS_NAME_DATE ? by_date(&x, &y) : x.kind == LOGS_NAME_NUMBER ? -by_digits(&x, &y) : 0;
    return r ? r : strcmp(b, a); /* of nothing but ".gz": it is the older */
}

bool logs_name_is_type(const char *name, const char *type)
{
    size_t n = strlen(type);

    return n && strncmp(name, type, n) == 0 && (!name[n] || name[n] == '.' || name[n] == '_');
}
