/* SPDX-License-Identifier: Apache-2.0 */
/* peer: packets that take longer than a turn, on a clock that stands still; and what is left of one whose
 * sender is ended by a call in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "agentd/calls.h"
#include "agentd/loop.h"
#include "agentd/peer.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "tests/fake/clock_fake.h"
#include "wire/wire.h"

#define CALLS 12
#define SLOW_US 3000 /* of one call: a turn has two */

static struct peer *peer;
static int theirs = -1;
static unsigned taken, rounds, last_round, most_in_a_round, in_this_round, end_at;
static void (*end)(struct peer *p);

/* Stands in the place of agentd/calls.c. */
bool calls_may(unsigned verb)
{
    return true;
}

/* What is free now is somebody else's. */
static void use_memory(size_t n)
{
    static char *volatile others[64];

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if ((others[i] = malloc(n)))
            memset(others[i], 'x', n);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        free(others[i]);
}

void calls_take(const struct wire_call *c, bool administrator)
{
    char want[32];

    taken++;
    in_this_round = rounds == last_round ? in_this_round + 1 : 1;
    last_round = rounds;
    most_in_a_round = in_this_round > most_in_a_round ? in_this_round : most_in_a_round;
    clock_fake_pass(SLOW_US);
    if (taken == end_at) {
        size_t n = peer->rest_n;
        end(peer);
        use_memory(n);
    }
    snprintf(want, sizeof(want), "because of %u", taken);
    assert_string_equal(c->reason, want);
    assert_int_equal(peer_local_call(c->call), taken);
}

static void on_end(struct peer *p, const char *broken)
{
    fail_msg("%s", broken ? broken : "end of file");
}

static int make_peer(void **state)
{
    int fds[2];

    if (loop_init() < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    theirs = fds[1];
    taken = rounds = last_round = most_in_a_round = in_this_round = end_at = 0;
    peer = peer_new(PEER_LISTENER, fds[0], 0, on_end);
    return peer ? 0 : -1;
}

static int free_peer(void **state)
{
    if (!peer->gone)
        peer_bury(peer);
    peer_end_round();
    theirs = fd_close(theirs);
    loop_done();
    return 0;
}

static void send_calls(void)
{
    struct buf b = BUF_INIT(LIMIT_WIRE_PACKET);
    char reason[32];

    for (unsigned i = 1; i <= CALLS; i++) {
        snprintf(reason, sizeof(reason), "because of %u", i);
        wire_put_call(&b, &(struct wire_call){.call = i, .verb = WIRE_VERB_STOP, .reason = reason});
    }
    assert_int_equal(send(theirs, b.p, b.len, 0), b.len);
    buf_free(&b);
}

/* Until there is nothing more to be heard; the last rounds show that nothing is. */
static void on_round(void)
{
    static unsigned quiet, before;

    quiet = taken == before && (taken == CALLS || end_at) ? quiet + 1 : 0;
    before = taken;
    rounds++;
    if (quiet == 3)
        loop_stop();
}

static void on_tick(int fd, short what, void *arg)
{
    loop_rearm(*(struct loop_watch **)arg, 0);
}

static void run(void)
{
    struct loop_watch *tick = NULL;

    tick = loop_timer(0, on_tick, &tick);
    send_calls();
    assert_int_equal(loop_run(on_round), 0);
    loop_free(&tick);
}

static void test_turns(void **state)
{
    run();
    assert_int_equal(taken, CALLS);
    assert_true(peer_is_read(peer));
    assert_in_range(most_in_a_round, 1, 4); /* the socket's turn, and the rest's */
}

/* By each call of the packet: some are taken from the packet itself, most from what was kept of it. */
static void ended_by_a_call(void (*by)(struct peer *p))
{
    for (unsigned at = 1; at <= CALLS; at++) {
        assert_int_equal(make_peer(NULL), 0);
        end = by;
        end_at = at;
        run();
        assert_int_equal(taken, at);
        assert_null(peer->rest);
        assert_null(peer->again);
        free_peer(NULL);
    }
}

static void test_deafened(void **state)
{
    ended_by_a_call(peer_deafen);
}

static void test_buried(void **state)
{
    ended_by_a_call(peer_bury);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_turns, make_peer, free_peer),
        cmocka_unit_test(test_deafened),
        cmocka_unit_test(test_buried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
