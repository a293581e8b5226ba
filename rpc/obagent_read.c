/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/obagent_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_dec.h"
#include "rpc/when.h"

#define DEFAULT_LIMIT 200
#define CHECK_DIGITS 9 /* of a file's id: device, inode, check */
#define INODE_DIGITS 20

struct reader {
    struct json json;
    struct buf *out;
    char *why;
    size_t size;
};

static int __attribute__((format(printf, 2, 3))) refuse(struct reader *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(r->why, r->size, fmt, args);
    va_end(args);
    return -EINVAL;
}

/* The value of a field, or -1: it is not there, or null, which is the same. */
static int field(const struct reader *r, const char *name)
{
    int t = json_member(&r->json, 0, name);

    return json_kind(&r->json, t) == JSON_NULL ? -1 : t;
}

/* It would end the line in which it travels, or not be seen by who reads of it. */
static bool is_clean(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return false;
    return true;
}

/* One line, if there is anything in it. */
static int put_text(struct reader *r, const char *name, int t, char letter)
{
    _cleanup_free_ char *s = json_text(&r->json, t);

    if (!s)
        return refuse(r, "%s: no string", name);
    if (strlen(s) > LIMIT_LOG_WORD || !is_clean(s))
        return refuse(r, "%s: longer than %d bytes, or has a control character in it", name, LIMIT_LOG_WORD);
    if (*s)
        buf_printf(r->out, "%c%s\n", letter, s);
    return 0;
}

static int put_list(struct reader *r, const char *name, char letter, int max)
{
    int t = field(r, name), error = 0;

    if (t < 0)
        return 0;
    if (json_kind(&r->json, t) != JSON_ARRAY || json_count(&r->json, t) > max)
        return refuse(r, "%s: no list of at most %d strings", name, max);
    for (int i = json_first(&r->json, t); i >= 0 && error == 0; i = json_next(&r->json, i))
        error = put_text(r, name, i, letter);
    return error;
}

static int put_types(struct reader *r, bool zip)
{
    size_t before = r->out->len;
    int t = field(r, "logType"), error;

    if (zip)
        error = put_list(r, "logType", 't', LIMIT_LOG_TYPES);
    else
        error = t < 0 ? 0 : put_text(r, "logType", t, 't');
    return error < 0 || r->out->len > before ? error : refuse(r, "logType: which log? It is missing");
}

static int take_time(struct reader *r, const char *name, int64_t *ret)
{
    char text[64];
    int t = field(r, name);

    if (t < 0)
        return refuse(r, "%s: it is missing", name);
    if (when_read(json_copy(&r->json, t, text, sizeof(text)), ret))
        return 0;
    return refuse(r, "%s: no time as 2024-01-02T03:04:05Z or 2024-01-02T03:04:05.678+08:00", name);
}

static int put_times(struct reader *r)
{
    int64_t start, end;
    int error = take_time(r, "startTime", &start);

    if (error < 0 || (error = take_time(r, "endTime", &end)) < 0)
        return error;
    if (end < start)
        return refuse(r, "endTime: it is before startTime");
    buf_printf(r->out, "s%" PRId64 "\ne%" PRId64 "\n", start, end);
    return 0;
}

/* A small letter for words as they are, a capital for patterns. */
static int put_words(struct reader *r, const char *name, const char *kind, char letter)
{
    char text[16];
    int t = field(r, kind);

    json_copy(&r->json, t, text, sizeof(text));
    if (t >= 0 && *text && !str_eq(text, "TEXT") && !str_eq(text, "REGEX"))
        return refuse(r, "%s: neither TEXT nor REGEX", kind);
    if (t >= 0 && json_kind(&r->json, t) != JSON_STRING)
        return refuse(r, "%s: neither TEXT nor REGEX", kind);
    if (str_eq(text, "REGEX"))
        letter = (char)(letter - 'a' + 'A');
    return put_list(r, name, letter, LIMIT_LOG_WORDS);
}

static int put_limit(struct reader *r)
{
    int t = field(r, "limit");
    int64_t n = DEFAULT_LIMIT;

    if (t >= 0 && (!json_to_int(&r->json, t, &n) || n < 0 || n > LIMIT_LOG_ENTRIES))
        return refuse(r, "limit: no number from 1 to %d", LIMIT_LOG_ENTRIES);
    buf_printf(r->out, "n%" PRId64 "\n", n ? n : DEFAULT_LIMIT);
    return 0;
}

/* n digits at the end of s, which are cut off. */
static bool take_digits(char *s, size_t n, uint64_t max, uint64_t *ret)
{
    size_t len = strlen(s);

    if (len < n || str_to_u64(s + len - n, max, ret) < 0)
        return false;
    s[len - n] = 0;
    return true;
}

static int put_cursor(struct reader *r)
{
    int id_at = field(r, "lastQueryFileId"), t = field(r, "lastQueryFileOffset");
    uint64_t device, inode, check;
    int64_t offset = 0;
    char id[80];

    if (t >= 0 && (!json_to_int(&r->json, t, &offset) || offset < 0))
        return refuse(r, "lastQueryFileOffset: no number that is not negative");
    if (id_at >= 0 && json_kind(&r->json, id_at) != JSON_STRING)
        return refuse(r, "lastQueryFileId: no string");
    json_copy(&r->json, id_at, id, sizeof(id));
    if (!*id || str_eq(id, "0")) /* the first search of some */
        return 0;
    if (strlen(id) > INODE_DIGITS * 2 + CHECK_DIGITS || !take_digits(id, CHECK_DIGITS, UINT32_MAX, &check) ||
        !take_digits(id, INODE_DIGITS, UINT64_MAX, &inode) || str_to_u64(id, UINT64_MAX, &device) < 0)
        return refuse(r, "lastQueryFileId: none that a search has answered with");
    buf_printf(r->out, "c%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRId64 "\n", device, inode, check, offset);
    return 0;
}

static int put_all(struct reader *r, bool zip)
{
    int error;

    if (json_kind(&r->json, 0) != JSON_OBJECT)
        return refuse(r, "the body is no object of JSON");
    if ((error = put_types(r, zip)) < 0 || (error = put_times(r)) < 0 ||
        (error = put_words(r, "keyword", "keywordType", 'k')) < 0 ||
        (error = put_words(r, "excludeKeyword", "excludeKeywordType", 'x')) < 0 ||
        (error = put_list(r, "logLevel", 'l', LIMIT_LOG_WORDS)) < 0)
        return error;
    if (!zip && ((error = put_limit(r)) < 0 || (error = put_cursor(r)) < 0))
        return error;
    if (zip)
        buf_str(r->out, "z\n");
    return r->out->error || r->out->len > LIMIT_LOG_QUERY_TEXT ? refuse(r, "keyword: too many bytes in all")
                                                               : 0;
}

int obagent_read_search(const char *body, size_t n, bool zip, struct buf *ret, char *why, size_t size)
{
    struct reader r = {.out = ret, .why = why, .size = size};
    int error = json_parse(&r.json, body, n, LIMIT_JSON_TOKENS);

    error = error < 0 ? refuse(&r, "the body is no object of JSON") : put_all(&r, zip);
    json_free(&r.json);
    return error;
}
