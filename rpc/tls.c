/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "rpc/auth_parts.h"
#include "rpc/source.h"
#include "rpc/stats.h"
#include "rpc/tls_load.h"

/* What came before it is on its way out: RFC 7301. */
static const unsigned char alpn[] = "\x08http/1.1";

static struct tls_files coming, current;
static SSL_CTX *ctx;
static int64_t expires;
static unsigned epoch; /* counts changes of the authorities: who was proven by others is proven no more */
static int ex_epoch = -1;

/* ---- files ---- */

void tls_begin(void)
{
    tls_files_wipe(&coming);
}

int tls_take(const struct wire_tls *v)
{
    if (v->part >= WIRE_TLS_MAX)
        return -EBADMSG;
    return tls_files_add(&coming, (enum wire_tls_part)v->part, v->text);
}

/* Clients that offer no protocol that is known here are served as those that offer none. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
                   unsigned in_n, void *arg)
{
    unsigned char *got;

    if (SSL_select_next_proto(&got, n, alpn, sizeof(alpn) - 1, in, in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = got;
    return SSL_TLSEXT_ERR_OK;
}

static void on_info(const SSL *ssl, int where, int ret)
{
    stats.handshakes += (where & SSL_CB_HANDSHAKE_DONE) != 0;
}

/* What the library has found stands; it is said here, where somebody looks for why a client is not let in. */
static int on_verify(int fine, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct source_ends ends;

    if (fine)
        return 1;
    stats.certificates_refused++;
    source_learn(SSL_get_fd(ssl), false, &ends);
    auth_slow_note(ends.source, "cert", NULL, X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
    return 0;
}

static void log_wrong(bool error, enum wire_tls_part part, const char *why)
{
    log_write(error ? LOG_ERR : LOG_WARNING, "tls", NULL, "%s: %s", tls_part_key(part), why);
}

static int put_in_force(void)
{
    SSL_CTX *fresh = tls_load(&coming, log_wrong, &expires);

    if (!fresh)
        return -EINVAL;
    SSL_CTX_set_alpn_select_cb(fresh, on_alpn, NULL);
    SSL_CTX_set_info_callback(fresh, on_info);
    if (*tls_files_text(&coming,
                        WIRE_TLS_CLIENT_CA)) /* a client may come without: then it says otherwise who it is */
        SSL_CTX_set_verify(fresh, SSL_VERIFY_PEER, on_verify);
    SSL_CTX_free(ctx);
    ctx = fresh;
    if (!str_eq(tls_files_text(&coming, WIRE_TLS_CLIENT_CA), tls_files_text(&current, WIRE_TLS_CLIENT_CA)))
        epoch++;
    return 0;
}

int tls_commit(void)
{
    int r = 0;

    /* sockets that were opened for TLS stay until agentd starts anew, and so does what they need */
    if (tls_files_empty(&coming))
        return 0;
    if (!tls_files_same(&coming, &current) && (r = put_in_force()) == 0) {
        tls_files_wipe(&current);
        current = coming;
        coming = (struct tls_files){0};
    }
    tls_files_wipe(&coming);
    return r;
}

void tls_judge(tls_tell_fn tell)
{
    int64_t end;

    SSL_CTX_free(tls_load(&coming, tell, &end));
}

bool tls_is_ready(void)
{
    return ctx != NULL;
}

int64_t tls_expires(void)
{
    return ctx ? expires : 0;
}

/* ---- connections ---- */

struct bufferevent *tls_bufferevent(struct event_base *base)
{
    SSL *ssl = SSL_new(ctx);
    struct bufferevent *bev;

    if (ex_epoch < 0)
        ex_epoch = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (!ssl || ex_epoch < 0 || !SSL_set_ex_data(ssl, ex_epoch, (void *)(uintptr_t)epoch)) {
        SSL_free(ssl);
        return NULL;
    }
    bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!bev) {
        SSL_free(ssl);
        return NULL;
    }
    /* the end of a request is known by its length: nobody gains by cutting one off */
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

bool tls_is_shaking(struct bufferevent *bev)
{
    return !SSL_is_init_finished(bufferevent_openssl_get_ssl(bev));
}

void tls_goodbye(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);

    if (!SSL_is_init_finished(ssl))
        return;
    SSL_shutdown(ssl);
    ERR_clear_error();
}

/* ---- who is there ---- */

static bool is_text(const ASN1_STRING *s, const char *name)
{
    size_t n = (size_t)ASN1_STRING_length(s);

    /* a NUL inside would end the name early for whoever compares it as text */
    return n == strlen(name) && memcmp(ASN1_STRING_get0_data(s), name, n) == 0;
}

static bool is_common_name(const X509 *cert, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    return at >= 0 && is_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), name);
}

static bool is_alternative(const X509 *cert, const char *name)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool is = false;

    for (int i = 0; !is && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
        if (one->type == GEN_DNS)
            is = is_text(one->d.dNSName, name);
        else if (one->type == GEN_URI)
            is = is_text(one->d.uniformResourceIdentifier, name);
    }
    GENERAL_NAMES_free(all);
    return is;
}

/* The certificate that the client has proven to have, where that proof still counts; to be freed. */
static X509 *proven(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);

    if (SSL_get_verify_result(ssl) != X509_V_OK || (uintptr_t)SSL_get_ex_data(ssl, ex_epoch) != epoch)
        return NULL;
    return SSL_get_peer_certificate(ssl);
}

bool tls_client_is(struct bufferevent *bev, const char *name)
{
    X509 *cert = proven(bev);
    bool is = cert && (is_common_name(cert, name) || is_alternative(cert, name));

    X509_free(cert);
    return is;
}

bool tls_client_came_with(struct bufferevent *bev)
{
    X509 *cert = proven(bev);

    X509_free(cert);
    return cert != NULL;
}
