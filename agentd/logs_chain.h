/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_chain: in a helper: what agentd's own rotation has cut off a file (agentd/rotate_cut.h), as one
 * long file: the places of the pieces, which go on in the live one. */
#ifndef AGENTD_LOGS_CHAIN_H
#define AGENTD_LOGS_CHAIN_H

#include <stdbool.h>

struct logs_source;

/* s: a live file. 1: it was cut, and its parts are filled in; 0: it was not; -errno. Keeps rotation out
 * meanwhile. */
int logs_chain_find(struct logs_source *s);
/* other has a number behind the live file's name, but was not cut off it by agentd: another's rotation made
 * it before. */
bool logs_chain_is_beyond(const struct logs_source *s, const struct logs_source *other);

#endif
