/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/host.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/logs.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define TIMEOUT_US 10000000
#define VALUE 128
#define FILE_MAX (4 << 20)

/* --- the host ------------------------------------------------------------------------------------------- */

/* The value behind a line's name, up to its end; quotes (os-release(5)) and blanks around it are dropped. "":
 * there is none. */
static char *value_of(const char *text, const char *name, const char *between, char value[VALUE])
{
    size_t len = strlen(name), n;

    value[0] = 0;
    for (const char *l = text, *p; *l; l += strcspn(l, "\n"), l += *l == '\n') {
        if (!str_starts(l, name))
            continue;
        p = l + len + strspn(l + len, " \t");
        if (!str_starts(p, between))
            continue;
        p += strlen(between);
        p += strspn(p, " \t\"'");
        n = strcspn(p, "\n");
        while (n && (isspace((unsigned char)p[n - 1]) || p[n - 1] == '"' || p[n - 1] == '\''))
            n--;
        snprintf(value, VALUE, "%.*s", (int)(n < VALUE ? n : VALUE - 1), p);
        break;
    }
    return value;
}

/* With many processors the line of interrupts alone is longer than most files. */
static char *read_text(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;

    if (fd < 0 || fd_read_all(fd, FILE_MAX, &text) < 0)
        text = strdup("");
    fd_close(fd);
    return text;
}

/* As those who know hosts by families name them. */
static const char *family_of(const char *id, const char *like)
{
    static const char *const families[] = {"debian", "rhel", "suse", "fedora", "arch", "alpine"};

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (strstr(id, families[i]) || strstr(like, families[i]))
            return str_eq(families[i], "fedora") ? "rhel" : families[i];
    return strstr(id, "centos") || strstr(id, "alios") || strstr(id, "anolis") ? "rhel" : id;
}

static void put_system(struct buf *b)
{
    char id[VALUE], like[VALUE], version[VALUE], exact[VALUE];
    _cleanup_free_ char *text =
        read_text(access("/etc/os-release", F_OK) == 0 ? "/etc/os-release" : "/usr/lib/os-release");

    value_of(text, "ID", "=", id);
    value_of(text, "ID_LIKE", "=", like);
    value_of(text, "VERSION_ID", "=", version);
    /* Debian's own file has the point release, too. */
    if (str_eq(id, "debian") && fd_read_file(AT_FDCWD, "/etc/debian_version", exact, sizeof(exact)) > 0 &&
        isdigit((unsigned char)exact[0]))
        snprintf(version, sizeof(version), "%.*s", (int)strcspn(exact, "\n"), exact);
    buf_printf(b, "%s\t%s\t%s\t", id, family_of(id, like), version);
}

static unsigned long long number_of(const char *text, const char *name, const char *between)
{
    char value[VALUE];

    return strtoull(value_of(text, name, between, value), NULL, 10);
}

/* One line: name, boot time and up time in seconds, distribution, family, version, kernel, machine,
 * processor, how many, memory in bytes. */
static int run_host(int out, void *arg)
{
    _cleanup_free_ char *stat = read_text("/proc/stat"), *cpus = read_text("/proc/cpuinfo"),
                        *memory = read_text("/proc/meminfo");
    struct buf b = BUF_INIT(4096);
    struct utsname u;
    char cpu[VALUE];

    if (!stat || !cpus || !memory || uname(&u) < 0)
        return 1;
    buf_printf(&b, "%s\t%llu\t%llu\t", u.nodename, number_of(stat, "btime", ""),
               (unsigned long long)(clock_boot_us() / 1000000));
    put_system(&b);
    buf_printf(&b, "%s\t%s\t%s\t%ld\t%llu\n", u.release, u.machine, value_of(cpus, "model name", ":", cpu),
               sysconf(_SC_NPROCESSORS_ONLN), number_of(memory, "MemTotal", ":") * 1024);
    return b.error || fd_write_all(out, b.p, b.len) < 0;
}

/* --- a path --------------------------------------------------------------------------------------------- */

struct asked {
    uint64_t call;
    const struct wk_def *def; /* in the helper only */
    char path[PATH_MAX];
};

static int run_path(int out, void *arg)
{
    const struct asked *a = arg;
    char real[PATH_MAX];

    if (helper_become(&a->def->ids) < 0 || !realpath(a->path, real))
        return errno == ENOENT || errno == ENOTDIR ? 2 : 1;
    return fd_write_all(out, real, strlen(real)) < 0;
}

/* --- answers -------------------------------------------------------------------------------------------- */

static void refuse(uint64_t call, enum wire_error e, const char *message)
{
    link_reply(&(struct wire_reply){.call = call, .error = (uint8_t)e, .message = message});
}

static void on_told(int status, const char *p, size_t n, void *arg)
{
    struct asked *a = arg;

    if (status == 0)
        link_reply(&(struct wire_reply){.call = a->call, .items = p});
    else if (status == 2)
        refuse(a->call, WIRE_E_NO_LOG, "there is no such file");
    else
        refuse(a->call, WIRE_E_INTERNAL, "it can't be looked at");
    free(a);
}

static void ask(struct asked *a, helper_run_fn run)
{
    if (helper_spare() && helper_start(run, a, on_told, a, TIMEOUT_US, PATH_MAX))
        return;
    refuse(a->call, WIRE_E_TOO_MANY, "too many helpers are at work");
    free(a);
}

static struct asked *new_asked(uint64_t call, const char *path)
{
    struct asked *a = calloc(1, sizeof(*a));

    if (!a) {
        refuse(call, WIRE_E_INTERNAL, "out of memory");
        return NULL;
    }
    a->call = call;
    str_copy(a->path, sizeof(a->path), path);
    return a;
}

void host_tell(uint64_t call)
{
    struct asked *a = new_asked(call, "");

    if (a)
        ask(a, run_host);
}

static const struct wk_def *owner_of(const char *path)
{
    const struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link)
        if (logs_is_log(w->def, path))
            return w->def;
    return NULL;
}

void host_real_path(uint64_t call, const char *path)
{
    const struct wk_def *def = strlen(path) < PATH_MAX ? owner_of(path) : NULL;
    struct asked *a;

    if (!def) {
        refuse(call, WIRE_E_NO_LOG, "only of a log: of captured output, or what LogFilePattern= matches");
        return;
    }
    if (!(a = new_asked(call, path)))
        return;
    a->def = def;
    ask(a, run_path);
}
