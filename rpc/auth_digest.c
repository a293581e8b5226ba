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

#define NAME_SIZE (LIMIT_CREDENTIAL_NAME + 1)
#define PATHS "/api/v1/" /* the scheme is theirs */

/* "NAME:BASE64" */
static int take_header(const char *value, char name[NAME_SIZE], uint8_t mac[AUTH_MAC_256])
{
    const char *colon = strrchr(value, ':');
    size_t n = colon ? (size_t)(colon - value) : 0;
    uint8_t raw[AUTH_MAC_256 + 3];

    if (n == 0 || n >= NAME_SIZE || auth_base64(colon + 1, raw, sizeof(raw)) != AUTH_MAC_256)
        return -EINVAL;
    memcpy(name, value, n);
    name[n] = 0;
    memcpy(mac, raw, AUTH_MAC_256);
    return 0;
}

static void put_line(struct buf *b, const char *text, bool last)
{
    buf_str(b, text ? text : "");
    if (!last)
        buf_char(b, '\n');
}

static bool is_signed(const struct request *r, const struct cred *c, const uint8_t given[AUTH_MAC_256])
{
    struct buf text = BUF_INIT(LIMIT_HTTP_TARGET + LIMIT_HTTP_HEADER_BYTES + 256);
    uint8_t mac[AUTH_MAC_256];
    bool right;

    put_line(&text, auth_method_name(r->http), false);
    put_line(&text, evhttp_request_get_uri(r->http), false);
    put_line(&text, request_header(r, "Content-Type"), false);
    put_line(&text, request_header(r, "Date"), false);
    put_line(&text, request_header(r, "X-OCP-Trace-ID"), true);
    /* as much work for a name that is nobody's */
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
    char name[NAME_SIZE];
    uint8_t given[AUTH_MAC_256];
    int64_t date, wall_us = clock_wall_us(), now = wall_us / 1000000;

    *ret = NULL;
    *why = "the header is malformed";
    if (take_header(value, name, given) < 0)
        return AUTH_DENIED;
    *ret = find(CRED_AKSK, name);
    *why = !str_starts(evhttp_request_get_uri(r->http), PATHS) ? "the scheme is for " PATHS " only"
           : !*ret                                             ? "no such access key"
           : !is_signed(r, *ret, given) ? "the signature is not over this request, or not by this key"
                                        : NULL;
    if (*why)
        return AUTH_DENIED;
    *why = "the date is malformed, or further than a quarter of an hour from our clock and zone";
    if (take_date(request_header(r, "Date"), now, &date) < 0 || date < now - LIMIT_AUTH_DATE_SEC ||
        date > now + LIMIT_AUTH_DATE_SEC)
        return AUTH_DENIED;
    return auth_take_once(r, given, date, wall_us, why);
}
