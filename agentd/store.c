/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "agentd/cfg.h"
#include "agentd/helper.h"
#include "agentd/loop.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"

#define MAGIC "agentd-state 1"
#define WRITE_TIMEOUT_US 60000000
#define WAIT_MS 10000
#define FIRST_FREE_ID 1001 /* below are those that files give */
#define SOON_US 1000000
#define RETRY_US 5000000
#define LOCK "state.lock" /* not "lock": RuntimeDirectory= may be the same folder */

static struct store_entry *entries;
static char state_dir[512];
static int64_t created_us;
static bool is_new; /* nothing was there */
static struct helper *writer;
static bool dirty;
static bool urgent;             /* somebody waits for what changed while it was written */
static uint64_t begun, written; /* writes, counted from 1 */
static void (*on_written)(bool ok);
static void (*collect)(void);
static int (*also)(void);
static struct loop_watch *soon;

static struct loop_watch *retry; /* a write failed: it is tried again until one works */

static void start_write(void);

static void on_retry(int fd, short what, void *arg)
{
    loop_free(&retry);
    if (!writer)
        start_write();
}

static struct store_entry *add(const char *alias)
{
    struct store_entry *e = calloc(1, sizeof(*e));

    if (!e || !(e->alias = strdup(alias))) {
        free(e);
        return NULL;
    }
    e->next = entries;
    entries = e;
    return e;
}

struct store_entry *store_find(const char *alias)
{
    struct store_entry *e = entries;

    while (e && !str_eq(e->alias, alias))
        e = e->next;
    return e;
}

static struct store_entry *find_id(int64_t id)
{
    struct store_entry *e = entries;

    while (e && e->id != id)
        e = e->next;
    return e;
}

static int64_t free_id(void)
{
    static int64_t last = FIRST_FREE_ID - 1;

    do
        last++;
    while (find_id(last));
    return last;
}

struct store_entry *store_get(const char *alias, int64_t id)
{
    struct store_entry *e = store_find(alias);

    if (!e && !(e = add(alias)))
        return NULL;
    if (!e->create_us) {
        e->create_us = e->update_us = e->goal_us = clock_wall_us();
        e->goal_up = true;
    }
    if (id && e->id != id) {
        struct store_entry *other = find_id(id);
        if (other)
            other->id = 0; /* what a file claims is not kept for one that claims nothing */
        e->id = id;
    } else if (!e->id) {
        e->id = free_id();
    }
    return e;
}

int64_t store_created_us(void)
{
    return created_us;
}

bool store_is_new(void)
{
    return is_new;
}

static int parse_line(char *line)
{
    char *field[8], *save = NULL, *at = strtok_r(line, "\t", &save);
    struct store_entry *e;
    int n = 0;

    for (; at && n < 8; at = strtok_r(NULL, "\t", &save))
        field[n++] = at;
    if (n != 8 || !(e = add(field[0])))
        return n == 8 ? -ENOMEM : -EBADMSG;
    e->id = strtoll(field[1], NULL, 10);
    e->create_us = strtoll(field[2], NULL, 10);
    e->update_us = strtoll(field[3], NULL, 10);
    e->goal_up = str_eq(field[4], "UP");
    e->goal_us = strtoll(field[5], NULL, 10);
    e->def_hash_all = strtoull(field[6], NULL, 16);
    e->goal_by = strdup(field[7]);
    if (e->id <= 0 || e->id > CFG_ID_MAX || find_id(e->id) != e)
        e->id = 0; /* damaged: it gets another one */
    return 0;
}

static int parse(char *text)
{
    char *save = NULL, *line = strtok_r(text, "\n", &save);
    long long created;
    int r = 0;

    if (!line || sscanf(line, MAGIC " %lld", &created) != 1)
        return -EBADMSG;
    created_us = created;
    is_new = false;
    while (r == 0 && (line = strtok_r(NULL, "\n", &save)))
        r = parse_line(line);
    return r;
}

/* The lock is held by a helper that writes, also by one whose agentd is dead. Waiting here is before READY.
 */
