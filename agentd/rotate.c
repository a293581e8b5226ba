/* SPDX-License-Identifier: Apache-2.0 */
/* When is a file looked at? A watch for writes on a file that is written at full speed is an event a write, a
 * timer alone is a wake-up of a worker at rest, and a helper for each look is a fork. So each file is in one
 * of two ways: quiet    one watch that fires once (inotify, IN_ONESHOT), at the next write, and no timer: an
 * idle worker costs nothing; written  no watch, and a timer after which the size is asked of a descriptor
 * that can do nothing else (O_PATH, one fstat(2)): early enough for the pace of the last look, from 10 ms to
 * a second. Twice without a change: quiet. Only a cut takes a helper, which stays while the writer outruns
 * it. So a file can become longer than LogMaxSize= by what is written until the next look and during the
 * copy. */
#include "agentd/rotate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/event.h"
#include "agentd/helper.h"
#include "agentd/loop.h"
#include "agentd/rotate_gz.h"
#include "agentd/rotate_work.h"
#include "agentd/wk.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/caps.h"

#define OPEN_US 20000 /* after a start, which comes first */
#define LOOK_MIN_US 10000
#define LOOK_MAX_US 1000000
#define BUSY_US 1000000 /* no helper could be started */
#define STAY_US 4000000
#define STAY_BUSY_US 1000000 /* others may want a helper */
#define PUT_OFF_US 30000000
#define PUT_OFF_MAX_US 600000000
#define CUT_TIMEOUT_US 30000000   /* and a microsecond more for each 4 bytes */
#define TIMEOUT_MAX_US 7200000000 /* whatever the size is: it can be a hole */
#define PACK_TIMEOUT_US 600000000 /* and one for each byte */

struct rotate_file {
    LIST_ENTRY(rotate_file) link;
    TAILQ_ENTRY(rotate_file) turn;
    struct wk *w;
    bool of_error; /* of standard error alone */
    bool on, waits, wants_pack;
    bool anew;          /* the path may name another file since the helper began */
    bool again;         /* the last helper has cut it, so the next one can */
    int fd, wd, socket; /* fd: O_PATH; wd: of inotify; socket: of the helper */
    struct loop_watch *timer;
    struct helper *cutting, *packing;
    uint64_t size, base, seen_us, wait_us; /* at the last look; base: bytes before it are no lines */
    uint64_t put_off_us, not_before_us;    /* after a failure */
    char *said, *said_pack;
    struct rotate_ring *ring, last; /* of the helper, and of the one before */
};

struct rotate {
    struct rotate_file *file[2]; /* standard output (and error, if it is the same), standard error */
};

static LIST_HEAD(, rotate_file) files = LIST_HEAD_INITIALIZER(files);
static TAILQ_HEAD(, rotate_file) turns = TAILQ_HEAD_INITIALIZER(turns);
static unsigned n_cutting;
static struct rotate_ring *rings; /* shared with the helpers */
static bool ring_used[LIMIT_ROTATIONS];
static bool packing;
static int events_fd = -1;
static struct loop_watch *events_watch;

static void begin(struct rotate_file *f);
static void look(int fd, short what, void *arg);

/* --- what is said -----------------------------------------------------------------------------------------
 */

/* Once for each reason, and when it is over; why NULL: nothing is wrong. */
static void say(struct rotate_file *f, char **said, const char *done, const char *why)
{
    char text[32];

    if (why ? *said && str_eq(*said, why) : !*said)
        return;
    free(*said);
    *said = why ? strdup(why) : NULL;
    log_write(why ? LOG_WARNING : LOG_INFO, "rotate", &(struct log_about){.worker = f->w->def->alias},
              "its output %s %s%s%s", why ? "cannot be" : "is", done, why ? ": " : " again", why ? why : "");
    snprintf(text, sizeof(text), "%s%s", why ? "not " : "", done);
    event_log(f->w, text, why);
}

const char *rotate_trouble(const struct wk *w)
{
    for (unsigned i = 0; w->rotate && i < ARRAY_LEN(w->rotate->file); i++)
        if (w->rotate->file[i] && w->rotate->file[i]->said)
            return w->rotate->file[i]->said;
    return NULL;
}

