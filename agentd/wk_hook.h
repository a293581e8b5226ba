/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk: what processes of a worker are given and told, the commands beside its main process, and which
 * one the main process is. Never knows what an end means for the worker: that is for those who asked. */
#ifndef AGENTD_WK_HOOK_H
#define AGENTD_WK_HOOK_H

#include "agentd/wk.h"

/* wk_env.c. make: hook: NAME=value list of what only a hook is told, NULL for the main process. 0 or -errno;
 * done frees in any case. spec: argv is the command's, until the caller puts another. */
int wk_env_make(const struct wk *w, uint32_t generation, char *const *hook, struct wk_env *ret);
void wk_env_done(struct wk_env *e);
void wk_env_spec(const struct wk *w, const struct cfg_command *c, char *const *envp, struct spawn_spec *ret);
/* wk_hook.c */
bool wk_hook_has(const struct wk *w, enum cfg_hook kind);
/* Runs its commands one after the other; done, at once if there are none, hears of the first that failed. One
 * that runs already is killed first, and nobody hears of it. */
void wk_hook_run(struct wk *w, enum cfg_hook kind, wk_hook_fn done);
void wk_hook_signal(struct wk *w, int sig);    /* the command that runs, and its session */
pid_t wk_hook_pid(const struct wk *w);         /* 0: none */
void wk_hook_forget(struct wk *w);             /* nobody waits any more: at its end the tree may be gone */
const char *wk_hook_phase(const struct wk *w); /* "start-pre"; "" if none runs */
void wk_hook_free(struct wk *w);
/* A check's command, which finds the main process in $MAINPID. As wk_command_start. */
struct wk_command *wk_check_command(struct wk *w, const struct cfg_command *c,
                                    void (*done)(const struct wk_exit *end, const char *why, void *arg),
                                    void *arg, int *error);
/* wk_main.c: the main process is another one than was started. */
void wk_main_find(struct wk *w); /* Type=forking: the program has ended well */
void wk_main_find_stop(struct wk *w);
void wk_main_watch(struct wk *w); /* waits for its end, whoever its parent is */
/* A process of the worker's own. 0, -EPERM: it is not; or -errno. */
int wk_main_set(struct wk *w, pid_t pid);

#endif
