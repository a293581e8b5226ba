/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/json_enc.h"
#include "rpc/listen.h"
#include "rpc/stats.h"
#include "rpc/wish.h"
#include "rpc/zip.h"

#define TOO_LARGE "the reply is too large"
#define NO_MEMORY "out of memory"

static struct buf body = BUF_INIT(LIMIT_HTTP_REPLY);
static uint64_t trace_state;
static struct {
    time_t sec;
    char text[40];
} date;

void reply_init(void)
{
    if (getrandom(&trace_state, sizeof(trace_state), GRND_NONBLOCK) < 0)
        trace_state = clock_mono_us() ^ (uint64_t)clock_wall_us() << 20;
}

/* splitmix64: a trace id must be unlike others, not secret */
void reply_trace(char trace[17])
{
    static const char hex[] = "0123456789abcdef";
    uint64_t z = trace_state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    for (int i = 0; i < 16; i++, z >>= 4)
        trace[i] = hex[z & 15];
    trace[16] = 0;
}

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {{200, "OK"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {406, "Not Acceptable"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {412, "Precondition Failed"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {415, "Unsupported Media Type"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {503, "Service Unavailable"}};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Status";
}

/* evhttp would print it anew for each reply. */
static const char *http_date(void)
{
    struct timespec ts;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    if (ts.tv_sec != date.sec) {
        date.sec = ts.tv_sec;
        gmtime_r(&ts.tv_sec, &tm);
        strftime(date.text, sizeof(date.text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
    return date.text;
}

void reply_header(struct request *r, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(r->http), name, value);
}

void reply_tag(struct request *r, uint32_t generation)
{
    char text[16];

    snprintf(text, sizeof(text), "\"%u\"", generation);
    reply_header(r, "ETag", text);
}

static bool is_gone(struct request *r)
{
    return !r->conn || !evhttp_request_get_connection(r->http);
}

struct buf *reply_data(struct request *r)
{
    buf_reset(&body);
    buf_str(&body, "{\"data\":");
    return &body;
}

static void close_envelope(struct buf *b, uint64_t start_us, const char *server, int status, bool good,
                           const char *trace)
{
    json_uint(b, "duration", (clock_mono_us() - start_us) / 1000);
    json_str(b, "server", server);
    json_int(b, "status", status);
    json_bool(b, "successful", good);
    json_time(b, "timestamp", clock_wall_us(), true);
    json_str(b, "traceId", trace);
    json_close(b, '}');
}

static void drop(struct request *r)
{
    evhttp_request_free(r->http);
    request_free(r);
}

static void free_body(const void *p, size_t len, void *extra)
{
    free((void *)p);
}

/* The body into evhttp's hands: a small one is copied, so that ours is there for the next. */
static void hand_over(struct request *r, struct buf *b)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(r->http);

    if (b->len < LIMIT_HTTP_BIG_REPLY) {
        evbuffer_add(out, b->p, b->len);
        return;
    }
    if (evbuffer_add_reference(out, b->p, b->len, free_body, NULL) == 0)
        *b = (struct buf)BUF_INIT(LIMIT_HTTP_REPLY);
}

/* One with an entity tag is sent as it is: the tag is of those bytes. */
static bool may_zip(const struct request *r)
{
    char value[LIMIT_HTTP_WISH];

    return !evhttp_find_header(evhttp_request_get_output_headers(r->http), "ETag") &&
           request_header_all(r, "Accept-Encoding", value, sizeof(value)) == 1 && wish_gzip(value);
}

/* The body as it goes out: b, or what it is in gzip, in zipped. */
static struct buf *encode(struct request *r, struct buf *b, struct buf *zipped)
{
    if (b->len < LIMIT_HTTP_ZIP)
        return b;
    reply_header(r, "Vary", "Accept-Encoding");
    if (!may_zip(r) || zip_gzip(b->p, b->len, zipped) < 0)
        return b;
    reply_header(r, "Content-Encoding", "gzip");
    buf_free(b);
    return zipped;
}

/* RFC 9112, 9.6: "close" may be one word among others, and what comes behind that request is not looked at.
 */
static bool wants_close(const struct request *r)
{
    char words[LIMIT_HTTP_HOP_WORDS], *rest = words, *word;
    int n = request_header_all(r, "Connection", words, sizeof(words));

    if (n <= 0)
        return n < 0;
    while ((word = strsep(&rest, ", \t")))
        if (strcasecmp(word, "close") == 0)
            return true;
    return false;
}

static void send_body(struct request *r, int status, const char *type, struct buf *b)
{
    struct buf zipped = BUF_INIT(LIMIT_HTTP_REPLY);
    struct listen_conn *c = r->conn;
    char length[24];

    stats_answered(r->verb, status);
    if (is_gone(r)) {
        drop(r);
        return;
    }
    reply_header(r, "Date", http_date());
    if (b) {
        b = encode(r, b, &zipped);
        snprintf(length, sizeof(length), "%zu", b->len);
        reply_header(r, "Content-Type", type);
        reply_header(r, "Content-Length", length);
        reply_header(r, "Cache-Control", "no-store");
        if (r->verb != ROUTE_HEAD)
            hand_over(r, b);
        if (b->size > LIMIT_HTTP_ZIP) /* so much is not kept for the next */
            buf_free(b);
    }
    buf_free(&zipped);
    if (listen_last(c) || wants_close(r))
        reply_header(r, "Connection", "close");
    listen_attach(c, NULL);
    evhttp_send_reply(r->http, status, status_text(status), NULL);
    request_free(r);
    listen_flush(c);
}

void reply_send(struct request *r, int status)
{
    close_envelope(&body, r->start_us, r->conn ? listen_server(r->conn) : "", status, true, r->trace);
    if (body.error) {
        reply_error(r, WIRE_E_INTERNAL, body.error == -EFBIG ? TOO_LARGE : NO_MEMORY);
        return;
    }
    send_body(r, status, "application/json", &body);
}

static void put_details(struct buf *b, const char *lines)
{
    char line[512];

    json_key(b, "subErrors");
    buf_char(b, '[');
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        size_t take = n < sizeof(line) - 1 ? n : sizeof(line) - 1;
        memcpy(line, lines, take);
        line[take] = 0;
        for (char *tab; (tab = strchr(line, '\t'));)
            *tab = ' ';
        if (take)
            json_put_str(b, line);
        lines += n + (lines[n] == '\n');
    }
    buf_char(b, ']');
}

static void put_error(struct buf *b, enum wire_error e, const char *message, const char *lines)
{
    buf_reset(b);
    buf_char(b, '{');
    json_key(b, "error");
    buf_char(b, '{');
    json_int(b, "code", wire_error_code(e));
    json_str(b, "message", message && *message ? message : wire_error_text(e));
    put_details(b, lines);
    buf_char(b, '}');
}

void reply_error_details(struct request *r, enum wire_error e, const char *message, const char *lines)
{
    int status = wire_error_status(e);
    char retry[16];

    put_error(&body, e, message, lines);
    close_envelope(&body, r->start_us, r->conn ? listen_server(r->conn) : "", status, false, r->trace);
    if (status == 429 || status == 503) {
        snprintf(retry, sizeof(retry), "%u", r->retry_sec ? r->retry_sec : 1);
        reply_header(r, "Retry-After", retry);
    }
    send_body(r, status, "application/json", &body);
}

void reply_error(struct request *r, enum wire_error e, const char *message)
{
    reply_error_details(r, e, message, "");
}

struct buf *reply_bare(void)
{
    buf_reset(&body);
    return &body;
}

void reply_send_bare(struct request *r, const char *type)
{
    if (body.error)
        reply_error(r, WIRE_E_INTERNAL, body.error == -EFBIG ? TOO_LARGE : NO_MEMORY);
    else
        send_body(r, 200, type, &body);
}

void reply_plain(struct request *r, int status, const char *text)
{
    buf_reset(&body);
    buf_str(&body, text);
    send_body(r, status, "text/plain", status == 204 ? NULL : &body);
}

void reply_stream(struct request *r, const char *type)
{
    stats_answered(r->verb, 200);
    reply_header(r, "Date", http_date());
    reply_header(r, "Content-Type", type);
    reply_header(r, "Cache-Control", "no-store");
    reply_header(r, "X-Content-Type-Options", "nosniff");
    listen_streams(r->conn);
    reply_header(r, "Connection", "close");
    evhttp_send_reply_start(r->http, 200, status_text(200));
}

static void send_piece(struct request *r, const char *p, size_t n)
{
    struct evbuffer *piece = evbuffer_new();

    if (!piece)
        return; /* what comes is no JSON then: it is not taken for an answer */
    evbuffer_add(piece, p, n);
    evhttp_send_reply_chunk(r->http, piece);
    evbuffer_free(piece);
}

void reply_stream_open(struct request *r)
{
    struct buf *b = reply_data(r);

    reply_stream(r, "application/json");
    send_piece(r, b->p, b->len);
}

void reply_stream_close(struct request *r)
{
    struct buf *b = reply_data(r);
    size_t skip;

    buf_char(b, '0'); /* in place of the data */
    skip = b->len;
    close_envelope(b, r->start_us, listen_server(r->conn), 200, true, r->trace);
    if (!b->error)
        send_piece(r, b->p + skip, b->len - skip);
}

void reply_events(struct request *r)
{
    reply_stream(r, "text/event-stream");
}

void reply_end(struct request *r)
{
    if (!r->conn) {
        evhttp_request_free(r->http);
    } else {
        listen_attach(r->conn, NULL);
        evhttp_send_reply_end(r->http);
    }
    request_free(r);
}

void reply_refusal(struct evbuffer *out, const struct listen_conn *c, int status, enum wire_error e,
                   const char *reason)
{
    char trace[17];

    stats.refused[e]++;
    reply_trace(trace);
    put_error(&body, e, reason, "");
    close_envelope(&body, clock_mono_us(), listen_server(c), status, false, trace);
    evbuffer_add_printf(out,
                        "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n%sConnection: close\r\n\r\n",
                        status, status_text(status), http_date(), body.len,
                        status == 503 ? "Retry-After: 1\r\n" : "");
    evbuffer_add(out, body.p, body.len);
}
