/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

static struct table_entry **rows; /* ascending by id */
static size_t count, room;
static struct table_entry **chains; /* by alias; as many as there is room, a power of two */

static const char *alias_of(const struct table_entry *e)
{
    return (const char *)e->body + e->alias;
}

static struct table_entry **chain_of(const char *alias)
{
    return &chains[str_hash(STR_HASH_INIT, alias, strlen(alias)) & (room - 1)];
}

/* Where id is, or where it would go. */
static size_t find(int64_t id)
{
    size_t lo = 0, hi = count;

    if (count && rows[count - 1]->id < id)
        return count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (rows[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void link_alias(struct table_entry *e)
{
    struct table_entry **head = chain_of(alias_of(e));

    e->next = *head;
    *head = e;
}

static void unlink_alias(struct table_entry *e)
{
    struct table_entry **at = chain_of(alias_of(e));

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
}

static int grow(void)
{
    size_t want = room ? room * 2 : 16;
    struct table_entry **more = calloc(want, sizeof(*more)), **bigger;

    if (!more || !(bigger = realloc(rows, want * sizeof(*rows)))) {
        free(more);
        return -ENOMEM;
    }
    rows = bigger;
    free(chains);
    chains = more;
    room = want;
    for (size_t i = 0; i < count; i++)
        link_alias(rows[i]);
    return 0;
}

/* Over an entry of the same id and size the bytes are written in place: most changes are a number. */
static struct table_entry *make_room(size_t at, int64_t id, size_t len)
{
    struct table_entry *e;

    if (at < count && rows[at]->id == id) {
        unlink_alias(rows[at]);
        if (rows[at]->len == len)
            return rows[at];
        if (!(e = malloc(sizeof(*e) + len))) {
            link_alias(rows[at]);
            return NULL;
        }
        free(rows[at]);
        return rows[at] = e;
    }
    if (count == room && grow() < 0)
        return NULL;
    if (!(e = malloc(sizeof(*e) + len)))
        return NULL;
    memmove(rows + at + 1, rows + at, (count - at) * sizeof(*rows));
    count++;
    return rows[at] = e;
}

int table_put(const struct wire_frame *f)
{
    struct wire_record r;
    struct table_entry *e;
    size_t at;

    if (wire_get_record(f, &r) < 0 || r.id <= 0 || (const uint8_t *)r.alias - f->body > UINT16_MAX)
        return -EBADMSG;
    at = find(r.id);
    if (count >= LIMIT_WORKERS && (at == count || rows[at]->id != r.id))
        return -ENOSPC;
    if (!(e = make_room(at, r.id, f->len)))
        return -ENOMEM;
    e->id = r.id;
    e->sampled_us = r.sampled_us;
    e->alive = r.alive;
    e->alias = (uint16_t)((const uint8_t *)r.alias - f->body);
    e->len = (uint32_t)f->len;
    memcpy(e->body, f->body, f->len);
    link_alias(e);
    return 0;
}

void table_forget(int64_t id)
{
    size_t at = find(id);

    if (at == count || rows[at]->id != id)
        return;
    unlink_alias(rows[at]);
    free(rows[at]);
    count--;
    memmove(rows + at, rows + at + 1, (count - at) * sizeof(*rows));
}

size_t table_count(void)
{
    return count;
}

const struct table_entry *table_at(size_t i)
{
    return i < count ? rows[i] : NULL;
}

const struct table_entry *table_by_id(int64_t id)
{
    size_t at = find(id);

    return at < count && rows[at]->id == id ? rows[at] : NULL;
}

const struct table_entry *table_by_alias(const char *alias)
{
    struct table_entry *e = room ? *chain_of(alias) : NULL;

    while (e && !str_eq(alias_of(e), alias))
        e = e->next;
    return e;
}

void table_decode(const struct table_entry *e, struct wire_record *ret)
{
    struct wire_frame f = {WIRE_RECORD, e->body, e->len};

    wire_get_record(&f, ret); /* it was taken in, so it decodes */
}
