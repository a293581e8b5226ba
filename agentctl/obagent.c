/* SPDX-License-Identifier: Apache-2.0 */
/* obagent's ob_agentctl: its verbs, its one object on the standard output (or, of a failure, on the standard
 * error), and its exit codes. It says "ok" of what is true. */
#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#define NAME "ob_agentctl"
#define FAILED 255 /* its only code beside 0 */
#define UNIT "agentd.service"
#define LOOK_MS 100 /* between two looks at a task */
#define AWAY_US \
    UINT64_C(60000000) /* agentd may be gone for so long meanwhile: a restart's last step is its own */

char **obagent_words(int *argc, char **argv)
{
    static char verb[] = "obagent";
    const char *slash = *argc > 0 ? strrchr(argv[0], '/') : NULL;
    char **words;

    if (*argc < 1 || !str_eq(slash ? slash + 1 : argv[0], NAME) ||
        !(words = calloc((size_t)*argc + 2, sizeof(*words))))
        return argv;
    words[0] = argv[0];
    words[1] = verb;
    memcpy(words + 2, argv + 1, (size_t)*argc * sizeof(*words));
    ++*argc;
    return words;
}

/* --- what is printed ------------------------------------------------------------------------------------ */

static int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *fmt, ...)
{
    struct buf b = BUF_INIT(8192);
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_str(&b, "{\"successful\":false,\"message\":null,\"error\":");
    buf_json(&b, text, strlen(text));
    buf_str(&b, "}\n");
    fwrite(b.p, 1, b.len, stderr);
    buf_free(&b);
    return FAILED;
}

static int say(const char *message)
{
    printf("{\"successful\":true,\"message\":\"%s\",\"error\":\"\"}\n", message);
    return fflush(stdout) == 0 ? EXIT_DONE : FAILED;
}

/* EXIT_DONE: an answer with data; else it is told. */
static int ask(const struct options *o, const char *method, const char *path, const char *body,
               struct http_reply *r)
{
    struct http_request q = {.method = method, .path = path, .body = body, .wait_sec = -1, .quiet = true};
    int code = http_send(o, &q, r);

    if (code == EXIT_UNASKED)
        return fail("agentd_not_running: agentd can't be asked%s%s", r->message[0] ? ": " : "", r->message);
    return code == EXIT_DONE ? code : fail("%s", r->message);
}

/* --- the host's own agentd, where systemd runs it ------------------------------------------------------- */

static bool is_systemds(const struct options *o)
{
    return !o->url && str_eq(o->socket, OPTIONS_SOCKET) && access("/run/systemd/system", F_OK) == 0;
}

/* It tells by itself what is wrong: a unit that is not there, or who may not. */
static int systemctl(const char *verb)
{
    char *const words[] = {(char *)(uintptr_t) "systemctl", (char *)(uintptr_t)verb, (char *)(uintptr_t)UNIT,
                           NULL};
    extern char **environ;
    int status, error;
    pid_t pid;

    if ((error = posix_spawnp(&pid, words[0], NULL, NULL, words, environ)))
        return fail("systemctl can't be run: %s", strerror(error));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return fail("systemctl: %s", strerror(errno));
    return status == 0 ? EXIT_DONE : fail("systemctl %s " UNIT " failed", verb);
}

static bool is_there(const struct options *o)
{
    struct http_request q = {.method = "GET", .path = "/api/v1/time", .wait_sec = -1, .quiet = true};
    struct http_reply r;
    bool there = http_send(o, &q, &r) != EXIT_UNASKED;

    http_free(&r);
    return there;
}

/* --- tasks ---------------------------------------------------------------------------------------------- */

static void put_token(struct buf *b, const char *token)
{
    buf_str(b, "{\"taskToken\":");
    buf_json(b, token, strlen(token));
    buf_char(b, '}');
}

/* 1: it has ended, *code tells how; 0: it goes on; -EAGAIN: agentd is not there. */
static int look(const struct options *o, const char *body, int *code)
{
    struct http_request q = {
        .method = "POST", .path = "/api/v1/task/status", .body = body, .wait_sec = -1, .quiet = true};
    struct http_reply r;
    char err[OUT_TEXT];
    int asked = http_send(o, &q, &r), over = 1;

    *code = EXIT_DONE;
    if (asked != EXIT_DONE)
        over = asked == EXIT_UNASKED || r.status == 503 ? -EAGAIN : 1;
    else if (json_kind(&r.json, json_member(&r.json, r.data, "finished")) != JSON_TRUE)
        over = 0;
    else if (json_kind(&r.json, json_member(&r.json, r.data, "ok")) != JSON_TRUE)
        *code = fail("%s", out_text(&r.json, r.data, "err", err));
    if (asked != EXIT_DONE && over == 1)
        *code = fail("%s", r.message);
    http_free(&r);
    return over;
}

/* While agentd comes up again it goes on. */
static int await(const struct options *o, const char *token)
{
    struct buf body = BUF_INIT(512);
    uint64_t heard = clock_mono_us();
    int code, over;

    put_token(&body, token);
    while ((over = look(o, body.p, &code)) != 1) {
        if (over == 0)
            heard = clock_mono_us();
        else if (clock_mono_us() - heard > AWAY_US)
            break;
        poll(NULL, 0, LOOK_MS);
    }
    buf_free(&body);
    if (over < 0)
        return fail("agentd_not_running: agentd went away, and did not come back");
    return code == EXIT_DONE ? say("ok") : code;
}

