/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/host: what a caller may know of the host itself, looked at in helpers. Never knows who asks, nor in
 * what form it is told. */
#ifndef AGENTD_HOST_H
#define AGENTD_HOST_H

#include <stdint.h>

/* Answers a call of WIRE_VERB_HOST. */
void host_tell(uint64_t call);
/* Answers a call of WIRE_VERB_REAL_PATH: only of a path that is a log of some worker, with the eyes of that
 * worker's user. */
void host_real_path(uint64_t call, const char *path);

#endif
