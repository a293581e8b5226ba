/* SPDX-License-Identifier: Apache-2.0 */
/* Who guesses is slowed, by address: after some wrong attempts each further one costs a wait that doubles.
 * What is right is never counted and does not forgive either, else a guesser with a credential of its own
 * would not be slowed at all; time forgives. While an address waits no new password is computed for it, but
 * tokens, signatures and passwords that are known to be right pass: they can't be guessed. */
#include <arpa/inet.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/auth_parts.h"

#define SECOND 1000000ull
#define DOUBLINGS 6 /* 1 s to 32 s, then LIMIT_AUTH_SLOW_SEC */

struct source {
    uint8_t key[16];
    unsigned failures;
    uint64_t failed_us, until_us; /* the last one; the wait's end */
};

static struct source sources[LIMIT_AUTH_SOURCES];
static unsigned used;

/* IPv4 whole, also in IPv6's clothes; of IPv6 the first 64 bits: the rest is its owner's to choose. */
static void make_key(uint8_t key[16], const char *source)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    memset(key, 0, 16);
    if (inet_pton(AF_INET, source, key + 12) == 1)
        memcpy(key, mapped, sizeof(mapped));
    else if (inet_pton(AF_INET6, source, key) == 1 && memcmp(key, mapped, sizeof(mapped)) != 0)
        memset(key + 8, 0, 8);
}

static struct source *find(const char *source)
{
    uint8_t key[16];

    make_key(key, source);
    for (unsigned i = 0; i < used; i++)
        if (memcmp(sources[i].key, key, sizeof(key)) == 0)
            return &sources[i];
    return NULL;
}

/* A new one takes the place of the one that has been quiet for the longest. */
static struct source *find_or_make(const char *source)
{
    struct source *s = find(source);

    if (s)
        return s;
    s = &sources[0];
    for (unsigned i = 1; i < used; i++)
        if (sources[i].failed_us < s->failed_us)
            s = &sources[i];
    if (used < LIMIT_AUTH_SOURCES)
        s = &sources[used++];
    memset(s, 0, sizeof(*s));
    make_key(s->key, source);
    return s;
}

static unsigned left_of(const struct source *s, uint64_t now_us)
{
    return s && s->until_us > now_us ? (unsigned)((s->until_us - now_us + SECOND - 1) / SECOND) : 0;
}

static void forgive(struct source *s, uint64_t now_us)
{
    uint64_t n = (now_us - s->failed_us) / (LIMIT_AUTH_FORGIVE_SEC * SECOND);

    s->failures = n >= s->failures ? 0 : s->failures - (unsigned)n;
}

unsigned auth_slow_wait(const char *source, uint64_t now_us)
{
    return left_of(find(source), now_us);
}

unsigned auth_slow_failed(const char *source, uint64_t now_us)
{
    struct source *s = find_or_make(source);
    unsigned over, wait = left_of(s, now_us);

    if (wait)
        return wait;
    forgive(s, now_us);
    s->failed_us = now_us;
    if (s->failures < LIMIT_AUTH_FAILURES + DOUBLINGS + 1)
        s->failures++;
    if (s->failures <= LIMIT_AUTH_FAILURES)
        return 0;
    over = s->failures - LIMIT_AUTH_FAILURES - 1;
    wait = over < DOUBLINGS ? 1u << over : LIMIT_AUTH_SLOW_SEC;
    s->until_us = now_us + wait * SECOND;
    return wait;
}

void auth_slow_note(const char *source, const char *kind, const char *name, const char *why)
{
    static uint64_t since_us;
    static unsigned said, unsaid;
    uint64_t now_us = clock_mono_us();

    if (now_us - since_us >= SECOND) {
        if (unsaid)
            log_info("auth", "%u more attempts were refused", unsaid);
        since_us = now_us;
        said = unsaid = 0;
    }
    if (said++ < LIMIT_AUTH_NOTES)
        log_info("auth", "refused from %s: %s %s: %s", source, kind, name ? name : "(unknown)", why);
    else
        unsaid++;
}
