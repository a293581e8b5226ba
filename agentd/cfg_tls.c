/* SPDX-License-Identifier: Apache-2.0 */
/* [Rpc] TlsCertificate=, TlsKey= and TlsClientCa=: read once, whole, so that what was judged is what is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/cfg_read.h"
#include "agentd/cfg_trust.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

CFG_PARSER(cfg_value_tls_file)
{
    c->tls_at[k->min] = *value ? l : NULL;
    cfg_value_dir(c, k, l, value, target);
}

void cfg_tls_forget(const struct cfg_rpc *r)
{
    for (unsigned i = 0; i < CFG_TLS_MAX; i++)
        if (r->tls_files[i].text)
            explicit_bzero(r->tls_files[i].text, strlen(r->tls_files[i].text));
}

void cfg_tls_done(struct cfg_rpc *r)
{
    cfg_tls_forget(r);
    cfg_listeners_done(&r->tls, &r->n_tls);
    for (unsigned i = 0; i < CFG_TLS_MAX; i++) {
        free(r->tls_files[i].path);
        free(r->tls_files[i].text);
        r->tls_files[i].text = NULL;
    }
}

/* Its group may read a key: that is how programs share one. */
static const char *mode_wrong(enum cfg_tls which, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return strerror(errno);
    return which == CFG_TLS_KEY && (st.st_mode & 07)
               ? "others than its owner and group may use the key; chmod o-rwx"
               : NULL;
}

static const char *text_wrong(enum cfg_tls which, const char *text, ssize_t n)
{
    if (n < 0)
        return n == -EFBIG ? "it is larger than 256 KB" : strerror((int)-n);
    if (strlen(text) != (size_t)n || !strstr(text, "-----BEGIN "))
        return "it is not PEM: there is no -----BEGIN in it";
    if (which == CFG_TLS_KEY && strstr(text, "ENCRYPTED"))
        return "the key is encrypted, and nobody is there to give its passphrase";
    return NULL;
}

static void read_file(struct cfg_ctx *c, enum cfg_tls which)
{
    struct cfg_tls_file *f = &c->cfg->rpc.tls_files[which];
    struct err e = {0};
    _cleanup_close_ int fd = cfg_trust_open(AT_FDCWD, f->path, 0, &e);
    const char *why = fd < 0 ? e.text : mode_wrong(which, fd);
    ssize_t n;

    if (!why) {
        n = fd_read_all(fd, LIMIT_CONFIG_FILE, &f->text);
        why = text_wrong(which, f->text, n);
    }
    if (why)
        cfg_error_in(c, f->path, 1, 1, "%s", why);
}

void cfg_tls_finish(struct cfg_ctx *c)
{
    const struct cfg_rpc *r = &c->cfg->rpc;

    if (r->n_tls && (!r->tls_files[CFG_TLS_CERTIFICATE].path || !r->tls_files[CFG_TLS_KEY].path))
        cfg_error(c, c->listen_tls_at, 0, "ListenTls= needs TlsCertificate= and TlsKey=");
    for (unsigned i = 0; i < CFG_TLS_MAX; i++) {
        if (r->tls_files[i].path && r->n_tls)
            read_file(c, (enum cfg_tls)i);
        else if (c->tls_at[i])
            cfg_warn(c, c->tls_at[i], 0, "without ListenTls= it has no effect");
    }
}
