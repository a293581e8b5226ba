/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/link_creds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg.h"
#include "agentd/peer.h"
#include "base/cred.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/wire.h"

/* The listener is given no line that the configuration reader would refuse: it may have changed since. */
static bool is_credential(const char *line)
{
    char copy[LIMIT_CREDENTIAL_LINE + 2];
    struct cred cred;
    struct cred_wrong wrong;
    bool is = cred_parse(str_copy(copy, sizeof(copy), line), &cred, &wrong) > 0;

    explicit_bzero(copy, sizeof(copy));
    return is;
}

static void put_credentials(struct peer *p, const char *path)
{
    _cleanup_free_ char *text = NULL;
    char *save = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : fd_read_all(fd, LIMIT_CONFIG_FILE, &text);
    unsigned count = 0;

    fd_close(fd);
    if (n < 0)
        return; /* the configuration reader has judged file and mode */
    for (char *line = strtok_r(text, "\n", &save); line && count < LIMIT_CREDENTIALS;
         line = strtok_r(NULL, "\n", &save)) {
        if (!is_credential(line))
            continue;
        peer_make_room(p);
        wire_put_credential(&p->out, &(struct wire_credential){line});
        count++;
    }
    explicit_bzero(text, (size_t)n);
}

_Static_assert((int)CFG_TLS_CERTIFICATE == WIRE_TLS_CERTIFICATE && (int)CFG_TLS_KEY == WIRE_TLS_KEY &&
                   (int)CFG_TLS_CLIENT_CA == WIRE_TLS_CLIENT_CA && (int)CFG_TLS_MAX == WIRE_TLS_MAX,
               "a part has the same number in the configuration and on the wire");

static void put_piece(struct buf *b, unsigned part, const char *text, size_t n)
{
    char piece[LIMIT_WIRE_STRING + 1];

    memcpy(piece, text, n);
    piece[n] = 0;
    wire_put_tls(b, &(struct wire_tls){.part = (uint8_t)part, .text = piece});
    explicit_bzero(piece, n);
}

void link_put_tls(const struct cfg_rpc *rpc, struct buf *b, void (*make_room)(struct peer *p), struct peer *p)
{
    for (unsigned i = 0; i < CFG_TLS_MAX; i++) {
        const char *at = rpc->tls_files[i].text;
        size_t left = at ? strlen(at) : 0, n;
        for (; left; at += n, left -= n) {
            n = left < LIMIT_WIRE_STRING ? left : LIMIT_WIRE_STRING;
            if (make_room)
                make_room(p);
            put_piece(b, i, at, n);
        }
    }
}

void link_put_secrets(struct peer *p, const struct cfg_rpc *rpc)
{
    put_credentials(p, rpc->credentials);
    link_put_tls(rpc, &p->out, peer_make_room, p);
}
