/* SPDX-License-Identifier: Apache-2.0 */
#include "base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST 16

int array_room(void *array, size_t n, size_t *size, size_t bytes)
{
    size_t bigger = *size ? *size * 2 : FIRST;
    void *p;

    if (n < *size)
        return 0;
    memcpy(&p, array, sizeof(p)); /* the pointer's type is the caller's */
    if (!(p = reallocarray(p, bigger, bytes)))
        return -ENOMEM;
    memcpy(array, &p, sizeof(p));
    *size = bigger;
    return 0;
}
