/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_head.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACE_MAX (UINT64_C(1) << 62)

/* What a mark says is believed only if the file bears it out: whoever owns the file can write one. */
static bool is_sound(int fd, const struct rotate_head *h)
{
    const struct rotate_mark *m = &h->mark;
    uint64_t at = m->kind == ROTATE_FILLER ? h->data : m->cut;
    char c;

    if (m->shift > PLACE_MAX || m->cut > PLACE_MAX)
        return false;
    if (at > h->size || h->size - at < m->fill)
        return false;
    if (m->kind == ROTATE_FILLER)
        return pread(fd, &c, 1, (off_t)(at + m->fill - 1)) == 1 && c == '\n';
    return at >= h->data + ROTATE_MARK && at >= h->data + m->old_fill;
}

int rotate_head_read(int fd, struct rotate_head *ret)
{
    char text[ROTATE_MARK];
    struct stat st;
    off_t data;
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return -errno;
    data = lseek(fd, 0, SEEK_DATA);
    if (data < 0) /* nothing but a hole, or the file system knows none */
        data = errno == ENXIO ? st.st_size : 0;
    n = pread(fd, text, sizeof(text), data);
    if (n < 0)
        return -errno;
    *ret = (struct rotate_head){.size = (uint64_t)st.st_size, .data = (uint64_t)data};
    ret->mark = rotate_cut_decode(text, (size_t)n);
    if (ret->mark.kind != ROTATE_PLAIN && !is_sound(fd, ret))
        ret->mark = (struct rotate_mark){.kind = ROTATE_PLAIN};
    ret->shift = ret->mark.shift;
    ret->base = ret->data + ret->mark.fill;
    if (ret->mark.kind > ROTATE_FILLER)
        ret->base = ret->mark.cut + ret->mark.fill;
    return 0;
}
