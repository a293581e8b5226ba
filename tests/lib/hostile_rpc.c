/* SPDX-License-Identifier: Apache-2.0 */
/* Stands where agentd-rpc is installed, as one that an attacker has taken over. The file `hostile` beside it
 * says TIMES KIND [WORKER] and the file `spawns` there, which it may append to, counts how often it was
 * started: the first TIMES starts do what KIND says (see kinds), a later one becomes the program
 * agentd-rpc.real beside it. A kind that is not ended by agentd goes on until it is killed, and appends "."
 * to `spawns` when it is through. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "wire/wire.h"

#define WIRE_FD 3

static char folder[400];
static int spawns;
static int64_t worker;
static struct buf out = BUF_INIT(LIMIT_WIRE_PACKET);

static void die(const char *what)
{
    perror(what);
    _exit(97);
}

static void say_through(void)
{
    if (write(spawns, ".", 1) < 0)
        die("spawns");
}

static void hang(void)
{
    say_through();
    for (;;)
        pause();
}

static void send_bytes(const void *p, size_t n)
{
    while (send(WIRE_FD, p, n, MSG_NOSIGNAL) < 0)
        if (errno != EINTR && errno != EAGAIN && errno != ENOBUFS)
            _exit(0); /* agentd hears no more */
}

static void send_out(void)
{
    send_bytes(out.p, out.len);
    buf_reset(&out);
}

static struct wire_call call_of(enum wire_verb verb)
{
    return (struct wire_call){
        .call = 1, .verb = (uint8_t)verb, .worker = worker, .actor = "uid:0", .source = "unix"};
}

static void put(uint16_t type, uint32_t len, const void *body, size_t n)
{
    buf_put(&out, &type, 2);
    buf_put(&out, &(uint16_t){0}, 2);
    buf_put(&out, &len, 4);
    buf_put(&out, body, n);
}

/* ---- what agentd has to drop at once ---- */

static void noise(void)
{
    uint8_t bytes[3000];
    uint32_t x = 2463534242u;

    for (size_t i = 0; i < sizeof(bytes); i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        bytes[i] = (uint8_t)x;
    }
    send_bytes(bytes, sizeof(bytes));
}

static void one_byte(void)
{
    send_bytes("x", 1);
}

static void half_frame(void)
{
    struct wire_call c = call_of(WIRE_VERB_STOP);

    wire_put_call(&out, &c);
    out.len /= 2;
    send_out();
}

static void frame_behind(void)
{
    struct wire_call c = call_of(WIRE_VERB_SAMPLE);

    wire_put_call(&out, &c);
    buf_put(&out, "half", 4);
    send_out();
}

static void wrong_length(void)
{
    put(WIRE_CALL, 0xffffffffu, "abc", 3);
    send_out();
}

static void empty_call(void)
{
    put(WIRE_CALL, 0, "", 0);
    send_out();
}

static void unknown_frame(void)
{
    put(99, 3, "abc", 3);
    send_out();
}

static void reply_to_nothing(void)
{
    wire_put_reply(&out, &(struct wire_reply){.call = 1, .items = "x"});
    send_out();
}

static void hello_of_its_own(void)
{
    wire_put_hello(&out, &(struct wire_hello){.version = "9", .wire = 99});
    send_out();
}

static void records(void)
{
    wire_put_record(&out, &(struct wire_record){.id = worker, .alias = "w", .alive = 1, .pid = 1});
    wire_put_synced(&out, &(struct wire_synced){1});
    send_out();
}

static void foreign_number(void)
{
    struct wire_call c = call_of(WIRE_VERB_STOP);

    c.call = 1ull << 60; /* where agentd has its own number for a peer */
    wire_put_call(&out, &c);
    send_out();
}

