/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs: files of workers for the API. They lie where the worker's user may plant links, FIFOs and
 * devices: a helper under that user's ids opens them, agentd never does; their bytes go from the helper
 * straight to the listener. */
#ifndef AGENTD_LOGS_H
#define AGENTD_LOGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/cfg.h"
#include "agentd/helper.h"

/* In a helper that has become the worker's user: opens a file relative to dir, for access (O_RDONLY, O_RDWR),
 * which must be a regular file with one name, of root or of this user. A descriptor, or -errno with why
 * filled in. */
int logs_open_at(int dir, const char *path, int access, const struct cfg_ids *ids, char *why, size_t size);
int logs_open_file(const char *path, const struct cfg_ids *ids, char *why, size_t size);

/* Lists the files of LogFilePattern and the captured output: lines "name\tsize\tmtime_us\n". */
struct helper *logs_list(const struct wk_def *def, helper_done_fn done, void *arg);

/* Is that path the captured output, or would LogFilePattern find it there? Looks at no file. */
bool logs_is_log(const struct wk_def *def, const char *path);

struct logs_range {
    uint64_t from; /* UINT64_MAX: limit bytes before the end */
    uint64_t limit;
    uint64_t device, inode; /* of the file that from is in, whatever its name is by now; 0: the named one's */
    bool follow;
};

/* Starts a helper that writes a struct wire_log_head and the file's bytes into a pipe (wire/logstream.h); the
 * reading end, or -errno; -EAGAIN: too many wait for this worker's folder. */
int logs_stream(int64_t worker, const struct wk_def *def, const char *name, const struct logs_range *range);

#endif
