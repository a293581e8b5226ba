/* SPDX-License-Identifier: Apache-2.0 */
/* systemd/sdn: what agentd tells systemd, and the journal; the only room that knows libsystemd. Without
 * systemd all of it does nothing. Calls nobody. sd_notify(3), sd_journal_print(3). */
#ifndef SYSTEMD_SDN_H
#define SYSTEMD_SDN_H

#include <stdbool.h>

#include "base/log.h"

void sdn_ready(const char *status);
void sdn_status(const char *status);
void sdn_reloading(void); /* followed by sdn_ready */
void sdn_stopping(void);

/* True if standard error goes to the journal: then sdn_journal is the better sink. */
bool sdn_has_journal(void);
void sdn_journal(int level, const char *area, const struct log_about *about, const char *message);

#endif
