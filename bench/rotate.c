/* SPDX-License-Identifier: Apache-2.0 */
/* What rotation costs the writer: 200 MB at full speed, rotated at 10 MB, beside the same into a plain file.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

#define PLAIN_SLOT 900
#define AMOUNT "200000000"

/* ns that it was on a processor */
static uint64_t cpu_of(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    if ((f = fopen(path, "re"))) {
        (void)!fscanf(f, "%llu", &ns);
        fclose(f);
    }
    return ns;
}

static void write_plain(struct host *h, const char *folder)
{
    uint32_t before = h->page->slot[PLAIN_SLOT].count;
    char path[128], slot[16];
    pid_t pid;

    snprintf(path, sizeof(path), "%s/plain", folder);
    unlink(path);
    snprintf(slot, sizeof(slot), "%d", PLAIN_SLOT);
    pid = fork();
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0640);
        setenv("BENCH_WRITE", AMOUNT, 1);
        if (fd >= 0 && dup2(fd, 1) == 1)
            execl(h->worker, h->worker, h->page_path, slot, "1", (char *)NULL);
        _exit(127);
    }
    host_wait_count(h, PLAIN_SLOT, before);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(path);
}

static void write_rotated(struct host *h)
{
    uint32_t before = h->page->slot[0].count;
    char body[65536];

    if (host_request(h, "POST", "/compute/hosts/1/agent/processes/1/restart", body, sizeof(body)) != 200)
        bench_die("restart: %s", body);
    host_wait_count(h, 0, before);
}

static void remove_files(const char *folder)
{
    char path[160];

    for (int i = 0; i < 40; i++) {
        snprintf(path, sizeof(path), i ? "%s/w.log.%d" : "%s/w.log", folder, i);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/w.log.rotating", folder);
    unlink(path);
    rmdir(folder);
}

void bench_rotate(const char *bin, const char *parent, unsigned rounds)
{
    struct series ours = {0}, plain = {0};
    char folder[64], extra[256], what[80];
    uint64_t cpu, writer = 0;
    struct host h;

    snprintf(folder, sizeof(folder), "%s/agentd-bench-XXXXXX", parent);
    if (!mkdtemp(folder))
        bench_die("%s: %s", folder, strerror(errno));
    host_open(&h, bin);
    snprintf(extra, sizeof(extra),
             "Environment=BENCH_WRITE=" AMOUNT
             "\nStandardOutput=append:%s/w.log\n[Worker]\nLogMaxSize=10M\nLogMaxFiles=30\n",
             folder);
    host_add_worker(&h, 0, 1, extra);
    host_start(&h, bin);
    host_connect(&h);
    host_wait_count(&h, 0, 0);
    cpu = cpu_of(h.agentd);
    for (unsigned i = 0; i < rounds; i++) {
        sync();
        write_rotated(&h);
        bench_add(&ours, h.page->slot[0].ns);
        writer += cpu_of(h.page->slot[0].pid[0]);
        sync();
        bench_sleep_ms(100); /* the helper is done */
        write_plain(&h, folder);
        bench_add(&plain, h.page->slot[PLAIN_SLOT].ns);
    }
    cpu = cpu_of(h.agentd) - cpu;
    snprintf(what, sizeof(what), "200 MB, rotated at 10 MB, %s", parent);
    bench_print(what, &ours, &plain, 1.05);
    printf("%-46s %8.2f %% of the writer's processor time  (under 1: %s)\n",
           "  agentd itself, restarts included", 100.0 * (double)cpu / (double)writer,
           cpu * 100 < writer ? "yes" : "NO");
    host_stop(&h);
    host_close(&h);
    remove_files(folder);
}
