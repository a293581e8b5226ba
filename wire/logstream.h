/* SPDX-License-Identifier: Apache-2.0 */
/* wire/logstream: what a log helper writes into the pipe that agentd-rpc reads from (WIRE_STREAM).
 * First one struct wire_log_head in native byte order (both ends run on this host, of one build), then, if
 * its error is 0, the file's bytes from `from` on until `limit` bytes or the end are sent; with follow until
 * the pipe breaks. The end of the pipe is the end of the answer. */
#ifndef WIRE_LOGSTREAM_H
#define WIRE_LOGSTREAM_H

#include <stdint.h>

struct wire_log_head {
    int32_t error;          /* 0 or a positive errno: the file can't be read; nothing follows */
    uint32_t gap;           /* 1: what the cursor that was asked for stood for is gone, at least in part */
    uint64_t device, inode; /* with the offset: the cursor */
    uint64_t from; /* place of the first byte that follows: its offset, and what was rotated away before */
    uint64_t size; /* and of the end when it was opened */
    char message[128]; /* why, if error is set: "PATH: a symbolic link" */
};

/* A search in logs (WIRE_VERB_LOG_QUERY) has the same head, of which only error is used. With an error the
 * rest of the pipe is the message. Else an archive follows, or an object of JSON, which ends in this if it is
 * whole, and has it nowhere else. */
#define WIRE_LOG_WHOLE "\n"

#endif
