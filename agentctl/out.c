/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/str.h"

#define LONGEST 1300 /* bytes of a word */

int64_t out_number(const struct json *j, int object, const char *name)
{
    int64_t v = 0;

    json_to_int(j, json_member(j, object, name), &v);
    return v;
}

const char *out_text(const struct json *j, int object, const char *name, char text[OUT_TEXT])
{
    char raw[OUT_TEXT];

    return str_escape(text, OUT_TEXT, json_copy(j, json_member(j, object, name), raw, sizeof(raw)));
}

int64_t out_time(const char *text)
{
    struct tm tm = {0};
    int h, m, at = 0;
    char sign;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &at) != 6 ||
        !at)
        return 0;
    text += at + (text[at] == '.' ? 1 + strspn(text + at + 1, "0123456789") : 0);
    if (sscanf(text, "%c%2d:%2d", &sign, &h, &m) != 3)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    return timegm(&tm) - (sign == '-' ? -1 : 1) * (h * 3600 + m * 60);
}

void out_word(const struct json *j, int object, const char *before, const char *name, const char *after)
{
    char raw[LONGEST], safe[4 * LONGEST];
    int t = json_member(j, object, name);

    if (json_kind(j, t) == JSON_STRING && *json_copy(j, t, raw, sizeof(raw)))
        printf("%s%s%s", before, str_escape(safe, sizeof(safe), raw), after);
}

void out_figure(const struct json *j, int object, const char *before, const char *name, const char *after)
{
    int64_t v;

    if (json_to_int(j, json_member(j, object, name), &v))
        printf("%s%" PRId64 "%s", before, v, after);
}

void out_data(const struct http_reply *r, const char *before, const char *after)
{
    size_t len;
    const char *s = json_raw(&r->json, r->data, &len);

    printf("%s%.*s%s", before, (int)len, s, after);
}

void out_string(const char *s, size_t n)
{
    struct buf b = BUF_INIT(SIZE_MAX);

    buf_json(&b, s, n);
    fwrite(b.p ? b.p : "", 1, b.len, stdout);
    buf_free(&b);
}

/* ESC and its like, and those of C1, in UTF-8. */
static bool drives_terminal(const char *s, size_t n)
{
    unsigned char c = (unsigned char)*s;

    return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ||
           (c == 0xc2 && n > 1 && ((unsigned char)s[1] & 0xe0) == 0x80);
}

void out_body(const char *s, size_t n)
{
    bool terminal = isatty(STDOUT_FILENO);

    for (size_t step; n; s += step, n -= step) {
        bool drop = terminal && drives_terminal(s, n);
        step = drop && (unsigned char)*s == 0xc2 ? 2 : 1;
        if (!drop)
            putchar(*s);
    }
}

int out_answer(const struct options *o, const struct http_reply *r, int code, bool *ret_text)
{
    *ret_text = code == EXIT_DONE && !o->json;
    if (code == EXIT_REFUSED)
        options_complain("%s: %s", o->words[0], r->message);
    if (code == EXIT_DONE && o->json)
        out_data(r, "", "\n");
    return code;
}
