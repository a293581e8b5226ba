/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/sandbox: what this process gives up before it looks at a byte from outside. Afterwards it has what it
 * holds: its wire, its sockets, its memory; it reaches no file, no other process, no program and no new
 * socket. landlock(7), seccomp(2). */
#ifndef RPC_SANDBOX_H
#define RPC_SANDBOX_H

int sandbox_early(void); /* not dumpable, no core, no new privileges; 0 or -errno */
int sandbox_files(void); /* landlock, if the kernel has it: no file may be opened or changed. 0 or -errno */
int sandbox_close(void); /* sandbox_files and the system call filter: when everything is open. 0 or -errno */

#endif
