/* SPDX-License-Identifier: Apache-2.0 */
/* events: agentd's stream of server-sent events, as lines. With -f it is asked for again where it ended. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/str.h"

#define LINE_MAX_BYTES (256 << 10)
#define AGAIN_MS 1000 /* as the stream's own retry: */

struct stream {
    const struct options *o;
    struct http_reply *reply;
    struct buf line, data;
    char event[33];
    uint64_t last;  /* told */
    bool from_here; /* what was before is not asked for */
    bool all;       /* that the oldest are forgotten is no news */
    bool begun;     /* the stream has said how far it is */
    uint64_t until; /* without -f: the last there is */
};

static void on_interrupt(int sig)
{
    _exit(EXIT_DONE); /* each line is written at once */
}

static void print_event(const struct json *j)
{
    char kind[OUT_TEXT], time[OUT_TEXT];
    int64_t pid = out_number(j, 0, "pid"), generation = out_number(j, 0, "generation");

    printf("%" PRId64 "  %s  %-9s", out_number(j, 0, "id"), out_text(j, 0, "time", time),
           out_text(j, 0, "kind", kind));
    out_word(j, 0, "  ", "alias", "");
    out_word(j, 0, "  ", "verb", "");
    out_word(j, 0, "  ", "state", "");
    out_word(j, 0, ": ", "reason", "");
    if (pid)
        printf(", pid %" PRId64, pid);
    if (generation)
        printf(" (generation %" PRId64 ")", generation);
    out_word(j, 0, " by ", "actor", "");
    out_word(j, 0, " (operation ", "operation", ")");
    out_word(j, 0, ": ", "message", "");
    putchar('\n');
}

/* What the stream says of itself, no event. */
static void print_own(const struct stream *s, const char *kind, const struct json *j)
{
    int64_t after = out_number(j, 0, "after"), next = out_number(j, 0, "next");

    if (s->o->json)
        printf("{\"kind\":\"%s\",%s\n", kind, s->data.p + 1);
    else if (str_eq(kind, "gap"))
        printf("gap: events after %" PRId64 " are not remembered; it goes on with %" PRId64 "\n", after,
               next);
    else
        printf("end: agentd ends this stream after event %" PRId64 "\n", out_number(j, 0, "lastId"));
}

static void dispatch(struct stream *s)
{
    struct json j = {0};

    if (!s->data.len || json_parse(&j, s->data.p, s->data.len, 4096) < 0 || json_kind(&j, 0) != JSON_OBJECT) {
        json_free(&j);
        return;
    }
    if (str_eq(s->event, "gap")) {
        if (!s->all)
            print_own(s, "gap", &j);
        s->last = (uint64_t)out_number(&j, 0, "next");
        s->last -= s->last > 0;
    } else if (str_eq(s->event, "end")) {
        print_own(s, "end", &j);
    } else {
        if (s->o->json)
            printf("%s\n", s->data.p);
        else
            print_event(&j);
        s->last = (uint64_t)out_number(&j, 0, "id");
    }
    s->all = s->from_here = false;
    s->reply->enough = !s->o->follow && s->begun && s->last >= s->until;
    json_free(&j);
    if (fflush(stdout) != 0)
        _exit(EXIT_DONE); /* the reader of our output has enough */
}

/* The comment at the beginning tells the last event; an agentd that does not is taken to have told all by its
 * first heartbeat. */
static void on_comment(struct stream *s, const char *text)
{
    const char *at = strstr(text, " last=");

    if (s->begun && s->until == UINT64_MAX)
        s->until = s->last;
    if (!s->begun)
        s->until = at ? strtoull(at + 6, NULL, 10) : UINT64_MAX;
    s->begun = true;
    if (s->from_here && at)
        s->last = s->until;
    s->from_here = s->from_here && !at;
    s->reply->enough = !s->o->follow && s->last == s->until;
}

static void on_line(struct stream *s, const char *line)
{
    if (*line == ':') {
        on_comment(s, line);
    } else if (str_starts(line, "event: ")) {
        str_copy(s->event, sizeof(s->event), line + 7);
    } else if (str_starts(line, "data:")) {
        buf_str(&s->data, line + 5 + (line[5] == ' '));
    } else if (!*line) {
        dispatch(s);
        buf_reset(&s->data);
        s->event[0] = 0;
    }
}

static void take(void *arg, const char *p, size_t n)
{
    struct stream *s = arg;

    for (; n-- && !s->reply->enough; p++)
        if (*p == '\n') {
            buf_char(&s->line, 0);
            if (!s->line.error)
                on_line(s, s->line.p);
            buf_free(&s->line);
            s->line = (struct buf)BUF_INIT(LINE_MAX_BYTES);
        } else if (*p != '\r') {
            buf_char(&s->line, *p);
        }
}

/* One connection. EXIT_DONE: it has ended. */
static int listen_once(struct stream *s, bool again)
{
    struct http_request q = {.method = "GET", .path = "/agentd/v1/events", .wait_sec = -1, .quiet = again};
    struct http_reply r;
    char id[24];
    int code;

    snprintf(id, sizeof(id), "%" PRIu64, s->last);
    if (!s->from_here)
        q.last_event = id;
    s->reply = &r;
    s->begun = false;
    buf_reset(&s->line);
    buf_reset(&s->data);
    code = http_listen(s->o, &q, take, s, &r);
    if (code == EXIT_REFUSED && again && r.status >= 500)
        code = EXIT_UNASKED; /* it comes up again */
    else if (code == EXIT_REFUSED)
        options_complain("events: %s", r.message);
    http_free(&r);
    return code;
}

int events_run(const struct options *o)
{
    struct stream s = {.o = o, .line = BUF_INIT(LINE_MAX_BYTES), .data = BUF_INIT(LINE_MAX_BYTES)};
    int code;

    if (o->count != 1) {
        options_complain("events [-f] [--since ID]");
        return EXIT_USAGE;
    }
    if (options_number("--since", o->since, 0, INT64_MAX, 0, &s.last) < 0)
        return EXIT_USAGE;
    s.all = !o->since;
    s.from_here = o->follow && !o->since;
    if (o->follow)
        signal(SIGINT, on_interrupt);
    code = listen_once(&s, false);
    for (bool heard = s.begun; o->follow && (code == EXIT_DONE || (code == EXIT_UNASKED && heard));) {
        poll(NULL, 0, AGAIN_MS);
        code = listen_once(&s, true);
    }
    buf_free(&s.line);
    buf_free(&s.data);
    return code;
}
