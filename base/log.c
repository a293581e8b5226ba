/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

static int max_level = LOG_INFO;
static log_sink_fn current_sink = log_stderr;

static const char *const level_names[] = {"emerg",   "alert",  "crit", "err",
                                          "warning", "notice", "info", "debug"};

void log_set_level(int level)
{
    max_level = level;
}

int log_level_from_string(const char *s)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (str_eq(s, level_names[i]))
            return (int)i;
    return -EINVAL;
}

void log_set_sink(log_sink_fn sink)
{
    current_sink = sink ? sink : log_stderr;
}

void log_stderr(int level, const char *area, const struct log_about *about, const char *message)
{
    char line[1600];
    int n = 0;

    if (getenv("JOURNAL_STREAM")) /* then the priority travels in front, sd-daemon(3) */
        n = snprintf(line, sizeof(line), "<%d>", level & 7);
    n += snprintf(line + n, sizeof(line) - (size_t)n, "%s %s", level_names[level & 7], area);

    if (about && about->worker)
        n += snprintf(line + n, sizeof(line) - (size_t)n, " worker=%.128s", about->worker);
    if (about && about->operation)
        n += snprintf(line + n, sizeof(line) - (size_t)n, " operation=%.64s", about->operation);
    n += snprintf(line + n, sizeof(line) - (size_t)n, ": %.1200s", message);
    line[n++] = '\n';
    /* A log that can't be written costs the line, never the daemon. */
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored;
}

void log_write(int level, const char *area, const struct log_about *about, const char *fmt, ...)
{
    char raw[1024], safe[1200];
    int saved = errno;
    va_list ap;

    if (level > max_level)
        return;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    current_sink(level, area, about, str_escape(safe, sizeof(safe), raw));
    errno = saved;
}