static int wait_for_writer(int dirfd)
{
    _cleanup_close_ int lock = openat(dirfd, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (lock < 0)
        return -errno;
    for (int waited = 0; flock(lock, LOCK_EX | LOCK_NB) < 0; waited += 20) {
        if (waited >= WAIT_MS)
            return -EBUSY;
        poll(NULL, 0, 20);
    }
    return 0;
}

int store_open(const char *dir, struct err *err)
{
    _cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    _cleanup_free_ char *text = NULL;
    ssize_t n;
    int r;

    str_copy(state_dir, sizeof(state_dir), dir);
    created_us = clock_wall_us();
    is_new = true;
    if (dirfd < 0)
        return err_set(err, errno, "%s: %s", dir, strerror(errno));
    if ((r = wait_for_writer(dirfd)) < 0)
        return err_set(err, -r, "%s/" LOCK ": %s", dir,
                       r == -EBUSY ? "a helper of an earlier agentd still writes" : strerror(-r));
    fd = openat(dirfd, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set(err, errno, "%s/state: %s", dir, strerror(errno));
    n = fd_read_all(fd, 16 << 20, &text);
    if (n >= 0 && (n == 0 || parse(text) < 0)) {
        log_error("store",
                  "%s/state is damaged: set aside as state.bad; what stands before the damage is kept", dir);
        renameat(dirfd, "state", dirfd, "state.bad");
        return 0;
    }
    return n < 0 ? err_set(err, (int)-n, "%s/state: %s", dir, strerror((int)-n)) : 0;
}

void store_close(void)
{
    while (entries) {
        struct store_entry *e = entries;
        entries = e->next;
        free(e->alias);
        free(e->goal_by);
        free(e);
    }
    helper_cancel(&writer);
    loop_free(&retry);
    loop_free(&soon);
}

static void print_state(struct buf *b)
{
    char by[256];

    buf_printf(b, MAGIC " %lld\n", (long long)created_us);
    for (struct store_entry *e = entries; e; e = e->next) {
        /* The listener's word: it must not make lines or fields. */
        str_escape(by, sizeof(by), e->goal_by && e->goal_by[0] ? e->goal_by : "config");
        buf_printf(b, "%s\t%lld\t%lld\t%lld\t%s\t%lld\t%llx\t%s\n", e->alias, (long long)e->id,
                   (long long)e->create_us, (long long)e->update_us, e->goal_up ? "UP" : "DOWN",
                   (long long)e->goal_us, (unsigned long long)e->def_hash_all, by);
    }
}

/* In the helper, or in agentd when it exits. 0 or a positive errno, which is the helper's exit status. */
static int write_state(int out, void *arg)
{
    _cleanup_close_ int dirfd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1, fd = -1;
    struct buf b = BUF_INIT(64 << 20);
    int r = 0;

    if (dirfd < 0 || (lock = openat(dirfd, LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0 ||
        flock(lock, LOCK_EX) < 0 ||
        (fd = openat(dirfd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return errno;
    print_state(&b);
    r = b.error ? b.error : fd_write_all(fd, b.p, b.len);
    buf_free(&b);
    if (r < 0)
        return -r;
    if (fsync(fd) < 0 || renameat(dirfd, "state.new", dirfd, "state") < 0 || fsync(dirfd) < 0)
        return errno;
    return also ? -also() : 0;
}

static void on_write_end(int status, const char *p, size_t n, void *arg)
{
    writer = NULL;
    if (status != 0) {
        dirty = true;
        urgent = false;
        if (!retry)
            retry = loop_timer(RETRY_US, on_retry, NULL);
    }
    if (status != 0)
        log_error("store", "%s/state can't be written: %s; what was wanted may be lost after a reboot",
                  state_dir, status > 0 ? strerror(status) : "the helper did not end");
    if (status == 0)
        written = begun;
    if (on_written) /* those whose change is in it; the others wait for the next one */
        on_written(status == 0);
    if (status == 0 && urgent && !writer)
        start_write();
    else if (status == 0 && dirty)
        store_changed_soon();
}

static void start_write(void)
{
    dirty = urgent = false;
    if (collect)
        collect();
    loop_free(&retry);
    loop_free(&soon);
    begun++;
    writer = helper_start(write_state, NULL, on_write_end, NULL, WRITE_TIMEOUT_US, 16);
    if (writer)
        return;
    dirty = true;
    retry = loop_timer(RETRY_US, on_retry, NULL);
    if (on_written)
        on_written(false);
}

uint64_t store_changed(void)
{
    dirty = urgent = true;
    if (writer)
        return begun + 1;
    start_write();
    return begun;
}

uint64_t store_written(void)
{
    return written;
}

static void on_soon(int fd, short what, void *arg)
{
    loop_free(&soon);
    store_changed();
}

void store_changed_soon(void)
{
    dirty = true;
    if (!soon && !writer)
        soon = loop_timer(SOON_US, on_soon, NULL);
}

void store_also(int (*fn)(void))
{
    also = fn;
}

bool store_is_failing(void)
{
    return retry != NULL;
}

bool store_is_busy(void)
{
    return writer || urgent;
}

void store_on_written(void (*done)(bool ok))
{
    on_written = done;
}

void store_set_collect(void (*fn)(void))
{
    collect = fn;
}

void store_flush(void)
{
    if (!dirty && !writer)
        return;
    helper_cancel(&writer);
    if (collect)
        collect();
    write_state(-1, NULL);
}
