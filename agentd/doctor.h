/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/doctor: what is not as it should be, for people: each with its severity and what to do. Asks every
 * room that may have something to say; changes nothing. */
#ifndef AGENTD_DOCTOR_H
#define AGENTD_DOCTOR_H

#include "base/buf.h"

/* doctor_unit.c: answers a call of WIRE_VERB_DOCTOR with all of the following. */
void doctor_request(uint64_t call);
/* Lines "severity\twhat\tadvice\n"; severity: error (a promise can't be kept now), warning, info. */
void doctor_look(struct buf *b);
/* Lines "name\tstate\twhy\n" of base/feature, for all of it; why: "" or what more there is to say of a lack.
 */
void doctor_look_at_features(struct buf *b);
/* doctor_host.c: what agentd stands on: limits, clock, sockets and secrets. */
void doctor_look_at_host(struct buf *b);
/* One line of the above. Nothing is said once the reply is full. */
__attribute__((format(printf, 4, 5))) void doctor_say(struct buf *b, const char *severity, const char *advice,
                                                      const char *fmt, ...);
/* What find_cgroups had to say; "" if all is well. */
void doctor_note_cgroups(const char *why);

#endif
