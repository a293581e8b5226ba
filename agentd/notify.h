/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/notify: the worker's end of sd_notify(3): a datagram socket of its own for each worker that may
 * speak, and the watchdog that waits for its word. What comes over it is a hostile word: whoever may not
 * speak, by the kernel's credentials, is not heard, and no word costs more than a bounded time. */
#ifndef AGENTD_NOTIFY_H
#define AGENTD_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wk;
struct wk_def;

/* Type=notify, WatchdogSec= or NotifyAccess= ask for it. */
bool notify_is_wanted(const struct wk_def *d);
void notify_path(const struct wk *w, char *path, size_t size);
/* For the next incarnation, which has said nothing yet; a socket that is there is kept. 0 or -errno. */
int notify_open(struct wk *w);
void notify_close(struct wk *w);
int notify_fd(const struct wk *w); /* -1: none */
void notify_clear(void);           /* the sockets of a dead agentd's workers, before any is made */
/* After an exec of agentd: fd is the socket that an earlier image opened, status what was said. Takes status
 * over. */
void notify_resume(struct wk *w, int fd, char *status);
/* That the running process was told to keep: its definition may say something else by now. 0: none. */
uint64_t notify_watchdog(const struct wk *w);
void notify_set_watchdog(struct wk *w, uint64_t us);

/* The worker is up, or is not any more: its watchdog is watched in between. */
void notify_watch(struct wk *w, bool on);

/* STATUS=, "" if nothing was said. */
const char *notify_status(const struct wk *w);
/* "reloading", "stopping" or "". */
const char *notify_phase(const struct wk *w);

#endif
