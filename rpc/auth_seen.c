/* SPDX-License-Identifier: Apache-2.0 */
/* A signature stays good for as long as its Date is, so what may be done once only is remembered for so long:
 * who has listened can't have it done again. None is forgotten before; when the table is full nothing more is
 * taken. */
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>

#include "rpc/auth_parts.h"

static struct {
    int64_t until;
    uint8_t mac[AUTH_MAC];
} seen[LIMIT_AUTH_SEEN];
static unsigned used; /* places that were ever taken: the others' memory is not touched */

int64_t auth_seen_put(const uint8_t mac[AUTH_MAC], int64_t until, int64_t now)
{
    unsigned place = used;
    int64_t first = INT64_MAX;

    for (unsigned i = 0; i < used; i++) {
        if (CRYPTO_memcmp(seen[i].mac, mac, AUTH_MAC) == 0)
            return -EEXIST;
        if (seen[i].until < now)
            place = i;
        if (seen[i].until < first)
            first = seen[i].until;
    }
    if (place == LIMIT_AUTH_SEEN)
        return first - now + 1;
    if (place == used)
        used++;
    memcpy(seen[place].mac, mac, AUTH_MAC);
    seen[place].until = until;
    return 0;
}
