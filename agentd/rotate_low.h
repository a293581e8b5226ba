/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_low: how far the helpers of rotation stand back. */
#ifndef AGENTD_ROTATE_LOW_H
#define AGENTD_ROTATE_LOW_H

enum rotate_low { ROTATE_LOW_CUT, ROTATE_LOW_PACK };

void rotate_low_begin(enum rotate_low how);
void rotate_low_write(void); /* before an fsync */

#endif
