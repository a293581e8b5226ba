/* SPDX-License-Identifier: Apache-2.0 */
/* base/fd: descriptors and memory that clean up after themselves. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

/* Closes fd unless it is negative; keeps errno. Returns -1, so that `fd = fd_close(fd)` forgets it. */
int fd_close(int fd);

/* Sets or clears O_NONBLOCK. 0 or -errno. */
int fd_nonblock(int fd, int on);

/* Reads the whole of fd from its position, at most max bytes, and ends it with NUL.
 * On success *ret is malloc'ed (caller frees) and the length is returned; -EFBIG if there is more, or -errno.
 */
ssize_t fd_read_all(int fd, size_t max, char **ret);

/* size bytes from at, fewer only at the end of the file, by pread(2): the position stays. An error that
 * passes is outlived. How many, or -errno. */
ssize_t fd_read_at(int fd, void *buf, size_t size, off_t at);

/* Opens path relative to dirfd and reads it into buf as a C string (cut at size - 1).
 * Returns the length or -errno. For /proc and cgroup files. */
ssize_t fd_read_file(int dirfd, const char *path, char *buf, size_t size);

/* Writes len bytes with one write(2); a short write is -EIO. 0 or -errno. For cgroup and /proc files. */
int fd_write_file(int dirfd, const char *path, const char *text);

/* A new file in dir to be written, .NAME.XXXXXXXX, which nobody else has open or can have planted; of a long
 * name the beginning. Its name in buf, which has room for NAME_MAX. The descriptor, or -errno. */
int fd_temporary(int dir, const char *name, mode_t mode, char *buf, size_t size);

/* write(2) until all of it is written; 0 or -errno. Only for descriptors that can't block for long. */
int fd_write_all(int fd, const void *p, size_t len);

static inline void fd_closep(int *fd)
{
    fd_close(*fd);
}

static inline void fd_freep(void *p)
{
    free(*(void **)p);
}

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_close_ _cleanup_(fd_closep)
#define _cleanup_free_ _cleanup_(fd_freep)

#define TAKE_FD(fd)        \
    ({                     \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })
#define TAKE_PTR(p)             \
    ({                          \
        typeof(p) taken_ = (p); \
        (p) = NULL;             \
        taken_;                 \
    })
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
