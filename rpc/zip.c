/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/zip.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <sys/mman.h>

#include <zlib.h>

#define GZIP (15 + 16) /* the largest window, and gzip's head and tail */
#define MEMORY_LEVEL 8
#define PIECE 16384
/* What deflate takes with these, and a little: zconf.h says how much. */
#define ARENA ((1u << (15 + 2)) + (1u << (MEMORY_LEVEL + 9)) + 32768)

/* Its memory is mapped for one body, so that all of it goes back to the system at once. */
struct arena {
    char *p;
    size_t used;
};

static voidpf take(voidpf opaque, uInt items, uInt size)
{
    struct arena *a = opaque;
    size_t n = ((size_t)items * size + 15) & ~(size_t)15;

    if (n > ARENA - a->used)
        return Z_NULL;
    a->used += n;
    return a->p + a->used - n;
}

static void give_back(voidpf opaque, voidpf p)
{
}

static int deflate_all(z_stream *z, struct buf *out)
{
    unsigned char piece[PIECE];
    int r;

    do {
        z->next_out = piece;
        z->avail_out = sizeof(piece);
        r = deflate(z, Z_FINISH);
        buf_put(out, piece, sizeof(piece) - z->avail_out);
    } while (r == Z_OK && !out->error);
    return r == Z_STREAM_END ? out->error : -EIO;
}

int zip_gzip(const char *p, size_t n, struct buf *out)
{
    struct arena a = {mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0};
    z_stream z = {.zalloc = take, .zfree = give_back, .opaque = &a};
    int r = -ENOMEM;

    if (a.p == MAP_FAILED)
        return -errno;
    if (n <= UINT_MAX &&
        deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK) {
        z.next_in = (Bytef *)(uintptr_t)p;
        z.avail_in = (uInt)n;
        r = deflate_all(&z, out);
        deflateEnd(&z);
    }
    munmap(a.p, ARENA);
    return r;
}
