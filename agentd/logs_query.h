/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_query: a search in workers' logs. All of it is done by a helper, which forks once more for each
 * user whose files it reads; what is found goes from there straight to the listener. */
#ifndef AGENTD_LOGS_QUERY_H
#define AGENTD_LOGS_QUERY_H

/* Starts one for that text (agentd/logs_match.h). The end to read its answer from (wire/logstream.h), or
 * -errno; -EAGAIN: enough are under way. */
int logs_query_start(const char *text);

#endif
