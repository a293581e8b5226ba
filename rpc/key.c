/* SPDX-License-Identifier: Apache-2.0 */
/* What SHA256() and its kin do, EVP would do with 300 KB of providers. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "rpc/key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <openssl/sha.h>

#include "base/limits.h"

/* With and without /api/v2 a path is the same: its row and what stands for the row's words. */
static void digest_of(const struct request *r, char digest[KEY_DIGEST])
{
    struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
    size_t n = evbuffer_get_length(in);
    const char *parts[] = {r->method->verb, r->method->path, r->route.param[0], r->route.param[1],
                           r->route.query};
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        SHA256_Update(&ctx, parts[i] ? parts[i] : "", (parts[i] ? strlen(parts[i]) : 0) + 1);
    if (n)
        SHA256_Update(&ctx, evbuffer_pullup(in, -1), n);
    SHA256_Final(sum, &ctx);
    for (size_t i = 0; i < sizeof(sum); i++)
        snprintf(digest + 2 * i, 3, "%02x", sum[i]);
}

int key_of(const struct request *r, const char **ret_key, char digest[KEY_DIGEST])
{
    const char *key = request_header(r, "Idempotency-Key");

    *ret_key = NULL;
    if (!key || !key[0])
        return 0;
    if (strlen(key) > LIMIT_KEY)
        return -EINVAL;
    for (const char *p = key; *p; p++)
        if (*p < 0x20 || *p > 0x7e)
            return -EINVAL;
    digest_of(r, digest);
    *ret_key = key;
    return 0;
}
