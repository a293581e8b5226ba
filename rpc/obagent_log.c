/* SPDX-License-Identifier: Apache-2.0 */
/* obagent's searches in logs: what is asked for goes to agentd as text, and what its helper finds comes back
 * through a pipe. */
#include <event2/buffer.h>
#include <event2/http.h>

#include "base/fd.h"
#include "base/limits.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/obagent_read.h"
#include "rpc/reply.h"
#include "rpc/stream.h"

static void on_search(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct request *r = arg;

    if (end == CALL_STREAMED)
        stream_start_search(r, fd);
    else if (change_is_good(r, end, reply, fd))
        reply_error(r, WIRE_E_LOG_FAILED, NULL);
}

static void search(struct request *r, bool zip)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in);
    struct buf query = BUF_INIT(LIMIT_HTTP_BODY);
    char why[256];

    if (obagent_read_search(n ? (const char *)evbuffer_pullup(in, -1) : "", n, zip, &query, why,
                            sizeof(why)) < 0)
        reply_error(r, WIRE_E_BAD_REQUEST, why);
    else if (!stream_room())
        reply_error(r, WIRE_E_TOO_MANY, "too many log streams are open");
    else
        change_ask(r, &(struct wire_call){.verb = WIRE_VERB_LOG_QUERY, .query = query.p}, on_search);
    buf_free(&query);
}

void obagent_log_query(struct request *r)
{
    search(r, false);
}

void obagent_log_download(struct request *r)
{
    search(r, true);
}
