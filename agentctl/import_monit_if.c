/* SPDX-License-Identifier: Apache-2.0 */
/* What monit looks at in a process, `if ... then ...`: a port or socket that does not answer, too many
 * restarts, too much memory. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agentctl/import_monit.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct test {
    struct import *im;
    const struct import_monit_statement *s;
    struct import_entry *e;
    struct import_monit_tests *t;
    const char *action; /* the first word behind then */
};

static bool has(const struct test *x, const char *word)
{
    return import_monit_find(x->s, 1, word) < x->s->n;
}

static const char *behind(const struct test *x, const char *word)
{
    return import_monit_text(x->s, import_monit_find(x->s, 1, word) + 1);
}

static bool does(const struct test *x, const char *action)
{
    return strcasecmp(x->action, action) == 0;
}

/* ---- connections ---- */

/* `for 3 cycles`, `3 times within 5 cycles`, `3 cycles`. */
static uint64_t retries(const struct test *x)
{
    size_t times = import_monit_find(x->s, 1, "times"), cycles = import_monit_find(x->s, 1, "cycles");
    size_t i = times < x->s->n ? times : cycles;
    uint64_t n = 1;

    if (i < x->s->n && i > 0 && str_to_u64(x->s->v[i - 1].text, 1000, &n) == 0 && n)
        return n;
    return 1;
}

static uint64_t timeout_seconds(const struct test *x)
{
    uint64_t n;

    return str_to_u64(behind(x, "timeout"), 3600, &n) == 0 && n ? n : 5;
}

static bool is_local(const char *host)
{
    return !*host || str_eq(host, "localhost") || str_starts(host, "127.") || str_eq(host, "::1");
}

/* What an URL of agentd's may have in it. */
static bool is_path(const char *s)
{
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("/.-_~?=&%:+,;@!*()", *p))
            return false;
    return *s == '/';
}

