/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/facts.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proc/pidref.h"

#define SLOT_SIZE 512
#define OPEN_TRIES 3 /* what fails once need not fail again */
static const char magic[16] = "agentd facts 2\n";

struct header {
    char magic[16];
    char boot_id[40];
    struct facts_process listeners[FACTS_LISTENERS];
};

static int fd = -1;
static char (*aliases)[LIMIT_ALIAS + 1]; /* of each slot; "" free */
static int n_slots;
static char **unwritten; /* of each slot: what could not be written yet, or NULL */
static unsigned n_unwritten;
static struct facts_process found_listeners[FACTS_LISTENERS];

_Static_assert(sizeof(struct facts) <= SLOT_SIZE && sizeof(struct header) <= SLOT_SIZE, "a slot holds them");

static off_t slot_at(int slot)
{
    return (off_t)SLOT_SIZE * (slot + 1); /* the first holds the header */
}

static int grow_slots(int n)
{
    void *p;

    if (n <= n_slots)
        return 0;
    n = (n + 63) / 64 * 64;
    if (!(p = realloc(aliases, (size_t)n * sizeof(*aliases))))
        return -ENOMEM;
    aliases = p;
    if (!(p = realloc(unwritten, (size_t)n * sizeof(*unwritten))))
        return -ENOMEM;
    unwritten = p;
    memset(aliases[n_slots], 0, (size_t)(n - n_slots) * sizeof(*aliases));
    memset(unwritten + n_slots, 0, (size_t)(n - n_slots) * sizeof(*unwritten));
    n_slots = n;
    return 0;
}

static int start_anew(void)
{
    char block[SLOT_SIZE] = "";
    struct header *h = (void *)block;

    memcpy(h->magic, magic, sizeof(magic));
    str_copy(h->boot_id, sizeof(h->boot_id), pidref_boot_id());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, block, sizeof(block), 0) != sizeof(block))
        return -errno;
    return 0;
}

/* Written in this boot, in this format. */
static bool is_of_this_boot(const char *bytes, size_t n)
{
    struct header h;

    memset(found_listeners, 0, sizeof(found_listeners));
    if (n < sizeof(h))
        return false;
    memcpy(&h, bytes, sizeof(h));
    if (memcmp(h.magic, magic, sizeof(magic)) != 0 || !pidref_boot_id()[0] ||
        strncmp(h.boot_id, pidref_boot_id(), sizeof(h.boot_id)) != 0)
        return false;
    memcpy(found_listeners, h.listeners, sizeof(found_listeners));
    return true;
}

unsigned facts_listeners(struct facts_process ret[FACTS_LISTENERS])
{
    unsigned n = 0;

    for (unsigned i = 0; i < FACTS_LISTENERS; i++)
        if (found_listeners[i].pid > 1)
            ret[n++] = found_listeners[i];
    return n;
}

void facts_set_listeners(const struct facts_process *list, unsigned n)
{
    struct facts_process all[FACTS_LISTENERS] = {{0}};

    memcpy(all, list, n * sizeof(*list));
    if (fd >= 0 && pwrite(fd, all, sizeof(all), offsetof(struct header, listeners)) < 0)
        log_warn("facts", "the runtime directory can't be written: %s", strerror(errno));
}

static int read_slots(const char *bytes, size_t n, facts_found_fn found, void *arg)
{
    int slots = n > SLOT_SIZE ? (int)(n / SLOT_SIZE) - 1 : 0;
    struct facts f;

    if (grow_slots(slots) < 0)
        return -ENOMEM;
    for (int i = 0; i < slots; i++) {
        memcpy(&f, bytes + slot_at(i), sizeof(f));
        f.alias[LIMIT_ALIAS] = 0;
        str_copy(aliases[i], sizeof(aliases[i]), f.alias);
        if (f.alias[0])
            found(&f, arg);
    }
    return 0;
}

/* All of it at once: with a part, what is not known would be written over. */
static int open_file(const char *dir, char **ret)
{
    _cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ssize_t n;

    if (dirfd < 0 || (fd = openat(dirfd, "facts", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return -errno;
    if ((n = fd_read_all(fd, (size_t)slot_at(LIMIT_WORKERS), ret)) < 0)
        fd = fd_close(fd);
    return (int)n;
}

int facts_open(const char *dir, facts_found_fn found, void *arg)
{
    _cleanup_free_ char *bytes = NULL;
    int n = -1, r;

    for (int i = 0; i < OPEN_TRIES && n < 0; i++)
        n = open_file(dir, &bytes);
    if (n < 0)
        return n;
    r = is_of_this_boot(bytes, (size_t)n) ? read_slots(bytes, (size_t)n, found, arg) : start_anew();
    if (r < 0)
        facts_close();
    return r;
}

/* block: what its slot could not take, as soon as it can; NULL: it has all. */
static void keep(int slot, const char *block)
{
    char *copy = block ? malloc(SLOT_SIZE) : NULL;

    if (copy)
        memcpy(copy, block, SLOT_SIZE);
    n_unwritten -= unwritten[slot] != NULL;
    free(unwritten[slot]);
    unwritten[slot] = copy;
    n_unwritten += copy != NULL;
}

void facts_close(void)
{
    fd = fd_close(fd);
    for (int i = 0; i < n_slots; i++)
        keep(i, NULL);
    free(aliases);
    free(unwritten);
    aliases = NULL;
    unwritten = NULL;
    n_slots = 0;
}

int facts_slot(const char *alias)
{
    int spare = -1;

    for (int i = 0; i < n_slots; i++) {
        if (str_eq(aliases[i], alias))
            return i;
        if (spare < 0 && !aliases[i][0])
            spare = i;
    }
    if (spare < 0 && n_slots < LIMIT_WORKERS) {
        spare = n_slots;
        if (grow_slots(n_slots + 1) < 0)
            return -ENOMEM;
    }
    if (spare < 0)
        return -ENOSPC;
    str_copy(aliases[spare], sizeof(aliases[spare]), alias);
    return spare;
}

void facts_free_slot(int slot)
{
    struct facts none = {0};

    if (slot < 0 || slot >= n_slots)
        return;
    facts_put(slot, &none);
    aliases[slot][0] = 0;
}

void facts_free_alias(const char *alias)
{
    for (int i = 0; i < n_slots; i++)
        if (str_eq(aliases[i], alias))
            facts_free_slot(i);
}

bool facts_are_kept(void)
{
    return fd >= 0 && !n_unwritten;
}

bool facts_are_late(void)
{
    return n_unwritten > 0;
}

static int write_slot(int slot, const char *block)
{
    ssize_t n = pwrite(fd, block, SLOT_SIZE, slot_at(slot));

    return n == SLOT_SIZE ? 0 : n < 0 ? -errno : -ENOSPC;
}

int facts_put(int slot, const struct facts *f)
{
    char block[SLOT_SIZE] = "";
    int r;

    if (slot < 0 || fd < 0)
        return -ENOSPC;
    memcpy(block, f, sizeof(*f));
    r = write_slot(slot, block);
    if (r < 0 || unwritten[slot])
        keep(slot, r < 0 ? block : NULL);
    return r;
}

bool facts_put_again(void)
{
    for (int i = 0; n_unwritten && i < n_slots; i++)
        if (unwritten[i] && write_slot(i, unwritten[i]) == 0)
            keep(i, NULL);
    return !n_unwritten;
}
