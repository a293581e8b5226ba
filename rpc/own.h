/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/own: what agentd's own calls share. */
#ifndef RPC_OWN_H
#define RPC_OWN_H

#include "rpc/request.h"

struct buf;
struct table_entry;

/* The worker of {alias}, by alias, or by id where no alias is such a number; NULL: r is answered. */
const struct table_entry *own_find_worker(struct request *r);
/* {"contents": [...]}: put writes one from each line, and moves items to its end. */
void own_send_list(struct request *r, const char *items, void (*put)(struct buf *b, const char **items));
/* from= of a list into *ret; false: r is answered. */
bool own_take_from(struct request *r, uint64_t *ret);

#endif