static void put_off(struct rotate_file *f, const char *why)
{
    f->put_off_us = f->put_off_us ? 2 * f->put_off_us : PUT_OFF_US;
    if (f->put_off_us > PUT_OFF_MAX_US)
        f->put_off_us = PUT_OFF_MAX_US;
    f->not_before_us = clock_mono_us() + f->put_off_us;
    say(f, &f->said, "rotated", why);
}

/* --- one file ---------------------------------------------------------------------------------------------
 */

static const struct cfg_output_to *output_of(const struct rotate_file *f)
{
    return f->of_error ? &f->w->def->err : &f->w->def->out;
}

static bool is_wanted(const struct wk_def *d, int i)
{
    if (!d->log_max_size || (i ? d->err.kind : d->out.kind) != CFG_OUT_APPEND)
        return false;
    return i == 0 || d->out.kind != CFG_OUT_APPEND || !str_eq(d->out.path, d->err.path);
}

static struct rotate_job job_of(const struct rotate_file *f)
{
    const struct wk_def *d = f->w->def;

    return (struct rotate_job){output_of(f),
                               &d->ids,
                               d->log_max_size,
                               d->log_max_files,
                               d->log_compress,
                               NULL,
                               n_cutting < LIMIT_ROTATIONS / 2 ? STAY_US : STAY_BUSY_US};
}

/* False: a cut is being made. */
static bool find_cut(const struct rotate_ring *ring, uint64_t after_us, struct rotate_gone *first)
{
    uint32_t n = __atomic_load_n(&ring->n, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < n && i < ARRAY_LEN(ring->gone); i++) {
        uint64_t at = __atomic_load_n(&ring->gone[i].at_us, __ATOMIC_ACQUIRE);
        if (at == ROTATE_GOING)
            return false;
        if (at > after_us && at < first->at_us)
            *first = (struct rotate_gone){at, ring->gone[i].shift};
    }
    return true;
}

/* The first cut after the file was error_size long tells what had been cut off until then, whichever worker
 * it was made for. */
bool rotate_note(struct wk *w)
{
    struct rotate_gone first = {.at_us = UINT64_MAX};
    const struct rotate_file *f;
    bool all = true;

    if (w->error_size < 0 || w->error_moved || w->def->err.kind != CFG_OUT_APPEND)
        return true;
    LIST_FOREACH (f, &files, link) {
        if (!is_wanted(f->w->def, f->of_error) || !str_eq(output_of(f)->path, w->def->err.path))
            continue;
        find_cut(&f->last, w->error_at_us, &first);
        if (f->ring)
            all = find_cut(f->ring, w->error_at_us, &first) && all;
    }
    w->error_moved = first.at_us != UINT64_MAX;
    w->error_shift = first.shift;
    return all || w->error_moved;
}

static void drop_ring(struct rotate_file *f)
{
    if (!f->ring)
        return;
    f->last = *f->ring;
    ring_used[f->ring - rings] = false;
    f->ring = NULL;
    if (f->last.n && f->last.n <= ARRAY_LEN(f->last.gone) &&
        f->last.gone[f->last.n - 1].at_us == ROTATE_GOING)
        f->last.gone[f->last.n - 1].at_us = clock_mono_us(); /* it was killed */
    rotate_note(f->w);
}

static struct rotate_ring *get_ring(void)
{
    void *p;

