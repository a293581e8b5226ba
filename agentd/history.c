/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/link.h"
#include "agentd/op.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/pidref.h"

#define NAME "history"
#define SLOT 256 /* the sizes on disk are for good */
#define BLOCK (SLOT * (1 + LIMIT_HISTORY))
#define MAX_BYTES ((off_t)SLOT + (off_t)BLOCK * LIMIT_WORKERS)

struct head {
    char magic[16];
    uint32_t slots; /* of a block */
};
/* The first of a block. */
struct owner {
    uint64_t sum;
    char alias[LIMIT_ALIAS + 1];
};
struct slot {
    uint64_t sum; /* over what follows */
    struct history_entry e;
};
union block_slot {
    struct owner owner;
    struct slot s;
    char bytes[SLOT];
};
_Static_assert(sizeof(union block_slot) == SLOT && sizeof(struct head) <= SLOT, "a slot holds them");

static const char magic[16] = "agentd history1";
static int fd = -1;
/* Of each block: what its alias comes to, and its newest record's count, 0: not looked at yet. */
static struct {
    uint32_t hash, newest;
} * blocks;
static unsigned n_blocks;
static uint64_t boot;
static bool failing;

static uint32_t hash_of(const char *alias)
{
    return (uint32_t)str_hash(STR_HASH_INIT, alias, strlen(alias));
}

static uint64_t sum_of(const void *p, size_t n)
{
    return str_hash(STR_HASH_INIT, p, n);
}

static off_t block_at(unsigned block)
{
    return (off_t)SLOT + (off_t)BLOCK * block;
}

/* --- the file ----------------------------------------------------------------------------------------- */

static void note_failure(int r)
{
    if (r < 0 && !failing)
        log_error("history", "the history of workers can't be written: %s", strerror(-r));
    failing = r < 0;
}

static int write_slot(off_t at, const union block_slot *s)
{
    ssize_t n = pwrite(fd, s, SLOT, at);

    return n == SLOT ? 0 : n < 0 ? -errno : -ENOSPC;
}

static bool read_owner(unsigned block, char alias[LIMIT_ALIAS + 1])
{
    union block_slot s = {.bytes = ""};

    if (fd_read_at(fd, &s, SLOT, block_at(block)) < (ssize_t)sizeof(s.owner) ||
        s.owner.sum != sum_of(s.owner.alias, sizeof(s.owner.alias)) || s.owner.alias[LIMIT_ALIAS])
        return false;
    str_copy(alias, LIMIT_ALIAS + 1, s.owner.alias);
    return true;
}

static bool set_owner(unsigned block, const char *alias)
{
    union block_slot s = {.bytes = ""};
    static const char empty[BLOCK - SLOT];
    int r;

    str_copy(s.owner.alias, sizeof(s.owner.alias), alias);
    s.owner.sum = sum_of(s.owner.alias, sizeof(s.owner.alias));
    if (block < n_blocks && pwrite(fd, empty, sizeof(empty), block_at(block) + SLOT) < 0) /* another one's */
        return false;
    if ((r = write_slot(block_at(block), &s)) < 0) {
        note_failure(r);
        return false;
    }
    blocks[block].hash = hash_of(alias);
    blocks[block].newest = 0;
    return true;
}

static bool grow(unsigned n)
{
    void *p;

    if (n > LIMIT_WORKERS)
        return false;
    if (n % 64 != 1)
        return true;
    if (!(p = realloc(blocks, (n + 63) * sizeof(*blocks))))
        return false;
    blocks = p;
    return true;
}

static int start_anew(void)
{
    union block_slot s = {.bytes = ""};
    struct head *h = (void *)&s;

    memcpy(h->magic, magic, sizeof(magic));
    h->slots = LIMIT_HISTORY;
    return ftruncate(fd, 0) < 0 ? -errno : write_slot(0, &s);
}

static int read_blocks(off_t size)
{
    char alias[LIMIT_ALIAS + 1];

    for (; block_at(n_blocks) < size; n_blocks++) {
        if (!grow(n_blocks + 1))
            return -ENOMEM;
        blocks[n_blocks].hash = read_owner(n_blocks, alias) ? hash_of(alias) : 0;
        blocks[n_blocks].newest = 0;
    }
    return 0;
}

