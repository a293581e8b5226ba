/* SPDX-License-Identifier: Apache-2.0 */
/* Words, paths, times and sizes: from the spellings of others to that of a worker's file. */
#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentctl/import.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/signals.h"
#include "base/str.h"

#define WORD_MAX LIMIT_IMPORT_FILE

void import_words_add(struct import *im, struct import_words *w, const char *s)
{
    import_room(&w->v, w->n, &w->size, sizeof(*w->v));
    w->v[w->n++] = import_keep(im, s);
}

void import_words_free(struct import_words *w)
{
    free(w->v);
    *w = (struct import_words){0};
}

/* ---- as the shell reads it ---- */

/* One word from *at into b. NULL, or what is wrong. */
static const char *shell_word(const char **at, struct buf *b)
{
    const char *s = *at;
    char quote = 0;

    buf_str(b, "");
    for (; *s && (quote || !strchr(" \t\r\n", *s)); s++) {
        if (*s == '\\' && quote != '\'') {
            if (!s[1])
                return "a backslash at its end; write two of them";
            if (quote && s[1] != '"' && s[1] != '\\')
                buf_char(b, '\\');
            buf_char(b, *++s);
        } else if (quote ? *s == quote : *s == '"' || *s == '\'') {
            quote = quote ? 0 : *s;
        } else {
            buf_char(b, *s);
        }
    }
    *at = s;
    return quote ? "a quote that is not closed" : NULL;
}

const char *import_words_shell(struct import *im, const char *s, struct import_words *w)
{
    struct buf b = BUF_INIT(WORD_MAX);
    const char *wrong = NULL;

    while (s += strspn(s, " \t\r\n"), *s && !wrong) {
        buf_reset(&b);
        if (!(wrong = shell_word(&s, &b)))
            import_words_add(im, w, b.p);
    }
    buf_free(&b);
    return wrong;
}

/* ---- as a worker's file has it ---- */

static void put_char(struct buf *b, char c, bool dollar)
{
    static const char from[] = "\n\t\r\"\\", to[] = "ntr\"\\";
    const char *at = c ? strchr(from, c) : NULL;

    if (at) {
        buf_char(b, '\\');
        buf_char(b, to[at - from]);
    } else if ((unsigned char)c < ' ' || c == 0x7f) {
        buf_printf(b, "\\x%02x", (unsigned char)c);
    } else {
        if (c == '%' || (c == '$' && dollar))
            buf_char(b, c);
        buf_char(b, c);
    }
}

/* A lone ; would end the command. */
static bool needs_quotes(const char *s)
{
    return !*s || strpbrk(s, " \t\r\n\"'") || str_eq(s, ";");
}

static void put_word(struct buf *b, const char *s, bool dollar)
{
    const char *quote = needs_quotes(s) ? "\"" : "";

    buf_str(b, quote);
    for (; *s; s++)
        put_char(b, *s, dollar);
    buf_str(b, quote);
}

/* In the program's own path a $ is nothing special. */
char *import_words_exec(struct import *im, const struct import_words *w)
{
    struct buf b = BUF_INIT(WORD_MAX * 8);

    for (size_t i = 0; i < w->n; i++) {
        if (i)
            buf_char(&b, ' ');
        put_word(&b, w->v[i], i > 0);
    }
    return import_take(im, &b);
}

char *import_words_exec_as(struct import *im, const char *path, const struct import_words *w)
{
    struct buf b = BUF_INIT(WORD_MAX * 8);

    if (str_eq(path, w->v[0]))
        return import_words_exec(im, w);
    buf_char(&b, '@');
    put_word(&b, path, false);
    for (size_t i = 0; i < w->n; i++) {
        buf_char(&b, ' ');
        put_word(&b, w->v[i], true);
    }
    return import_take(im, &b);
}

const char *import_words_env(struct import *im, const char *name, const char *value, char **ret)
{
    struct buf b = BUF_INIT(WORD_MAX * 8);
    char *both;

    if (!*name || isdigit((unsigned char)*name) ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != strlen(name))
        return "its name is none that agentd takes: letters, digits and _";
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\t' && *p != '\n') || *p == 0x7f)
            return "it has a control character";
    both = import_print(im, "%s=%s", name, value);
    put_word(&b, both, false);
    *ret = import_take(im, &b);
    return NULL;
}

char *import_words_plain(struct import *im, const char *s)
{
    struct buf b = BUF_INIT(WORD_MAX * 2);

    for (; *s; s++) {
        if (*s == '%')
            buf_char(&b, '%');
        buf_char(&b, *s);
    }
    return import_take(im, &b);
}

/* ---- programs and paths ---- */

