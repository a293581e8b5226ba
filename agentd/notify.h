/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/notify: the worker's end of sd_notify(3): a datagram socket of its own for each worker of
 * Type=notify. What comes over it is a hostile word: only the main process, by the kernel's credentials, is
 * heard. */
#ifndef AGENTD_NOTIFY_H
#define AGENTD_NOTIFY_H

#include <stddef.h>

struct wk;
struct wk_start;

void notify_path(const struct wk *w, char *path, size_t size);
int notify_open(struct wk *w, struct wk_start *s); /* 0 or -errno */
void notify_close(struct wk *w, struct wk_start *s);

/* After an exec of agentd: fd is the socket that an earlier image opened. */
void notify_resume(struct wk *w, struct wk_start *s, int fd);

#endif
