/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate: when a worker's captured output is rotated (LogMaxSize=). Looks at sizes; never reads a
 * file, walks a worker's path, or waits: rotate_work and rotate_gz do that, in helpers. */
#ifndef AGENTD_ROTATE_H
#define AGENTD_ROTATE_H

#include <stdbool.h>

struct wk;

/* on: a process of it runs, or its definition is another one; what is open is opened anew. Off: nothing of it
 * runs; a last cut that is due is made. */
void rotate_watch(struct wk *w, bool on);
const char *rotate_trouble(const struct wk *w); /* why its output can't be rotated; NULL: it can */
void rotate_free(struct wk *w);                 /* at once; what was being cut is finished by the next one */
void rotate_again(void); /* all paths may name other files, and what was put off may work now */
/* What was cut off before w->error_size was measured goes into w->error_shift, as soon as there was another
 * cut: until then it is what the file says. False: one is just being made. */
bool rotate_note(struct wk *w);

#endif
