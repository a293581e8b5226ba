/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/sandbox.h"

#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>

#include <seccomp.h>

int sandbox_early(void)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* its leak check opens files and traces */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
int sandbox_close(void)
{
    return 0;
}
#else
/* Everything that reaches another process, a file, a program or a new socket. What is open stays usable. */
static const char *const refused[] = {
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "kcmp",
    "execve",
    "execveat",
    "open",
    "openat",
    "openat2",
    "creat",
    "open_by_handle_at",
    "name_to_handle_at",
    "socket",
    "connect",
    "bind",
    "listen",
    "mount",
    "umount2",
    "move_mount",
    "fsopen",
    "fsmount",
    "fspick",
    "open_tree",
    "pivot_root",
    "chroot",
    "chdir",
    "unshare",
    "setns",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
    "truncate",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "add_key",
    "request_key",
    "keyctl",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "reboot",
    "swapon",
    "swapoff",
    "memfd_secret",
    "setuid",
    "setgid",
    "setresuid",
    "setresgid",
    "setgroups",
};

int sandbox_close(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int r = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < sizeof(refused) / sizeof(refused[0]); i++) {
        int nr = seccomp_syscall_resolve_name(refused[i]);
        if (nr == __NR_SCMP_ERROR) /* the library is older than the call */
            continue;
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0);
        if (r == -EDOM || r == -EINVAL) /* not on this architecture */
            r = 0;
    }
    if (r == 0)
        r = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return r;
}
#endif
