/* SPDX-License-Identifier: Apache-2.0 */
/* base/log: one line per event. The sink is a function, so that base/ knows no journal: systemd/ gives one.
 * Text that came from outside is escaped here, once. Rooms below agentd/ and rpc/ log at debug only. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <syslog.h>

/* What an event is about; any field may be NULL. */
struct log_about {
    const char *worker, *operation, *reason;
    const char *event; /* a name of systemd/messages.def */
};

typedef void (*log_sink_fn)(int level, const char *area, const struct log_about *about, const char *message);

/* LOG_ERR .. LOG_DEBUG of syslog(3); events above the level are dropped. */
void log_set_level(int level);
int log_level_from_string(const char *s); /* -EINVAL if it is none */
void log_set_sink(log_sink_fn sink);      /* NULL: lines on stderr */
void log_stderr(int level, const char *area, const struct log_about *about, const char *message);

void log_write(int level, const char *area, const struct log_about *about, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(area, ...) log_write(LOG_ERR, area, NULL, __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_WARNING, area, NULL, __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_INFO, area, NULL, __VA_ARGS__)
#define log_debug(area, ...) log_write(LOG_DEBUG, area, NULL, __VA_ARGS__)

#endif
