/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/peer: the other ends of wires: the listener that serves, earlier ones that only finish what they
 * hold, administrators on the private socket. Sends and queues frames, takes calls in; what arrives is
 * hostile, and a broken frame ends the wire. Knows frames and sockets; never knows what a call means, or
 * whose process is behind it. */
#ifndef AGENTD_PEER_H
#define AGENTD_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/limits.h"
#include "proc/pidref.h"

struct loop_watch;
struct wire_reply;

enum peer_kind { PEER_LISTENER, PEER_DRAINING, PEER_PRIVATE };

struct peer {
    TAILQ_ENTRY(peer) link;
    uint16_t no; /* the upper 16 bits of its calls' numbers in agentd, so that replies find their way back */
    enum peer_kind kind;
    int fd;            /* -1: nothing can be said any more */
    uint32_t wire;     /* the version that its other end was started with, 0: not known */
    uint64_t event;    /* the last one that it was told */
    struct pidref ref; /* of a listener's process; pid 0: none of ours */
    char actor[24];    /* of an administrator: "uid:0" */
    struct loop_watch *io, *out_io, *timer;
    struct buf out; /* frames of this round */
    STAILQ_HEAD(, peer_packet) queue;
    unsigned n_queued;
    uint8_t *rest; /* of a packet whose calls took longer than its turn */
    size_t rest_at, rest_n;
    bool is_taken; /* it is being read: its memory stays */
    struct loop_watch *again;
    uint64_t second;                                    /* monotonic: since then it has */
    uint32_t asked;                                     /* for so much */
    bool gone;                                          /* freed at the end of the round */
    void (*on_end)(struct peer *p, const char *broken); /* end of file (NULL), or what it did wrong */
};

TAILQ_HEAD(peer_list, peer);
extern struct peer_list peer_all; /* oldest first */

/* Takes fd over; no 0: the next free number. NULL if there is no memory: fd is closed. */
struct peer *peer_new(enum peer_kind kind, int fd, uint16_t no,
                      void (*on_end)(struct peer *p, const char *broken));
/* Closes its wire; its calls wait no more. Memory and number go at the end of the round. */
void peer_close(struct peer *p);
void peer_bury(struct peer *p);          /* the same, and nothing refers to it any more */
void peer_end_round(void);               /* sends what was put, frees those that are gone */
void peer_deafen(struct peer *p);        /* hears it no more */
bool peer_is_read(const struct peer *p); /* nothing that has come from it is still to be taken */

#define PEER_NUMBER_BITS 48
static inline uint16_t peer_number(uint64_t call)
{
    return (uint16_t)(call >> PEER_NUMBER_BITS);
}

/* The peer that made a call, or NULL if it has gone. */
struct peer *peer_of_call(uint64_t call);
/* Puts a reply before the peer that made the call; nothing if it has gone. */
void peer_reply(struct peer *p, const struct wire_reply *r);
uint64_t peer_local_call(uint64_t call); /* the number as the peer knows it */

void peer_make_room(struct peer *p);       /* for one more frame of any kind */
void peer_send(struct peer *p);            /* p->out as one packet, now or queued in order */
void peer_send_fd(struct peer *p, int fd); /* the same with a descriptor, which is taken over */

#endif
