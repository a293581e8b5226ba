/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg: a worker's file of any bytes is taken or refused with a reason; what is taken is the same after
 * it was dumped and read again. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg.h"
#include "base/fd.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static char dir[64], agent[96], worker[96];

static void must(int ok)
{
    if (!ok)
        abort();
}

static void write_file(const char *path, const void *p, size_t n)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    must(fd >= 0 && fd_write_all(fd, p, n) == 0);
}

static void remove_files(void)
{
    char path[96];

    unlink(worker);
    unlink(agent);
    snprintf(path, sizeof(path), "%s/w", dir);
    rmdir(path);
    rmdir(dir);
}

static void set_up(void)
{
    char text[512];

    str_copy(dir, sizeof(dir), "/tmp/fuzz_cfg.XXXXXX");
    must(mkdtemp(dir) != NULL);
    snprintf(agent, sizeof(agent), "%s/w", dir);
    must(mkdir(agent, 0700) == 0);
    snprintf(worker, sizeof(worker), "%s/w/x.conf", dir);
    snprintf(agent, sizeof(agent), "%s/agentd.conf", dir);
    snprintf(text, sizeof(text),
             "[Agent]\nInstallHome=/opt\nHostInnerIpAddress=192.0.2.1\nWorkersDirectory=%s/w\nLogDirectory=/"
             "var/log\n",
             dir);
    write_file(agent, text, strlen(text));
    atexit(remove_files);
}

static void differs(const struct cfg *cfg, const struct cfg_report *report, const char *before)
{
    struct buf b = BUF_INIT(1 << 24);

    cfg_dump(cfg, &b);
    fprintf(stderr, "another after a round trip:\n%s\n--- before:\n%s\n--- after:\n%s\n",
            report->errors.p ? report->errors.p : "", before, b.p);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct cfg_report report;
    struct buf b = BUF_INIT(1 << 24);
    struct cfg *cfg = NULL;
    uint64_t hash = 0;
    char *second;

    if (!dir[0])
        set_up();
    write_file(worker, p, n);
    cfg_report_init(&report);
    must(cfg_load(agent, &report, &cfg) == 0 && cfg);
    must(report.n_agent_errors == 0 && cfg->n_workers + cfg->n_broken <= 1);
    must((report.n_errors == 0) == (cfg->n_workers == 1));
    must(report.n_errors == 0 || report.errors.len > 0);
    if (cfg->n_workers) {
        hash = cfg->workers[0]->hash;
        cfg_dump(cfg, &b);
        must(b.error == 0 && strlen(b.p) == b.len);
    }
    cfg_free(cfg);
    cfg_report_free(&report);
    if (b.p && (second = strstr(b.p, "\n# "))) {
        write_file(worker, second, strlen(second));
        cfg_report_init(&report);
        must(cfg_load(agent, &report, &cfg) == 0);
        if (report.n_errors || cfg->n_workers != 1 || cfg->workers[0]->hash != hash)
            differs(cfg, &report, second);
        cfg_free(cfg);
        cfg_report_free(&report);
    }
    buf_free(&b);
    return 0;
}