    if (!rings) {
        p = mmap(NULL, LIMIT_ROTATIONS * sizeof(*rings), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
        if (p == MAP_FAILED)
            return NULL;
        rings = p;
    }
    for (unsigned i = 0; i < LIMIT_ROTATIONS; i++)
        if (!ring_used[i]) {
            ring_used[i] = true;
            rings[i].n = 0;
            return &rings[i];
        }
    return NULL;
}

static uint64_t timeout_of(uint64_t us, uint64_t more)
{
    return us + (more < TIMEOUT_MAX_US ? more : TIMEOUT_MAX_US);
}

static int run_nothing(int out, void *arg)
{
    return 0;
}

/* Whoever closes the last descriptor of a file without a name waits until its blocks are free: a helper. */
static void let_go(struct rotate_file *f)
{
    struct stat st;

    if (f->wd >= 0)
        inotify_rm_watch(events_fd, f->wd);
    f->wd = -1;
    if (f->fd >= 0 && fstat(f->fd, &st) == 0 && st.st_nlink == 0)
        helper_start_keeping(&f->fd, 1, run_nothing, NULL, NULL, NULL, CUT_TIMEOUT_US, 1);
    f->fd = fd_close(f->fd);
}

static void leave_turn(struct rotate_file *f)
{
    if (f->waits)
        TAILQ_REMOVE(&turns, f, turn);
    f->waits = false;
}

static void forget(struct rotate_file *f)
{
    struct rotate *r = f->w->rotate;

    if (f->cutting)
        n_cutting--;
    if (f->packing)
        packing = false;
    helper_cancel(&f->cutting);
    helper_cancel(&f->packing);
    drop_ring(f);
    leave_turn(f);
    loop_free(&f->timer);
    let_go(f);
    fd_close(f->socket);
    LIST_REMOVE(f, link);
    r->file[f->of_error] = NULL;
    if (!r->file[0] && !r->file[1])
        free(TAKE_PTR(f->w->rotate));
    free(f->said);
    free(f->said_pack);
    free(f);
    if (LIST_EMPTY(&files)) {
        loop_free(&events_watch);
        events_fd = fd_close(events_fd);
    }
}

static void look_in(struct rotate_file *f, uint64_t us)
{
    f->wait_us = us;
    loop_free(&f->timer);
    f->timer = loop_timer(us, look, f);
}

/* --- quiet ------------------------------------------------------------------------------------------------
 */

static void on_events(int fd, short what, void *arg)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct rotate_file *f;
    ssize_t n = read(events_fd, buf, sizeof(buf));

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(buf + at);
        at += (ssize_t)(sizeof(*e) + e->len);
        LIST_FOREACH (f, &files, link)
            if (f->wd == e->wd) { /* also if another one has removed the watch that both had */
                f->wd = -1;
                f->seen_us = clock_mono_us(); /* its pace is that from now on */
                look_in(f, LOOK_MIN_US);
            }
    }
}

static int watch_for_writes(struct rotate_file *f)
{
    enum caps_scope scope;
    char path[32];
    int wd;

    if (events_fd < 0) {
        events_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        events_watch = events_fd < 0 ? NULL : loop_io(events_fd, LOOP_READ, on_events, NULL);
        if (!events_watch)
            events_fd = fd_close(events_fd);
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd); /* no path of the worker's is walked */
    scope = caps_enter(CAPS_LOOK);
    wd = events_fd < 0 ? -1 : inotify_add_watch(events_fd, path, IN_MODIFY | IN_ONESHOT);
    caps_enter(scope);
    return wd;
}

static bool get_size(const struct rotate_file *f, uint64_t *size, bool *gone)
{
    struct stat st;

    if (f->fd < 0 || fstat(f->fd, &st) < 0)
        return false;
    *size = (uint64_t)st.st_size;
    *gone = st.st_nlink == 0;
    return true;
}

static void be_quiet(struct rotate_file *f)
{
    uint64_t size = f->size;
    bool gone;

    f->wd = watch_for_writes(f);
    if (f->wd < 0) {
        log_debug("rotate", "%s: no watch: %s", f->w->def->alias, strerror(errno));
        look_in(f, LOOK_MAX_US);                               /* no inotify left: it costs what it costs */
    } else if (get_size(f, &size, &gone) && size != f->size) { /* before there was a watch */
        look_in(f, LOOK_MIN_US);
    }
}

/* --- written ----------------------------------------------------------------------------------------------
 */

