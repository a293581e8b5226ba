/* SPDX-License-Identifier: Apache-2.0 */
/* What SHA256() and its kin do, EVP would do with 300 KB of providers. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/sha.h>

#include "base/str.h"

#define FIRST_WORD "agentd audit"
#define HEAD "agentd-audit 1"

void chain_hash(char hex[CHAIN_HEX], const char *line, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    SHA256_Update(&ctx, line, n);
    SHA256_Final(sum, &ctx);
    for (size_t i = 0; i < sizeof(sum); i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[2 * sizeof(sum)] = 0;
}

void chain_begin(struct chain_at *at)
{
    at->seq = 0;
    chain_hash(at->hash, FIRST_WORD, strlen(FIRST_WORD));
}

int chain_prefix(char text[CHAIN_PREFIX_MAX], const struct chain_at *before)
{
    return snprintf(text, CHAIN_PREFIX_MAX, "{\"seq\":%" PRIu64 ",\"prev\":\"%s\"", before->seq + 1,
                    before->hash);
}

static int is_hash(const char *s)
{
    return strspn(s, "0123456789abcdef") == CHAIN_HEX - 1;
}

/* Only what is written exactly as chain_prefix does. */
int chain_read(const char *line, size_t n, uint64_t *seq, char prev[CHAIN_HEX])
{
    char text[CHAIN_PREFIX_MAX], again[CHAIN_PREFIX_MAX];
    struct chain_at before;
    uint64_t number;
    int len;

    str_copy(text, n < sizeof(text) ? n + 1 : sizeof(text), line);
    if (sscanf(text, "{\"seq\":%" SCNu64 ",\"prev\":\"%64[0-9a-f]\"", &number, before.hash) != 2 ||
        !is_hash(before.hash) || number == 0)
        return -EBADMSG;
    before.seq = number - 1;
    len = chain_prefix(again, &before);
    if ((size_t)len > n || memcmp(again, line, (size_t)len) != 0)
        return -EBADMSG;
    memcpy(prev, before.hash, CHAIN_HEX);
    *seq = number;
    return 0;
}

void chain_head_put(char text[CHAIN_HEAD_LEN + 1], const struct chain_head *h)
{
    char line[CHAIN_HEAD_LEN];

    snprintf(line, sizeof(line), HEAD " last=%" PRIu64 " hash=%s first=%" PRIu64, h->last.seq, h->last.hash,
             h->first);
    snprintf(text, CHAIN_HEAD_LEN + 1, "%-*s\n", CHAIN_HEAD_LEN - 1, line);
}

int chain_head_get(const char *text, struct chain_head *ret)
{
    struct chain_head h;

    if (sscanf(text, HEAD " last=%" SCNu64 " hash=%64[0-9a-f] first=%" SCNu64, &h.last.seq, h.last.hash,
               &h.first) != 3 ||
        !is_hash(h.last.hash))
        return -EBADMSG;
    *ret = h;
    return 0;
}
