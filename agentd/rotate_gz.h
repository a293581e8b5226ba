/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_gz: the helper that compresses what was rotated. It goes on while the same file is rotated:
 * the names move under it, so it finds its file again, under the lock, before the compressed one takes its
 * place. */
#ifndef AGENTD_ROTATE_GZ_H
#define AGENTD_ROTATE_GZ_H

#include "agentd/rotate_dir.h"

/* helper_run_fn; arg: struct rotate_job. Compresses one file: NAME.2 or the first behind it that is not. The
 * answer is empty, or why it could not. Exit status ROTATE_GZ_MORE: there may be another one. */
int rotate_gz_run(int out, void *arg);
#define ROTATE_GZ_DONE 0
#define ROTATE_GZ_MORE 10
#define ROTATE_GZ_FAILED 11

#endif
