/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_read.h"
#include "base/str.h"

#define REPORT_BYTES (256 * 1024)
#define MESSAGE_MAX 1024

void cfg_report_init(struct cfg_report *r)
{
    *r = (struct cfg_report){.errors = BUF_INIT(REPORT_BYTES), .warnings = BUF_INIT(REPORT_BYTES)};
}

void cfg_report_free(struct cfg_report *r)
{
    buf_free(&r->errors);
    buf_free(&r->warnings);
}

static void put_before(struct buf *b, const struct buf *first)
{
    struct buf whole = BUF_INIT(REPORT_BYTES);

    buf_put(&whole, first->p ? first->p : "", first->len);
    buf_put(&whole, b->p ? b->p : "", b->len);
    buf_free(b);
    *b = whole;
}

void cfg_report_before(struct cfg_report *r, const struct cfg_report *first)
{
    put_before(&r->errors, &first->errors);
    put_before(&r->warnings, &first->warnings);
    r->n_errors += first->n_errors;
    r->n_agent_errors += first->n_agent_errors;
    r->n_warnings += first->n_warnings;
}

/* One line; what a file says can't forge another. */
static void put(struct buf *b, const char *file, unsigned line, unsigned col, const char *kind,
                const char *text)
{
    char name[MESSAGE_MAX], message[MESSAGE_MAX];

    str_escape(name, sizeof(name), file);
    str_escape(message, sizeof(message), text);
    buf_printf(b, "%s:%u:%u: %s%s\n", name, line, col, kind, message);
}

static void error_line(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *text)
{
    c->n_errors++;
    if (!c->def)
        c->report->n_agent_errors++;
    if (c->report->n_errors++ < LIMIT_CONFIG_ERRORS)
        put(&c->report->errors, file, line, col, "", text);
}

static void warn_line(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *text)
{
    if (c->report->n_warnings++ < LIMIT_CONFIG_ERRORS)
        put(&c->report->warnings, file, line, col, "warning: ", text);
}

typedef void (*tell_fn)(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *text);

__attribute__((format(printf, 6, 0))) static void tell(struct cfg_ctx *c, tell_fn fn, const char *file,
                                                       unsigned line, unsigned col, const char *fmt,
                                                       va_list ap)
{
    char text[MESSAGE_MAX];

    vsnprintf(text, sizeof(text), fmt, ap);
    fn(c, file, line, col, text);
}

__attribute__((format(printf, 5, 0))) static void
tell_at(struct cfg_ctx *c, tell_fn fn, const struct cfg_line *l, size_t at, const char *fmt, va_list ap)
{
    unsigned line, col;

    cfg_line_at(l, at, &line, &col);
    tell(c, fn, l->file, line, col, fmt, ap);
}

void cfg_error(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell_at(c, error_line, l, at, fmt, ap);
    va_end(ap);
}

void cfg_warn(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell_at(c, warn_line, l, at, fmt, ap);
    va_end(ap);
}

void cfg_error_in(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(c, error_line, file, line, col, fmt, ap);
    va_end(ap);
}

void cfg_warn_in(struct cfg_ctx *c, const char *file, unsigned line, unsigned col, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tell(c, warn_line, file, line, col, fmt, ap);
    va_end(ap);
}

char *cfg_report_why(const struct cfg_report *r, size_t at, unsigned n)
{
    const char *line = r->errors.p ? r->errors.p + at : "";
    int len = (int)strcspn(line, "\n");
    char *why = NULL;

    if (len == 0 || n == 0)
        return NULL;
    if (n > 1 ? asprintf(&why, "%.*s (and %u more)", len, line, n - 1) < 0
              : !(why = strndup(line, (size_t)len)))
        return NULL;
    return why;
}

void cfg_oom(struct cfg_ctx *c)
{
    cfg_error_in(c, c->file, 1, 1, "out of memory");
}

char *cfg_dup(struct cfg_ctx *c, const char *s)
{
    char *copy = strdup(s);

    if (!copy)
        cfg_oom(c);
    return copy;
}

void cfg_nearer(const char *word, const char *name, const char **best, unsigned *distance)
{
    unsigned d = str_distance(word, name);

    if (!*best || d < *distance) {
        *best = name;
        *distance = d;
    }
}

const char *cfg_hint(const char *word, const char *best, unsigned distance, char buf[CFG_HINT_MAX])
{
    size_t len = strlen(word);
    bool near = best && len > 2 && distance <= (len > 10 ? 3 : 2) && distance < len / 2 + 1;

    *buf = 0;
    if (near)
        snprintf(buf, CFG_HINT_MAX, ", did you mean \"%s\"?", best);
    return buf;
}