/* Half the time that it takes at this pace to become too long. */
static uint64_t next_look(const struct rotate_file *f, uint64_t size, uint64_t now)
{
    uint64_t lines = size - f->base, limit = f->w->def->log_max_size;
    double left = lines < limit ? (double)(limit - lines) : 0;
    double us = left * (double)(now - f->seen_us) / (double)(size - f->size) / 2;

    if (now < f->not_before_us || us > LOOK_MAX_US)
        return LOOK_MAX_US;
    return us < LOOK_MIN_US ? LOOK_MIN_US : (uint64_t)us;
}

static void look(int unused, short what, void *arg)
{
    struct rotate_file *f = arg;
    uint64_t now = clock_mono_us(), size, before = f->size, wait;
    bool gone, may = now >= f->not_before_us;

    loop_free(&f->timer);
    if (!get_size(f, &size, &gone)) {
        if (may)
            begin(f);
        else
            look_in(f, f->not_before_us - now);
        return;
    }
    if (size < f->base)
        f->base = 0; /* truncated by whoever */
    if (may && (size != before || f->again) && (gone || size - f->base >= f->w->def->log_max_size)) {
        begin(f);
        return;
    }
    wait = size > before ? next_look(f, size, now) : f->wait_us < LOOK_MAX_US ? LOOK_MAX_US : 0;
    f->size = size;
    f->seen_us = now;
    if (wait || size < before)
        look_in(f, wait ? wait : LOOK_MAX_US);
    else
        be_quiet(f);
}

/* --- compression ------------------------------------------------------------------------------------------
 */

static void pack_next(void);

static void on_packed(int status, const char *p, size_t n, void *arg)
{
    struct rotate_file *f = arg;

    f->packing = NULL;
    packing = false;
    f->wants_pack = status == ROTATE_GZ_MORE;
    if (status == ROTATE_GZ_MORE || status == ROTATE_GZ_DONE)
        say(f, &f->said_pack, "compressed", NULL);
    else
        say(f, &f->said_pack, "compressed", n ? p : "its helper was killed, or took too long");
    if (!f->on && !f->cutting && !f->waits && !f->wants_pack)
        forget(f);
    pack_next();
}

/* One on the host: it takes a processor. */
static void pack_next(void)
{
    struct rotate_file *f;
    static struct rotate_job job; /* read by the helper's copy, at once */

    LIST_FOREACH (f, &files, link)
        if (f->wants_pack && f->w->def->log_compress)
            break;
    if (packing || !f)
        return;
    job = job_of(f);
    f->wants_pack = false;
    f->packing = helper_start(rotate_gz_run, &job, on_packed, f, timeout_of(PACK_TIMEOUT_US, job.limit), 256);
    packing = f->packing != NULL;
    if (!packing && !f->on && !f->cutting && !f->waits)
        forget(f);
}

/* --- the cut ----------------------------------------------------------------------------------------------
 */

static void take_file(struct rotate_file *f)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c;

    if (recvmsg(f->socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 && (c = CMSG_FIRSTHDR(&m)) &&
        c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
        let_go(f);
        memcpy(&f->fd, CMSG_DATA(c), sizeof(int));
    }
    f->socket = fd_close(f->socket);
}

static void take_report(struct rotate_file *f, const struct rotate_report *r)
{
    f->base = r->base;
    f->again = r->cuts > 0;
    if (r->cuts)
        log_write(LOG_DEBUG, "rotate", &(struct log_about){.worker = f->w->def->alias},
                  "%s: rotated %u times", output_of(f)->path, r->cuts);
    if (r->error) {
        put_off(f, r->why);
        return;
    }
    f->put_off_us = f->not_before_us = 0;
    say(f, &f->said, "rotated", NULL);
    f->wants_pack = f->wants_pack || r->packs;
}

