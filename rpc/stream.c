/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/fd.h"
#include "base/limits.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/reply.h"
#include "wire/logstream.h"

#define ARCHIVE_END 22 /* bytes of the last record of an archive, which begins with this: */
static const char archive_end[] = "PK\5\6";

struct stream {
    struct request *request;
    struct event *readable;
    struct event *left; /* until the reply begins: evhttp sees a client leave only while it writes */
    struct evbuffer *piece;
    int fd;
    bool started; /* the head is read, the reply has begun */
    bool paused;
    bool search;
    char *message; /* of one that failed: what is known of it */
    size_t head_len, message_len;
    struct wire_log_head head;
    char tail[ARCHIVE_END]; /* the last bytes so far: whether it is whole */
};

static struct event_base *loop;
static unsigned open_streams;
static char piece[32768];

void stream_init(struct event_base *base)
{
    loop = base;
}

bool stream_room(void)
{
    return open_streams < link_hello()->max_log_streams;
}

unsigned stream_count(void)
{
    return open_streams;
}

static void free_stream(struct stream *s)
{
    if (s->readable)
        event_free(s->readable);
    if (s->left)
        event_free(s->left);
    if (s->piece)
        evbuffer_free(s->piece);
    fd_close(s->fd);
    free(s->message);
    free(s);
    open_streams--;
}

void stream_gone(struct request *r)
{
    struct stream *s = r->stream;
    bool started = s->started;

    r->stream = NULL;
    free_stream(s);
    if (started)
        evhttp_request_free(r->http);
    else
        reply_error(r, WIRE_E_LOG_FAILED, NULL); /* to nobody; frees both */
    if (started)
        request_free(r);
}

static evutil_socket_t socket_of(const struct request *r)
{
    return bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(r->http)));
}

static bool is_enveloped(const struct stream *s)
{
    return s->search && !(s->request->method->flags & METHOD_STREAM);
}

static void note_tail(struct stream *s, const char *p, size_t n)
{
    size_t keep = sizeof(s->tail);

    if (n < keep) {
        memmove(s->tail, s->tail + n, keep - n);
        memcpy(s->tail + keep - n, p, n);
    } else {
        memcpy(s->tail, p + n - keep, keep);
    }
}

static bool is_whole(const struct stream *s)
{
    if (is_enveloped(s))
        return s->tail[sizeof(s->tail) - 1] == WIRE_LOG_WHOLE[0];
    return memcmp(s->tail, archive_end, sizeof(archive_end) - 1) == 0;
}

/* It ended before its end: so does the connection, that nobody takes it for an answer. */
static void break_off(struct stream *s)
{
    event_del(s->readable);
    shutdown(socket_of(s->request), SHUT_RDWR);
}

static void end_stream(struct stream *s)
{
    struct request *r = s->request;

    if (s->search && !is_whole(s)) {
        break_off(s);
        return;
    }
    if (is_enveloped(s))
        reply_stream_close(r);
    r->stream = NULL;
    free_stream(s);
    reply_end(r);
}

static enum wire_error error_of(const struct stream *s)
{
    if (s->head.error == ENOENT)
        return WIRE_E_NO_LOG;
    if (s->search && s->head.error == EINVAL)
        return WIRE_E_BAD_REQUEST;
    return s->search && s->head.error == ETIMEDOUT ? WIRE_E_NOT_READY : WIRE_E_LOG_FAILED;
}

static void fail_stream(struct stream *s, const char *message)
{
    struct request *r = s->request;
    enum wire_error e = error_of(s);

    r->stream = NULL;
    reply_error(r, e, message);
    free_stream(s);
}

/* evhttp has written all it had. */
static void on_written(struct evhttp_connection *evcon, void *arg)
{
    struct stream *s = arg;

    if (s->paused) {
        s->paused = false;
        event_add(s->readable, NULL);
    }
}

