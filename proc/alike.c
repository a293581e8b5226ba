/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/alike.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define ARGUMENTS_MAX (1 << 20)

struct judge {
    pid_t pid;
    const struct alike_want *want;
    char *why;
    size_t size;
    char interpreter[512], option[512]; /* of a script, or "" */
};

static int differs(struct judge *j, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int differs(struct judge *j, int error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(j->why, j->size, fmt, ap);
    va_end(ap);
    return -error;
}

static int read_proc(struct judge *j, const char *name, char *text, size_t size)
{
    char path[48];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)j->pid, name);
    n = fd_read_file(AT_FDCWD, path, text, size);
    if (n == -ENOENT || n == -ESRCH)
        return differs(j, ESRCH, "there is no process %d", (int)j->pid);
    return n < 0 ? differs(j, (int)-n, "%s can't be read: %s", path, strerror((int)-n)) : 0;
}

/* The four ids of a line: real, effective, saved, file system. All must be the one that is wanted: else it
 * has other rights than a worker of this user. */
static int judge_ids(struct judge *j, const char *text, const char *line, const char *what, unsigned want)
{
    const char *at = strstr(text, line);
    unsigned id[4];

    if (!at || sscanf(at + strlen(line), "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4)
        return differs(j, EBADMSG, "its %s can't be read", what);
    for (int i = 0; i < 4; i++)
        if (id[i] != want)
            return differs(j, EPERM, "its %s is %u, the worker's is %u", what, id[i], want);
    return 0;
}

static int judge_status(struct judge *j)
{
    char text[4096], *at;
    int r;

    if ((r = read_proc(j, "status", text, sizeof(text))) < 0 ||
        (r = judge_ids(j, text, "\nUid:\t", "user", j->want->uid)) < 0 ||
        (r = judge_ids(j, text, "\nGid:\t", "group", j->want->gid)) < 0)
        return r;
    at = strstr(text, "\nTracerPid:\t");
    if (at && atoi(at + strlen("\nTracerPid:\t")) != 0)
        return differs(j, EPERM, "it is traced by process %d", atoi(at + strlen("\nTracerPid:\t")));
    return 0;
}

/* "#! interpreter option": the kernel makes them the first words, execve(2). */
static void read_interpreter(struct judge *j)
{
    char line[512] = "", *p, *end;
    int fd = open(j->want->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

    fd_close(fd);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return;
    line[strcspn(line, "\n")] = 0;
    p = line + 2 + strspn(line + 2, " \t");
    end = p + strcspn(p, " \t");
    str_copy(j->interpreter,
             (size_t)(end - p) + 1 < sizeof(j->interpreter) ? (size_t)(end - p) + 1 : sizeof(j->interpreter),
             p);
    p = end + strspn(end, " \t");
    str_copy(j->option, sizeof(j->option), p);
    for (n = (ssize_t)strlen(j->option); n > 0 && strchr(" \t", j->option[n - 1]); n--)
        j->option[n - 1] = 0;
}

static int judge_program(struct judge *j)
{
    const char *path = j->interpreter[0] ? j->interpreter : j->want->path;
    struct stat want, is;
    char exe[48];

    snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)j->pid);
    if (stat(exe, &is) < 0)
        return errno == ENOENT || errno == ESRCH ? differs(j, ESRCH, "there is no process %d", (int)j->pid)
                                                 : differs(j, errno, "%s: %s", exe, strerror(errno));
    if (stat(path, &want) < 0)
        return differs(j, errno, "%s: %s", path, strerror(errno));
    if (is.st_dev != want.st_dev || is.st_ino != want.st_ino)
        return differs(j, EPERM, "it runs another program than %s%s", path,
                       is.st_nlink ? "" : " (one that was replaced)");
    if (is.st_mode & (S_ISUID | S_ISGID))
        return differs(j, EPERM, "its program %s has a set-id bit", path);
    return 0;
}

/* One word of /proc/PID/cmdline against what it has to be; *at moves on. */
static int judge_word(struct judge *j, const char **at, const char *end, const char *want, int number)
{
    if (*at >= end)
        return differs(j, EPERM, "argument %d is missing: \"%.100s\"", number, want);
    if (!str_eq(*at, want))
        return differs(j, EPERM, "argument %d is \"%.100s\", the worker's is \"%.100s\"", number, *at, want);
    *at += strlen(*at) + 1;
    return 0;
}

static int judge_words(struct judge *j, const char *at, const char *end)
{
    char *const *arg = j->want->argv;
    int number = 0, r = 0;

    if (j->interpreter[0]) {
        r = judge_word(j, &at, end, j->interpreter, number++);
        if (r == 0 && j->option[0])
            r = judge_word(j, &at, end, j->option, number++);
        if (r == 0)
            r = judge_word(j, &at, end, j->want->path, number++);
        arg++; /* its own name is the path by then */
    }
    for (; r == 0 && *arg; arg++)
        r = judge_word(j, &at, end, *arg, number++);
    if (r == 0 && at < end)
        r = differs(j, EPERM, "it has one argument more: \"%.100s\"", at);
    return r;
}

static int judge_arguments(struct judge *j)
{
    _cleanup_free_ char *text = NULL;
    char path[48];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)j->pid);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return differs(j, errno == ENOENT ? ESRCH : errno, "there is no process %d", (int)j->pid);
    n = fd_read_all(fd, ARGUMENTS_MAX, &text);
    close(fd);
    if (n < 0)
        return differs(j, (int)-n, "%s can't be read: %s", path, strerror((int)-n));
    return judge_words(j, text, text + n);
}

int alike_judge(pid_t pid, const struct alike_want *want, char *why, size_t size)
{
    struct judge j = {.pid = pid, .want = want, .why = why, .size = size};
    int r;

    why[0] = 0;
    read_interpreter(&j);
    if ((r = judge_status(&j)) < 0 || (r = judge_program(&j)) < 0)
        return r;
    return judge_arguments(&j);
}
