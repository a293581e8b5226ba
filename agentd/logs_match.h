/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_match: what is searched for in logs, as it comes over the wire, and whether an entry is that.
 * Its text is lines, each a letter and a value: t the name of a log, s and e the first and the last
 * microsecond, k and K a keyword and a pattern, x and X the same to exclude, l a level, n so many entries at
 * most, c a cursor "device:inode:check:place", z an archive. It is hostile. */
#ifndef AGENTD_LOGS_MATCH_H
#define AGENTD_LOGS_MATCH_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

struct logs_word {
    const char *text;
    size_t n;
    bool is_pattern;
    regex_t re; /* once logs_match_compile has made it */
};

struct logs_words {
    struct logs_word v[LIMIT_LOG_WORDS];
    unsigned n;
};

/* A file, and a place in it that counts all that was ever written to it; check: of its first line, or 0. */
struct logs_place {
    uint64_t dev, ino;
    uint32_t check;
    uint64_t at;
};

struct logs_query {
    const char *types[LIMIT_LOG_TYPES], *levels[LIMIT_LOG_WORDS];
    unsigned n_types, n_levels;
    int64_t start_us, end_us; /* the end is included */
    struct logs_words keys, excludes;
    uint64_t limit; /* entries; without meaning for an archive, which has all */
    bool has_cursor, zip;
    bool failed; /* a pattern could not be tried: it wants too much memory */
    struct logs_place cursor;
};

/* Takes text apart, which is kept and must stay. 0 or -EINVAL. */
int logs_match_read(char *text, struct logs_query *ret);

/* Makes the patterns, extended ones of regex(7), and \d and \D: time and memory of it are whoever's asks
 * for. 0, or -EINVAL with why: "keyword: Unmatched ( or \\(: a(b". */
int logs_match_compile(struct logs_query *q, char *why, size_t size);

/* An entry without a level fits each list of levels: nothing speaks against it. */
bool logs_match_level(const struct logs_query *q, const char *level);
/* All keywords are in the n bytes at p, and none of the excluded. */
bool logs_match_text(struct logs_query *q, const char *p, size_t n);

#endif
