/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/audit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>
#include <event2/http.h>

#include "base/limits.h"
#include "base/str.h"
#include "rpc/link.h"
#include "rpc/listen.h"

static struct event *timer; /* pending for a second from the first refusal on */
static unsigned told[2];    /* in this second, of callers who are nobody, and of those who are known */
static uint64_t more;
static struct buf packet = BUF_INIT(LIMIT_WIRE_PACKET);

static const char *verb_name(enum route_verb v)
{
    return v == ROUTE_GET       ? "GET"
           : v == ROUTE_HEAD    ? "HEAD"
           : v == ROUTE_POST    ? "POST"
           : v == ROUTE_DELETE  ? "DELETE"
           : v == ROUTE_OPTIONS ? "OPTIONS"
                                : "OTHER";
}

/* What a client has written: agentd ends a listener that says more, or in other characters, than it takes. */
static const char *sound(char *s)
{
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return s;
}

/* What is no path may name a user and a password. */
const char *audit_what(const struct request *r, char buf[AUDIT_WHAT])
{
    const char *uri = evhttp_request_get_uri(r->http);

    if (!uri || uri[0] != '/')
        uri = r->method ? r->method->path : "";
    snprintf(buf, AUDIT_WHAT, "%s %.*s", verb_name(r->verb), (int)strcspn(uri, "?#"), uri);
    return sound(buf);
}

static int tell(const struct wire_call *c)
{
    buf_reset(&packet);
    wire_put_call(&packet, c);
    return link_send(&packet);
}

static void tell_more(void)
{
    const struct wire_call c = {.verb = WIRE_VERB_REFUSED, .limit = more};

    if (more && tell(&c) == 0)
        more = 0;
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    told[0] = told[1] = 0;
    tell_more();
}

static bool may_tell(bool known)
{
    static const struct timeval second = {1, 0};

    if (!evtimer_pending(timer, NULL))
        evtimer_add(timer, &second);
    return told[known] < LIMIT_HTTP_REFUSALS;
}

void audit_refused(const struct request *r, enum wire_error error, const char *why)
{
    const char *given = request_header(r, "Agentd-Reason");
    char what[AUDIT_WHAT], reason[LIMIT_HTTP_REASON + 1];
    bool known = r->actor[0] != 0;
    struct wire_call c = {.verb = WIRE_VERB_REFUSED,
                          .actor = r->actor,
                          .source = r->conn ? listen_source(r->conn) : "",
                          .what = what,
                          .name = why,
                          .reason = sound(str_copy(reason, sizeof(reason), given ? given : "")),
                          .from = (uint64_t)wire_error_status(error)};

    audit_what(r, what);
    if (may_tell(known) && tell(&c) == 0)
        told[known]++;
    else
        more++;
}

int audit_init(struct event_base *base)
{
    return (timer = evtimer_new(base, on_second, NULL)) ? 0 : -ENOMEM;
}
