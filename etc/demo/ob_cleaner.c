/* SPDX-License-Identifier: Apache-2.0 */
/* ob_cleaner: deletes rotated logs that are older than an age, and says so in its own log. A real worker for
 * the demo and a useful one beside a database. Usage: ob_cleaner --dir DIR --pattern GLOB --max-age SECONDS
 * --interval SECONDS --log FILE */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct options {
    const char *dir, *pattern, *log;
    long max_age, interval;
};

static volatile sig_atomic_t ending;

static void on_term(int sig)
{
    ending = 1;
}

static void __attribute__((format(printf, 2, 3))) say(const struct options *o, const char *fmt, ...)
{
    int fd = open(o->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    time_t now = time(NULL);
    char when[32];
    struct tm tm;
    va_list ap;

    if (fd < 0)
        return;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S%z", localtime_r(&now, &tm));
    dprintf(fd, "%s ob_cleaner[%d]: ", when, (int)getpid());
    va_start(ap, fmt);
    vdprintf(fd, fmt, ap);
    va_end(ap);
    dprintf(fd, "\n");
    close(fd);
}

/* One pass; how many files were deleted, or -1. */
static int clean(const struct options *o)
{
    DIR *d = opendir(o->dir);
    time_t now = time(NULL);
    struct dirent *e;
    struct stat st;
    int n = 0;

    if (!d) {
        say(o, "%s: %s", o->dir, strerror(errno));
        return -1;
    }
    while ((e = readdir(d))) {
        if (fnmatch(o->pattern, e->d_name, FNM_PERIOD) != 0 ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            now - st.st_mtime <= o->max_age)
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) < 0) {
            say(o, "%s: %s", e->d_name, strerror(errno));
            continue;
        }
        say(o, "deleted %s (%lld bytes, %lld s old)", e->d_name, (long long)st.st_size,
            (long long)(now - st.st_mtime));
        n++;
    }
    closedir(d);
    return n;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"dir", 1, NULL, 'd'},     {"pattern", 1, NULL, 'p'},
                                            {"max-age", 1, NULL, 'a'}, {"interval", 1, NULL, 'i'},
                                            {"log", 1, NULL, 'l'},     {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'd')
            o->dir = optarg;
        else if (c == 'p')
            o->pattern = optarg;
        else if (c == 'a')
            o->max_age = atol(optarg);
        else if (c == 'i')
            o->interval = atol(optarg);
        else if (c == 'l')
            o->log = optarg;
        else
            return -1;
    }
    return o->dir && o->pattern && o->log && o->interval > 0 && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct options o = {.max_age = 86400, .interval = 60};
    struct sigaction act = {.sa_handler = on_term};
    sigset_t term, before;

    if (parse(argc, argv, &o) < 0) {
        fprintf(
            stderr,
            "usage: ob_cleaner --dir DIR --pattern GLOB --max-age SECONDS --interval SECONDS --log FILE\n");
        return 2;
    }
    /* Blocked but while it waits: a SIGTERM between the look and the wait is not slept over. */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    sigaction(SIGTERM, &act, NULL);
    say(&o, "started: %s/%s, older than %ld s, every %ld s", o.dir, o.pattern, o.max_age, o.interval);
    while (!ending) {
        struct timespec wait = {o.interval, 0};
        clean(&o);
        if (!ending && sigtimedwait(&term, NULL, &wait) == SIGTERM)
            ending = 1;
    }
    say(&o, "ended");
    return 0;
}
