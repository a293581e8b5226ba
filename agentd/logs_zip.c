/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/logs_zip.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <zlib.h>

#include "base/fd.h"
#include "base/str.h"

#define RAW (-15) /* deflate without a head of its own */
#define MEMORY_LEVEL 8
#define PIECE 65536

#define LOCAL 0x04034b50u
#define DESCRIPTOR 0x08074b50u
#define CENTRAL 0x02014b50u
#define END_64 0x06064b50u
#define LOCATOR_64 0x07064b50u
#define END 0x06054b50u
#define NEEDS 20
#define NEEDS_64 45
#define MADE_BY (3 << 8)         /* Unix */
#define FLAGS (1 << 3 | 1 << 11) /* the sizes come behind it; the name is UTF-8 */
#define DEFLATED 8
#define MODE 0100644u
#define EXTRA_64 1
#define MOST UINT32_MAX

/* Numbers in little-endian, gathered before they are written. */
struct record {
    unsigned char p[128];
    size_t n;
};

static void put(struct record *r, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        r->p[r->n++] = i < sizeof(v) ? (unsigned char)(v >> (8 * i)) : 0;
}

static int write_out(struct logs_zip *z, int out, const void *p, size_t n)
{
    z->at += n;
    return fd_write_all(out, p, n);
}

static int write_record(struct logs_zip *z, int out, const struct record *r, const char *name)
{
    int error = write_out(z, out, r->p, r->n);

    return error < 0 || !name ? error : write_out(z, out, name, strlen(name));
}

static uint32_t dos_time(int64_t wall_us)
{
    time_t t = wall_us / 1000000;
    struct tm tm;

    if (!localtime_r(&t, &tm) || tm.tm_year < 80 || tm.tm_year > 207)
        return 1 << 21 | 1 << 16; /* its first day */
    return (uint32_t)(tm.tm_year - 80) << 25 | (uint32_t)(tm.tm_mon + 1) << 21 | (uint32_t)tm.tm_mday << 16 |
           (uint32_t)tm.tm_hour << 11 | (uint32_t)tm.tm_min << 5 | (uint32_t)(tm.tm_sec / 2);
}

/* --- one member: by one process from begin to end ---------------------------------------------------------
 */

static z_stream stream;
static unsigned char packed[PIECE];

int logs_zip_begin(struct logs_zip *z, int out, const char *name, int64_t wall_us)
{
    struct logs_zip_member *m = &z->v[z->n];
    struct record r = {.n = 0};

    if (z->n >= z->max)
        return -E2BIG;
    memset(&stream, 0, sizeof(stream));
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, RAW, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    *m = (struct logs_zip_member){.at = z->at, .when = dos_time(wall_us)};
    str_copy(m->name, sizeof(m->name), name);
    put(&r, LOCAL, 4);
    put(&r, NEEDS, 2);
    put(&r, FLAGS, 2);
    put(&r, DEFLATED, 2);
    put(&r, m->when, 4);
    put(&r, 0, 12); /* not known yet */
    put(&r, strlen(m->name), 2);
    put(&r, 0, 2);
    z->n++;
    return write_record(z, out, &r, m->name);
}

static int pump(struct logs_zip *z, int out, int flush)
{
    int r;

    do {
        stream.next_out = packed;
        stream.avail_out = sizeof(packed);
        r = deflate(&stream, flush);
        if (r == Z_STREAM_ERROR)
            return -EIO;
        if (sizeof(packed) > stream.avail_out) {
            int error = write_out(z, out, packed, sizeof(packed) - stream.avail_out);
            z->v[z->n - 1].packed += sizeof(packed) - stream.avail_out;
            if (error < 0)
                return error;
        }
    } while (stream.avail_out == 0 || (flush == Z_FINISH && r != Z_STREAM_END));
    return 0;
}

int logs_zip_put(struct logs_zip *z, int out, const void *p, size_t n)
{
    struct logs_zip_member *m = &z->v[z->n - 1];

    m->crc = (uint32_t)crc32_z(m->crc, p, n);
    m->size += n;
    stream.next_in = (Bytef *)(uintptr_t)p;
    stream.avail_in = (uInt)n; /* an entry, or a line's end */
    return n ? pump(z, out, Z_NO_FLUSH) : 0;
}

