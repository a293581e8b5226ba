/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/rotate_cut: the pure part of rotation: where a file is cut, what stands at the beginning of one that
 * was, and what the files that were cut off are called.
 *
 * The head of a live file is copied away up to the end of a line and then taken off in whole blocks, so the
 * last bytes that were copied stay. They are blanked: a filler, one line of blanks and tabs that says in
 * binary how long it is and how many bytes were ever collapsed away. What must be known after a crash is in
 * the file itself, then, and can't be lost without it, by a reboot, or by agentd's folders being emptied.
 * While a cut is going on, a mark of the same kind stands where the head goes: as long as it can be read the
 * head is still there, and its copy is whole. */
#ifndef AGENTD_ROTATE_CUT_H
#define AGENTD_ROTATE_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rotate_kind {
    ROTATE_PLAIN,      /* no mark: lines from the first byte on */
    ROTATE_FILLER,     /* it was cut before */
    ROTATE_COLLAPSING, /* it is being cut: all before `cut` goes, what follows moves to the front */
    ROTATE_PUNCHING,   /* it is being cut: all before `cut` becomes a hole */
};

struct rotate_mark {
    enum rotate_kind kind;
    uint64_t shift;    /* bytes that were collapsed away in all: offset + shift is a line's place for good */
    uint64_t cut;      /* while it is being cut: offset of the next filler; whole blocks */
    uint32_t fill;     /* bytes of the filler, its newline included: here, or at cut */
    uint32_t old_fill; /* while it is being cut: of the filler that the mark covers; 0: it covers lines */
};

#define ROTATE_MARK 256 /* bytes of a mark; no filler is shorter */

void rotate_cut_encode(const struct rotate_mark *m, char text[ROTATE_MARK]);
/* What stands in the first n bytes of data; kind PLAIN if that is no mark. */
struct rotate_mark rotate_cut_decode(const char *text, size_t n);

struct rotate_plan {
    uint64_t from, to; /* what is copied */
    uint64_t cut;      /* what goes: all before it */
    uint32_t fill;     /* to - cut */
};

/* data: where the head begins, its filler included; base: the first byte that is a line's; to: behind the
 * last whole line. False: less than a block would go. */
bool rotate_cut_plan(uint64_t data, uint64_t base, uint64_t to, uint64_t block, struct rotate_plan *ret);

/* Names beside NAME of the live file. */
enum rotate_form {
    ROTATE_COPYING, /* NAME.rotating: the copy that is being made */
    ROTATE_COPIED,  /* NAME.rotated: it is whole; its lines are in the live file no more */
    ROTATE_OLD,     /* NAME.1, the newest, NAME.2 ... */
    ROTATE_OLD_GZ,  /* NAME.2.gz ... */
    ROTATE_PACKING, /* NAME.packing: the compressed copy that is being made */
};

/* name: the file's name, or its path. False: it would be too long. */
bool rotate_cut_name(const char *name, enum rotate_form form, unsigned no, char *ret, size_t size);

#endif
