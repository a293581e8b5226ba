/* SPDX-License-Identifier: Apache-2.0 */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "systemd/sdn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "base/clock.h"
#include "systemd/sdn_notify.h"

void sdn_ready(const char *status)
{
    sdn_tell(-1, "READY=1\nSTATUS=%s", status);
}

void sdn_status(const char *status)
{
    sdn_mention("STATUS=%s", status);
}

void sdn_reloading(void)
{
    sdn_tell(-1, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_mono_us());
}

void sdn_stopping(void)
{
    sdn_tell(-1, "STOPPING=1");
}

void sdn_extend(uint64_t us, const char *status)
{
    sdn_mention("EXTEND_TIMEOUT_USEC=%llu\nSTATUS=%s", (unsigned long long)us, status);
}

uint64_t sdn_watchdog_us(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

void sdn_ping(void)
{
    sdn_mention("WATCHDOG=1");
}

int sdn_take_fds(struct sdn_fd **ret)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    struct sdn_fd *v = n > 0 ? calloc((size_t)n, sizeof(*v)) : NULL;

    for (int i = 0; i < n; i++) {
        if (v)
            v[i] = (struct sdn_fd){SD_LISTEN_FDS_START + i, names[i]};
        else
            free(names[i]);
    }
    free(names);
    *ret = v;
    return n > 0 && !v ? -ENOMEM : n;
}

void sdn_pass_on(void)
{
    int n = sd_listen_fds(0);

    for (int i = 0; i < n; i++)
        fcntl(SD_LISTEN_FDS_START + i, F_SETFD, 0);
}

/* It is not watched for an error: a listening socket has none, and other kinds would be dropped for a
 * hang-up. */
void sdn_keep(const char *name, int fd)
{
    sdn_tell(fd, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
}

void sdn_forget(const char *name)
{
    sdn_tell(-1, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* $JOURNAL_STREAM is device:inode of the stream that systemd connected; a redirection makes it untrue.
 * systemd.exec(5). */
bool sdn_has_journal(void)
{
    const char *e = getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    struct stat st;

    return e && sscanf(e, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == dev && st.st_ino == ino;
}

#define MESSAGE(name, id, subject, text) {#name, #id},
static const struct {
    const char *name, *id;
} messages[] = {
#include "systemd/messages.def"
};
#undef MESSAGE

static const char *message_id(const struct log_about *about)
{
    for (size_t i = 0; about && about->event && i < sizeof(messages) / sizeof(messages[0]); i++)
        if (strcmp(messages[i].name, about->event) == 0)
            return messages[i].id;
    return NULL;
}

void sdn_journal(int level, const char *area, const struct log_about *about, const char *message)
{
    const char *id = message_id(about);
    char text[7][1400];
    struct iovec v[7];
    int n = 0;

#define PUT(...)                                                                                            \
    do {                                                                                                    \
        int len = snprintf(text[n], sizeof(text[n]), __VA_ARGS__);                                          \
        v[n] =                                                                                              \
            (struct iovec){text[n], (size_t)(len < (int)sizeof(text[n]) ? len : (int)sizeof(text[n]) - 1)}; \
        n++;                                                                                                \
    } while (0)
    PUT("MESSAGE=%s", message);
    PUT("PRIORITY=%d", level);
    PUT("AGENTD_AREA=%s", area);
    if (id)
        PUT("MESSAGE_ID=%s", id);
    if (about && about->worker)
        PUT("AGENTD_WORKER=%s", about->worker);
    if (about && about->operation)
        PUT("AGENTD_OPERATION=%s", about->operation);
    if (about && about->reason)
        PUT("AGENTD_REASON=%s", about->reason);
#undef PUT
    if (sd_journal_sendv(v, n) < 0)
        log_stderr(level, area, about, message);
}
