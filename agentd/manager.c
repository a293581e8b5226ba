/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/manager.h"

#include <ctype.h>
#include <string.h>

#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/sup.h"
#include "agentd/wk.h"
#include "agentd/wk_keep.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "systemd/sdn.h"

#define STATUS_US 1000000
#define KEEP_AGAIN_US 50000
#define EXTEND_EVERY_US 5000000
#define EXTEND_BY_US 20000000
#define ASK_US 5000000 /* the manager may be busy with a shutdown */
#define LINE 256

static struct loop_watch *ping, *status, *extend, *room;
static struct helper *asking;
static void (*told_fn)(bool for_good);
static uint64_t ping_us;
static char said[LINE];
static const char *also = "";

/* --- the ping: from the loop, so that one that hangs is noticed ------------------------------------ */

static void on_ping(int fd, short what, void *arg)
{
    sdn_ping();
    loop_rearm(ping, ping_us);
}

static void on_room(int fd, short what, void *arg)
{
    loop_free(&room); /* to go on may close it */
    sdn_go_on();
}

void manager_end_round(void)
{
    int fd = sdn_waits_for();

    if (fd >= 0 && !room)
        room = loop_io(fd, LOOP_WRITE, on_room, NULL);
}

void manager_init(void)
{
    ping_us = sdn_watchdog_us() / 2; /* half of it, as sd_watchdog_enabled(3) has it */
    if (!ping_us || ping)
        return;
    sdn_ping();
    ping = loop_timer(ping_us, on_ping, NULL);
}

/* --- the line ---------------------------------------------------------------------------------------- */

static void put_state(struct buf *b, enum wk_state s)
{
    for (const char *p = wk_fsm_state_name(s); *p; p++)
        buf_char(b, (char)tolower((unsigned char)*p));
}

/* "3 workers: 1 down, 2 up" and what else is to be said. */
static void put_line(char *line, size_t size)
{
    unsigned counts[WK_STATE_MAX] = {0}, n = 0;
    struct buf b = BUF_INIT(LINE);
    const struct wk *w;

    TAILQ_FOREACH (w, &sup_workers, link) {
        counts[w->state]++;
        n++;
    }
    buf_printf(&b, "%u worker%s", n, n == 1 ? "" : "s");
    for (unsigned i = 0, told = 0; i < WK_STATE_MAX; i++)
        if (counts[i]) {
            buf_printf(&b, "%s %u ", told++ ? "," : ":", counts[i]);
            put_state(&b, (enum wk_state)i);
        }
    buf_printf(&b, "%s%s", *also ? "; " : "", also);
    str_copy(line, size, b.p);
    buf_free(&b);
}

static void on_status(int fd, short what, void *arg)
{
    char line[LINE];

    loop_free(&status);
    if (wk_keep_some() && !status) /* which may have told of a change itself */
        status = loop_timer(KEEP_AGAIN_US, on_status, NULL);
    put_line(line, sizeof(line));
    if (str_eq(line, said))
        return;
    str_copy(said, sizeof(said), line);
    sdn_status(line);
}

void manager_changed(void)
{
    if (sdn_is_told() && !status && !extend)
        status = loop_timer(STATUS_US, on_status, NULL);
}

void manager_ready(const char *more)
{
    also = more;
    put_line(said, sizeof(said));
    sdn_ready(said);
}

/* --- the end ----------------------------------------------------------------------------------------- */

static void on_extend(int fd, short what, void *arg)
{
    char line[LINE];

    put_line(line, sizeof(line));
    sdn_extend(EXTEND_BY_US, line);
    loop_rearm(extend, EXTEND_EVERY_US);
}

void manager_stopping(void)
{
    loop_free(&status);
    sdn_stopping();
    if (sdn_is_told() && !extend)
        extend = loop_timer(EXTEND_EVERY_US, on_extend, NULL);
}

static int run_ask(int out, void *arg)
{
    char type[32] = "";

    if (sdn_job(type, sizeof(type)) < 0)
        return 1;
    return fd_write_all(out, type, strlen(type)) < 0;
}

/* No job: somebody sent the signal by hand, and systemd starts agentd again. */
static void on_told(int code, const char *p, size_t n, void *arg)
{
    void (*fn)(bool for_good) = told_fn;
    bool known = code == 0, is_stop = n == 4 && memcmp(p, "stop", 4) == 0;

    asking = NULL;
    told_fn = NULL;
    if (known)
        log_info("manager", "systemd's job: %.*s", n ? (int)n : 4, n ? p : "none");
    else
        log_warn("manager", "systemd could not be asked for its job: taken for a stop");
    fn(!known || is_stop);
}

bool manager_ask(void (*told)(bool for_good))
{
    if (!sdn_is_there() || asking)
        return false;
    told_fn = told;
    asking = helper_start(run_ask, NULL, on_told, NULL, ASK_US, 32);
    return asking != NULL;
}

void manager_done(void)
{
    helper_cancel(&asking);
    loop_free(&ping);
    loop_free(&status);
    loop_free(&extend);
    loop_free(&room);
}
