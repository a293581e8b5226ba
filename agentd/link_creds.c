/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/link_creds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

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

void link_put_credentials(struct peer *p, const char *path)
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