/* A host's name or address, in brackets if it is one of IPv6; NULL: it is none. */
static const char *host_of(const struct test *x)
{
    const char *host = behind(x, "host");

    if (!*host)
        return "localhost";
    if (strspn(host, "0123456789abcdefABCDEF:.") == strlen(host) && strchr(host, ':'))
        return import_print(x->im, "[%s]", host);
    for (const char *p = host; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
            return NULL;
    return host;
}

/* The N of `status = N`, with a blank before it; "": nothing of the kind, or of another sign. */
static const char *wanted_status(const struct test *x)
{
    size_t i = import_monit_find(x->s, 1, "status");
    const char *sign = import_monit_text(x->s, i + 1), *number = import_monit_text(x->s, i + 2);
    uint64_t n;

    if ((!str_eq(sign, "=") && !str_eq(sign, "==")) || str_to_u64(number, 599, &n) < 0 || n < 100)
        return "";
    return import_print(x->im, " %llu", (unsigned long long)n);
}

static const char *http_check(const struct test *x, const char *port)
{
    const char *host = host_of(x), *request = behind(x, "request");

    if (!*request)
        request = "/";
    if (!host || !is_path(request))
        return NULL;
    return import_print(x->im, "http:http://%s:%s%s%s", host, port, import_words_plain(x->im, request),
                        wanted_status(x));
}

#define SOCKET_PATH_MAX 107 /* unix(7) */

static const char *unix_check(const struct test *x)
{
    const char *path = behind(x, "unixsocket");

    if (*path == '/' && strlen(path = import_words_path(x->im, "/", path)) <= SOCKET_PATH_MAX)
        return import_print(x->im, "unix:%s", import_words_plain(x->im, path));
    import_none(x->e, "a unix socket has an absolute path of at most %d bytes", SOCKET_PATH_MAX);
    return NULL;
}

static const char *protocol_of(const struct test *x)
{
    return behind(x, has(x, "protocol") ? "protocol" : "proto");
}

/* What agentd leaves out of what monit asks; the check would be thought to be as strict. */
static void note_unasked(const struct test *x, const char *check)
{
    static const char *const words[] = {"content",  "checksum", "hostheader", "method",       "username",
                                        "password", "send",     "expect",     "responsetime", "retry"};
    const char *protocol = protocol_of(x);
    bool http = str_starts(check, "http:"), more = has(x, "status") && !(http && *wanted_status(x));

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        more |= has(x, words[i]);
    if (*protocol && strcasecmp(protocol, "default") != 0)
        more |= !http;
    if (more)
        import_note(
            x->e, "of all that monit asks there, only %s is asked; HealthCheck=exec:COMMAND may ask for more",
            http ? "for the answer's status" : "whether a connection is taken");
}

/* The HealthCheck= of the test; NULL: none, and it was told. */
static const char *check_of(const struct test *x)
{
    const char *port = behind(x, "port"), *protocol = protocol_of(x), *check;
    uint64_t n;

    if (has(x, "unixsocket"))
        return unix_check(x);
    if (str_to_u64(port, 65535, &n) < 0 || n == 0) {
        import_none(x->e, "a port is a number from 1 to 65535");
        return NULL;
    }
    if (strcasecmp(behind(x, "type"), "udp") == 0 || strcasecmp(behind(x, "type"), "tcpssl") == 0 ||
        has(x, "ssl") || has(x, "certificate") || strcasecmp(protocol, "https") == 0) {
        import_none(
            x->e,
            "agentd asks over plain TCP, HTTP and unix sockets; HealthCheck=exec:COMMAND may ask otherwise");
        return NULL;
    }
    if (strcasecmp(protocol, "http") == 0) {
        if (!(check = http_check(x, port)))
            import_none(x->e, "its host or request is none that HealthCheck=http: takes");
        return check;
    }
    if (!is_local(behind(x, "host"))) {
        import_none(x->e, "HealthCheck=tcp: is about a port of the worker's own");
        return NULL;
    }
    return import_print(x->im, "tcp:%s", port);
}

static void read_connection(struct test *x)
{
    const char *check;
    uint64_t wait = timeout_seconds(x);

    if (x->t->checked) {
        import_none(x->e, "a worker has one HealthCheck=; HealthCheck=exec:COMMAND may ask for more");
        return;
    }
    if (!does(x, "restart") && !does(x, "alert")) {
        import_none(x->e, "HealthAction= is restart or report, not %s", x->action);
        return;
    }
    if (!(check = check_of(x)))
        return;
    x->t->checked = true;
    import_to(x->e, IMPORT_WORKER, "HealthCheck", "%s", check);
    import_to(x->e, IMPORT_WORKER, "HealthInterval", "%us", x->t->cycle);
    import_to(x->e, IMPORT_WORKER, "HealthTimeout", "%llus", (unsigned long long)wait);
    import_to(x->e, IMPORT_WORKER, "HealthRetries", "%llu", (unsigned long long)retries(x));
    import_to(x->e, IMPORT_WORKER, "HealthAction", "%s", does(x, "restart") ? "restart" : "report");
    note_unasked(x, check);
    if (has(x, "times"))
        import_note(x->e, "so many failures in a row, not within more cycles");
}

/* ---- restarts, memory ---- */

static void read_restarts(struct test *x)
{
    uint64_t n, cycles;
    size_t i = import_monit_find(x->s, 2, "cycles");

    if (x->t->limited || str_to_u64(import_monit_text(x->s, 1), 1000000, &n) < 0 || n == 0 ||
        str_to_u64(import_monit_text(x->s, i - 1), 1000000, &cycles) < 0) {
        import_none(x->e, x->t->limited ? "a worker has one StartLimitBurst=" : "numbers are wanted in it");
        return;
    }
    if (does(x, "alert") || does(x, "exec")) {
        import_none(x->e, "agentd tells of each restart; GET /agentd/v1/events");
        return;
    }
    x->t->limited = true;
    import_to(x->e, IMPORT_UNIT, "StartLimitBurst", "%llu", (unsigned long long)n);
    import_to(x->e, IMPORT_UNIT, "StartLimitIntervalSec", "%llus",
              (unsigned long long)(cycles * x->t->cycle));
    import_note(x->e, "then it cools down and is tried again, where monit gives up");
}

/* The place of `memory` or `mem` of all its processes; n: it is about something else. */
static size_t memory_at(const struct test *x)
{
    static const char *const words[] = {"totalmem", "totalmemory"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (has(x, words[i]))
            return import_monit_find(x->s, 1, words[i]);
    for (size_t i = 1; i + 1 < x->s->n; i++)
        if (import_monit_is(x->s, i, "total") &&
            (import_monit_is(x->s, i + 1, "memory") || import_monit_is(x->s, i + 1, "mem")))
            return i + 1;
    return x->s->n;
}

/* "500 MB", "500.0 MB", "80%" behind the sign. NULL: it is none. */
static const char *memory_limit(const struct test *x, size_t i)
{
    const char *sign = import_monit_text(x->s, i + 1);
    char *end;
    double v;
    uint64_t unit = 1;

    if (!str_eq(sign, ">") && !str_eq(sign, ">=") && strcasecmp(sign, "gt") != 0 &&
        strcasecmp(sign, "greater") != 0)
        return NULL;
    i += 2 + import_monit_is(x->s, i + 2, "than");
    v = strtod(import_monit_text(x->s, i), &end);
    if (!(v > 0) || v > 1e12)
        return NULL;
    if (!*end)
        end = (char *)import_monit_text(x->s, i + 1);
    if (*end == '%')
        return v <= 100 ? import_print(x->im, "%.0f%%", v) : NULL;
    if (*end && !import_words_size(import_print(x->im, "1%s", end), &unit))
        return NULL;
    return v * (double)unit < 1e15 ? import_print(x->im, "%.0f", v * (double)unit) : NULL;
}

static void read_memory(struct test *x, size_t i)
{
    const char *limit = memory_limit(x, i);

    if (!does(x, "restart") || !limit || x->t->memory) {
        import_none(x->e, x->t->memory
                              ? "a worker has one MemoryMax="
                              : "MemoryMax= is a limit that the kernel holds, with an end and a restart");
        return;
    }
    x->t->memory = true;
    import_to(x->e, IMPORT_SERVICE, "MemoryMax", "%s", limit);
    import_note(x->e, "the kernel holds it at once, where monit looks from time to time");
}

/* ---- any ---- */

static bool about_existence(const struct test *x)
{
    return has(x, "exist") || has(x, "exists");
}

static void read_other(struct test *x)
{
    static const struct {
        const char *word, *why;
    } words[] = {
        {"cpu", "agentd acts on no use of processors; CPUQuota= caps it"},
        {"loadavg", "agentd looks at workers, not at the host"},
        {"children", "agentd counts no children; TasksMax= caps them"},
        {"threads", "agentd counts no threads; TasksMax= caps them"},
        {"uptime", "agentd restarts nothing for its age"},
        {"memory", "of the whole tree MemoryMax= is a limit; one process has none"},
        {"mem", "of the whole tree MemoryMax= is a limit; one process has none"},
        {"pid", "agentd knows of each main process; GET /agentd/v1/events"},
        {"ppid", "agentd knows of each main process; GET /agentd/v1/events"},
        {"uid", "a worker runs as User= says"},
        {"euid", "a worker runs as User= says"},
        {"gid", "a worker runs as Group= says"},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (has(x, words[i].word)) {
            import_none(x->e, "%s", words[i].why);
            return;
        }
    import_none(x->e, "agentd does not look at it; HealthCheck=exec:COMMAND may");
}

void import_monit_if(struct import *im, const struct import_monit_statement *s, struct import_entry *e,
                     struct import_monit_tests *t)
{
    struct test x = {.im = im, .s = s, .e = e, .t = t};
    size_t memory;

    x.action = behind(&x, "then");
    if (import_monit_is(s, 2, "restart") || import_monit_is(s, 2, "restarts"))
        read_restarts(&x);
    else if (has(&x, "failed") && (has(&x, "port") || has(&x, "unixsocket")))
        read_connection(&x);
    else if (about_existence(&x) && (does(&x, "restart") || does(&x, "start")))
        import_same(e, "Restart=always");
    else if (about_existence(&x))
        import_none(e, "agentd starts it again (Restart=always), and tells it in GET /agentd/v1/events");
    else if ((memory = memory_at(&x)) < s->n)
        read_memory(&x, memory);
    else
        read_other(&x);
}