static int open_file(const char *dir)
{
    _cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    union block_slot s = {.bytes = ""};
    const struct head *h = (void *)&s;
    struct stat st;

    if (dirfd < 0 ||
        (fd = openat(dirfd, NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)) < 0 ||
        fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EPERM;
    if (fd_read_at(fd, &s, SLOT, 0) == SLOT && memcmp(h->magic, magic, sizeof(magic)) == 0 &&
        h->slots == LIMIT_HISTORY && st.st_size <= MAX_BYTES)
        return read_blocks(st.st_size);
    return start_anew();
}

int history_open(const char *state_dir)
{
    int r;

    boot = sum_of(pidref_boot_id(), strlen(pidref_boot_id()));
    if ((r = open_file(state_dir)) < 0)
        fd = fd_close(fd);
    note_failure(r);
    return r;
}

void history_close(void)
{
    fd = fd_close(fd);
    free(TAKE_PTR(blocks));
    n_blocks = 0;
}

bool history_is_failing(void)
{
    return failing;
}

int history_sync(const char *state_dir)
{
    _cleanup_close_ int dirfd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                        file = dirfd < 0 ? -1 : openat(dirfd, NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (file < 0)
        return dirfd >= 0 && errno == ENOENT ? 0 : -errno;
    return fdatasync(file) < 0 ? -errno : 0;
}

/* --- blocks ------------------------------------------------------------------------------------------- */

static int find_alias(const char *alias)
{
    uint32_t hash = hash_of(alias);
    char owner[LIMIT_ALIAS + 1];

    for (unsigned i = 0; i < n_blocks; i++)
        if (blocks[i].hash == hash && read_owner(i, owner) && str_eq(owner, alias))
            return (int)i;
    return -1;
}

/* -1: it has none. */
static int block_of(const struct wk *w)
{
    return fd < 0 ? -1 : w->history ? (int)w->history - 1 : find_alias(w->def->alias);
}

/* When there is no room for another: one of a worker that is not there any more. */
static int give_up_one(const char *alias)
{
    char owner[LIMIT_ALIAS + 1];

    for (unsigned i = 0; i < n_blocks; i++)
        if (!read_owner(i, owner) || !link_find_worker(owner))
            return set_owner(i, alias) ? (int)i : -1;
    return -1;
}

static int make_block(const char *alias)
{
    int spare = find_alias("");

    if (spare >= 0)
        return set_owner((unsigned)spare, alias) ? spare : -1;
    if (!grow(n_blocks + 1))
        return give_up_one(alias);
    if (!set_owner(n_blocks, alias))
        return -1;
    return (int)n_blocks++;
}

static off_t slot_at(int block, uint32_t n)
{
    return block_at((unsigned)block) + SLOT + (off_t)SLOT * (n % LIMIT_HISTORY);
}

/* The record, if it is whole; else its n is 0. */
static void take(union block_slot *s, struct history_entry *ret)
{
    struct history_entry *e = &s->s.e;
    bool good = s->s.sum == sum_of(e, sizeof(*e)) && e->end < HISTORY_END_MAX && e->n;

    e->how[sizeof(e->how) - 1] = e->why[sizeof(e->why) - 1] = e->operation[sizeof(e->operation) - 1] =
        e->actor[sizeof(e->actor) - 1] = 0;
    *ret = good ? *e : (struct history_entry){0};
}

/* What stands in a block; those that are not whole have n 0. */
static void read_block(int block, struct history_entry v[LIMIT_HISTORY])
{
    static union block_slot s[LIMIT_HISTORY];
    uint32_t newest = 0;

    memset(s, 0, sizeof(s)); /* the last block ends where its last record does */
    if (fd_read_at(fd, s, sizeof(s), slot_at(block, 0)) < 0)
        memset(s, 0, sizeof(s));
    for (unsigned i = 0; i < LIMIT_HISTORY; i++) {
        take(&s[i], &v[i]);
        newest = v[i].n > newest ? v[i].n : newest;
    }
    blocks[block].newest = newest;
}

static void put(int block, const struct history_entry *e)
{
    union block_slot s;

    memset(&s, 0, sizeof(s)); /* also between the fields: the sum is over them */
    memcpy(&s.s.e, e, sizeof(*e));
    s.s.sum = sum_of(&s.s.e, sizeof(s.s.e));
    note_failure(write_slot(slot_at(block, e->n), &s));
    if (e->n > blocks[block].newest)
        blocks[block].newest = e->n;
}

static bool is_of(const struct history_entry *e, uint32_t generation)
{
    return e->n && e->boot == boot && e->generation == generation;
}

/* That generation's, of this boot: mostly the newest one. */
static bool find(int block, uint32_t generation, struct history_entry *ret)
{
    struct history_entry v[LIMIT_HISTORY];
    union block_slot s = {.bytes = ""};
    uint32_t newest = blocks[block].newest, found = 0;

    if (newest && fd_read_at(fd, &s, SLOT, slot_at(block, newest)) > 0) {
        take(&s, ret);
        if (is_of(ret, generation))
            return true;
        if (ret->n && ret->boot == boot && ret->generation < generation)
            return false; /* they only grow */
    }
    read_block(block, v);
    for (unsigned i = 0; i < LIMIT_HISTORY; i++)
        if (is_of(&v[i], generation) && v[i].n > found) {
            found = v[i].n;
            *ret = v[i];
        }
    return found != 0;
}

/* --- what happens ------------------------------------------------------------------------------------- */

/* Whose wish it is that it is started. */
static void note_asker(const struct wk *w, struct history_entry *e)
{
    const struct op *o = w->op ? w->op : w->part == WK_NEXT && w->twin ? w->twin->op : NULL;
    const char *by = w->goal_by && w->goal_by[0] ? w->goal_by : "config";

    if (o && o->verb != WIRE_VERB_STOP) {
        str_copy(e->operation, sizeof(e->operation), o->id);
        by = o->actor;
    } else if (w->reason != WK_WHY_WANTED) {
        by = "agentd";
    }
    str_copy(e->actor, sizeof(e->actor), by);
}

/* agentd may have died before a generation was on record elsewhere, as that of a second instance that was to
 * take over is not: then it is counted again, and what nobody saw the end of gives its place. */
static uint32_t number_of(int block, uint32_t generation)
{
    struct history_entry old;

    if (find(block, generation, &old) && (!old.end || !old.pid || old.end == HISTORY_UNKNOWN))
        return old.n;
    return blocks[block].newest + 1;
}

void history_begin(struct wk *w)
{
    struct history_entry e;
    int block = block_of(w);

    if (fd < 0 || (block < 0 && (block = make_block(w->def->alias)) < 0))
        return;
    w->history = (uint32_t)block + 1;
    memset(&e, 0, sizeof(e));
    e.boot = boot;
    e.n = number_of(block, w->generation);
    e.generation = w->generation;
    e.begun_us = w->main.pid ? w->started_us : clock_wall_us();
    str_copy(e.how, sizeof(e.how), w->main.pid ? "adopted" : wk_fsm_reason_name(w->reason));
    note_asker(w, &e);
    put(block, &e);
}

void history_ready(const struct wk *w)
{
    struct history_entry e;
    int block = block_of(w);

    if (block < 0 || !find(block, w->generation, &e) || e.ready_us || e.end)
        return;
    e.ready_us = clock_wall_us();
    e.pid = w->main.pid;
    put(block, &e);
}

void history_forget(struct wk *w)
{
    int block = block_of(w);

    w->history = 0;
    if (block >= 0)
        set_owner((unsigned)block, "");
}

static enum history_end end_of(const struct wk *w)
{
    static const uint8_t ends[] = {[WK_END_EXITED] = HISTORY_EXITED,
                                   [WK_END_SIGNALLED] = HISTORY_KILLED,
                                   [WK_END_DUMPED] = HISTORY_DUMPED,
                                   [WK_END_UNKNOWN] = HISTORY_UNKNOWN,
                                   [WK_END_SPAWN_FAILED] = HISTORY_SPAWN_FAILED,
                                   [WK_END_TIMEOUT] = HISTORY_TIMEOUT};

    return w->last_oom.main ? HISTORY_OOM : ends[w->last.end];
}

/* Before the event of its end: in STOPPING and KILLING the reason says who has asked for it. */
static const char *why_of(const struct wk *w, bool seen)
{
    if (!seen)
        return wk_fsm_reason_name(WK_WHY_UNOBSERVED);
    if (w->state == WK_STOPPING || w->state == WK_KILLING)
        return wk_fsm_reason_name(w->reason);
    return wk_fsm_reason_name(w->last_oom.main ? WK_WHY_OOM : WK_WHY_EXITED);
}

/* One whose end was not noted: w's last one, if it can be that. */
static void end(const struct wk *w, struct history_entry *e, bool seen)
{
    bool known = w->last.at_us >= e->begun_us && (!e->pid || !w->last.pid || e->pid == w->last.pid);

    e->end = HISTORY_UNKNOWN;
    if (known && (seen || w->last.end != WK_END_UNKNOWN)) {
        e->end = (uint8_t)end_of(w);
        e->status = w->last.status;
        e->pid = w->last.pid ? w->last.pid : e->pid;
        e->ended_us = w->last.at_us;
    }
    if (seen)
        e->ended_us = e->ended_us ? e->ended_us : clock_wall_us();
    str_copy(e->why, sizeof(e->why), why_of(w, seen));
}

void history_ended(const struct wk *w)
{
    struct history_entry e;
    int block = block_of(w);

    if (block < 0 || !find(block, w->generation, &e) || e.end)
        return;
    end(w, &e, true);
    put(block, &e);
}

void history_given(const struct wk *w)
{
    struct history_entry e;
    int block = block_of(w);

    if (block < 0 || !find(block, w->generation, &e) || e.end)
        return;
    e.end = HISTORY_UNKNOWN;
    e.ended_us = clock_wall_us();
    str_copy(e.why, sizeof(e.why), "released");
    put(block, &e);
}

/* An agentd that died over an adoption, or without room on its disk, has not written down that it began. */
static void begin_if_missing(struct wk *w)
{
    struct history_entry e;
    int block = block_of(w);

    if (!w->main.pid || (block >= 0 && find(block, w->generation, &e)))
        return;
    history_begin(w);
    if (w->state == WK_UP)
        history_ready(w);
}

void history_settle(struct wk *w)
{
    struct history_entry v[LIMIT_HISTORY];
    int block = block_of(w);
    bool runs = w->main.pid || w->held.pid || w->state != WK_DOWN;

    begin_if_missing(w);
    if (block < 0)
        return;
    read_block(block, v);
    for (unsigned i = 0; i < LIMIT_HISTORY; i++) {
        bool current = v[i].boot == boot && v[i].generation == w->generation;
        if (!v[i].n || v[i].end || (current && runs))
            continue;
        end(w, &v[i], false);
        put(block, &v[i]);
    }
}

/* --- reading ------------------------------------------------------------------------------------------ */

static int by_age(const void *a, const void *b)
{
    uint32_t x = ((const struct history_entry *)a)->n, y = ((const struct history_entry *)b)->n;

    return x < y ? 1 : x > y ? -1 : 0;
}

unsigned history_read(const struct wk *w, struct history_entry ret[LIMIT_HISTORY])
{
    int block = block_of(w);
    unsigned n = 0;

    if (block < 0)
        return 0;
    read_block(block, ret);
    for (unsigned i = 0; i < LIMIT_HISTORY; i++)
        if (w->main.pid && is_of(&ret[i], w->generation) && !ret[i].end)
            ret[i].pid = w->main.pid;
    qsort(ret, LIMIT_HISTORY, sizeof(*ret), by_age);
    while (n < LIMIT_HISTORY && ret[n].n)
        n++;
    return n;
}

bool history_is_this_boot(const struct history_entry *e)
{
    return e->boot == boot;
}

const char *history_end_name(unsigned end)
{
    static const char *const names[HISTORY_END_MAX] = {[HISTORY_OPEN] = "",
                                                       [HISTORY_EXITED] = "exited",
                                                       [HISTORY_KILLED] = "killed",
                                                       [HISTORY_DUMPED] = "dumped",
                                                       [HISTORY_OOM] = "oom-killed",
                                                       [HISTORY_UNKNOWN] = "unknown",
                                                       [HISTORY_SPAWN_FAILED] = "spawn-failed",
                                                       [HISTORY_TIMEOUT] = "timeout"};

    return end < HISTORY_END_MAX ? names[end] : "";
}
