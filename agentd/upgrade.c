/* SPDX-License-Identifier: Apache-2.0 */
/* The earlier image's half: from the request to the exec. The later image's half is upgrade_new.c. */
#include "agentd/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/cfg_trust.h"
#include "agentd/facts.h"
#include "agentd/helper.h"
#include "agentd/link.h"
#include "agentd/loop.h"
#include "agentd/op.h"
#include "agentd/reload.h"
#include "agentd/store.h"
#include "agentd/sup.h"
#include "agentd/task.h"
#include "agentd/upgrade_image.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"
#include "wire/wire.h"

#define ANSWER_MAX 4096
#define QUIET_LOOK_US 5000
#define QUIET_US 10000000  /* for writes and removals to end */
#define HELPERS_US 2000000 /* for helpers whose answer would be lost */

static const char *file;
static void (*save_rooms)(struct buf *b);
static struct {
    struct op *op;
    int fd; /* of the program to become */
    struct helper *check;
    struct loop_watch *look;
    uint64_t since; /* monotonic: when it began to wait for quiet; 0: not yet */
    bool stopping;
} self = {.fd = -1};

void upgrade_init(const char *config_file, void (*save)(struct buf *b))
{
    file = config_file;
    save_rooms = save;
}

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_write(LOG_ERR, "upgrade", &(struct log_about){.event = "upgrade-failed"}, "%s", text);
    self.fd = fd_close(self.fd);
    helper_cancel(&self.check);
    loop_free(&self.look);
    self.since = 0;
    op_end(TAKE_PTR(self.op), false, WIRE_E_UPGRADE_FAILED, text);
}

/* --- the program --------------------------------------------------------------------------------------- */

static int open_program(const char *path, struct err *err)
{
    struct stat st;
    int fd = cfg_trust_open(AT_FDCWD, path, 0, err);

    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IXUSR)) {
        close(fd);
        return err_set(err, EACCES, "%s can't be executed", path);
    }
    return fd;
}

static int make_state(void)
{
    struct buf b = BUF_INIT(64 << 20);
    int fd;

    upgrade_image_save(&b, self.op->id);
    save_rooms(&b);
    fd = state_seal(&b);
    buf_free(&b);
    return fd;
}

/* In the helper: keeps a copy of what runs now, then becomes the new program's check. */
static int run_check(int out, void *arg)
{
    const char *argv[] = {"agentd", "-c", file, "--check-state", NULL};
    char number[32];
    int r;

    if ((r = upgrade_image_keep()) < 0) {
        dprintf(out, "this program can't be kept for a return to it: %s", strerror(-r));
        return 1;
    }
    if (dup2(out, 1) < 0 || dup2(out, 2) < 0)
        return 1;
    snprintf(number, sizeof(number), "%d", HELPER_KEPT + 1);
    setenv(UPGRADE_CHECK_ENV, number, 1);
    fexecve(HELPER_KEPT, (char *const *)(uintptr_t)argv, environ);
    dprintf(out, "it can't be executed: %s", strerror(errno));
    return 1;
}

static void on_look(int fd, short what, void *arg)
{
    loop_rearm(self.look, QUIET_LOOK_US); /* each round looks */
}

static void on_checked(int status, const char *p, size_t n, void *arg)
{
    char text[600];

    self.check = NULL;
    if (status != 0) {
        str_copy(text, sizeof(text), p);
        text[strcspn(text, "\n")] = 0;
        fail("the new program failed its check%s%s%s", status < 0 ? " (it did not end by itself)" : "",
             text[0] ? ": " : "", text);
        return;
    }
    self.since = clock_mono_us();
    self.look = loop_timer(QUIET_LOOK_US, on_look, NULL);
    store_changed();
}

static void begin_check(void)
{
    struct err err = {0};
    int state;

    if ((self.fd = open_program(upgrade_image_path(), &err)) < 0) {
        fail("the new program is not trusted: %s", err.text);
        return;
    }
    if ((state = make_state()) < 0) {
        fail("the state can't be written: %s", strerror(-state));
        return;
    }
    self.check = helper_start_keeping((int[]){self.fd, state}, 2, run_check, NULL, on_checked, NULL,
                                      upgrade_image_deadline_us(), ANSWER_MAX);
    close(state);
    if (!self.check)
        fail("no helper can be started for the check");
}

void upgrade_request(const struct wire_call *c)
{
    const char *other = self.op ? self.op->id : upgrade_unconfirmed();

    if (op_repeats(c))
        return;
    if (other) {
        if (!op_join(other, c))
            link_reply(&(struct wire_reply){.call = c->call, .error = WIRE_E_LOST});
        return;
    }
    if (!(self.op = op_begin_own(c))) {
        link_reply(&(struct wire_reply){.call = c->call, .error = WIRE_E_TOO_MANY});
        return;
    }
    log_info("upgrade", "agentd %s is to become %s", PACKAGE_VERSION, upgrade_image_path());
    if (self.stopping)
        fail("agentd is stopping");
    else
        begin_check();
}

void upgrade_stop(void)
{
    self.stopping = true;
    if (self.op)
        fail("agentd is stopping");
    upgrade_confirm();
}

/* --- the exec ------------------------------------------------------------------------------------------- */

/* What an answer or a goal would be lost by. NULL: nothing. */
static const char *unrest(uint64_t waited)
{
    if (reload_is_busy())
        return "a reload goes on";
    if (sup_runs_commands())
        return "a command of a worker (ExecStop= and its like) runs, or its next instance beside it";
    if (sup_is_removing())
        return "a worker that was removed is still stopping";
    if (store_is_busy())
        return "the state is being written";
    if (!op_save_again())
        return "the journal of operations can't be written";
    if (!task_save_again())
        return "the journal of tasks can't be written";
    if (!facts_put_again())
        return "the facts of a worker can't be written";
    if (!link_is_sent())
        return "a listener does not read";
    if (helper_count() && waited < HELPERS_US)
        return "a helper is at work";
    return NULL;
}

static void become(void)
{
    int state = make_state();
    int r;

    if (state < 0) {
        fail("the state can't be written: %s", strerror(-state));
        return;
    }
    upgrade_image_set_deadline(
        (unsigned)reload_current()->agent.upgrade_timeout_ms); /* a reload may have changed it */
    log_info("upgrade", "the new program takes over");
    r = upgrade_image_exec(self.fd, state, self.op->id);
    close(state);
    fail("the new program can't be executed: %s", strerror(-r));
}

void upgrade_end_round(void)
{
    const char *why;
    uint64_t waited;

    if (!self.since)
        return;
    waited = clock_mono_us() - self.since;
    if (!(why = unrest(waited)))
        become();
    else if (waited > QUIET_US)
        fail("put off for too long: %s", why);
}
