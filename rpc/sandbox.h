/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/sandbox: what this process gives up before it looks at a byte from outside. */
#ifndef RPC_SANDBOX_H
#define RPC_SANDBOX_H

int sandbox_early(void); /* not dumpable, no new privileges; 0 or -errno */
int sandbox_close(void); /* the system call filter, when everything is open */

#endif
