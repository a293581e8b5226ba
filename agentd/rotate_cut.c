/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/rotate_cut.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"

/* Blanks and tabs, a bit each, so that whoever reads the file as text sees an empty line. */
#define MAGIC_BITS 44
#define KIND_BITS 4
#define MAGIC UINT64_C(0xa9e4d106a7e)

static const struct {
    unsigned bits;
} fields[] = {{MAGIC_BITS}, {KIND_BITS}, {64}, {64}, {32}, {32}};
#define FIELDS ARRAY_LEN(fields)
#define MARK_BITS (MAGIC_BITS + KIND_BITS + 64 + 64 + 32 + 32)

void rotate_cut_encode(const struct rotate_mark *m, char text[ROTATE_MARK])
{
    const uint64_t v[FIELDS] = {MAGIC, m->kind, m->shift, m->cut, m->fill, m->old_fill};
    size_t at = 0;

    for (size_t i = 0; i < FIELDS; i++)
        for (unsigned bit = fields[i].bits; bit-- > 0;)
            text[at++] = v[i] >> bit & 1 ? '\t' : ' ';
    memset(text + at, ' ', ROTATE_MARK - at);
}

struct rotate_mark rotate_cut_decode(const char *text, size_t n)
{
    static const struct rotate_mark plain = {.kind = ROTATE_PLAIN};
    uint64_t v[FIELDS] = {0};
    size_t at = 0;

    if (n < ROTATE_MARK)
        return plain;
    for (size_t i = 0; i < FIELDS; i++)
        for (unsigned bit = 0; bit < fields[i].bits; bit++, at++) {
            if (text[at] != ' ' && text[at] != '\t')
                return plain;
            v[i] = v[i] << 1 | (text[at] == '\t');
        }
    if (v[0] != MAGIC || v[1] == ROTATE_PLAIN || v[1] > ROTATE_PUNCHING || v[4] < ROTATE_MARK ||
        v[4] > LIMIT_LOG_FILL || v[5] > LIMIT_LOG_FILL) /* its owner can write one: it is made in memory */
        return plain;
    return (struct rotate_mark){(enum rotate_kind)v[1], v[2], v[3], (uint32_t)v[4], (uint32_t)v[5]};
}

/* The mark has to stand in what goes, and a filler has to have room for a mark. */
bool rotate_cut_plan(uint64_t data, uint64_t base, uint64_t to, uint64_t block, struct rotate_plan *ret)
{
    uint64_t cut;

    if (block == 0 || block > LIMIT_LOG_FILL / 2 || to < base || to < ROTATE_MARK)
        return false;
    cut = (to - ROTATE_MARK) / block * block;
    if (cut <= base || cut - data < ROTATE_MARK)
        return false;
    *ret = (struct rotate_plan){base, to, cut, (uint32_t)(to - cut)};
    return true;
}

bool rotate_cut_name(const char *name, enum rotate_form form, unsigned no, char *ret, size_t size)
{
    const char *last;
    int n = 0;

    switch (form) {
    case ROTATE_COPYING:
        n = snprintf(ret, size, "%s.rotating", name);
        break;
    case ROTATE_COPIED:
        n = snprintf(ret, size, "%s.rotated", name);
        break;
    case ROTATE_OLD:
        n = snprintf(ret, size, "%s.%u", name, no);
        break;
    case ROTATE_OLD_GZ:
        n = snprintf(ret, size, "%s.%u.gz", name, no);
        break;
    case ROTATE_PACKING:
        n = snprintf(ret, size, "%s.packing", name);
        break;
    }
    if (n <= 0 || (size_t)n >= size)
        return false;
    last = strrchr(ret, '/');
    return strlen(last ? last + 1 : ret) <= NAME_MAX;
}
