/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/verbs: the table of verbs, and one function for each, o->words[0] being the verb. It returns an
 * exit code; all was told. */
#ifndef AGENTCTL_VERBS_H
#define AGENTCTL_VERBS_H

#include "agentctl/options.h"

struct verbs_row {
    const char *name; /* NULL: a further form of the row before */
    int (*run)(const struct options *o);
    const char *words, *options, *calls, *usage, *help;
};

extern const struct verbs_row verbs_table[];
extern const unsigned verbs_count;

int verbs_run(const struct options *o); /* by its first word */

int status_run(const struct options *o);
int top_run(const struct options *o);   /* also status --watch */
int fleet_run(const struct options *o); /* start stop restart, reload of workers */
int fleet_signal(const struct options *o);
int reload_run(const struct options *o);
int doctor_run(const struct options *o);
int setup_run(const struct options *o);
int takeover_adopt(const struct options *o);
int takeover_release(const struct options *o);
int takeover_upgrade(const struct options *o);
int logs_run(const struct options *o);
int credential_run(const struct options *o);
int audit_run(const struct options *o); /* verify and show */
int import_run(const struct options *o);
int past_why(const struct options *o);
int search_run(const struct options *o);
int search_collect(const struct options *o);
int past_history(const struct options *o);
int events_run(const struct options *o);
int ask_operations(const struct options *o);
int ask_operation(const struct options *o);
int ask_cancel(const struct options *o);
int ask_metrics(const struct options *o);
int ask_openapi(const struct options *o);
int ask_page(const struct options *o);
int ask_ping(const struct options *o);
int agent_run(const struct options *o);
int agent_task(const struct options *o);
int agent_process(const struct options *o);
int migrate_run(const struct options *o);
int obagent_run(const struct options *o);
char **obagent_words(int *argc,
                     char **argv); /* of a call by obagent's name, as if by our own: argv, or to be freed */
int completion_run(const struct options *o);
int help_run(const struct options *o);
int help_version(const struct options *o);

#endif
