/* SPDX-License-Identifier: Apache-2.0 */
/* A second program out of the listener's library: enters its sandbox as agentd-rpc does, then tries what it
 * must not.
 *
 *     sandboxed VICTIM-PID PORT FILE whole|files|none
 *
 * PORT: of a listener on 127.0.0.1; FILE: one that it may read. A line "NAME ERRNO" for each attempt, 0: it
 * worked. With `none` it does not enter, so that a test sees that the attempts would work; with `files` it is
 * behind landlock only. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/sandbox.h"

static pid_t victim;
static const char *file;
static struct sockaddr_in there;
/* opened before the door is shut */
static int held, program, pidfd, stale, name_space;
static char page[4096] __attribute__((aligned(4096)));

static void say(const char *name, long r)
{
    char line[80];
    int n = snprintf(line, sizeof(line), "%s %d\n", name, r < 0 ? errno : 0);

    if (write(STDOUT_FILENO, line, (size_t)n) < 0)
        _exit(1);
}

static long reopen(void)
{
    char path[40];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
    return open(path, O_RDONLY);
}

static long open_by_openat2(void)
{
    struct open_how how = {.flags = O_RDONLY};

    return syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof(how));
}

static void try_files(void)
{
    struct stat st;
    char buf[100];

    say("open", open(file, O_RDONLY));
    say("open-syscall", syscall(SYS_open, file, O_RDONLY));
    say("openat", openat(AT_FDCWD, file, O_RDONLY));
    say("openat2", open_by_openat2());
    say("reopen", reopen());
    say("creat", open("made", O_CREAT | O_WRONLY, 0600));
    say("stat", stat(file, &st));
    say("access", access(file, R_OK));
    say("readlink", readlink("/proc/self/exe", buf, sizeof(buf)));
    say("mkdir", mkdir("made-folder", 0700));
    say("unlink", unlink("made"));
    say("memfd", memfd_create("x", 0));
    say("io_uring", syscall(SYS_io_uring_setup, 1, (char[256]){0}));
    say("inotify", syscall(SYS_inotify_init1, 0));
    say("shm", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
}

/* Each in a child, since it may be another program afterwards. */
static void in_child(const char *name, void (*run)(const char *name))
{
    pid_t pid = fork();

    if (pid == 0) {
        run(name);
        _exit(0);
    }
    if (pid < 0)
        say(name, -1);
    else
        while (wait4(pid, NULL, 0, NULL) < 0 && errno == EINTR)
            ;
}

static char *const words[] = {(char *)"true", NULL};

static void run_path(const char *name)
{
    say(name, execve("/bin/true", words, words + 1));
}

static void run_held(const char *name)
{
    say(name, syscall(SYS_execveat, program, "", words, words + 1, AT_EMPTY_PATH));
}

static void run_code(const char *name)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    say(name, p == MAP_FAILED ? -1 : 0);
}

static void run_page(const char *name)
{
    say(name, mprotect(page, sizeof(page), PROT_READ | PROT_EXEC));
}

static void try_programs(void)
{
    in_child("execve", run_path);
    in_child("execveat", run_held);
    in_child("mmap-exec", run_code);
    in_child("mprotect-exec", run_page);
}

static void try_processes(void)
{
    char byte;
    struct iovec here = {&byte, 1}, far = {page, 1};
    struct rlimit core = {0, 0};
    siginfo_t si = {.si_code = SI_QUEUE};

    say("kill", kill(victim, 0));
    say("kill-parent", kill(getppid(), 0));
    say("tgkill", syscall(SYS_tgkill, victim, victim, 0));
    say("sigqueue", syscall(SYS_rt_sigqueueinfo, victim, 0, &si));
    say("pidfd_open", syscall(SYS_pidfd_open, victim, 0));
    say("pidfd_send_signal", syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    say("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    say("process_vm_readv", process_vm_readv(victim, &here, 1, &far, 1, 0));
    say("prlimit", prlimit(victim, RLIMIT_CORE, &core, NULL));
    say("setown", fcntl(stale, F_SETOWN, victim));
    say("setown-ioctl", ioctl(stale, FIOSETOWN, &victim));
    say("setpriority", setpriority(PRIO_PROCESS, (id_t)victim, 19));
    say("ptrace", ptrace(PTRACE_SEIZE, victim, NULL, NULL));
}

static void try_sockets(void)
{
    int pair[2];

    say("socket", socket(AF_INET, SOCK_STREAM, 0));
    say("socket-unix", socket(AF_UNIX, SOCK_DGRAM, 0));
    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    say("sendto-elsewhere", sendto(stale, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL | MSG_DONTWAIT,
                                   (struct sockaddr *)&there, sizeof(there)));
    say("connect", connect(stale, (struct sockaddr *)&there, sizeof(there)));
    say("listen", listen(stale, 1));
}

static void new_space(const char *name)
{
    say(name, unshare(CLONE_NEWUSER));
}

static void old_space(const char *name)
{
    say(name, setns(name_space, 0));
}

static void try_kernel(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2];

    in_child("unshare", new_space);
    in_child("setns", old_space);
    say("clone-space", syscall(SYS_clone, CLONE_NEWUSER | CLONE_VM | CLONE_THREAD, 0, 0, 0, 0));
    say("mount", syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL));
    say("chroot", chroot("/"));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    say("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -2));
    say("bpf", syscall(SYS_bpf, 0, (char[128]){0}, 128));
    say("perf", syscall(SYS_perf_event_open, (char[128]){0}, 0, -1, -1, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, 1));
    say("capget", syscall(SYS_capget, &head, caps));
    say("dumpable", prctl(PR_SET_DUMPABLE, 1));
    say("setuid", setuid(getuid()));
    say("personality", syscall(SYS_personality, 0xffffffff));
    say("sysinfo-of-others", syscall(SYS_sched_getaffinity, victim, 8, page));
}

/* Connected, and its end has gone with a reset: from then on it might be connected again. */
static int stale_socket(void)
{
    struct linger at_once = {1, 0};
    struct sockaddr_in name;
    socklen_t len = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), end;
    char c;

    if (listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&name, &len) < 0)
        return -1;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(s, (struct sockaddr *)&name, sizeof(name)) < 0 || (end = accept(listener, NULL, NULL)) < 0)
        return -1;
    setsockopt(end, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(end);
    close(listener);
    while (read(s, &c, 1) > 0)
        ;
    return s;
}

static void shut(const char *how)
{
    int r = sandbox_early();

    if (r == 0 && !strcmp(how, "files"))
        r = sandbox_files();
    if (r == 0 && !strcmp(how, "whole"))
        r = sandbox_close();
    if (r < 0) {
        fprintf(stderr, "sandbox: %s\n", strerror(-r));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    victim = atoi(argv[1]);
    there = (struct sockaddr_in){.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(argv[2])),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    file = argv[3];
    held = open(file, O_RDONLY | O_CLOEXEC);
    program = open("/bin/true", O_RDONLY | O_CLOEXEC);
    name_space = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    pidfd = (int)syscall(SYS_pidfd_open, victim, 0);
    stale = stale_socket();
    if (held < 0 || program < 0 || name_space < 0 || pidfd < 0 || stale < 0) {
        perror("sandboxed");
        return 1;
    }
    shut(argv[4]);
    try_files();
    try_programs();
    try_processes();
    try_sockets();
    try_kernel();
    return 0;
}
