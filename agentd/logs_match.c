/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_match.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agentd/logs_line.h"
#include "base/str.h"

static int add_string(const char **v, unsigned *n, unsigned max, const char *text)
{
    if (*n == max || !*text)
        return -EINVAL;
    v[(*n)++] = text;
    return 0;
}

static int add_word(struct logs_words *w, const char *text, bool is_pattern)
{
    size_t n = strlen(text);

    if (w->n == LIMIT_LOG_WORDS || n == 0 || n > LIMIT_LOG_WORD)
        return -EINVAL;
    w->v[w->n++] = (struct logs_word){.text = text, .n = n, .is_pattern = is_pattern};
    return 0;
}

static int take_time(const char *text, int64_t *ret)
{
    uint64_t v;

    if (str_to_u64(text[0] == '-' ? text + 1 : text, INT64_MAX / 4, &v) < 0) /* room for margins */
        return -EINVAL;
    *ret = text[0] == '-' ? -(int64_t)v : (int64_t)v;
    return 0;
}

/* Four numbers with colons between. */
static int take_cursor(char *text, struct logs_query *q)
{
    uint64_t v[4], max[4] = {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT64_MAX - 1};
    char *part;

    for (int i = 0; i < 4; i++)
        if (!(part = strsep(&text, ":")) || str_to_u64(part, max[i], &v[i]) < 0)
            return -EINVAL;
    q->cursor = (struct logs_place){v[0], v[1], (uint32_t)v[2], v[3]};
    q->has_cursor = true;
    return text ? -EINVAL : 0;
}

static int take_line(char *line, struct logs_query *q)
{
    char *value = line + 1;

    switch (line[0]) {
    case 't':
        return add_string(q->types, &q->n_types, LIMIT_LOG_TYPES, value);
    case 'l':
        return add_string(q->levels, &q->n_levels, LIMIT_LOG_WORDS, value);
    case 's':
        return take_time(value, &q->start_us);
    case 'e':
        return take_time(value, &q->end_us);
    case 'k':
    case 'K':
        return add_word(&q->keys, value, line[0] == 'K');
    case 'x':
    case 'X':
        return add_word(&q->excludes, value, line[0] == 'X');
    case 'n':
        return str_to_u64(value, LIMIT_LOG_ENTRIES, &q->limit);
    case 'c':
        return take_cursor(value, q);
    case 'z':
        q->zip = true;
        return 0;
    default:
        return -EINVAL;
    }
}

int logs_match_read(char *text, struct logs_query *ret)
{
    char *line;

    *ret = (struct logs_query){.end_us = INT64_MAX};
    while ((line = strsep(&text, "\n")))
        if (*line && take_line(line, ret) < 0)
            return -EINVAL;
    return ret->n_types ? 0 : -EINVAL;
}

/* Behind a bracket expression that begins at p, or p itself: it has no end. regex(7). */
static const char *behind_bracket(const char *p)
{
    const char *at = p + 1, *end;

    at += *at == '^';
    at += *at == ']'; /* one that comes first is a member */
    for (; *at && *at != ']'; at++) {
        char close[3] = {at[1], ']', 0};
        if (*at == '[' && at[1] && strchr(":.=", at[1]) && (end = strstr(at + 2, close)))
            at = end + 1; /* [:alpha:] and its like */
    }
    return *at ? at + 1 : p;
}

/* regex(7) does not know \d and \D, which whoever asks may be used to: it would take them for letters. */
static void put_digits(const char *p, char *ret, size_t size)
{
    size_t n = 0;

    while (*p && n + 8 < size) {
        const char *end = *p == '[' ? behind_bracket(p) : p;
        if (*p == '\\' && (p[1] == 'd' || p[1] == 'D')) {
            n += (size_t)sprintf(ret + n, p[1] == 'd' ? "[0-9]" : "[^0-9]");
            p += 2;
        } else if (*p == '\\' && p[1]) {
            ret[n++] = *p++;
            ret[n++] = *p++;
        } else if (end > p && (size_t)(end - p) + n + 1 < size) {
            memcpy(ret + n, p, (size_t)(end - p));
            n += (size_t)(end - p);
            p = end;
        } else {
            ret[n++] = *p++;
        }
    }
    ret[n] = 0;
}

static int compile(struct logs_words *w, const char *field, char *why, size_t size)
{
    char said[160], pattern[3 * LIMIT_LOG_WORD + 16];
    int r;

    for (unsigned i = 0; i < w->n; i++) {
        if (!w->v[i].is_pattern)
            continue;
        put_digits(w->v[i].text, pattern, sizeof(pattern));
        r = regcomp(&w->v[i].re, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE);
        if (r == 0)
            continue;
        regerror(r, &w->v[i].re, said, sizeof(said));
        snprintf(why, size, "%s: %s: %.200s", field, said, w->v[i].text);
        return -EINVAL;
    }
    return 0;
}

int logs_match_compile(struct logs_query *q, char *why, size_t size)
{
    int r = compile(&q->keys, "keyword", why, size);

    return r < 0 ? r : compile(&q->excludes, "excludeKeyword", why, size);
}

bool logs_match_level(const struct logs_query *q, const char *level)
{
    if (!q->n_levels || !*level)
        return true;
    for (unsigned i = 0; i < q->n_levels; i++) {
        const char *known = logs_line_level(q->levels[i], strlen(q->levels[i]));
        if (strcasecmp(known ? known : q->levels[i], level) == 0 || strcasecmp(q->levels[i], "ALL") == 0)
            return true;
    }
    return false;
}

/* The C library's regexec(3) says REG_NOMATCH where it means REG_ESPACE. */
static bool has(struct logs_query *q, const struct logs_word *w, const char *p, size_t n)
{
    regmatch_t range = {.rm_so = 0, .rm_eo = (regoff_t)n};
    int r;

    if (!w->is_pattern)
        return memmem(p, n, w->text, w->n) != NULL;
    errno = 0;
    r = regexec(&w->re, p, 0, &range, REG_STARTEND);
    q->failed |= r != 0 && (r != REG_NOMATCH || errno == ENOMEM);
    return r == 0;
}

bool logs_match_text(struct logs_query *q, const char *p, size_t n)
{
    for (unsigned i = 0; i < q->keys.n; i++)
        if (!has(q, &q->keys.v[i], p, n))
            return false;
    for (unsigned i = 0; i < q->excludes.n; i++)
        if (has(q, &q->excludes.v[i], p, n))
            return false;
    return true;
}
