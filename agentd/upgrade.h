/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/upgrade: another image of agentd takes the place of this one, by exec: same pid, same children, same
 * descriptors. The installed program is opened once; the check beforehand and the exec both use that
 * descriptor. A guardian (a copy of this image) waits for the new one's confirmation, and runs this program
 * again if it does not come. Knows the order of events; never knows what the rooms put into the state.
 * execveat(2), memfd_create(2). */
#ifndef AGENTD_UPGRADE_H
#define AGENTD_UPGRADE_H

#include <stdbool.h>

#include "agentd/state.h"
#include "base/err.h"

struct wire_call;

/* How this image came to be. */
enum upgrade_role {
    UPGRADE_NONE,     /* started as any program */
    UPGRADE_NEW,      /* by exec: it has to confirm */
    UPGRADE_BACK,     /* by exec, because the new image gave up: all is as it was before */
    UPGRADE_ROLLBACK, /* by the guardian, or by the service manager's restart: the new image is dead */
};

/* First thing in main: what an earlier image left in the environment and in its descriptors. Does not return
 * if the state can't be read: the earlier image is run again. */
enum upgrade_role upgrade_begin(char **argv);
enum upgrade_role upgrade_role(void);
const struct state *upgrade_state(void); /* NULL: none */
/* UPGRADE_NEW only: gives up, before anything was changed: the earlier image goes on. Returns if there is
 * none. */
void upgrade_give_up(const char *why);
/* At a plain start: an upgrade that was never confirmed leads to the stored program. May not return. */
void upgrade_look_back(const char *runtime_dir);
/* All is taken over and works: the guardian goes, the operation ends. */
void upgrade_confirm(void);
/* By exec, and not confirmed yet: its operation. Else NULL. */
const char *upgrade_unconfirmed(void);
/* The operations are known: tells the verdict of those that did not work. */
void upgrade_verdict(void);
void upgrade_release(void); /* the state is not needed any more */

const char *upgrade_program(void); /* the path that this program was started from; "" if it is not known */
void upgrade_dirs(const char *runtime_dir, const char *state_dir, const char *rpc_path, unsigned deadline_ms);

/* The configuration file; what each room puts into the state. */
void upgrade_init(const char *config_file, void (*save)(struct buf *b));
/* SIGUSR2, a task's step, or an administrator's call. */
void upgrade_request(const struct wire_call *call);
void upgrade_end_round(void); /* is it time? */
/* agentd ends: what was begun is called off, what was done is confirmed. */
void upgrade_stop(void);

/* --check-state: 0 if this program can take over from the state in the descriptor that the environment names.
 */
int upgrade_check(const char *config_file);

#endif