/* Why a search failed: the rest of the pipe. */
static void on_message(struct stream *s)
{
    ssize_t n = read(s->fd, s->message + s->message_len, LIMIT_LOG_MESSAGE - s->message_len);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && (s->message_len += (size_t)n) < LIMIT_LOG_MESSAGE)
        return;
    s->message[s->message_len] = 0;
    fail_stream(s, s->message);
}

static void begin_search(struct stream *s)
{
    s->started = true;
    event_del(s->left);
    if (is_enveloped(s))
        reply_stream_open(s->request);
    else
        reply_stream(s->request, s->request->method->reply);
}

static void begin(struct stream *s)
{
    char cursor[80];

    snprintf(cursor, sizeof(cursor), "%" PRIu64 ":%" PRIu64 ":%" PRIu64, s->head.device, s->head.inode,
             s->head.from);
    s->started = true;
    event_del(s->left);
    if (s->head.gap)
        reply_header(s->request, "Agentd-Log-Gap", "1");
    reply_header(s->request, "Agentd-Log-Cursor", cursor);
    reply_stream(s->request, s->request->method->reply);
    if (s->request->verb == ROUTE_HEAD)
        end_stream(s);
}

static void on_head(struct stream *s)
{
    ssize_t n = read(s->fd, (char *)&s->head + s->head_len, sizeof(s->head) - s->head_len);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        s->head.error = EIO;
        fail_stream(s, NULL);
        return;
    }
    s->head_len += (size_t)n;
    if (s->head_len < sizeof(s->head))
        return;
    s->head.message[sizeof(s->head.message) - 1] = 0;
    if (s->search && !s->head.error)
        begin_search(s);
    else if (s->search && (s->message = malloc(LIMIT_LOG_MESSAGE + 1)))
        return;
    else if (s->head.error)
        fail_stream(s, s->head.message);
    else
        begin(s);
}

static void on_piece(struct stream *s)
{
    struct request *r = s->request;
    ssize_t n = read(s->fd, piece, sizeof(piece));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_stream(s);
        return;
    }
    note_tail(s, piece, (size_t)n);
    /* copied, so that many short lines take no more memory than bytes */
    evbuffer_add(s->piece, piece, (size_t)n);
    evhttp_send_reply_chunk_with_cb(r->http, s->piece, on_written, s);
    if (listen_unsent(r->conn) >= LIMIT_HTTP_STREAM_OUTPUT) {
        s->paused = true;
        event_del(s->readable);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct stream *s = arg;

    if (s->started)
        on_piece(s);
    else if (s->message)
        on_message(s);
    else
        on_head(s);
}

/* The place is free at once; evhttp learns from the reply that nobody is there. */
static void on_left(evutil_socket_t fd, short what, void *arg)
{
    fail_stream(arg, NULL);
}

static void start(struct request *r, int fd, bool search)
{
    struct stream *s = r->conn ? calloc(1, sizeof(*s)) : NULL;

    if (!s) { /* nobody is there any more, then it takes no place either; or no memory */
        fd_close(fd);
        reply_error(r, r->conn ? WIRE_E_INTERNAL : WIRE_E_LOG_FAILED, NULL);
        return;
    }
    open_streams++;
    s->request = r;
    s->search = search;
    s->fd = fd;
    s->piece = evbuffer_new();
    s->readable = event_new(loop, fd, EV_READ | EV_PERSIST, on_readable, s);
    s->left = event_new(loop, socket_of(r), EV_CLOSED, on_left, s);
    r->stream = s;
    if (open_streams > link_hello()->max_log_streams || !s->piece || !s->readable || !s->left ||
        fd_nonblock(fd, 1) < 0 || event_add(s->left, NULL) < 0 || event_add(s->readable, NULL) < 0)
        fail_stream(s, "too many log streams are open");
}

void stream_start(struct request *r, int fd)
{
    start(r, fd, false);
}

void stream_start_search(struct request *r, int fd)
{
    start(r, fd, true);
}
