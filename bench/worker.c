/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of the benchmarks: stamps the time of its first instruction into a shared page, wakes whoever
 * waits there, and sleeps; SIGTERM ends it at once. Arguments: page file, slot, processes in all. With
 * BENCH_WRITE= BYTES: how long it takes to write as many lines. */
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench/page.h"

/* Lines, as many bytes to standard output; ns. */
static uint64_t write_lines(uint64_t amount)
{
    static char piece[4000];
    struct timespec a, b;

    for (size_t i = 0; i < sizeof(piece); i++)
        piece[i] = i % 100 == 99 ? '\n' : 'x';
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (uint64_t done = 0; done < amount; done += sizeof(piece))
        if (write(1, piece, sizeof(piece)) != (ssize_t)sizeof(piece))
            _exit(3);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
}

int main(int argc, char **argv)
{
    struct timespec ts;
    struct page *page;
    int fd, slot, n;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    if (argc < 4 || (fd = open(argv[1], O_RDWR | O_CLOEXEC)) < 0)
        return 2;
    slot = atoi(argv[2]);
    n = atoi(argv[3]);
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return 2;
    page->slot[slot].pid[0] = getpid();
    for (int i = 1; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0)
            for (;;)
                pause();
        page->slot[slot].pid[i] = pid;
    }
    page->slot[slot].ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    if (getenv("BENCH_WRITE"))
        page->slot[slot].ns = write_lines(strtoull(getenv("BENCH_WRITE"), NULL, 10));
    __atomic_add_fetch(&page->slot[slot].count, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &page->slot[slot].count, FUTEX_WAKE, 100, NULL, NULL, 0);
    for (;;)
        pause();
}
