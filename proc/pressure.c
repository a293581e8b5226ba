/* SPDX-License-Identifier: Apache-2.0 */
#include "proc/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/feature.h"

/* EOPNOTSUPP: psi=0 on the kernel's command line. */
static int lacks(int error)
{
    if (error == ENOENT || error == EOPNOTSUPP)
        feature_note(FEATURE_PRESSURE, false);
    return -error;
}

int pressure_avg10(enum pressure_of what)
{
    char text[128];
    unsigned whole, part;
    int fd =
        open(what == PRESSURE_CPU ? "/proc/pressure/cpu" : "/proc/pressure/memory", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return lacks(errno);
    if ((n = read(fd, text, sizeof(text) - 1)) < 0)
        n = lacks(errno);
    close(fd);
    if (n <= 0)
        return n ? (int)n : -EIO;
    feature_note(FEATURE_PRESSURE, true);
    text[n] = 0;
    if (sscanf(text, "some avg10=%u.%2u", &whole, &part) != 2)
        return -EBADMSG;
    return (int)(whole * 100 + part);
}
