/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        bench_die("%s: %s", path, strerror(errno));
}

static int is_tmpfs(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

void host_open(struct host *h, const char *bin)
{
    char path[128], text[1024];
    int fd;

    /* RuntimeDirectory belongs on a tmpfs, as /run is on a host that systemd booted. */
    snprintf(h->dir, sizeof(h->dir), "%s/agentd-bench-XXXXXX",
             is_tmpfs("/run")       ? "/run"
             : is_tmpfs("/dev/shm") ? "/dev/shm"
                                    : "/tmp");
    if (!mkdtemp(h->dir))
        bench_die("mkdtemp: %s", strerror(errno));
    chmod(h->dir, 0755);
    h->http = -1;
    snprintf(h->worker, sizeof(h->worker), "%s/../bench/worker", bin);
    snprintf(path, sizeof(path), "%s/w", h->dir);
    mkdir(path, 0755);
    snprintf(text, sizeof(text),
             "[Agent]\nHostId=1\nWorkersDirectory=%s/w\nRuntimeDirectory=%s/run\nStateDirectory=%s/state\n"
             "LogDirectory=%s/log\n[Rpc]\nListenStream=%s/sock\n",
             h->dir, h->dir, h->dir, h->dir, h->dir);
    snprintf(path, sizeof(path), "%s/agentd.conf", h->dir);
    write_file(path, text);
    snprintf(h->page_path, sizeof(h->page_path), "%s/page", h->dir);
    fd = open(h->page_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct page)) < 0)
        bench_die("%s: %s", h->page_path, strerror(errno));
    h->page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (h->page == MAP_FAILED)
        bench_die("mmap: %s", strerror(errno));
}

void host_append(struct host *h, const char *text)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/agentd.conf", h->dir);
    if (!(f = fopen(path, "a")) || fputs(text, f) < 0 || fclose(f) != 0)
        bench_die("%s: %s", path, strerror(errno));
}

void host_add_worker(struct host *h, unsigned slot, unsigned processes, const char *extra)
{
    char path[128], text[2048];

    snprintf(path, sizeof(path), "%s/w/w%u.conf", h->dir, slot);
    snprintf(
        text, sizeof(text),
        "[Service]\nExecStart=%s %s %u %u\nRestartSec=0\nStartLimitIntervalSec=0\nStandardOutput=null\n%s"
        "[Worker]\nId=%u\n",
        h->worker, h->page_path, slot, processes, extra, slot + 1);
    write_file(path, text);
}

void host_connect(struct host *h)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (h->http >= 0)
        close(h->http);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/sock", h->dir);
    h->http = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (h->http < 0 || connect(h->http, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        bench_die("%s: %s", sa.sun_path, strerror(errno));
}

/* The listener is the child of agentd whose name says so. */
static pid_t find_rpc(pid_t agentd)
{
    static char text[1 << 17];
    char path[64], *save = NULL;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)agentd, (int)agentd);
    if (!(f = fopen(path, "r")))
        return 0;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    for (char *p = strtok_r(text, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
        char comm[32] = "";
        snprintf(path, sizeof(path), "/proc/%s/comm", p);
        if ((f = fopen(path, "r"))) {
            if (fgets(comm, sizeof(comm), f) && strcmp(comm, "agentd-rpc\n") == 0) {
                fclose(f);
                return atoi(p);
            }
            fclose(f);
        }
    }
    return 0;
}

void host_start(struct host *h, const char *bin)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char program[512], conf[128], text[512], notify[128];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(program, sizeof(program), "%s/agentd", bin);
    snprintf(conf, sizeof(conf), "%s/agentd.conf", h->dir);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", h->dir);
    snprintf(notify, sizeof(notify), "%s", sa.sun_path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        bench_die("%s: %s", sa.sun_path, strerror(errno));
    h->agentd = fork();
    if (h->agentd == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a benchmark that is cut off leaves nothing */
        setenv("NOTIFY_SOCKET", notify, 1);
        execl(program, "agentd", "-c", conf, "--log-level", "warning", (char *)NULL);
        _exit(127);
    }
    do {
        ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? n : 0] = 0;
    } while (!strstr(text, "READY=1"));
    close(fd);
    unlink(notify);
}

int host_request(struct host *h, const char *method, const char *path, char *body, size_t size)
{
    char text[512], *end, *length;
    size_t n = 0, want = 0;
    int len = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n", method, path,
                       method[0] == 'P' ? "Content-Length: 0\r\n" : "");

    if (write(h->http, text, (size_t)len) != len)
        bench_die("write: %s", strerror(errno));
    for (;;) {
        ssize_t r = read(h->http, body + n, size - 1 - n);
        if (r <= 0)
            bench_die("%s %s: the connection was closed", method, path);
        n += (size_t)r;
        body[n] = 0;
        if (!want && (end = strstr(body, "\r\n\r\n"))) {
            length = strcasestr(body, "content-length:");
            want = (size_t)(end + 4 - body) + (length ? strtoul(length + 15, NULL, 10) : 0);
        }
        if (want && n >= want)
            return atoi(body + 9);
    }
}

void host_wait_count(struct host *h, unsigned slot, uint32_t beyond)
{
    uint32_t *p = &h->page->slot[slot].count, now;
    struct timespec limit = {10, 0};

    while ((now = __atomic_load_n(p, __ATOMIC_SEQ_CST)) <= beyond)
        if (syscall(SYS_futex, p, FUTEX_WAIT, now, &limit, NULL, 0) < 0 && errno == ETIMEDOUT)
            bench_die("worker %u did not start", slot);
}

void host_stop(struct host *h)
{
    int st;

    if (h->http >= 0)
        close(h->http);
    h->http = -1;
    kill(h->agentd, SIGTERM);
    waitpid(h->agentd, &st, 0);
}

void host_close(struct host *h)
{
    char cmd[128];
    pid_t pid;

    munmap(h->page, sizeof(struct page));
    snprintf(cmd, sizeof(cmd), "%s", h->dir);
    pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", cmd, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static uint64_t sum_lines(pid_t pid, const char *file, const char *a, const char *b)
{
    char path[64], line[256];
    uint64_t sum = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    if (!(f = fopen(path, "r")))
        return 0;
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, a, strlen(a)) == 0 || strncmp(line, b, strlen(b)) == 0)
            sum += strtoull(strchr(line, ':') + 1, NULL, 10);
    fclose(f);
    return sum;
}

uint64_t host_dirty_kb(pid_t pid)
{
    return sum_lines(pid, "smaps_rollup", "Private_Dirty:", "Swap:");
}

uint64_t host_switches(pid_t pid)
{
    return sum_lines(pid, "status", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:");
}

void host_find_rpc(struct host *h)
{
    h->rpc = find_rpc(h->agentd);
}
