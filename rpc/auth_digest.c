/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are signed as OCP's client signs those to obagent: over method, target, type, date and trace
 * id with HMAC-SHA256. The body is not covered, so it counts no more than a password: never in the clear
 * beyond loopback, unless that is allowed. Its secret is that of an access key. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include <event2/http.h>
#include <openssl/crypto.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "rpc/auth_parts.h"

#define PATHS "/api/v1/" /* the scheme is theirs */

static bool is_signed(const struct request *r, const struct cred *c, const uint8_t given[AUTH_MAC_256])
{
    const char *parts[] = {auth_method_name(r->http), evhttp_request_get_uri(r->http),
                           request_header(r, "Content-Type"), request_header(r, "Date"),
                           request_header(r, "X-OCP-Trace-ID")};
    struct buf text = BUF_INIT(LIMIT_HTTP_TARGET + LIMIT_HTTP_HEADER_BYTES + 256);
    uint8_t mac[AUTH_MAC_256];
    bool right;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_str(&text, i ? "\n" : "");
        buf_str(&text, parts[i] ? parts[i] : "");
    }
    /* as much work for a name that is nobody's: it is not to be told from the time that an answer takes */
    auth_sign_mac_256(mac, c ? c->secret : "nobody", text.p, text.len);
    right = !text.error && CRYPTO_memcmp(mac, given, AUTH_MAC_256) == 0;
    buf_free(&text);
    return right && c;
}

/* Local time without a zone: that client writes its own, and a fleet has one. Not by mktime(3): it reads the
 * zone's file anew, which the sandbox refuses, and from then on all is UTC. */
static int take_date(const char *text, int64_t now, int64_t *ret)
{
    struct tm tm = {0}, local;
    const char *end = text ? strptime(text, "%Y/%m/%d %H:%M:%S", &tm) : NULL;
    time_t t = (time_t)now;

    if (!end || *end || !localtime_r(&t, &local))
        return -EINVAL;
    *ret = (int64_t)timegm(&tm) - local.tm_gmtoff;
    return 0;
}

enum auth_verdict auth_digest_check(struct request *r, const char *value,
                                    const struct cred *(*find)(enum cred_kind kind, const char *name),
                                    const struct cred **ret, const char **why)
{
    char name[LIMIT_CREDENTIAL_NAME + 1];
    uint8_t given[AUTH_MAC_256];
    int64_t date, wall_us = clock_wall_us(), now = wall_us / 1000000;
    bool right;

    *ret = NULL;
    *why = "the header is malformed";
    if (auth_signed_header(value, name, given, sizeof(given)) < 0)
        return AUTH_DENIED;
    *ret = find(CRED_AKSK, name);
    right = is_signed(r, *ret, given); /* before anything is known about the name */
    *why = !str_starts(evhttp_request_get_uri(r->http), PATHS) ? "the scheme is for " PATHS " only"
           : !*ret                                             ? "no such access key"
           : !right ? "the signature is not over this request, or not by this key"
                    : NULL;
    if (*why)
        return AUTH_DENIED;
    *why = "the date is malformed, or further than a quarter of an hour from our clock and zone";
    if (take_date(request_header(r, "Date"), now, &date) < 0 || date < now - LIMIT_AUTH_DATE_SEC ||
        date > now + LIMIT_AUTH_DATE_SEC)
        return AUTH_DENIED;
    return auth_take_once(r, given, date, wall_us, why);
}