static void too_large(void)
{
    static uint8_t bytes[LIMIT_WIRE_PACKET + 1000];
    int size = 1 << 20;

    setsockopt(WIRE_FD, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    send_bytes(bytes, sizeof(bytes));
}

static void nul_inside(void)
{
    struct wire_call c = call_of(WIRE_VERB_STOP);

    c.reason = "abcd";
    wire_put_call(&out, &c);
    char *p = memmem(out.p, out.len, "abcd", 4);
    p[1] = 0;
    send_out();
}

static char *long_text(size_t n)
{
    static char text[LIMIT_WIRE_STRING];

    memset(text, 'x', n);
    text[n] = 0;
    return text;
}

static void long_actor(void)
{
    struct wire_call c = call_of(WIRE_VERB_RESTART);

    c.actor = long_text(LIMIT_WIRE_STRING - 1);
    wire_put_call(&out, &c);
    send_out();
}

static void long_reason(void)
{
    struct wire_call c = call_of(WIRE_VERB_RESTART);

    c.reason = long_text(LIMIT_HTTP_REASON + 1);
    wire_put_call(&out, &c);
    send_out();
}

static void long_key(void)
{
    struct wire_call c = call_of(WIRE_VERB_RESTART);

    c.key = long_text(LIMIT_KEY + 1);
    wire_put_call(&out, &c);
    send_out();
}

static void line_in_actor(void)
{
    struct wire_call c = call_of(WIRE_VERB_RESTART);

    c.worker = 0;
    c.verb = WIRE_VERB_AGENT_STOP;
    c.actor = "uid:0\tno\nstate\tx";
    wire_put_call(&out, &c);
    send_out();
}

static void unknown_verb(void)
{
    struct wire_call c = call_of(WIRE_VERB_MAX);

    wire_put_call(&out, &c);
    send_out();
}

static void verb_of_root(void)
{
    struct wire_call c = call_of(WIRE_VERB_UPGRADE);

    wire_put_call(&out, &c);
    send_out();
}

/* ---- what ends otherwise ---- */

static void empty_packet(void)
{
    send_bytes("", 0);
    hang();
}

static void closes(void)
{
    close(WIRE_FD);
    hang();
}

static void exits(void)
{
    _exit(3);
}

static void reads_nothing(void)
{
    hang();
}

/* ---- floods of what may be asked ---- */

/* Takes one packet; answers: how many calls it answers. Descriptors that come along are kept, so that whoever
 * writes to their other ends goes on.
 */
static ssize_t take_packet(int flags, unsigned *answers)
{
    static uint8_t bytes[LIMIT_WIRE_PACKET];
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec v = {bytes, sizeof(bytes)};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(WIRE_FD, &m, flags);
    const uint8_t *at = bytes;
    size_t left = n > 0 ? (size_t)n : 0;
    struct wire_frame f;

    while (wire_next(&at, &left, &f) > 0)
        *answers += f.type == WIRE_STREAM || f.type == WIRE_REPLY;
    return n;
}

static void take_replies(void)
{
    unsigned answers = 0;

    while (take_packet(MSG_DONTWAIT, &answers) > 0)
        ;
}

/* As many logs as agentd opens, one after the other, each of which stays open. */
static void hold_logs(void)
{
    struct wire_call c = call_of(WIRE_VERB_LOG_OPEN);
    unsigned answers = 0;

    fd_nonblock(WIRE_FD, 0);
    c.name = "w.log";
    c.follow = 1;
    for (unsigned i = 1; i <= 400; i++) {
        c.call++;
        wire_put_call(&out, &c);
        send_out();
        while (answers < i)
            if (take_packet(0, &answers) <= 0)
                _exit(0);
    }
    hang();
}

static bool is_of_worker(unsigned verb)
{
    return verb == WIRE_VERB_LOG_OPEN || verb == WIRE_VERB_LOG_LIST || verb == WIRE_VERB_START;
}

/* Packets full of calls as fast as agentd takes them. */
static void flood(const enum wire_verb *verbs, size_t n, bool read)
{
    struct wire_call c = call_of(WIRE_VERB_SAMPLE);
    struct pollfd pfd = {.fd = WIRE_FD, .events = POLLOUT | (read ? POLLIN : 0)};

    fd_nonblock(WIRE_FD, 1);
    for (unsigned i = 0;; i++) {
        if (i == 20)
            say_through();
        while (out.len < LIMIT_WIRE_PACKET - 512) {
            c.verb = (uint8_t)verbs[c.call++ % n];
            c.worker = is_of_worker(c.verb) ? worker : 0;
            c.name = "w.log";
            c.follow = 1;
            c.from = c.verb == WIRE_VERB_REFUSED ? 403 : 0;
            wire_put_call(&out, &c);
        }
        if (send(WIRE_FD, out.p, out.len, MSG_NOSIGNAL) > 0)
            buf_reset(&out);
        else if (errno != EAGAIN && errno != ENOBUFS)
            _exit(0);
        if (read)
            take_replies();
        poll(&pfd, 1, -1);
    }
}

static void flood_of_looks(void)
{
    flood((enum wire_verb[]){WIRE_VERB_SAMPLE, WIRE_VERB_DOCTOR, WIRE_VERB_OPERATIONS, WIRE_VERB_OPERATION,
                             WIRE_VERB_TASK},
          5, true);
}

static void flood_of_samples(void)
{
    flood((enum wire_verb[]){WIRE_VERB_SAMPLE}, 1, true);
}

static void flood_of_logs(void)
{
    flood((enum wire_verb[]){WIRE_VERB_LOG_OPEN, WIRE_VERB_LOG_LIST}, 2, true);
}

static void flood_of_reloads(void)
{
    flood((enum wire_verb[]){WIRE_VERB_RELOAD, WIRE_VERB_RELOAD_PLAN}, 2, true);
}

static void flood_of_what_is_not_there(void)
{
    flood((enum wire_verb[]){WIRE_VERB_STOP, WIRE_VERB_OPERATION, WIRE_VERB_CANCEL}, 3, true);
}

static void flood_of_refusals(void)
{
    flood((enum wire_verb[]){WIRE_VERB_REFUSED}, 1, true);
}

static void flood_of_changes(void)
{
    flood((enum wire_verb[]){WIRE_VERB_START}, 1, true);
}

static void flood_unread(void)
{
    flood((enum wire_verb[]){WIRE_VERB_DOCTOR, WIRE_VERB_OPERATIONS}, 2, false);
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {{"noise", noise},
             {"one-byte", one_byte},
             {"half-frame", half_frame},
             {"frame-behind", frame_behind},
             {"wrong-length", wrong_length},
             {"empty-call", empty_call},
             {"unknown-frame", unknown_frame},
             {"unknown-verb", unknown_verb},
             {"verb-of-root", verb_of_root},
             {"reply-to-nothing", reply_to_nothing},
             {"hello", hello_of_its_own},
             {"records", records},
             {"foreign-number", foreign_number},
             {"too-large", too_large},
             {"nul-inside", nul_inside},
             {"long-actor", long_actor},
             {"long-reason", long_reason},
             {"long-key", long_key},
             {"line-in-actor", line_in_actor},
             {"empty-packet", empty_packet},
             {"closes", closes},
             {"exits", exits},
             {"reads-nothing", reads_nothing},
             {"hold-logs", hold_logs},
             {"flood-of-looks", flood_of_looks},
             {"flood-of-samples", flood_of_samples},
             {"flood-of-logs", flood_of_logs},
             {"flood-of-reloads", flood_of_reloads},
             {"flood-of-what-is-not-there", flood_of_what_is_not_there},
             {"flood-of-refusals", flood_of_refusals},
             {"flood-of-changes", flood_of_changes},
             {"flood-unread", flood_unread}};

static int open_beside(const char *name, int flags)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if ((fd = open(path, flags | O_CLOEXEC)) < 0)
        die(path);
    return fd;
}

static void become_real(char **argv)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/agentd-rpc.real", folder);
    execv(path, argv);
    die(path);
}

int main(int argc, char **argv)
{
    char text[256] = "", kind[64];
    long long id = 0, times = 0;
    struct stat st;
    ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

    if (n < 0)
        die("/proc/self/exe");
    *strrchr(folder, '/') = 0;
    spawns = open_beside("spawns", O_WRONLY | O_APPEND);
    if (write(spawns, "x", 1) < 0 || fstat(spawns, &st) < 0)
        die("spawns");
    if (read(open_beside("hostile", O_RDONLY), text, sizeof(text) - 1) < 0 ||
        sscanf(text, "%lld %63s %lld", &times, kind, &id) < 2)
        die("hostile");
    worker = id;
    if (st.st_size > times)
        become_real(argv);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, kind)) {
            kinds[i].run();
            for (;;)
                pause(); /* until agentd ends it */
        }
    fprintf(stderr, "no such kind: %s\n", kind);
    return 98;
}
