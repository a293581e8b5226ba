/* SPDX-License-Identifier: Apache-2.0 */
/* proc/ports: who listens where. One SOCK_DIAG dump of this network namespace gives every TCP socket that
 * listens and every UDP socket that is bound, with the id of the cgroup whose process made it: no walk
 * through /proc. Where the kernel has no cgroup id in the dump (before 5.7) or a worker has no leaf, sockets
 * are matched by the inodes in /proc/PID/fd, and where there is no SOCK_DIAG, /proc/net is read. Never knows
 * workers. sock_diag(7). */
#ifndef PROC_PORTS_H
#define PROC_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ports_socket {
    uint64_t cgroup; /* 0: the kernel did not tell */
    uint32_t inode;
    uint16_t port;
    bool tcp;
};

struct ports_table {
    struct ports_socket *sockets;
    size_t n, size;
    bool by_cgroup; /* the kernel told the cgroups of its sockets; else they are found by processes alone */
};

/* All sockets that listen or are bound, now. 0 or -errno. Free with ports_done. */
int ports_dump(struct ports_table *ret);
void ports_done(struct ports_table *t);

/* Fallback of ports_dump: /proc/net/{tcp,tcp6,udp,udp6}; no cgroup ids. */
int ports_dump_proc(struct ports_table *ret);

/* The ports of sockets made in one of these cgroups, "80,443" ascending without doubles; cut at whole numbers
 * where text has no room for more. Returns text. */
char *ports_of_cgroups(const struct ports_table *t, const uint64_t *ids, size_t n, char *text, size_t size);

/* The same for the sockets that these processes hold open. Needs CAPS_LOOK. */
char *ports_of_pids(const struct ports_table *t, const pid_t *pids, size_t n, char *text, size_t size);

/* Does a TCP socket that was made in one of these cgroups, or that one of these processes holds open (needs
 * CAPS_LOOK), listen on this port? */
bool ports_cgroups_listen(const struct ports_table *t, const uint64_t *ids, size_t n, unsigned port);
/* 1, 0, or -errno: one could not be looked at. */
int ports_pids_listen(const struct ports_table *t, const pid_t *pids, size_t n, unsigned port);

#endif
