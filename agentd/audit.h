/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/audit: the audit trail: a record of every change that somebody asks for, of its end, and of every
 * refusal, in StateDirectory/audit. What the listener refuses comes over the wire and is hostile: beyond a
 * rate it is counted, and written as a sum. A record that can't be written costs nobody anything but itself:
 * it is counted, and that is written once it can be. Knows who, what and how it ended; never knows files. */
#ifndef AGENTD_AUDIT_H
#define AGENTD_AUDIT_H

#include <stdint.h>

struct buf;
struct op;
struct state;
struct wire_call;
struct wire_reply;

/* image: what the earlier image of this process has handed over; NULL: there is none. */
void audit_open(const char *state_dir, const struct state *image);
void audit_close(void);
void audit_save(struct buf *b);        /* over an exec */
int audit_sync(const char *state_dir); /* in the state helper: 0 or -errno */
uint64_t audit_lost(void); /* records that could not be written since the last that could; 0: all is well */

/* What agentd itself does or is told to do: "started", "stopping". actor, source and message may be NULL. */
void audit_agentd(const char *what, const char *actor, const char *source, const char *message);

/* An operation comes to be by this call: before it is in the journal. */
void audit_accepted(const struct op *o, const struct wire_call *c);
/* The call that is being taken has its answer from this operation, which was there before. */
void audit_joined(const struct op *o);
void audit_ended(const struct op *o); /* before it is in the journal, so at least once */

/* Around the taking of a call that asks for a change: what is answered meanwhile and is neither accepted nor
 * joined is a refusal. alias: of the worker, or "". */
void audit_begin_call(const struct wire_call *c, const char *alias);
void audit_answered(const struct wire_reply *r); /* each reply to anybody */
void audit_end_call(void);

/* The listener has refused something: from: the status, limit: so many more were not told one by one. */
void audit_refusal(const struct wire_call *c);

#endif