static void on_cut(int status, const char *p, size_t n, void *arg)
{
    struct rotate_file *f = arg, *next;
    struct rotate_report report;
    bool gone;

    f->cutting = NULL;
    n_cutting--;
    drop_ring(f);
    take_file(f);
    if (f->anew)
        let_go(f);
    f->anew = false;
    if (status == 0 && n == sizeof(report)) {
        memcpy(&report, p, sizeof(report));
        take_report(f, &report);
    } else {
        put_off(f, "its helper was killed, or took too long");
    }
    if ((next = TAILQ_FIRST(&turns))) {
        leave_turn(next);
        begin(next);
    }
    if (f->on) {
        get_size(f, &f->size, &gone);
        f->seen_us = clock_mono_us();
        look_in(f, LOOK_MIN_US);
    } else if (!f->packing && !f->wants_pack && f->w->state != WK_STARTING) {
        forget(f); /* not while a start is being made: it may have to hear of what was cut, see rotate_note */
    }
    pack_next();
}

static void begin(struct rotate_file *f)
{
    static struct rotate_job job; /* read by the helper's copy, at once */
    int pair[2];

    if (f->cutting || f->waits || !is_wanted(f->w->def, f->of_error))
        return;
    loop_free(&f->timer);
    if (n_cutting >= LIMIT_ROTATIONS) { /* folders that hang must not take all helpers */
        f->waits = true;
        TAILQ_INSERT_TAIL(&turns, f, turn);
        return;
    }
    job = job_of(f);
    job.ring = f->ring = get_ring();
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0) {
        f->socket = pair[0];
        f->cutting =
            helper_start_keeping(&pair[1], 1, rotate_work_run, &job, on_cut, f,
                                 timeout_of(CUT_TIMEOUT_US, f->size / 4), sizeof(struct rotate_report) + 1);
        fd_close(pair[1]);
    }
    if (f->cutting) {
        n_cutting++;
        return;
    }
    drop_ring(f);
    f->socket = fd_close(f->socket);
    f->not_before_us = clock_mono_us() + BUSY_US;
    look_in(f, BUSY_US);
}

/* --- of a worker ------------------------------------------------------------------------------------------
 */

static struct rotate_file *get_file(struct wk *w, int i)
{
    struct rotate_file *f;

    if (!w->rotate && !(w->rotate = calloc(1, sizeof(*w->rotate))))
        return NULL;
    if (w->rotate->file[i])
        return w->rotate->file[i];
    if (!(f = w->rotate->file[i] = calloc(1, sizeof(*f))))
        return NULL;
    f->w = w;
    f->of_error = i;
    f->fd = f->wd = f->socket = -1;
    LIST_INSERT_HEAD(&files, f, link);
    return f;
}

/* It is forgotten when its helpers are done. */
static void end(struct rotate_file *f)
{
    uint64_t size = 0;
    bool gone;

    f->on = false;
    f->wants_pack = f->wants_pack && f->w->def->log_compress && is_wanted(f->w->def, f->of_error);
    loop_free(&f->timer);
    leave_turn(f);
    if (!f->cutting && is_wanted(f->w->def, f->of_error) && clock_mono_us() >= f->not_before_us &&
        get_size(f, &size, &gone) && size >= f->base && size - f->base >= f->w->def->log_max_size)
        begin(f);
    loop_free(&f->timer); /* no helper: not now, then */
    let_go(f);
    if (!f->cutting && !f->packing && !f->waits && !f->wants_pack)
        forget(f);
}

static void open_anew(struct rotate_file *f)
{
    f->not_before_us = 0;
    let_go(f);
    f->anew = f->cutting != NULL;
    look_in(f, OPEN_US);
}

void rotate_again(void)
{
    struct rotate_file *f;

    LIST_FOREACH (f, &files, link)
        if (f->on)
            open_anew(f);
}

void rotate_watch(struct wk *w, bool on)
{
    if (w->part != WK_ONLY) /* two at once write to one file, and one of them has it cut */
        return;
    for (int i = 0; i < 2; i++) {
        struct rotate_file *f = w->rotate ? w->rotate->file[i] : NULL;
        if (on && is_wanted(w->def, i) && (f = get_file(w, i))) {
            f->on = true;
            open_anew(f); /* the path may name another one now */
        } else if (f) {
            end(f);
        }
    }
}

void rotate_free(struct wk *w)
{
    for (int i = 0; i < 2; i++)
        if (w->rotate && w->rotate->file[i])
            forget(w->rotate->file[i]);
}
