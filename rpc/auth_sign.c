/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA1_Init and friends: EVP, and HMAC() with it, would load providers \
                                     */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/md5.h>
#include <openssl/sha.h>

#include "base/fd.h"
#include "base/str.h"
#include "rpc/auth_parts.h"

#define BLOCK 64 /* of SHA-1 and SHA-256, in RFC 2104's sense */

/* One parameter of a query: its first name_len bytes are the name. */
struct param {
    const char *p;
    size_t len, name_len;
};

static void put_hex(char *out, const uint8_t *bytes, size_t n, const char *digits)
{
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
}

/* ---- headers ---- */

static int by_name(const void *a, const void *b)
{
    return strcasecmp(((const struct auth_pair *)a)->name, ((const struct auth_pair *)b)->name);
}

/* "name:value" with a line feed between two. One that is there twice is refused: which of them is meant, the
 * signature would not tell. */
static int put_pairs(struct buf *out, struct auth_signed *s)
{
    qsort(s->pairs, s->count, sizeof(s->pairs[0]), by_name);
    for (unsigned i = 0; i < s->count; i++) {
        if (i && by_name(&s->pairs[i - 1], &s->pairs[i]) == 0)
            return -EINVAL;
        if (i)
            buf_char(out, '\n');
        for (const char *c = s->pairs[i].name; *c; c++)
            buf_char(out, *c >= 'A' && *c <= 'Z' ? (char)(*c | 32) : *c);
        buf_char(out, ':');
        buf_str(out, s->pairs[i].value);
    }
    return 0;
}

/* ---- path and query ---- */

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_param(const void *a, const void *b)
{
    const struct param *x = a, *y = b;
    int c = compare(x->p, x->name_len, y->p, y->name_len);

    return c ? c : compare(x->p, x->len, y->p, y->len);
}

static size_t split_query(const char *query, struct param *to)
{
    size_t n = 0;

    for (const char *p = query; *p; p += *p == '&') {
        size_t len = strcspn(p, "&"), name = strcspn(p, "=&");
        to[n++] = (struct param){p, len, name};
        p += len;
    }
    return n;
}

/* The parameters are as encoded as they came; only their order is made one. */
static int put_target(struct buf *out, const char *target)
{
    const char *query = strchr(target, '?');
    struct param *params;
    size_t n;

    buf_put(out, target, query ? (size_t)(query - target) : strlen(target));
    if (!query)
        return 0;
    if (!(params = calloc(strlen(query), sizeof(*params))))
        return -ENOMEM;
    n = split_query(query + 1, params);
    qsort(params, n, sizeof(*params), by_param);
    for (size_t i = 0; i < n; i++) {
        buf_char(out, i ? '&' : '?');
        buf_put(out, params[i].p, params[i].len);
    }
    free(params);
    return 0;
}

/* ---- the whole ---- */

static void put_line(struct buf *out, const char *s)
{
    buf_str(out, s);
    buf_char(out, '\n');
}

int auth_sign_text(struct buf *out, struct auth_signed *s)
{
    uint8_t md5[MD5_DIGEST_LENGTH];
    char hex[2 * MD5_DIGEST_LENGTH + 1] = "";
    int r;

    if (s->body_len) {
        MD5(s->body, s->body_len, md5);
        put_hex(hex, md5, sizeof(md5), "0123456789ABCDEF");
    }
    put_line(out, s->method);
    put_line(out, hex);
    put_line(out, s->type);
    put_line(out, s->date);
    put_line(out, s->host);
    if ((r = put_pairs(out, s)) < 0)
        return r;
    buf_char(out, '\n');
    if ((r = put_target(out, s->target)) < 0)
        return r;
    return out->error ? -ENOMEM : 0;
}

/* RFC 2104 for one of the two hashes; both have blocks of the same size. half: over the key, changed by pad,
 * and the text. */
#define HMAC(name, size, HASH, CTX, Init, Update, Final)                                                \
    static void name##_half(uint8_t out[size], const uint8_t key[BLOCK], uint8_t pad, const void *text, \
                            size_t len)                                                                 \
    {                                                                                                   \
        uint8_t block[BLOCK];                                                                           \
        CTX ctx;                                                                                        \
                                                                                                        \
        for (size_t i = 0; i < BLOCK; i++)                                                              \
            block[i] = key[i] ^ pad;                                                                    \
        Init(&ctx);                                                                                     \
        Update(&ctx, block, BLOCK);                                                                     \
        Update(&ctx, text, len);                                                                        \
        Final(out, &ctx);                                                                               \
        explicit_bzero(block, sizeof(block));                                                           \
        explicit_bzero(&ctx, sizeof(ctx));                                                              \
    }                                                                                                   \
                                                                                                        \
    void name(uint8_t mac[size], const char *secret, const void *text, size_t len)                      \
    {                                                                                                   \
        uint8_t key[BLOCK] = {0}, inner[size];                                                          \
        size_t n = strlen(secret);                                                                      \
                                                                                                        \
        if (n > BLOCK)                                                                                  \
            HASH((const uint8_t *)secret, n, key);                                                      \
        else                                                                                            \
            memcpy(key, secret, n);                                                                     \
        name##_half(inner, key, 0x36, text, len);                                                       \
        name##_half(mac, key, 0x5c, inner, sizeof(inner));                                              \
        explicit_bzero(key, sizeof(key));                                                               \
        explicit_bzero(inner, sizeof(inner));                                                           \
    }

HMAC(auth_sign_mac, AUTH_MAC, SHA1, SHA_CTX, SHA1_Init, SHA1_Update, SHA1_Final)
HMAC(auth_sign_mac_256, AUTH_MAC_256, SHA256, SHA256_CTX, SHA256_Init, SHA256_Update, SHA256_Final)

void auth_sign_digest(char hex[65], const char *text)
{
    uint8_t raw[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    SHA256_Update(&ctx, text, strlen(text));
    SHA256_Final(raw, &ctx);
    put_hex(hex, raw, sizeof(raw), "0123456789abcdef");
    explicit_bzero(&ctx, sizeof(ctx));
}

int auth_sign_date(const char *text, int64_t *ret)
{
    struct tm tm = {0};
    const char *zone = strptime(text, "%a, %d %b %Y %H:%M:%S ", &tm), *end;
    long offset;

    if (!zone)
        return -EINVAL;
    if (!str_eq(zone, "GMT") && (!(end = strptime(zone, "%z", &tm)) || *end))
        return -EINVAL;
    offset = str_eq(zone, "GMT") ? 0 : tm.tm_gmtoff;
    *ret = (int64_t)timegm(&tm) - offset;
    return 0;
}
