/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the system calls of one running process, and at the Nth kills it or lets that call fail:
 *   crashat stopped COMMAND ARGUMENTS...   stops itself; continued, it becomes COMMAND
 *   crashat [exec] PID count               counts only
 *   crashat [exec] PID before N            SIGKILL on the way into the Nth call: it is not made
 *   crashat [exec] PID after N             SIGKILL on the way out of it: it is made, its result not seen
 *   crashat [exec] PID fail NAME N ERRNO   the Nth call NAME is not made and returns -ERRNO; PID goes on
 * untraced With "exec" PID is one that "stopped" made: it is continued, and the count begins after its
 * execve. Only PID is followed, over execve too; its children are not. Says on stdout: ready       the count
 * has begun: calls made from now on are counted and then one of these, after which PID is dead or runs on as
 * if nobody had looked: killed N CALL     failed N CALL     over N (SIGUSR1 came first)     ended N (PID
 * ended by itself) With "count" a line "calls NAME..." before the last. The tool's own death is PID's
 * (PTRACE_O_EXITKILL). ptrace(2).
 */
#include <elf.h>
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_CALLS 1000000
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

static pid_t tracee;
static enum { COUNT, BEFORE, AFTER, FAIL } what;
static long at = -1, name_nr, error;
static bool counting;
static long n_calls, n_named; /* entered since the mark */
static int calls[MAX_CALLS];
static long current = -1; /* the number of the call that the tracee is in, entered since the mark; or -1 */
static volatile sig_atomic_t enough;

static void die(const char *text)
{
    fprintf(stderr, "crashat: %s: %s\n", text, strerror(errno));
    exit(99);
}

/* The tracee may be asleep: it is stopped once more, so that the loop sees the flag. */
static void on_enough(int sig)
{
    int saved = errno;

    enough = 1;
    ptrace(PTRACE_INTERRUPT, tracee, 0L, 0L);
    errno = saved;
}

static const char *name_of(long nr)
{
    static char text[64];
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)nr);

    snprintf(text, sizeof(text), "%s", name ? name : "?");
    free(name);
    return text;
}

/* --- the tracee's registers --------------------------------------------------------------------- */

static void get_set(int request, long set, void *p, size_t n)
{
    struct iovec iov = {p, n};

    if (ptrace(request, tracee, set, &iov) < 0)
        die("the registers");
}

/* At a call's entry: no call is made. */
static void skip_call(void)
{
#if defined(__x86_64__)
    struct user_regs_struct r;

    get_set(PTRACE_GETREGSET, NT_PRSTATUS, &r, sizeof(r));
    r.orig_rax = (unsigned long long)-1;
    get_set(PTRACE_SETREGSET, NT_PRSTATUS, &r, sizeof(r));
#elif defined(__aarch64__)
    int nr = -1;

    get_set(PTRACE_SETREGSET, NT_ARM_SYSTEM_CALL, &nr, sizeof(nr));
#else
#error "how a system call is skipped on this machine is not known"
#endif
}

/* At its exit: this is what it returned. */
static void set_result(long value)
{
    struct user_regs_struct r;

    get_set(PTRACE_GETREGSET, NT_PRSTATUS, &r, sizeof(r));
#if defined(__x86_64__)
    r.rax = (unsigned long long)value;
#else
    r.regs[0] = (unsigned long long)value;
#endif
    get_set(PTRACE_SETREGSET, NT_PRSTATUS, &r, sizeof(r));
}

/* --- the end ------------------------------------------------------------------------------------ */

static void __attribute__((noreturn)) say_end(const char *word, const char *call)
{
    if (what == COUNT) {
        printf("calls");
        for (long i = 0; i < n_calls && i < MAX_CALLS; i++)
            printf(" %s", name_of(calls[i]));
        printf("\n");
    }
    printf("%s %ld%s%s\n", word, n_calls, call ? " " : "", call ? call : "");
    exit(fflush(stdout) == 0 ? 0 : 99);
}

static void __attribute__((noreturn)) let_go(const char *word, const char *call, int sig)
{
    if (ptrace(PTRACE_DETACH, tracee, 0L, (long)sig) < 0)
        die("PTRACE_DETACH");
    say_end(word, call);
}

