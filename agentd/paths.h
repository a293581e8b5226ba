/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/paths: notices that something was removed from, or put over something in, a folder where a socket of
 * ours has its path. Never knows whose path it was: whoever asked looks. inotify(7). */
#ifndef AGENTD_PATHS_H
#define AGENTD_PATHS_H

/* changed runs a moment after; several changes at once are one. Without inotify nothing is noticed (SIGUSR1
 * looks). */
void paths_init(void (*changed)(void));
void paths_watch(const char *path_in_folder); /* the folder of this path; again is nothing */
void paths_done(void);

#endif
