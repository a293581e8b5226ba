/* SPDX-License-Identifier: Apache-2.0 */
/* The unit that agentd runs as: what can be seen of it from inside, and what systemd says, which a helper has
 * to ask. So an answer of doctor may take a while; several who ask meanwhile get the same. */
#include "agentd/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/listen.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "systemd/sdn.h"

#define ASK_US 5000000 /* systemd may be busy */
#define TEXT 2048

static struct helper *asking;
static uint64_t waiting[LIMIT_DOCTOR_WAITING];
static unsigned n_waiting;

/* good: words, one of which is as it should be. */
static const struct {
    const char *key, *good, *severity, *advice, *cost;
} wanted[] = {
    {"KillMode", "process none", "warning", "systemctl edit agentd: [Service] KillMode=process",
     "systemd ends all workers whenever agentd ends or is restarted"},
    {"OOMPolicy", "continue", "warning", "systemctl edit agentd: [Service] OOMPolicy=continue",
     "systemd stops agentd when a process of one worker is killed for want of memory"},
    {"Restart", "always", "warning", "systemctl edit agentd: [Service] Restart=always",
     "there are ends of agentd after which systemd does not start it again"},
    {"TasksMax", "infinity", "info",
     "systemctl edit agentd: [Service] TasksMax=infinity, and TasksMax= of each worker",
     "that is for agentd and all its workers together"},
    {"MemoryMax", "infinity", "info",
     "systemctl edit agentd: [Service] MemoryMax=infinity, and MemoryMax= of each worker",
     "that is for agentd and all its workers together"},
};

static bool is_one_of(const char *word, const char *list)
{
    size_t n = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += n)
        if (n && (at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

/* The value of a line "key=value" into value; false if there is none. */
static bool find(const char *text, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);

    for (const char *at = text; *at; at += strcspn(at, "\n"), at += *at == '\n')
        if (strncmp(at, key, n) == 0 && at[n] == '=') {
            size_t len = strcspn(at + n + 1, "\n");
            str_copy(value, len + 1 < size ? len + 1 : size, at + n + 1);
            return true;
        }
    return false;
}

/* Listening sockets, and of each worker its sockets and a pidfd. */
static void look_at_store(struct buf *b, const char *text)
{
    unsigned long long need = 0;
    const struct wk *w;
    char value[24];

    while (listen_get((unsigned)need))
        need++;
    TAILQ_FOREACH (w, &sup_workers, link)
        need += 1ull + w->def->n_sockets;
    if (find(text, "FileDescriptorStoreMax", value, sizeof(value)) && strtoull(value, NULL, 10) < need)
        doctor_say(b, "warning",
                   "systemctl edit agentd: [Service] FileDescriptorStoreMax= of as many, or more",
                   "the unit has FileDescriptorStoreMax=%s, and %llu descriptors may have to be kept while "
                   "agentd restarts: "
                   "who connects then may be refused, and how a worker ends then be unknown",
                   value, need);
}

static void look_at_settings(struct buf *b, const char *text)
{
    char value[256], dir[256];

    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (find(text, wanted[i].key, value, sizeof(value)) && !is_one_of(value, wanted[i].good))
            doctor_say(b, wanted[i].severity, wanted[i].advice, "the unit has %s=%s: %s", wanted[i].key,
                       value, wanted[i].cost);
    if (find(text, "RuntimeDirectory", dir, sizeof(dir)) && dir[0] &&
        find(text, "RuntimeDirectoryPreserve", value, sizeof(value)) && str_eq(value, "no"))
        doctor_say(b, "warning", "systemctl edit agentd: [Service] RuntimeDirectoryPreserve=yes",
                   "the unit has RuntimeDirectoryPreserve=no: what agentd knows of its workers is lost at "
                   "each restart of it");
    look_at_store(b, text);
}

/* A service manager started just this process: what a shell inherits of another unit does not count.
 * systemd.exec(5); $SYSTEMD_EXEC_PID since 248. */
static bool is_managed(void)
{
    const char *pid = getenv("SYSTEMD_EXEC_PID");

    return getenv("INVOCATION_ID") && pid && atoi(pid) == (int)getpid();
}

static void look_from_inside(struct buf *b)
{
    if (!is_managed())
        return;
    if (!sdn_is_told())
        doctor_say(
            b, "warning", "systemctl edit agentd: [Service] Type=notify NotifyAccess=main",
            "the unit is not Type=notify: systemd hears neither when agentd is ready nor that it hangs, and "
            "keeps no sockets for it");
    if (wk_host.cgroups.fd >= 0 && !wk_host.cgroups.delegated)
        doctor_say(b, "warning", "systemctl edit agentd: [Service] Delegate=yes",
                   "the unit has no Delegate=yes: the workers' cgroups are beside those of systemd, in %s",
                   wk_host.cgroups.path);
}

/* settings: what systemd said, "" if it was not asked. */
static void answer(uint64_t call, const char *settings)
{
    struct buf b = BUF_INIT(LIMIT_WIRE_STRING), features = BUF_INIT(LIMIT_WIRE_FEATURES);

    look_from_inside(&b);
    look_at_settings(&b, settings);
    doctor_look(&b);
    doctor_look_at_features(&features);
    link_reply(&(struct wire_reply){.call = call, .items = b.p, .features = features.p});
    buf_free(&features);
    buf_free(&b);
}

static int run_ask(int out, void *arg)
{
    char text[TEXT];

    if (sdn_unit(text, sizeof(text)) < 0)
        return 1;
    return fd_write_all(out, text, strlen(text)) < 0;
}

static void on_told(int status, const char *p, size_t n, void *arg)
{
    char text[TEXT] = "";

    asking = NULL;
    if (status == 0 && n && n < sizeof(text))
        memcpy(text, p, n);
    for (unsigned i = 0; i < n_waiting; i++)
        answer(waiting[i], text);
    n_waiting = 0;
}

void doctor_request(uint64_t call)
{
    bool asks =
        is_managed() && sdn_is_there() && n_waiting < LIMIT_DOCTOR_WAITING && (asking || helper_spare());

    if (asks && !asking)
        asking = helper_start(run_ask, NULL, on_told, NULL, ASK_US, TEXT - 1);
    if (asks && asking)
        waiting[n_waiting++] = call;
    else
        answer(call, "");
}
