/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/wk_adopt: how a worker comes by a process that this image has not started: after agentd's death, by
 * an administrator's hand, over an exec of agentd, or as the second of two at once. */
#ifndef AGENTD_WK_ADOPT_H
#define AGENTD_WK_ADOPT_H

#include "agentd/wk.h"

/* wk_adopt.c: facts of an earlier agentd: true if its main process runs on, verified, and is ours now. */
bool wk_adopt(struct wk *w, const struct facts *f);
/* It was ready and ended while nobody watched: its policy says what comes, as for any end of unknown status.
 */
void wk_adopt_ended(struct wk *w);
void wk_adopt_let_go(struct wk *w); /* of what is held: an operator wants a start all the same */
/* Waits for the end of a main process that is not our child, or not yet: its parent may leave it to us. */
void wk_adopt_watch(struct wk *w);
void wk_adopt_hold(struct wk *w); /* waits for the end of what is held */
/* wk_take.c: a process that agentd did not start becomes the main process, on an administrator's call;
 * answers it. */
void wk_take(const struct wire_call *call);
/* wk_release.c: the way back: its processes are given to whoever had them; answers the call. */
void wk_release(const struct wire_call *call);
/* Of both calls: the operation that it begins, and its worker; NULL: it was answered. */
struct op *wk_take_begin(const struct wire_call *call, struct wk **ret);
/* The operation ends, and nothing has changed. */
__attribute__((format(printf, 3, 4))) void wk_take_refuse(struct wk *w, struct op *o, const char *fmt, ...);
int wk_take_rest(struct wk *w); /* moves what is below main into the leaf; 0 or -errno */
/* wk_image.c: over an exec of agentd. load puts in what is known, resume makes it go on; in between the other
 * rooms are made whole. */
void wk_image_save(const struct wk *w, struct buf *b);
void wk_image_load(struct wk *w, const struct state *s, const char *line);
void wk_image_resume(struct wk *w, const struct state *s, const char *line);
int wk_image_main_fd(const struct state *s, const char *alias, pid_t pid); /* of its main process, or -1 */
/* wk_overlap.c: begin: true if a second instance is being started while this one goes on. moved: either of
 * two has another state. round: at the end of each round of events. */
bool wk_overlap_begin(struct wk *w);
void wk_overlap_moved(struct wk *w);
void wk_overlap_round(void);
uint32_t wk_overlap_generation(const struct wk *w); /* of its next incarnation: no twin has had it */

#endif
