/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords that were found right, so that a client pays for its hash once. What is kept is a digest with a
 * salt that nobody else knows; it is of the credential's hash too, so that a changed one is asked again. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and friends: EVP would load providers, 300 KB for one \
                                       digest */
#include "rpc/auth_parts.h"

#include <string.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

static uint8_t salt[32];
static uint8_t keys[LIMIT_AUTH_VERDICTS][AUTH_KEY];
static unsigned used, next;
static bool salted; /* without a salt nothing is kept */

void auth_cache_init(void)
{
    salted = getrandom(salt, sizeof(salt), 0) == (ssize_t)sizeof(salt);
}

void auth_cache_key(uint8_t key[AUTH_KEY], const struct cred *c, const char *user, const char *password)
{
    const char *parts[] = {c->name, c->secret, user, password};
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    SHA256_Update(&ctx, salt, sizeof(salt));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        SHA256_Update(&ctx, parts[i], strlen(parts[i]) + 1);
    SHA256_Final(key, &ctx);
    explicit_bzero(&ctx, sizeof(ctx));
}

bool auth_cache_has(const uint8_t key[AUTH_KEY])
{
    int found = 0;

    for (unsigned i = 0; i < used; i++)
        found |= CRYPTO_memcmp(keys[i], key, AUTH_KEY) == 0;
    return found;
}

void auth_cache_put(const uint8_t key[AUTH_KEY])
{
    if (!salted || auth_cache_has(key))
        return;
    memcpy(keys[next], key, AUTH_KEY);
    next = (next + 1) % LIMIT_AUTH_VERDICTS;
    if (used < LIMIT_AUTH_VERDICTS)
        used++;
}

void auth_cache_clear(void)
{
    explicit_bzero(keys, sizeof(keys));
    used = next = 0;
}
