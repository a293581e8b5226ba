/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/stream: bytes of a log, or what was found in some, from a pipe that agentd handed over to a client, no
 * faster than it reads. Knows nothing of files. */
#ifndef RPC_STREAM_H
#define RPC_STREAM_H

#include <stdbool.h>

#include "rpc/request.h"

struct event_base;

void stream_init(struct event_base *base);
bool stream_room(void); /* one more may be asked for */
unsigned stream_count(void);
void stream_start(struct request *r, int fd);
/* The answer to a search in logs: an archive, or data that is put into an envelope. */
void stream_start_search(struct request *r, int fd);
void stream_gone(struct request *r); /* the client went away */

#endif
