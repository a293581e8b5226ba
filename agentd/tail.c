/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/tail.h"

#include <time.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "agentd/rotate.h"
#include "agentd/rotate_head.h"
#include "agentd/rotate_read.h"
#include "agentd/wk.h"
#include "base/fd.h"
#include "base/limits.h"

#define TRIES 200 /* while the file is being cut */
#define PAUSE_NS 1000000

/* The place where this start's lines begin. 0 or -errno. */
static int find_begin(struct wk *w, int fd, uint64_t *ret)
{
    struct rotate_head h;
    int r;

    for (int i = 0;; i++) {
        if ((r = rotate_head_read(fd, &h)) < 0)
            return r;
        if (rotate_note(w) || i == TRIES) /* in this order: a cut in between is told by the second */
            break;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    *ret = (uint64_t)w->error_size + (w->error_moved ? w->error_shift : h.shift);
    return 0;
}

static ssize_t read_last(struct wk *w, struct rotate_read *r, char *text)
{
    uint64_t begin, end;
    size_t n = 0;
    ssize_t got;

    if (find_begin(w, r->fd, &begin) < 0 || rotate_read_begin(r, UINT64_MAX, 0, &end) < 0 || begin > end)
        return -1;
    if (end - begin > LIMIT_STDERR_TAIL)
        begin = end - LIMIT_STDERR_TAIL;
    if (rotate_read_begin(r, begin, 0, &end) < 0)
        return -1;
    while (n < LIMIT_STDERR_TAIL && (got = rotate_read(r, text + n, LIMIT_STDERR_TAIL - n)) > 0)
        n += (size_t)got;
    return (ssize_t)n;
}

static int run_tail(int out, void *arg)
{
    struct wk *w = arg;
    char why[128], text[LIMIT_STDERR_TAIL + 1];
    struct rotate_read file = {w->def->err.path, &w->def->ids, -1, false, 0};
    int lines = 0;
    ssize_t n;

    if (helper_become(file.ids) < 0 ||
        (file.fd = logs_open_file(file.path, file.ids, why, sizeof(why))) < 0 ||
        (n = read_last(w, &file, text)) < 0)
        return 1;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *at = text + n;
    while (at > text && (at[-1] != '\n' || ++lines < LIMIT_STDERR_LINES))
        at--;
    return fd_write_all(out, at, (size_t)(text + n - at)) < 0;
}

struct helper *tail_start(struct wk *w, helper_done_fn done, void *arg)
{
    if (w->def->err.kind != CFG_OUT_APPEND)
        return NULL;
    return helper_start(run_tail, w, done, arg, 2000000, LIMIT_STDERR_TAIL + 1);
}
