/* SPDX-License-Identifier: Apache-2.0 */
/* proc/sys: the seam to the kernel: calls that glibc of 2019 lacks, or that a test wants to fake.
 * Tests link tests/fake/sys.c instead. All return >= 0 or -errno. */
#ifndef PROC_SYS_H
#define PROC_SYS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* clone(2)'s clone3, with what a spawn needs. fn runs in the child on the given stack, in the parent's memory
 * (CLONE_VM) when stack is not NULL; else the child is a copy, as after fork(2), and returns 0 here.
 * cgroup_fd: the child is born there (CLONE_INTO_CGROUP), or -1. *ret_pidfd is -1 if the kernel gives none.
 */
pid_t sys_clone(void *stack, size_t stack_size, int cgroup_fd, void (*fn)(void *), void *arg, int *ret_pidfd);

int sys_pidfd_open(pid_t pid);
/* pidfd_getfd(2): a descriptor of another process, close-on-exec here. Kernels from 5.6 on. */
int sys_pidfd_getfd(int pidfd, int fd);
int sys_pidfd_send_signal(int pidfd, int sig);
int sys_kill(pid_t pid, int sig);

/* waitid(2) of any child that ended: its pid with si filled, 0 if none has, or -errno (-ECHILD). */
pid_t sys_wait_any(siginfo_t *si);

/* Exit status of a process that is not our child, from its pidfd, where the kernel tells (6.15): 1 and
 * *ret_wstatus as wait(2) gives it; -EAGAIN if its parent has not reaped it yet (or the kernel is one of 6.13
 * and 6.14, which never tell); 0 if it does not tell. */
int sys_pidfd_exit_status(int pidfd, int *ret_wstatus);

/* Two descriptors of ours are of the same open file; false too where the kernel does not tell: kcmp(2). */
bool sys_is_same_file(int a, int b);

/* Tries on ourselves what the calls above do without where it is missing, for base/feature. Once, at the
 * start, while there is little memory to copy: it takes a child. */
void sys_find_features(void);

/* As the kernel has it, for all signals: glibc's refuses the two that it keeps to itself. rt_sigaction(2). */
struct sys_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask[2];
};
#define SYS_SIGSET_BYTES 8 /* of the mask that are the kernel's */
int sys_sigaction(int sig, const struct sys_sigaction *act, struct sys_sigaction *old); /* 0 or -errno */

/* close_range(2) with CLOSE_RANGE_CLOEXEC from fd on; falls back to /proc/self/fd. */
int sys_cloexec_from(int fd);

/* Closes first to last; ~0u: all from first. Kernels without close_range(2) take longer. */
void sys_close_range(unsigned first, unsigned last);

#endif
