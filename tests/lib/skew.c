/* SPDX-License-Identifier: Apache-2.0 */
/* LD_PRELOAD: the wall clock is off by as many seconds as the eight bytes of the file SKEW_FILE say, at each
 * look. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *skew;
static int (*real)(clockid_t clock, struct timespec *t);

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("SKEW_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd >= 0 ? mmap(NULL, sizeof(*skew), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    if (fd >= 0)
        close(fd);
    if (p != MAP_FAILED)
        skew = p;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int r;

    if (!real)
        begin();
    r = real(clock, t);
    if (r == 0 && skew && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        t->tv_sec += *skew;
    return r;
}
