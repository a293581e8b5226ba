/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are signed with a secret key, as OCP's clients sign theirs. */
#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "rpc/auth_parts.h"
#include "rpc/link.h"

#define TEXT_MAX (LIMIT_HTTP_TARGET + LIMIT_HTTP_HEADER_BYTES + 256)

static uint64_t begun_us;

void auth_aksk_init(void)
{
    begun_us = clock_mono_us();
}

const char *auth_method_name(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    case EVHTTP_REQ_OPTIONS:
        return "OPTIONS";
    case EVHTTP_REQ_PATCH:
        return "PATCH";
    default:
        return "";
    }
}

static const char *header_or_none(const struct request *r, const char *name)
{
    const char *v = request_header(r, name);

    return v ? v : "";
}

static void gather(const struct request *r, struct auth_signed *s)
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    struct evkeyval *h;

    s->method = auth_method_name(r->http);
    s->type = header_or_none(r, "Content-Type");
    s->date = header_or_none(r, "Date");
    s->host = header_or_none(r, "Host");
    s->target = evhttp_request_get_uri(r->http);
    s->body_len = evbuffer_get_length(in);
    s->body = s->body_len ? evbuffer_pullup(in, -1) : NULL;
    s->count = 0;
    TAILQ_FOREACH (h, evhttp_request_get_input_headers(r->http), next)
        if (strncasecmp(h->key, "x-ocp-", 6) == 0 && s->count < ARRAY_LEN(s->pairs))
            s->pairs[s->count++] = (struct auth_pair){h->key, h->value};
}

/* What this listener's predecessor may have taken already can't be known, so it is not taken a second time; a
 * Date has whole seconds. The begin is told by the wall clock as it goes now: a clock that is set after it
 * moves it along. The very first listener of an installation had none before it. */
static bool is_early(int64_t date, int64_t wall_us)
{
    int64_t begun = wall_us - (int64_t)(clock_mono_us() - begun_us);

    return !link_hello()->first && date <= begun / 1000000;
}

/* What changes nothing may be asked again. */
static bool reads_only(const struct request *r)
{
    return r->verb == ROUTE_GET || r->verb == ROUTE_HEAD || r->verb == ROUTE_OPTIONS ||
           (r->method && r->method->role < METHOD_MANAGER);
}

/* The signature is right. What may change something is taken once. */
enum auth_verdict auth_take_once(struct request *r, const uint8_t mac[AUTH_MAC], int64_t date,
                                 int64_t wall_us, const char **why)
{
    int64_t full;

    if (reads_only(r))
        return AUTH_GRANTED;
    if (is_early(date, wall_us))
        return AUTH_EARLY;
    full = auth_seen_put(mac, date + LIMIT_AUTH_DATE_SEC, wall_us / 1000000);
    if (full == -EEXIST) {
        *why = "this very request was taken before";
        return AUTH_DENIED;
    }
    if (full > 0) {
        *why = "too many requests are remembered";
        r->retry_sec = (unsigned)full;
        return AUTH_BUSY;
    }
    return AUTH_GRANTED;
}

/* 1 the signature is c's, 0 it is not, -errno. */
static int is_signed(const struct request *r, const struct cred *c, const uint8_t given[AUTH_MAC],
                     uint8_t mac[AUTH_MAC])
{
    static struct auth_signed s;
    struct buf text = BUF_INIT(TEXT_MAX);
    int n;

    gather(r, &s);
    n = auth_sign_text(&text, &s);
    /* as much work for an access key that is nobody's */
    if (n == 0)
        auth_sign_mac(mac, c ? c->secret : "nobody", text.p, text.len);
    buf_free(&text);
    return n < 0 ? n : CRYPTO_memcmp(mac, given, AUTH_MAC) == 0;
}

enum auth_verdict auth_aksk_check(struct request *r, const char *value,
                                  const struct cred *(*find)(enum cred_kind kind, const char *name),
                                  const struct cred **ret, const char **why)
{
    char name[LIMIT_CREDENTIAL_NAME + 1];
    uint8_t given[AUTH_MAC], mac[AUTH_MAC] = {0};
    int64_t date, wall_us = clock_wall_us(), now = wall_us / 1000000;
    int right;

    *ret = NULL;
    *why = "the header is malformed";
    if (auth_signed_header(value, name, given, sizeof(given)) < 0)
        return AUTH_DENIED;
    *ret = find(CRED_AKSK, name);
    if ((right = is_signed(r, *ret, given, mac)) == -ENOMEM)
        return AUTH_FAILED;
    *why = !*ret        ? "no such access key"
           : right < 0  ? "a header x-ocp-* is there twice"
           : right == 0 ? "the signature is not over this request, or not by this key"
                        : NULL;
    if (*why)
        return AUTH_DENIED;
    *why = "the date is malformed, or further than a quarter of an hour from our clock";
    if (auth_sign_date(header_or_none(r, "Date"), &date) < 0 || date < now - LIMIT_AUTH_DATE_SEC ||
        date > now + LIMIT_AUTH_DATE_SEC)
        return AUTH_DENIED;
    return auth_take_once(r, mac, date, wall_us, why);
}
