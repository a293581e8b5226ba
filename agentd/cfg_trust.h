/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_trust: opens a file or folder only if nobody but root or agentd's own user can change what its
 * path leads to: each folder on the way, each symbolic link, and the file itself. Each step is judged on the
 * descriptor that the next step starts from, so that nothing can be exchanged in between. */
#ifndef AGENTD_CFG_TRUST_H
#define AGENTD_CFG_TRUST_H

#include "base/err.h"

#define CFG_TRUST_DIR 1u /* a folder is wanted; else a regular file, or /dev/null */

/* Opens path for reading. A relative path starts at dir, which must have come from here, or AT_FDCWD.
 * The descriptor, or -errno with a sentence in e: -ENOENT if it is not there, -EPERM if it is not trusted. */
int cfg_trust_open(int dir, const char *path, unsigned flags, struct err *e);

#endif
