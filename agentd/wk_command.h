/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_command: one process of a worker beside its main process: its environment, user, limits, cgroup,
 * and its end. Deadlines, and what an end means, are for those who started it. */
#ifndef AGENTD_WK_COMMAND_H
#define AGENTD_WK_COMMAND_H

#include <stdbool.h>

#include "agentd/wk.h"

struct wk_command;

#define WK_COMMAND_WHY 300

/* It has ended, and is freed after the call. end: for the record. why: NULL, or how it failed, as the rest of
 * a sentence: "exited with status 3". */
typedef void (*wk_command_fn)(const struct wk_exit *end, const char *why, void *arg);

/* told: NAME=value list of what only it is told, ends with NULL. NULL if it could not be started: then *error
 * is -errno, and done is never called. */
struct wk_command *wk_command_start(struct wk *w, const struct cfg_command *c, char *const *told,
                                    wk_command_fn done, void *arg, int *error);
/* The same, and it is passed these descriptors as its 3, 4 ...; they are its own from now on, also if it
 * could not be started. */
#define WK_COMMAND_FDS 4
struct wk_command *wk_command_start_with(struct wk *w, const struct cfg_command *c, const int *fds,
                                         unsigned n_fds, wk_command_fn done, void *arg, int *error);
/* The process and its session: who has left that is the worker's. On its way to exec it hears SIGKILL only.
 */
void wk_command_signal(struct wk_command *c, int sig);
void wk_command_kill_session(const struct wk_command *c); /* but for the process itself */
pid_t wk_command_pid(const struct wk_command *c);         /* NULL-safe: 0 */
/* It is killed, and nobody hears of its end. *c becomes NULL; NULL-safe. */
void wk_command_abandon(struct wk_command **c);

#endif