static char *in_folders(struct import *im, const char *folders, const char *name)
{
    for (size_t n; *folders; folders += n + (folders[n] == ':')) {
        struct stat st;
        n = strcspn(folders, ":");
        if (n == 0 || *folders != '/')
            continue;
        char *path = import_print(im, "%.*s/%s", (int)n, folders, name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
            return path;
    }
    return NULL;
}

char *import_words_program(struct import *im, const char *name)
{
    static const char system[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const char *path = getenv("PATH");
    char *found = path ? in_folders(im, path, name) : NULL;

    return found ? found : in_folders(im, system, name);
}

/* Takes the last component away. */
static void go_up(struct buf *b)
{
    while (b->len && b->p[b->len - 1] != '/')
        b->len--;
    if (b->len)
        b->len--;
}

char *import_words_path(struct import *im, const char *dir, const char *path)
{
    char *whole = *path == '/' ? import_keep(im, path) : import_print(im, "%s/%s", dir, path);
    struct buf b = BUF_INIT(WORD_MAX * 2);

    for (const char *p = whole; *p;) {
        size_t skip = strspn(p, "/"), n = strcspn(p + skip, "/");
        p += skip;
        if (n == 2 && str_starts(p, "..")) {
            go_up(&b);
        } else if (n && !(n == 1 && *p == '.')) {
            buf_char(&b, '/');
            buf_put(&b, p, n);
        }
        p += n;
    }
    if (b.len == 0)
        buf_str(&b, "/");
    if (b.p)
        b.p[b.len] = 0;
    return import_take(im, &b);
}

/* ---- numbers ---- */

/* Microseconds of the unit that *s begins with, which it is moved behind; 0: it is none. */
static double unit_of(const char **s)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {{"ns", 0.001}, {"us", 1}, {"ms", 1000}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}};

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t n = strlen(units[i].name);
        if (strncmp(*s, units[i].name, n) == 0) {
            *s += n;
            return units[i].us;
        }
    }
    return 0;
}

#define SPAN_MAX_US 1e15 /* some thirty years: what is more is no time that is meant */

bool import_words_span(const char *s, double unit_us, double *ret_us)
{
    double sum = 0;

    if (!isdigit((unsigned char)*s))
        return false;
    while (*s) {
        char *end;
        double v, unit;
        if (strspn(s, "0123456789.") == 0 || s[0] == '.')
            return false;
        v = strtod(s, &end);
        if (end != s + strspn(s, "0123456789."))
            return false;
        s = end;
        unit = *s ? unit_of(&s) : unit_us;
        if (unit == 0)
            return false;
        sum += v * unit;
    }
    *ret_us = sum;
    return sum >= 0 && sum <= SPAN_MAX_US;
}

const char *import_words_write_span(double us, char buf[IMPORT_SPAN])
{
    uint64_t n = (uint64_t)((us < SPAN_MAX_US ? us : SPAN_MAX_US) + 0.5);

    if (n % 1000000 == 0)
        snprintf(buf, IMPORT_SPAN, "%llus", (unsigned long long)(n / 1000000));
    else if (n % 1000 == 0)
        snprintf(buf, IMPORT_SPAN, "%llums", (unsigned long long)(n / 1000));
    else
        snprintf(buf, IMPORT_SPAN, "%lluus", (unsigned long long)n);
    return buf;
}

const char *import_words_write_timeout(double us, char buf[IMPORT_SPAN])
{
    return import_words_write_span(us < 1000 ? 1000 : us, buf);
}

bool import_words_size(const char *s, uint64_t *ret)
{
    size_t n = strspn(s, "0123456789");
    static const char letters[] = "kmgt";
    unsigned shift = 0;
    char digits[20];
    const char *at;

    if (n == 0 || n >= sizeof(digits))
        return false;
    memcpy(digits, s, n);
    digits[n] = 0;
    s += n + strspn(s + n, " ");
    if (*s && *s != 'b' && *s != 'B') {
        if (!(at = strchr(letters, tolower((unsigned char)*s))))
            return false;
        shift = 10 * (unsigned)(at - letters + 1);
        s++;
    }
    if (tolower((unsigned char)*s) == 'i' && shift)
        s++;
    if (tolower((unsigned char)*s) == 'b')
        s++;
    if (*s || str_to_u64(digits, UINT64_MAX >> 16, ret) < 0 || *ret > (UINT64_C(1) << 50) >> shift)
        return false;
    *ret <<= shift;
    return true;
}

const char *import_words_signal(const char *s, char buf[16])
{
    char upper[16];
    size_t n = strlen(s);
    int signal;

    if (n >= sizeof(upper))
        return NULL;
    for (size_t i = 0; i <= n; i++)
        upper[i] = (char)toupper((unsigned char)s[i]);
    signal = signals_from_name(upper);
    return signal > 0 && str_starts(signals_name(signal, buf), "SIG") ? buf : NULL;
}

static bool is_name(const char *s)
{
    if (!*s || strlen(s) > 255 || *s == '-' || str_eq(s, ".") || str_eq(s, ".."))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || strchr(":/,", *s) || *s == 0x7f)
            return false;
    return true;
}

const char *import_words_user(const char *s)
{
    uint64_t id;

    if (!is_name(s))
        return "is no user's name or number";
    return str_to_u64(s, UINT32_MAX - 1, &id) == 0 || getpwnam(s)
               ? NULL
               : "is no user of this host; make that user first";
}

const char *import_words_group(const char *s)
{
    uint64_t id;

    if (!is_name(s))
        return "is no group's name or number";
    return str_to_u64(s, UINT32_MAX - 1, &id) == 0 || getgrnam(s)
               ? NULL
               : "is no group of this host; make that group first";
}
