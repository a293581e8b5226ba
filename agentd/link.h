/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/link: the other end of agentd-rpc: starts it, keeps it alive, tells it every change, takes its
 * calls. What it says is hostile: an unknown or broken frame costs it its life, and a clean one is started
 * within milliseconds. Knows frames and the listener's process; never knows HTTP. */
#ifndef AGENTD_LINK_H
#define AGENTD_LINK_H

#include <stdint.h>

#include "agentd/cfg.h"
#include "base/err.h"
#include "wire/wire.h"

struct wk;

/* Remembers what the listener must know; path: the program. 0 or -errno with err filled. */
int link_init(const struct cfg *cfg, const char *path, struct err *err);
void link_start(void);
/* After a reload: new [Agent] values and credentials. */
void link_reconfigure(const struct cfg *cfg);
/* Replaces the listener by a new one, for new listening sockets. */
void link_replace(void);
/* Ends the listener; link_ended is true once it is gone. */
void link_stop(void);
bool link_ended(void);

/* Another object is this worker. */
void link_replace_worker(struct wk *w, struct wk *by);
void link_changed(struct wk *w); /* its record goes out at the end of this round */
void link_forget(struct wk *w);
void link_happened(void); /* an event: it goes out with the next records */
void link_reply(const struct wire_reply *r);
void link_reply_long(const struct wire_reply *r); /* items that no frame holds go ahead in parts */
struct wk *link_find_worker(const char *alias);
/* At the end of each round of the loop: what changed goes out in as few packets as it takes, within a
 * millisecond. */
void link_end_round(void);
void link_flush(void); /* now */
/* The replies so far, if there are any, and with them the records as they are: before they change again. */
void link_flush_replies(void);

bool link_is_sent(void); /* nothing waits to be sent to any peer, and no listener is being started */
struct buf;
struct state;
/* Over an exec of agentd: the wires to all listeners. After restore, link_start brings the next one up. */
void link_save(struct buf *b);
void link_restore(const struct state *s);

/* Hands a log stream to the listener, as the answer to its call; takes fd over. */
void link_stream(uint64_t call, int fd);

#endif
