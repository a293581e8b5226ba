/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/auth_parts: inside of rpc/auth: what its files have of each other. All but auth_aksk are pure. */
#ifndef RPC_AUTH_PARTS_H
#define RPC_AUTH_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cred.h"
#include "base/limits.h"
#include "rpc/auth.h"

/* ---- auth_cache: passwords that were found right ---- */

#define AUTH_KEY 32
void auth_cache_init(void);
void auth_cache_key(uint8_t key[AUTH_KEY], const struct cred *c, const char *user, const char *password);
bool auth_cache_has(const uint8_t key[AUTH_KEY]);
void auth_cache_put(const uint8_t key[AUTH_KEY]);
void auth_cache_clear(void);

/* ---- auth_basic: headers ---- */

/* What follows the scheme in an Authorization header; NULL if it has another one. */
const char *auth_scheme(const char *value, const char *scheme);
/* BASE64 into user and password (size LIMIT_HTTP_PASSWORD each); -EINVAL. */
int auth_basic_header(const char *value, char *user, char *password);
/* Strict: whole groups, right padding, no other characters. Bytes written or -EINVAL. */
int auth_base64(const char *s, unsigned char *out, size_t size);

/* "NAME:BASE64" into name and the size bytes (AUTH_MAC_256 at the most) that a signature has; -EINVAL. */
int auth_signed_header(const char *value, char name[LIMIT_CREDENTIAL_NAME + 1], uint8_t *mac, size_t size);

/* ---- auth_sign: what a signature is made over, and how ---- */

#define AUTH_SCHEME "OCP-ACCESS-KEY-HMACSHA1"
#define AUTH_MAC 20
#define AUTH_SCHEME_256 "OCP-HMACSHA256"
#define AUTH_MAC_256 32
struct auth_pair {
    const char *name, *value;
};
struct auth_signed {
    const char *method, *type, *date, *host, *target; /* as they came; "" for a header that is not there */
    const void *body;
    size_t body_len;
    struct auth_pair pairs[LIMIT_HTTP_HEADERS]; /* the headers x-ocp-* in any order; sorted by the call */
    unsigned count;
};
/* The string to sign. 0, -EINVAL (a header x-ocp-* is there twice) or -ENOMEM. */
int auth_sign_text(struct buf *out, struct auth_signed *s);
void auth_sign_mac(uint8_t mac[AUTH_MAC], const char *secret, const void *text, size_t len);
void auth_sign_mac_256(uint8_t mac[AUTH_MAC_256], const char *secret, const void *text, size_t len);
/* SHA-256 as 64 lower-case hexadecimal digits. */
void auth_sign_digest(char hex[65], const char *text);
/* RFC 1123, as "Tue, 17 Jan 2023 03:36:01 GMT" or with a numeric zone, in seconds. 0 or -EINVAL. */
int auth_sign_date(const char *text, int64_t *ret);

/* ---- auth_seen: signatures that were taken ---- */

/* Remembers one until the time `until` has passed. 0; -EEXIST: it is there; else the table is full for so
 * many seconds. */
int64_t auth_seen_put(const uint8_t mac[AUTH_MAC], int64_t until, int64_t now);

/* ---- auth_slow: wrong attempts of each address ---- */

#define AUTH_SOURCE 46 /* bytes of an address in text */
/* Seconds for which nothing more is judged that costs something; 0: it may be. */
unsigned auth_slow_wait(const char *source, uint64_t now_us);
/* Another wrong one: 0, or in how many seconds it may be tried again. */
unsigned auth_slow_failed(const char *source, uint64_t now_us);
/* A line in the log, unless there were some just now. name NULL: it is nobody's that we know. */
void auth_slow_note(const char *source, const char *kind, const char *name, const char *why);

/* ---- auth_aksk, auth_digest ---- */

void auth_aksk_init(void);
/* Judges a signed request; value is what follows the scheme. find tells the credential of an access key, or
 * NULL. *ret is it once the signature is right; *why says what is not, to the log only. */
enum auth_verdict auth_aksk_check(struct request *r, const char *value,
                                  const struct cred *(*find)(enum cred_kind kind, const char *name),
                                  const struct cred **ret, const char **why);
/* The same for those that are signed as to obagent. */
enum auth_verdict auth_digest_check(struct request *r, const char *value,
                                    const struct cred *(*find)(enum cred_kind kind, const char *name),
                                    const struct cred **ret, const char **why);
/* A right signature: what may change something is taken once. mac: its first bytes, of whatever length. */
enum auth_verdict auth_take_once(struct request *r, const uint8_t mac[AUTH_MAC], int64_t date,
                                 int64_t wall_us, const char **why);
const char *auth_method_name(struct evhttp_request *http);

#endif