static void __attribute__((noreturn)) kill_it(void)
{
    int st;

    if (kill(tracee, SIGKILL) < 0)
        die("SIGKILL");
    /* its parent is told only after us */
    while (waitpid(tracee, &st, 0) == tracee && !WIFSIGNALED(st) && !WIFEXITED(st))
        ptrace(PTRACE_CONT, tracee, 0L, 0L);
    say_end("killed", name_of(current));
}

/* --- its stops ---------------------------------------------------------------------------------- */

static void on_entry(long nr)
{
    if (!counting)
        return;
    current = nr;
    if (n_calls < MAX_CALLS)
        calls[n_calls] = (int)nr;
    n_calls++;
    n_named += nr == name_nr;
    if (what == BEFORE && n_calls == at)
        kill_it();
    if (what == FAIL && nr == name_nr && n_named == at)
        skip_call();
}

static void on_exit_of_call(void)
{
    if (current < 0)
        return;
    if (what == AFTER && n_calls == at)
        kill_it();
    if (what == FAIL && current == name_nr && n_named == at) {
        set_result(-error);
        let_go("failed", name_of(current), 0);
    }
    current = -1;
}

static void on_call(void)
{
    struct __ptrace_syscall_info info;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, tracee, sizeof(info), &info) < 0)
        die("PTRACE_GET_SYSCALL_INFO");
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        on_entry((long)info.entry.nr);
    else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
        on_exit_of_call();
}

static bool is_job_stop(int sig)
{
    return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static void begin_counting(void)
{
    if (counting)
        return;
    counting = true;
    printf("ready\n");
    fflush(stdout);
}

/* One stop of the tracee, looked at; and on it goes. */
static void on_stop(int st, bool from_exec)
{
    int sig = WSTOPSIG(st), event = st >> 16, pass = 0;

    if (sig == (SIGTRAP | 0x80))
        on_call();
    else if (event == PTRACE_EVENT_STOP && !from_exec)
        begin_counting();
    else if (event == PTRACE_EVENT_EXEC && from_exec)
        begin_counting();
    else if (!event)
        pass = sig;
    if (enough)
        let_go("over", NULL, pass);
    if (event == PTRACE_EVENT_STOP && is_job_stop(sig))
        ptrace(PTRACE_LISTEN, tracee, 0L, 0L);
    else
        ptrace(PTRACE_SYSCALL, tracee, 0L, (long)pass);
}

static int follow(bool from_exec)
{
    int st;

    if (ptrace(PTRACE_SEIZE, tracee, 0L, (long)OPTIONS) < 0)
        die("PTRACE_SEIZE");
    if ((from_exec ? kill(tracee, SIGCONT) : (int)ptrace(PTRACE_INTERRUPT, tracee, 0L, 0L)) < 0)
        die("the process");
    for (;;) {
        if (waitpid(tracee, &st, 0) < 0) {
            if (errno == EINTR)
                continue;
            die("waitpid");
        }
        if (WIFEXITED(st) || WIFSIGNALED(st))
            say_end("ended", NULL);
        on_stop(st, from_exec);
    }
}

static int stopped(char **argv)
{
    raise(SIGSTOP);
    execvp(argv[0], argv);
    perror(argv[0]);
    return 97;
}

static int usage(void)
{
    fprintf(stderr, "crashat: see the head of its source\n");
    return 98;
}

static int take_plan(int argc, char **argv)
{
    static const char *const words[] = {
        [COUNT] = "count", [BEFORE] = "before", [AFTER] = "after", [FAIL] = "fail"};

    while (what <= FAIL && argc > 0 && strcmp(argv[0], words[what]) != 0)
        what++;
    if (argc != (what == COUNT ? 1 : what == FAIL ? 4 : 2) || what > FAIL)
        return -1;
    name_nr = what == FAIL ? seccomp_syscall_resolve_name(argv[1]) : -1;
    error = what == FAIL ? atol(argv[3]) : 0;
    at = what == COUNT ? -1 : atol(argv[what == FAIL ? 2 : 1]);
    return what == FAIL && name_nr < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_enough};
    bool from_exec = argc > 1 && strcmp(argv[1], "exec") == 0;

    if (argc > 2 && strcmp(argv[1], "stopped") == 0)
        return stopped(argv + 2);
    argc -= 1 + from_exec;
    argv += 1 + from_exec;
    if (argc < 2 || (tracee = (pid_t)atol(argv[0])) <= 1 || take_plan(argc - 1, argv + 1) < 0)
        return usage();
    sigaction(SIGUSR1, &sa, NULL);
    return follow(from_exec);
}
