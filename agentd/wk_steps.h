/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_steps: the steps of a worker's start and of its end, for the files of wk*.c. */
#ifndef AGENTD_WK_STEPS_H
#define AGENTD_WK_STEPS_H

#include <stdbool.h>
#include <stddef.h>

#include "agentd/wk_fsm.h"

struct wk;

/* wk_start.c */
void wk_start_spawn(struct wk *w);
void wk_start_prepare(struct wk *w); /* what can be made before the old process is gone */
void wk_start_forget(struct wk *w);  /* what was made so is not needed, or not true any more */
void wk_start_probe(struct wk *w);
void wk_start_ask(struct wk *w);   /* as ReadyCheck= says, whatever the type is */
void wk_start_ready(struct wk *w); /* but for ExecStartPost= */
/* Its program has ended, and that is a step of its start. */
bool wk_start_goes_on(struct wk *w, enum wk_end end, int status);
void wk_start_look(struct wk *w);  /* the program speaks, so it runs: that its exec is over is taken in now */
void wk_start_done(struct wk *w);  /* releases all that only a start owns */
void wk_gone(struct wk *w);        /* nothing of the tree is left: what now? */
int wk_start_leaf(struct wk *w);   /* an empty leaf for the next incarnation; 0 or -errno */
void wk_start_watch(struct wk *w); /* waits for the end of main, which is our child */
void wk_start_hear(struct wk *w);  /* of its end, should it be our child by then */
/* After an exec of agentd: status_fd of a start under way, or -1. */
void wk_start_resume(struct wk *w, int status_fd);
/* wk_stop.c */
void wk_stop_resume(struct wk *w); /* after an exec of agentd */
void wk_stop_begin(struct wk *w);  /* ExecStop=, then the signal */
void wk_stop_signal(struct wk *w, int sig);
void wk_stop_kill(struct wk *w);
void wk_stop_check(struct wk *w); /* is the tree gone? */
/* Pids that were killed and are still there, comma list. */
void wk_stop_survivors(const struct wk *w, char *text, size_t size);
void wk_stop_done(struct wk *w);
/* Removes a leaf, with the cgroups below it, if nobody is in them. True if it is not there now. */
bool wk_leaf_remove_empty(const char *name);
void wk_main_exited(struct wk *w, enum wk_end end, int status);

#endif
