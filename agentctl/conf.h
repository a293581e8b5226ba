/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/conf: what stands in agentd.conf, for what has to be known without agentd. Knows sections, values
 * and drop-ins; never knows which keys there are. agentd.conf(5). */
#ifndef AGENTCTL_CONF_H
#define AGENTCTL_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The last KEY= of an [Agent] section: true, and value and the line's number are set; else they stay. */
bool conf_get(FILE *f, const char *key, char *value, size_t size, unsigned *ret_line);

/* A drop-in that agentd reads. */
bool conf_is_drop_in(const char *name);

/* The last one of the file and its drop-ins. 1: value is set; 0: there is none; -errno: path (as long as
 * value) can't be read. */
int conf_find(const char *config, const char *key, char *value, size_t size, char *path);

#endif
