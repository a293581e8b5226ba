/* SPDX-License-Identifier: Apache-2.0 */
/* Who guesses is slowed, by address: after some wrong attempts each further one costs a wait that doubles.
 * What is right is never counted and does not forgive either, else a guesser with a credential of its own
 * would not be slowed at all; time forgives. While an address waits no new password is computed for it, but
 * tokens, signatures and passwords that are known to be right pass: they can't be guessed. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "rpc/auth_parts.h"
#include "rpc/source.h"

#define SECOND 1000000ull
#define DOUBLINGS 6 /* 1 s to 32 s, then LIMIT_AUTH_SLOW_SEC */

struct guesser {
    uint8_t key[SOURCE_KEY];
    unsigned failures;
    uint64_t failed_us, until_us; /* the last one; the wait's end */
};

static struct guesser guessers[LIMIT_AUTH_SOURCES];
static unsigned used;

static struct guesser *find(const char *source)
{
    uint8_t key[SOURCE_KEY];

    source_key(key, source);
    for (unsigned i = 0; i < used; i++)
        if (memcmp(guessers[i].key, key, sizeof(key)) == 0)
            return &guessers[i];
    return NULL;
}

/* A new one takes the place of the one that has been quiet for the longest. */
static struct guesser *find_or_make(const char *source)
{
    struct guesser *s = find(source);

    if (s)
        return s;
    s = &guessers[0];
    for (unsigned i = 1; i < used; i++)
        if (guessers[i].failed_us < s->failed_us)
            s = &guessers[i];
    if (used < LIMIT_AUTH_SOURCES)
        s = &guessers[used++];
    memset(s, 0, sizeof(*s));
    source_key(s->key, source);
    return s;
}

static unsigned left_of(const struct guesser *s, uint64_t now_us)
{
    return s && s->until_us > now_us ? (unsigned)((s->until_us - now_us + SECOND - 1) / SECOND) : 0;
}

static void forgive(struct guesser *s, uint64_t now_us)
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
    struct guesser *s = find_or_make(source);
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
