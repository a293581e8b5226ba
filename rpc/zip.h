/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/zip: a reply's body in gzip's format. Knows bytes only; keeps no memory between two of them. */
#ifndef RPC_ZIP_H
#define RPC_ZIP_H

#include <stddef.h>

#include "base/buf.h"

/* n bytes at p, appended to out. 0 or -errno: then out is worth nothing. */
int zip_gzip(const char *p, size_t n, struct buf *out);

#endif
