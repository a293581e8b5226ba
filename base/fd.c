/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define READ_ERRORS 3

int fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        close(fd); /* EINTR too has closed it on Linux, close(2) */
        errno = saved;
    }
    return -1;
}

int fd_nonblock(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return -errno;
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

ssize_t fd_read_all(int fd, size_t max, char **ret)
{
    size_t size = 4096, len = 0;
    _cleanup_free_ char *buf = malloc(size);

    while (buf) {
        if (len + 1 == size) {
            char *bigger = realloc(buf, size *= 2);
            if (!bigger)
                return -ENOMEM;
            buf = bigger;
        }
        ssize_t n = read(fd, buf + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        len += (size_t)n;
        if (len > max)
            return -EFBIG;
        if (n == 0) {
            buf[len] = 0;
            *ret = TAKE_PTR(buf);
            return (ssize_t)len;
        }
    }
    return -ENOMEM;
}

ssize_t fd_read_at(int fd, void *buf, size_t size, off_t at)
{
    size_t len = 0;
    int errors = 0;

    while (len < size) {
        ssize_t n = pread(fd, (char *)buf + len, size - len, at + (off_t)len);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR && ++errors == READ_ERRORS)
            return -errno;
        len += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)len;
}

ssize_t fd_read_file(int dirfd, const char *path, char *buf, size_t size)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    size_t len = 0;
    ssize_t n;

    if (fd < 0)
        return -errno;
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        len += (size_t)n;
    }
    buf[len] = 0;
    return (ssize_t)len;
}

int fd_write_file(int dirfd, const char *path, const char *text)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    size_t len = strlen(text);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = write(fd, text, len);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int fd_temporary(int dir, const char *name, mode_t mode, char *buf, size_t size)
{
    uint32_t random = 0;
    int fd;

    if (getrandom(&random, sizeof(random), 0) < 0)
        return -errno;
    snprintf(buf, size, ".%.200s.%08x", name, random);
    fd = openat(dir, buf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

int fd_write_all(int fd, const void *p, size_t len)
{
    const char *at = p;

    while (len) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}
