/* SPDX-License-Identifier: Apache-2.0 */
/* bench: measures agentd beside the bare C loop that does no more than the kernel needs, in turn, in one run.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/page.h"

/* A temporary tree with a running agentd. */
struct host {
    char dir[64], worker[512];
    pid_t agentd, rpc;
    int http; /* a kept-alive connection to the unix socket */
    struct page *page;
    char page_path[80];
};

uint64_t bench_now(void); /* ns */
void bench_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void bench_sleep_ms(unsigned ms); /* the same gap before each round: an idle processor wakes slower */

struct series {
    double *v; /* microseconds */
    unsigned n;
};
void bench_add(struct series *s, uint64_t ns);
double bench_percentile(struct series *s, double p); /* sorts */
void bench_print(const char *what, struct series *ours, struct series *floor, double limit);

/* host.c: the tree, the requests, the numbers of /proc */
void host_open(struct host *h, const char *bin);
void host_add_worker(struct host *h, unsigned slot, unsigned processes, const char *extra);
void host_append(struct host *h, const char *text); /* to agentd.conf, whose last section is [Rpc] */
void host_start(struct host *h, const char *bin);
void host_connect(struct host *h);
int host_request(struct host *h, const char *method, const char *path, char *body, size_t size); /* status */
void host_stop(struct host *h);
void host_close(struct host *h);
void host_wait_count(struct host *h, unsigned slot, uint32_t beyond); /* until count > beyond */
void host_find_rpc(struct host *h);                                   /* sets h->rpc */
uint64_t host_dirty_kb(pid_t pid);
uint64_t host_switches(pid_t pid);

/* http.c */
void bench_http(const char *bin);

/* rotate.c */
void bench_rotate(const char *bin, const char *parent, unsigned rounds);

/* floor.c: the bare loop */
pid_t floor_spawn(struct host *h, unsigned slot, unsigned processes);
void floor_restart(struct host *h, unsigned slot, unsigned processes, int sig);
void floor_end(struct host *h, unsigned slot, unsigned processes);

#endif
