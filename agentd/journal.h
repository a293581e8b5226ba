/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/journal: tables of fixed slots in a file of RuntimeDirectory: each slot is written whole, by one
 * pwrite, *before* what it speaks of is done, and carries a checksum, so that one that was torn is left out
 * and no other suffers. Bounded by construction. The same file, copied to StateDirectory, is read after a
 * reboot: the header names the boot it was written in. Knows bytes; never knows what they mean. */
#ifndef AGENTD_JOURNAL_H
#define AGENTD_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal {
    int fd;
    unsigned max, n; /* slots at most, slots in the file */
    size_t size;     /* bytes of a slot's content */
    uint8_t *used;   /* a flag for each slot below n */
};

#define JOURNAL_NULL \
    {                \
        .fd = -1     \
    }

/* this_boot: what stands there is of this boot. */
typedef void (*journal_fn)(int slot, const void *content, bool this_boot, void *arg);

/* Opens dir/name; if that has nothing of this boot, what copy_dir/name holds is read instead and written
 * here. found is called for each whole slot in use. 0 or -errno: then the journal takes nothing, and
 * journal_put says so. */
int journal_open(struct journal *j, const char *dir, const char *copy_dir, const char *name, size_t size,
                 unsigned max, journal_fn found, void *arg);
void journal_close(struct journal *j);

/* Writes content into slot, -1: a free one. The slot, or -errno (-ENOSPC also if all are in use). */
int journal_put(struct journal *j, int slot, const void *content);
void journal_drop(struct journal *j, int slot); /* -1: nothing */

/* In a helper: copies from_dir/name to to_dir/name, durably. 0 or -errno. */
int journal_copy(const char *from_dir, const char *to_dir, const char *name);

#endif
