/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/view: records and operations as JSON, field by field as clients rely on them. Knows no request. */
#ifndef RPC_VIEW_H
#define RPC_VIEW_H

#include "base/buf.h"
#include "rpc/table.h"
#include "wire/wire.h"

void view_process(struct buf *b,
                  const struct wire_record *r); /* OCP's HostAgentProcess, its fields and no other */
void view_agent(struct buf *b);                 /* OCP's HostAgent, all processes in it */
void view_worker(struct buf *b, const struct wire_record *r); /* agentd's own: everything */
/* name: what is known of an end, for the caller to go on with and to close; false: null, it is done. */
bool view_open_exit(struct buf *b, const char *name, const char *kind, int64_t status);
/* The operation; "worker" is the record (NULL: null), the alias stands apart. */
void view_operation(struct buf *b, const struct wire_reply *op, const struct wire_record *worker);
/* Lists travel as lines of fields with tabs between: the next field, cut into buf, *s moved behind it; the
 * next line. */
const char *view_field(const char **s, char *buf, size_t size);
const char *view_next_line(const char *s);
void view_log_list(struct buf *b, const char *items);
/* errors: lines, what is wrong with the files. */
void view_reload(struct buf *b, const char *items, const char *errors);

#endif
