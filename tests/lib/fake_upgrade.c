/* SPDX-License-Identifier: Apache-2.0 */
/* Stands where agentd is installed, and does not do what an agentd does. The file beside it, PROGRAM.does,
 * has lines "check ACTION" (for --check-state) and "run ACTION" (for all else), which are done in their
 * order: exit CODE TEXT    prints the text and ends       abort             ends by SIGABRT hang for ever
 * gate FIFO         goes on once somebody writes there kill PID SIGNAL   and waits for its end; PID is a
 * child of ours    raise SIGNAL     to itself exec PROGRAM      becomes it, with arguments, environment and
 * descriptors as they are A check without a last word has passed. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char **arguments;

static void die(const char *what)
{
    perror(what);
    _exit(97);
}

static void wait_at(const char *fifo)
{
    int fd = open(fifo, O_RDONLY | O_CLOEXEC);
    char c;

    if (fd < 0 || read(fd, &c, 1) < 0)
        die(fifo);
    close(fd);
}

/* Its status is left to whom we become. */
static void end(const char *args)
{
    siginfo_t si;
    int pid, sig;

    if (sscanf(args, "%d %d", &pid, &sig) != 2 || kill(pid, sig) < 0 ||
        waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) < 0)
        die(args);
}

static void leave(const char *args)
{
    char *text;
    int code = (int)strtol(args, &text, 10);

    printf("%s\n", *text ? text + 1 : "");
    exit(code);
}

static void act(const char *word, const char *args)
{
    if (!strcmp(word, "exit"))
        leave(args);
    else if (!strcmp(word, "abort"))
        abort();
    else if (!strcmp(word, "hang"))
        for (;;)
            pause();
    else if (!strcmp(word, "gate"))
        wait_at(args);
    else if (!strcmp(word, "kill"))
        end(args);
    else if (!strcmp(word, "raise"))
        raise(atoi(args));
    else if (!strcmp(word, "exec"))
        execv(args, arguments);
    else
        _exit(96);
    if (!strcmp(word, "exec"))
        die(args);
}

static FILE *orders(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 8);
    FILE *f;

    path[n < 0 ? 0 : n] = 0;
    strcat(path, ".does");
    if (!(f = fopen(path, "re")))
        die(path);
    return f;
}

int main(int argc, char **argv)
{
    const char *phase = "run";
    char line[4096], when[16], word[16];
    FILE *f = orders();
    int at;

    arguments = argv;
    for (int i = 1; i < argc; i++)
        phase = strcmp(argv[i], "--check-state") ? phase : "check";
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        at = 0;
        if (sscanf(line, "%15s %15s %n", when, word, &at) == 2 && !strcmp(when, phase))
            act(word, line + at);
    }
    return strcmp(phase, "check") ? 95 : 0;
}