static bool is_long(const struct logs_zip_member *m)
{
    return m->size >= MOST || m->packed >= MOST;
}

int logs_zip_end(struct logs_zip *z, int out)
{
    struct logs_zip_member *m = &z->v[z->n - 1];
    struct record r = {.n = 0};
    int error = pump(z, out, Z_FINISH);
    unsigned width = is_long(m) ? 8 : 4;

    deflateEnd(&stream);
    put(&r, DESCRIPTOR, 4);
    put(&r, m->crc, 4);
    put(&r, m->packed, width);
    put(&r, m->size, width);
    return error < 0 ? error : write_record(z, out, &r, NULL);
}

/* --- the list at its end ----------------------------------------------------------------------------------
 */

/* What of it does not fit into 32 bits, in its order. */
static struct record extra_of(const struct logs_zip_member *m)
{
    struct record r = {.n = 0};
    bool far = m->at >= MOST;

    if (!is_long(m) && !far)
        return r;
    put(&r, EXTRA_64, 2);
    put(&r, (is_long(m) ? 16 : 0) + (far ? 8 : 0), 2);
    if (is_long(m)) {
        put(&r, m->size, 8);
        put(&r, m->packed, 8);
    }
    if (far)
        put(&r, m->at, 8);
    return r;
}

static int write_central(struct logs_zip *z, int out, const struct logs_zip_member *m)
{
    struct record r = {.n = 0}, extra = extra_of(m);
    unsigned version = extra.n ? NEEDS_64 : NEEDS;
    int error;

    put(&r, CENTRAL, 4);
    put(&r, MADE_BY | version, 2);
    put(&r, version, 2);
    put(&r, FLAGS, 2);
    put(&r, DEFLATED, 2);
    put(&r, m->when, 4);
    put(&r, m->crc, 4);
    put(&r, is_long(m) ? MOST : m->packed, 4);
    put(&r, is_long(m) ? MOST : m->size, 4);
    put(&r, strlen(m->name), 2);
    put(&r, extra.n, 2);
    put(&r, 0, 6); /* no comment, the first disk, no kind */
    put(&r, (uint64_t)MODE << 16, 4);
    put(&r, m->at >= MOST ? MOST : m->at, 4);
    error = write_record(z, out, &r, m->name);
    return error < 0 || !extra.n ? error : write_record(z, out, &extra, NULL);
}

static int write_end_64(struct logs_zip *z, int out, uint64_t from, uint64_t size)
{
    struct record r = {.n = 0};
    uint64_t at = z->at;

    put(&r, END_64, 4);
    put(&r, 44, 8); /* what follows */
    put(&r, MADE_BY | NEEDS_64, 2);
    put(&r, NEEDS_64, 2);
    put(&r, 0, 8);
    put(&r, z->n, 8);
    put(&r, z->n, 8);
    put(&r, size, 8);
    put(&r, from, 8);
    put(&r, LOCATOR_64, 4);
    put(&r, 0, 4);
    put(&r, at, 8);
    put(&r, 1, 4);
    return write_record(z, out, &r, NULL);
}

int logs_zip_finish(struct logs_zip *z, int out)
{
    struct record r = {.n = 0};
    uint64_t from = z->at, size;
    int error = 0;

    for (uint32_t i = 0; i < z->n && error == 0; i++)
        error = write_central(z, out, &z->v[i]);
    size = z->at - from;
    if (error == 0 && z->at >= MOST)
        error = write_end_64(z, out, from, size);
    put(&r, END, 4);
    put(&r, 0, 4);
    put(&r, z->n, 2); /* LIMIT_LOG_SOURCES is less than 65535 */
    put(&r, z->n, 2);
    put(&r, size >= MOST ? MOST : size, 4);
    put(&r, from >= MOST ? MOST : from, 4);
    put(&r, 0, 2);
    return error < 0 ? error : write_record(z, out, &r, NULL);
}

bool logs_zip_has(const struct logs_zip *z, const char *name)
{
    for (uint32_t i = 0; i < z->n; i++)
        if (str_eq(z->v[i].name, name))
            return true;
    return false;
}
