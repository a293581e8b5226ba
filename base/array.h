/* SPDX-License-Identifier: Apache-2.0 */
/* base/array: arrays that grow. Knows sizes; never knows what is in them. */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include <stddef.h>

/* Room for one more behind n of *size elements of so many bytes: array is the address of the pointer to them
 * (NULL at first; malloc'ed), which moves. 0 or -ENOMEM: all is as it was. */
int array_room(void *array, size_t n, size_t *size, size_t bytes);

#endif
