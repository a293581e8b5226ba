/* SPDX-License-Identifier: Apache-2.0 */
/* search and collect: what stands in workers' logs, page after page; and all of some as an archive. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

#define MOST 1000000000
#define PAGE 500
#define BODY (64 << 10)
#define ID 80

/* "name":["word","word"] */
static void put_words(struct buf *b, const char *name, char *const *words)
{
    buf_printf(b, "\"%s\":[", name);
    for (; *words; words++) {
        buf_json(b, *words, strlen(*words));
        if (words[1])
            buf_char(b, ',');
    }
    buf_char(b, ']');
}

/* From the beginning up to now. */
static void put_span(struct buf *b)
{
    time_t now = time(NULL) + 1;
    char text[40];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(b, ",\"startTime\":\"1970-01-01T00:00:00Z\",\"endTime\":\"%s\"", text);
}

struct search {
    const struct options *o;
    uint64_t left; /* entries that are still wanted */
    char id[ID];   /* where the next page begins */
    int64_t offset;
};

static void put_page(struct buf *b, const struct search *s)
{
    buf_str(b, "{\"logType\":");
    buf_json(b, s->o->words[1], strlen(s->o->words[1]));
    put_span(b);
    buf_char(b, ',');
    put_words(b, "keyword", s->o->words + 2);
    buf_printf(b, ",\"limit\":%" PRIu64 ",\"lastQueryFileId\":\"%s\",\"lastQueryFileOffset\":%" PRId64 "}",
               s->left < PAGE ? s->left : PAGE, s->id, s->offset);
}

static void print_entries(const struct http_reply *r, int list)
{
    for (int i = json_first(&r->json, list); i >= 0; i = json_next(&r->json, i)) {
        _cleanup_free_ char *text = json_text(&r->json, json_member(&r->json, i, "logLine"));
        puts(text ? text : "");
    }
}

/* EXIT_GOES_ON: there may be a further page. */
static int take_page(struct search *s, const struct http_reply *r)
{
    int list = json_member(&r->json, r->data, "logEntries"), n = json_count(&r->json, list);
    size_t len;
    const char *raw = json_raw(&r->json, r->data, &len);

    if (s->o->json)
        printf("%.*s\n", (int)len, raw);
    else
        print_entries(r, list);
    json_copy(&r->json, json_member(&r->json, r->data, "fileId"), s->id, sizeof(s->id));
    json_to_int(&r->json, json_member(&r->json, r->data, "fileOffset"), &s->offset);
    s->left -= (uint64_t)n < s->left ? (uint64_t)n : s->left;
    return n && s->left ? EXIT_GOES_ON : EXIT_DONE;
}

static int next_page(struct search *s)
{
    struct buf body = BUF_INIT(BODY);
    struct http_request q = {.method = "POST", .path = "/api/v1/log/query", .wait_sec = -1};
    struct http_reply r;
    int code;

    put_page(&body, s);
    q.body = body.p;
    code = http_send(s->o, &q, &r);
    if (code == EXIT_REFUSED)
        options_complain("%s", r.message);
    if (code == EXIT_DONE)
        code = take_page(s, &r);
    http_free(&r);
    buf_free(&body);
    return code;
}

int search_run(const struct options *o)
{
    struct search s = {.o = o};
    int code;

    if (o->count < 2) {
        options_complain("search: in which log? A worker's alias, or what a log file's name begins with");
        return EXIT_USAGE;
    }
    if (options_number("-n", o->lines, 1, MOST, MOST, &s.left) < 0)
        return EXIT_USAGE;
    do
        code = next_page(&s);
    while (code == EXIT_GOES_ON);
    return code;
}

static void write_out(void *arg, const char *p, size_t n)
{
    bool *failed = arg;

    *failed |= fd_write_all(STDOUT_FILENO, p, n) < 0;
}

int search_collect(const struct options *o)
{
    struct buf body = BUF_INIT(BODY);
    struct http_request q = {.method = "POST", .path = "/api/v1/log/download", .wait_sec = -1};
    struct http_reply r;
    bool failed = false;
    int code;

    if (o->count < 2 || isatty(STDOUT_FILENO)) {
        options_complain("collect ALIAS|LOG... >FILE.zip: an archive goes to the standard output");
        return EXIT_USAGE;
    }
    buf_char(&body, '{');
    put_words(&body, "logType", o->words + 1);
    put_span(&body);
    buf_char(&body, '}');
    q.body = body.p;
    code = http_listen(o, &q, write_out, &failed, &r);
    if (code == EXIT_REFUSED || failed)
        options_complain("%s", failed ? "the archive can't be written" : r.message);
    http_free(&r);
    buf_free(&body);
    return failed ? EXIT_REFUSED : code;
}
