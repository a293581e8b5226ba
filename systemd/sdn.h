/* SPDX-License-Identifier: Apache-2.0 */
/* systemd/sdn: what agentd tells systemd, and the journal; the only room that knows libsystemd. Without
 * systemd all of it does nothing. Calls nobody. sd_notify(3), sd_journal_print(3). */
#ifndef SYSTEMD_SDN_H
#define SYSTEMD_SDN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

bool sdn_is_told(void); /* there is a manager that wants to be told; else the following does nothing */
void sdn_ready(const char *status);
void sdn_status(const char *status);
void sdn_reloading(void); /* followed by sdn_ready */
void sdn_stopping(void);
void sdn_extend(uint64_t us, const char *status); /* of the time that a stop may take, from now on */
/* How often it wants a ping at least, in microseconds; 0: never. */
uint64_t sdn_watchdog_us(void);
void sdn_ping(void);

/* What it hands over at the start; names and the array are the caller's to free. How many, or -errno. Asked
 * once: what runs later sees nothing of it. sd_listen_fds(3). */
struct sdn_fd {
    int fd; /* close-on-exec */
    char *name;
};
int sdn_take_fds(struct sdn_fd **ret);
void sdn_pass_on(void); /* instead of that: another program is executed in our place, and takes them */
/* Has it keep a copy of fd for the next one to run under this unit, beside others of that name;
 * FileDescriptorStoreMax= of systemd.service(5) has to allow it. Forgets all of a name. */
void sdn_keep(const char *name, int fd); /* without ':' in it */
void sdn_forget(const char *name);

/* Nothing of the above waits for systemd: while it is behind, what has to be told is kept back, and what is
 * only of the moment (status, extend, ping) is not told. The descriptor to poll for POLLOUT, to go on then;
 * -1: nothing is kept back. */
int sdn_waits_for(void);
void sdn_go_on(void);

/* systemd runs this process: it said where to notify it, and is there. */
bool sdn_is_there(void);
/* The job of our own unit that systemd is at work on: "stop", "restart", ...; "" if there is none. Waits for
 * systemd's answer: in a helper only. 0 or -errno. */
int sdn_job(char *type, size_t size);

/* Our own unit has Delegate=yes: 1, 0 or -errno. Waits for systemd's answer, at most 2 s: at a start only. */
int sdn_is_delegated(void);

/* Settings of our own unit, as systemd has them now: lines "Key=value\n", of numbers "infinity" too; those
 * that this systemd has. Waits for systemd's answer: in a helper only. 0 or -errno. */
int sdn_unit(char *text, size_t size);

/* True if standard error goes to the journal: then sdn_journal is the better sink. */
bool sdn_has_journal(void);
void sdn_journal(int level, const char *area, const struct log_about *about, const char *message);

#endif
