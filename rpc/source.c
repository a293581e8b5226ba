/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/source.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "base/str.h"

#define SECOND 1000000ull

struct source {
    uint8_t key[SOURCE_KEY];
    unsigned connections;
    uint64_t due_us; /* when the next request would come if they came evenly */
};

static struct source sources[LIMIT_HTTP_SOURCES];
static unsigned used;

/* ---- both ends ---- */

static void name_address(const struct sockaddr_storage *ss, char *buf, size_t size, bool with_port)
{
    char text[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const void *)ss;
    const struct sockaddr_in6 *v6 = (const void *)ss;
    bool six = ss->ss_family == AF_INET6;
    unsigned port = ntohs(six ? v6->sin6_port : v4->sin_port);

    if (six)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    else if (ss->ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    if (with_port)
        snprintf(buf, size, six ? "[%s]:%u" : "%s:%u", text, port);
    else
        str_copy(buf, size, text);
}

void source_learn(int fd, bool is_unix, struct source_ends *ret)
{
    struct sockaddr_storage ss;
    struct ucred cred;
    socklen_t len = sizeof(cred);

    *ret = (struct source_ends){.uid = (uid_t)-1};
    if (is_unix) {
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
            ret->uid = cred.uid;
        str_copy(ret->source, sizeof(ret->source), "unix");
        return;
    }
    len = sizeof(ss);
    if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        name_address(&ss, ret->source, sizeof(ret->source), false);
    len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
        name_address(&ss, ret->server, sizeof(ret->server), true);
}

/* ---- each source ---- */

void source_key(uint8_t key[SOURCE_KEY], const char *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    memset(key, 0, SOURCE_KEY);
    if (inet_pton(AF_INET, address, key + 12) == 1)
        memcpy(key, mapped, sizeof(mapped));
    else if (inet_pton(AF_INET6, address, key) == 1 && memcmp(key, mapped, sizeof(mapped)) != 0)
        memset(key + 8, 0, 8);
}

/* The one of that key; else a place for it: a new one, or that of who has left and was quiet for the longest.
 */
static struct source *place(const uint8_t key[SOURCE_KEY])
{
    struct source *quiet = NULL;

    for (unsigned i = 0; i < used; i++) {
        struct source *s = &sources[i];
        if (memcmp(s->key, key, SOURCE_KEY) == 0)
            return s;
        if (!s->connections && (!quiet || s->due_us < quiet->due_us))
            quiet = s;
    }
    if (used < LIMIT_HTTP_SOURCES)
        quiet = &sources[used++];
    if (quiet) {
        memset(quiet, 0, sizeof(*quiet));
        memcpy(quiet->key, key, SOURCE_KEY);
    }
    return quiet;
}

struct source *source_enter(const char *address, unsigned max)
{
    uint8_t key[SOURCE_KEY];
    struct source *s;

    source_key(key, address);
    s = place(key);
    if (!s || (max && s->connections >= max))
        return NULL;
    s->connections++;
    return s;
}

void source_leave(struct source *s)
{
    if (s)
        s->connections--;
}

unsigned source_count(void)
{
    return used;
}

unsigned source_request(struct source *s, unsigned rate, uint64_t now_us)
{
    if (!s || !rate)
        return 0;
    if (s->due_us < now_us)
        s->due_us = now_us;
    if (s->due_us > now_us + SECOND - SECOND / rate)
        return (unsigned)((s->due_us - now_us + SECOND - 1) / SECOND);
    s->due_us += SECOND / rate;
    return 0;
}
