/* SPDX-License-Identifier: Apache-2.0 */
/* base/chain: lines that are chained by their hashes: each begins with its number and the SHA-256 of the line
 * before it (without its newline), the first with that of a fixed word. And the head that is kept beside
 * them: the last line, and the first that is still there. Knows text; no files. */
#ifndef BASE_CHAIN_H
#define BASE_CHAIN_H

#include <stddef.h>
#include <stdint.h>

#define CHAIN_HEX 65       /* a hash in hexadecimal, and its end */
#define CHAIN_HEAD_LEN 160 /* bytes of a head, always */

/* Where a chain stands: its last line's number, 0 before the first, and hash. */
struct chain_at {
    uint64_t seq;
    char hash[CHAIN_HEX];
};

struct chain_head {
    struct chain_at last;
    uint64_t first; /* number of the oldest line that is kept */
};

void chain_begin(struct chain_at *at); /* before the first line */
void chain_hash(char hex[CHAIN_HEX], const char *line, size_t n);

/* What a line begins with: {"seq":N,"prev":"HASH" */
#define CHAIN_PREFIX_MAX 112
int chain_prefix(char text[CHAIN_PREFIX_MAX], const struct chain_at *before); /* its length */
/* The same, read: prev is the hash of the line before, *seq the line's own number. 0, or -EBADMSG: neither is
 * set. */
int chain_read(const char *line, size_t n, uint64_t *seq, char prev[CHAIN_HEX]);

void chain_head_put(char text[CHAIN_HEAD_LEN + 1], const struct chain_head *h);
int chain_head_get(const char *text, struct chain_head *ret); /* 0 or -EBADMSG */

#endif
