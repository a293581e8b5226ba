/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define WAIT_US 120000000ull
#define AGAIN_MS 50 /* while agentd comes up again */

/* Beside the socket for HTTP, unless it was named. */
static void find_path(const struct options *o, char *path, size_t size)
{
    const char *slash = strrchr(o->socket, '/');

    if (o->private_socket)
        str_copy(path, size, o->private_socket);
    else
        snprintf(path, size, "%.*s/private", slash ? (int)(slash - o->socket) : 1, slash ? o->socket : ".");
}

static int connect_to(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    str_copy(sa.sun_path, sizeof(sa.sun_path), path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        return fd;
    fd_close(fd);
    return -errno;
}

static int send_call(int fd, const struct wire_call *v)
{
    struct buf b = BUF_INIT(LIMIT_WIRE_PACKET);
    ssize_t n;

    wire_put_call(&b, v);
    n = b.error ? -1 : send(fd, b.p, b.len, MSG_NOSIGNAL);
    buf_free(&b);
    return n < 0 ? -errno : 0;
}

/* 1: the end; 0: it goes on; -errno: the connection has ended. */
static int take(int fd, struct private_reply *ret)
{
    static uint8_t bytes[LIMIT_WIRE_PACKET];
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
    const uint8_t *at = bytes;
    size_t left = n > 0 ? (size_t)n : 0;
    struct wire_frame f;
    struct wire_reply r;

    if (n <= 0)
        return n < 0 ? -errno : -ECONNRESET;
    while (wire_next(&at, &left, &f) > 0) {
        if (f.type != WIRE_REPLY || wire_get_reply(&f, &r) < 0)
            continue;
        ret->error = r.error < WIRE_E_MAX ? (enum wire_error)r.error : WIRE_E_INTERNAL;
        str_copy(ret->operation, sizeof(ret->operation), r.operation);
        str_copy(ret->message, sizeof(ret->message), r.message);
        if (ret->error != WIRE_E_ACCEPTED)
            return 1;
    }
    return 0;
}

/* One connection: 1 the end, 0 the time is over, -errno. */
static int talk(int fd, const struct wire_call *v, struct private_reply *ret, uint64_t end)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t now;
    int r;

    if ((r = send_call(fd, v)) < 0)
        return r;
    while ((now = clock_mono_us()) < end)
        if (poll(&p, 1, (int)((end - now) / 1000) + 1) > 0 && (r = take(fd, ret)) != 0)
            return r;
    return 0;
}

static int ask_until(const char *path, const struct wire_call *v, struct private_reply *ret)
{
    uint64_t end = clock_mono_us() + WAIT_US;
    bool asked = false;

    for (;;) {
        _cleanup_close_ int fd = connect_to(path);
        int r = fd < 0 ? fd : talk(fd, v, ret, end);
        if (r > 0)
            return ret->error == WIRE_OK ? EXIT_DONE : EXIT_REFUSED;
        if (r == 0 || clock_mono_us() >= end) {
            options_complain(r < 0
                                 ? "agentd does not answer any more: what became of operation %s is not known"
                                 : "operation %s is still going on",
                             ret->operation[0] ? ret->operation : "(none yet)");
            return EXIT_GOES_ON;
        }
        if (!asked && fd < 0) {
            options_complain("%s: %s: is agentd running, and are you root?", path, strerror(-r));
            return EXIT_UNASKED;
        }
        asked =
            true; /* it may be on its way to another image: asked again, the key tells that it is the same */
        poll(NULL, 0, AGAIN_MS);
    }
}

int private_ask(const struct options *o, struct wire_call *v, struct private_reply *ret)
{
    char path[600], key[32];
    uint64_t random[2] = {clock_mono_us(), (uint64_t)getpid()};

    *ret = (struct private_reply){.error = WIRE_E_INTERNAL};
    if (getrandom(random, sizeof(random), GRND_NONBLOCK) < 0)
        random[0] ^= (uint64_t)clock_wall_us();
    snprintf(key, sizeof(key), "ctl-%08llx%08llx", (unsigned long long)random[0] & 0xffffffff,
             (unsigned long long)random[1] & 0xffffffff);
    v->call = 1;
    v->key = key;
    v->request = o->words[0];
    v->reason = o->reason ? o->reason : "";
    find_path(o, path, sizeof(path));
    return ask_until(path, v, ret);
}