static int run_task(const struct options *o, const char *path)
{
    struct buf body = BUF_INIT(512);
    struct http_reply r;
    char token[OUT_TEXT];
    int code;

    put_token(&body, o->task_token ? o->task_token : "");
    code = ask(o, "POST", path, body.p, &r);
    if (code == EXIT_DONE) {
        out_text(&r.json, r.data, "taskToken", token);
        code = await(o, token);
    }
    http_free(&r);
    buf_free(&body);
    return code;
}

/* --- verbs ---------------------------------------------------------------------------------------------- */

static int tell(const struct options *o, const char *method, const char *path, const char *body)
{
    struct http_reply r;
    int code = ask(o, method, path, body, &r);
    bool text = code == EXIT_DONE && json_kind(&r.json, r.data) == JSON_STRING; /* told without its quotes */

    if (code == EXIT_DONE)
        out_data(&r, text ? "{\"successful\":true,\"message\":\"" : "{\"successful\":true,\"message\":",
                 text ? "\",\"error\":\"\"}\n" : ",\"error\":\"\"}\n");
    http_free(&r);
    return code;
}

static int run_status(const struct options *o)
{
    return tell(o, "GET", "/api/v1/status", NULL);
}

/* As it was there: a stop is of the supervisor with all of its services, and lasts until the next start or
 * boot. Where no systemd runs agentd it stays, and they are stopped for good. */
static int run_start(const struct options *o)
{
    if (is_systemds(o) && !is_there(o) && systemctl("start") != EXIT_DONE)
        return FAILED;
    return run_task(o, "/api/v1/agent/start");
}

static int run_stop(const struct options *o)
{
    if (is_systemds(o))
        return systemctl("stop") == EXIT_DONE ? say("ok") : FAILED;
    return is_there(o) ? run_task(o, "/api/v1/agent/stop") : say("ok");
}

static int run_restart(const struct options *o)
{
    return run_task(o, "/api/v1/agent/restart");
}

static int run_service(const struct options *o, const char *verb, const char *name)
{
    struct buf body = BUF_INIT(1024);
    struct http_reply r;
    int code;

    buf_str(&body, "{\"service\":");
    buf_json(&body, name, strlen(name));
    buf_char(&body, '}');
    code = ask(o, "POST", str_eq(verb, "start") ? "/api/v1/startService" : "/api/v1/stopService", body.p, &r);
    if (code == EXIT_DONE)
        code = r.status == 202 ? fail("%s of %s is still going on", verb, name) : say("ok");
    http_free(&r);
    buf_free(&body);
    return code;
}

/* What OCP's client asks, by hand: the answer's data as the message. */
static int run_ask(const struct options *o, const char *what)
{
    struct buf body = BUF_INIT(8192);
    char path[256];
    int code;

    if (str_eq(o->words[1], "task")) {
        code =
            tell(o, "GET", http_path(path, sizeof(path), "/api/v1/task/status?taskToken=", what, ""), NULL);
    } else {
        buf_str(&body, "{\"symbolicLink\":");
        buf_json(&body, what, strlen(what));
        buf_char(&body, '}');
        code = tell(o, "POST", "/api/v1/file/getRealPath", body.p);
    }
    buf_free(&body);
    return code;
}

static int run_time(const struct options *o)
{
    return tell(o, "GET", "/api/v1/time", NULL);
}

static int run_agent(const struct options *o)
{
    return tell(o, "GET", "/api/v1/agent/status", NULL);
}

static int run_host(const struct options *o)
{
    return tell(o, "POST", "/api/v1/system/hostInfo", "{}");
}

int obagent_run(const struct options *o)
{
    static const struct {
        const char *name;
        int (*run)(const struct options *o);
    } verbs[] = {{"status", run_status},   {"start", run_start}, {"stop", run_stop},
                 {"restart", run_restart}, {"time", run_time},   {"agent", run_agent},
                 {"host-info", run_host}};
    const char *verb = o->count > 1 ? o->words[1] : "";

    if (str_eq(verb, "service")) {
        if (o->count < 3 || !(str_eq(o->words[2], "start") || str_eq(o->words[2], "stop")))
            return fail("service start NAME, or service stop NAME");
        return o->count == 4 ? run_service(o, o->words[2], o->words[3]) : fail("missing service name");
    }
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (str_eq(verb, verbs[i].name))
            return o->count == 2 ? verbs[i].run(o) : fail("too many arguments");
    if ((str_eq(verb, "task") || str_eq(verb, "real-path")) && o->count == 3)
        return run_ask(o, o->words[2]);
    if (str_eq(verb, "version") && o->count == 2)
        return say(PACKAGE_VERSION);
    return fail("%s is nothing that agentd does here: status, start, stop, restart, service start NAME, "
                "service stop NAME, time, agent, host-info, task TOKEN, real-path PATH, version",
                *verb ? verb : "no verb");
}
