/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/table: the replica of agentd's records, by id and by alias. A record stays the bytes of its frame and
 * is decoded when it is looked at, so that ten thousand of them stay small. Knows no HTTP. */
#ifndef RPC_TABLE_H
#define RPC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

struct table_entry {
    int64_t id;
    uint64_t sampled_us;
    struct table_entry *next; /* of the same alias hash */
    uint32_t len;
    uint16_t alias; /* where it starts in the body */
    bool alive;
    uint8_t body[];
};

/* Takes a RECORD frame in. 0, -EBADMSG, -ENOSPC or -ENOMEM. */
int table_put(const struct wire_frame *f);
void table_forget(int64_t id);

size_t table_count(void);
const struct table_entry *table_at(size_t i); /* ascending by id */
const struct table_entry *table_by_id(int64_t id);
const struct table_entry *table_by_alias(const char *alias);

/* The record; its strings live as long as the entry is not replaced. */
void table_decode(const struct table_entry *e, struct wire_record *ret);

#endif
