/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/tail.h"

#include <sys/stat.h>
#include <unistd.h>

#include "agentd/logs.h"
#include "base/fd.h"
#include "base/limits.h"
struct tail_args {
    const struct wk_def *def;
    uint64_t from;
};
static struct tail_args tail_args; /* read by the helper's copy, at once */

static int run_tail(int out, void *arg)
{
    const struct tail_args *a = arg;
    const struct cfg_output_to *o = &a->def->err;
    char why[128], text[LIMIT_STDERR_TAIL + 1];
    struct stat st;
    uint64_t from = a->from;
    int fd, lines = 0;
    ssize_t n;

    if (helper_become(&a->def->ids) < 0 ||
        (fd = logs_open_file(o->path, &a->def->ids, why, sizeof(why))) < 0 || fstat(fd, &st) < 0)
        return 1;
    if ((uint64_t)st.st_size > from + LIMIT_STDERR_TAIL)
        from = (uint64_t)st.st_size - LIMIT_STDERR_TAIL;
    n = pread(fd, text, LIMIT_STDERR_TAIL, (off_t)from);
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

struct helper *tail_start(const struct wk_def *def, uint64_t from, helper_done_fn done, void *arg)
{
    if (def->err.kind != CFG_OUT_APPEND)
        return NULL;
    tail_args = (struct tail_args){def, from};
    return helper_start(run_tail, &tail_args, done, arg, 2000000, LIMIT_STDERR_TAIL + 1);
}
