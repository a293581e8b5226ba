/* SPDX-License-Identifier: Apache-2.0 */
/* bench restart | respawn | scale | http | rotate, each beside its floor. Usage: bench BIN-FOLDER NAME
 * [rounds] */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <poll.h>
#include <sys/wait.h>
#include <sys/resource.h>

#include "bench/bench.h"

#define GAP_MS 5
#define WARM_UP 20
#define IN_TURN 50 /* restarts of one kind before those of the other */
#define FLOOR_SLOT 900

uint64_t bench_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void bench_die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

void bench_sleep_ms(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}

void bench_add(struct series *s, uint64_t ns)
{
    s->v = realloc(s->v, (s->n + 1) * sizeof(double));
    s->v[s->n++] = (double)ns / 1000;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double bench_percentile(struct series *s, double p)
{
    qsort(s->v, s->n, sizeof(double), compare);
    return s->n ? s->v[(unsigned)((double)(s->n - 1) * p)] : 0;
}

void bench_print(const char *what, struct series *ours, struct series *base, double limit)
{
    double a = bench_percentile(ours, 0.5), b = bench_percentile(base, 0.5);

    printf("%-62s %8.0f us  p99 %8.0f   floor %8.0f us  p99 %8.0f   ratio %5.2f", what, a,
           bench_percentile(ours, 0.99), b, bench_percentile(base, 0.99), a / b);
    if (limit > 0)
        printf("  (at most %.2f: %s)", limit, a / b <= limit ? "yes" : "NO");
    printf("\n");
}

/* Restarts of a worker of as many processes, as an operator's loop does them: one as soon as the one before
 * runs; or each after a rest, in which processors fall asleep and caches grow cold. */
struct restarts {
    struct host h;
    unsigned processes, rest_ms;
    struct series reply, first, floor_whole, floor_first;
};

static void rest(unsigned ms)
{
    if (ms)
        bench_sleep_ms(ms);
}

static void restart_ours(struct restarts *r, bool counts)
{
    static char body[65536];
    uint32_t before = r->h.page->slot[0].count;
    uint64_t t0, reply;

    rest(r->rest_ms);
    t0 = bench_now();
    if (host_request(&r->h, "POST", "/compute/hosts/1/agent/processes/1/restart", body, sizeof(body)) != 200)
        bench_die("restart: %s", body);
    reply = bench_now();
    host_wait_count(&r->h, 0, before);
    if (!counts)
        return;
    bench_add(&r->reply, reply - t0);
    bench_add(&r->first, r->h.page->slot[0].ns - t0);
}

static void restart_by_hand(struct restarts *r, bool counts)
{
    uint64_t t0, t1;

    rest(r->rest_ms);
    t0 = bench_now();
    floor_restart(&r->h, FLOOR_SLOT, r->processes, SIGTERM);
    t1 = bench_now();
    if (!counts)
        return;
    bench_add(&r->floor_whole, t1 - t0);
    bench_add(&r->floor_first, r->h.page->slot[FLOOR_SLOT].ns - t0);
}

static void print_restarts(struct restarts *r)
{
    double limit = r->rest_ms ? 0 : 1.5;
    char when[32], what[96];

    snprintf(when, sizeof(when), r->rest_ms ? "after %u ms of rest" : "in a row", r->rest_ms);
    snprintf(what, sizeof(what), "restart %s, %u process(es), to the reply", when, r->processes);
    bench_print(what, &r->reply, &r->floor_whole, limit);
    snprintf(what, sizeof(what), "restart %s, %u process(es), to the first instruction", when, r->processes);
    bench_print(what, &r->first, &r->floor_first, limit);
}

/* Ours over HTTP, the floor by hand, some of each in turn: so that neither pays for what the other leaves to
 * be done, and both have what befalls the machine. */
static void bench_restart(const char *bin, unsigned rounds, unsigned processes, unsigned rest_ms)
{
    struct restarts r = {.processes = processes, .rest_ms = rest_ms};

    host_open(&r.h, bin);
    host_add_worker(&r.h, 0, processes, "");
    host_start(&r.h, bin);
    host_connect(&r.h);
    host_wait_count(&r.h, 0, 0);
    floor_spawn(&r.h, FLOOR_SLOT, processes);
    host_wait_count(&r.h, FLOOR_SLOT, 0);
    for (unsigned done = 0; done < rounds; done += IN_TURN) {
        for (unsigned i = 0; i < IN_TURN + WARM_UP; i++)
            restart_ours(&r, i >= WARM_UP);
        for (unsigned i = 0; i < IN_TURN + WARM_UP; i++)
            restart_by_hand(&r, i >= WARM_UP);
    }
    print_restarts(&r);
    host_stop(&r.h);
    floor_end(&r.h, FLOOR_SLOT, processes);
    host_close(&r.h);
}

static void bench_respawn(const char *bin, unsigned rounds)
{
    struct series ours = {0}, base = {0};
    static char body[65536];
    struct host h;

    host_open(&h, bin);
    host_add_worker(&h, 0, 1, "");
    host_start(&h, bin);
    host_connect(&h);
    host_wait_count(&h, 0, 0);
    floor_spawn(&h, FLOOR_SLOT, 1);
    host_wait_count(&h, FLOOR_SLOT, 0);
    for (unsigned i = 0; i < rounds + WARM_UP; i++) {
        uint32_t before = h.page->slot[0].count;
        uint64_t t0, t1;
        /* A restart on request forgets earlier deaths: the next one is answered at once, as a long-lived
         * worker's is. */
        if (host_request(&h, "POST", "/compute/hosts/1/agent/processes/1/restart", body, sizeof(body)) != 200)
            bench_die("restart: %s", body);
        host_wait_count(&h, 0, before++);
        bench_sleep_ms(GAP_MS);
        t0 = bench_now();
        kill(h.page->slot[0].pid[0], SIGKILL);
        host_wait_count(&h, 0, before);
        bench_sleep_ms(GAP_MS);
        t1 = bench_now();
        floor_restart(&h, FLOOR_SLOT, 1, SIGKILL);
        if (i < WARM_UP)
            continue;
        bench_add(&ours, h.page->slot[0].ns - t0);
        bench_add(&base, h.page->slot[FLOOR_SLOT].ns - t1);
    }
    bench_print("kill -9 to the successor's first instruction", &ours, &base, 1.5);
    host_stop(&h);
    floor_end(&h, FLOOR_SLOT, 1);
    host_close(&h);
}

/* How long it takes by hand to start n, and to end them. */
static void floor_scale(struct host *h, unsigned n, uint64_t *ret_start, uint64_t *ret_stop)
{
    uint64_t t0;
    pid_t *pids = calloc(n, sizeof(*pids));

    memset(h->page, 0, sizeof(*h->page));
    t0 = bench_now();
    for (unsigned i = 0; i < n; i++)
        pids[i] = floor_spawn(h, i, 1);
    for (unsigned i = 0; i < n; i++)
        host_wait_count(h, i, 0);
    *ret_start = bench_now() - t0;
    t0 = bench_now();
    for (unsigned i = 0; i < n; i++)
        kill(pids[i], SIGTERM);
    for (unsigned i = 0; i < n; i++)
        waitpid(pids[i], NULL, 0);
    *ret_stop = bench_now() - t0;
    free(pids);
    memset(h->page, 0, sizeof(*h->page));
}

static void print_memory(struct host *h, unsigned n)
{
    uint64_t a, b;
    double limit = 3072.0 + 3.0 * n;

    host_find_rpc(h);
    a = host_dirty_kb(h->agentd);
    b = host_dirty_kb(h->rpc);
    printf(
        "%5u workers: private memory       agentd %llu KB + agentd-rpc %llu KB = %llu KB  (under %.0f: %s)\n",
        n, (unsigned long long)a, (unsigned long long)b, (unsigned long long)(a + b), limit,
        (double)(a + b) < limit ? "yes" : "NO");
}

static void print_idle(struct host *h, unsigned n, unsigned seconds)
{
    uint64_t a = host_switches(h->agentd), b = host_switches(h->rpc);

    bench_sleep_ms(seconds * 1000); /* the window is the measurement */
    printf("%5u workers: idle %u s             wake-ups agentd %llu, agentd-rpc %llu\n", n, seconds,
           (unsigned long long)(host_switches(h->agentd) - a),
           (unsigned long long)(host_switches(h->rpc) - b));
}

/* One worker: agentd's own start is most of "start all", so the start on request is told beside it. */
static void print_start_on_request(struct host *h, char *body, size_t size, uint64_t floor_ns)
{
    struct series starts = {0};

    for (int i = 0; i < 50; i++) {
        uint32_t before = h->page->slot[0].count;
        uint64_t t0;
        host_request(h, "POST", "/compute/hosts/1/agent/processes/1/stop", body, size);
        bench_sleep_ms(GAP_MS);
        t0 = bench_now();
        host_request(h, "POST", "/compute/hosts/1/agent/processes/1/start", body, size);
        host_wait_count(h, 0, before);
        bench_add(&starts, h->page->slot[0].ns - t0);
    }
    printf("%5u workers: start on request %6.2f ms to its first instruction  floor %6.2f ms  ratio %5.2f\n",
           1, bench_percentile(&starts, 0.5) / 1000, (double)floor_ns / 1e6,
           bench_percentile(&starts, 0.5) * 1000 / (double)floor_ns);
}

/* The same by hand, in the median. */
static uint64_t floor_one(struct host *h)
{
    struct series s = {0};

    for (int i = 0; i < 50; i++) {
        uint32_t before = h->page->slot[FLOOR_SLOT].count;
        uint64_t t0;
        bench_sleep_ms(GAP_MS);
        t0 = bench_now();
        floor_spawn(h, FLOOR_SLOT, 1);
        host_wait_count(h, FLOOR_SLOT, before);
        bench_add(&s, h->page->slot[FLOOR_SLOT].ns - t0);
        floor_end(h, FLOOR_SLOT, 1);
    }
    return (uint64_t)(bench_percentile(&s, 0.5) * 1000);
}

static void bench_scale(const char *bin, unsigned n, unsigned idle_s)
{
    uint64_t base_start, base_stop, t0, t1;
    struct series list = {0};
    struct host h;
    char *body = malloc(4 << 20);

    host_open(&h, bin);
    floor_scale(&h, n, &base_start, &base_stop);
    for (unsigned i = 0; i < n; i++)
        host_add_worker(&h, i, 1, "");
    t0 = bench_now();
    host_start(&h, bin);
    t1 = bench_now();
    for (unsigned i = 0; i < n; i++)
        host_wait_count(&h, i, 0);
    printf(
        "%5u workers: start all %8.1f ms (ready after %.1f)  floor %8.1f ms  ratio %5.2f  (at most 2: %s)\n",
        n, (double)(bench_now() - t0) / 1e6, (double)(t1 - t0) / 1e6, (double)base_start / 1e6,
        (double)(bench_now() - t0) / (double)base_start, bench_now() - t0 <= 2 * base_start ? "yes" : "NO");
    host_connect(&h);
    for (int i = 0; i < 20; i++) {
        t0 = bench_now();
        host_request(&h, "GET", "/compute/hosts/1/agent/processes?size=1000", body, 4 << 20);
        bench_add(&list, bench_now() - t0);
    }
    printf("%5u workers: list all  %8.0f us median, %zu bytes  (under 5000: %s)\n", n,
           bench_percentile(&list, 0.5), strlen(body), bench_percentile(&list, 0.5) < 5000 ? "yes" : "NO");
    print_memory(&h, n);
    if (n == 1)
        print_start_on_request(&h, body, 4 << 20, floor_one(&h));
    close(h.http);
    h.http = -1;
    bench_sleep_ms(1500); /* the closed connection's sweep */
    print_idle(&h, n, idle_s);
    t0 = bench_now();
    host_stop(&h);
    printf("%5u workers: stop all  %8.1f ms                    floor %8.1f ms  ratio %5.2f\n", n,
           (double)(bench_now() - t0) / 1e6, (double)base_stop / 1e6,
           (double)(bench_now() - t0) / (double)base_stop);
    free(body);
    host_close(&h);
}

int main(int argc, char **argv)
{
    const char *bin = argc > 1 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
    unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(name, "restart") == 0) {
        static const unsigned rests[] = {0, GAP_MS};
        for (unsigned i = 0; i < 2; i++)
            for (unsigned processes = 1; processes <= 3; processes += 2)
                bench_restart(bin, n ? n : 500, processes, rests[i]);
    } else if (strcmp(name, "respawn") == 0) {
        bench_respawn(bin, n ? n : 500);
    } else if (strcmp(name, "scale") == 0) {
        static const unsigned sizes[] = {1, 100, 1000};
        for (unsigned i = 0; i < 3; i++)
            if (!n || n == sizes[i])
                bench_scale(bin, sizes[i], sizes[i] == 100 ? 60 : 10);
    } else if (strcmp(name, "http") == 0) {
        bench_http(bin);
    } else if (strcmp(name, "rotate") == 0) {
        bench_rotate(bin, "/var/tmp", n ? n : 9);
        bench_rotate(bin, "/dev/shm", n ? n : 9);
    } else {
        bench_die("usage: bench BIN-FOLDER restart|respawn|scale|http|rotate [ROUNDS|WORKERS]");
    }
    return 0;
}
