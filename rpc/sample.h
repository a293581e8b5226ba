/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/sample: ports, processor time and memory are measured on demand: a reader of a record that is older
 * than SampleMaxAgeMs= waits for a new one, and whoever comes meanwhile waits for the same. A worker without
 * a process needs none. If none comes the reader gets what there is. */
#ifndef RPC_SAMPLE_H
#define RPC_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>

#include "rpc/request.h"

/* True: r waits and its handler will run again. Rows [from, to) of the table. */
bool sample_wait(struct request *r, size_t from, size_t to);
bool sample_wait_one(struct request *r, int64_t worker);

#endif
