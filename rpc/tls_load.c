/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/limits.h"
#include "base/str.h"

/* Of TLS 1.2: forward secret and authenticated ones only. Level 2: no key below 112 bits of strength. */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
#define SESSION_CONTEXT "agentd"

/* ---- texts ---- */

int tls_files_add(struct tls_files *f, enum wire_tls_part part, const char *piece)
{
    const char *have = tls_files_text(f, part);
    size_t n = strlen(have), more = strlen(piece);
    char *bigger;

    if (n + more > LIMIT_CONFIG_FILE)
        return -E2BIG;
    if (!(bigger = malloc(n + more + 1)))
        return -ENOMEM;
    memcpy(bigger, have, n);
    memcpy(bigger + n, piece, more + 1);
    if (n)
        explicit_bzero(f->text[part], n); /* not realloc: it would leave a key where it was */
    free(f->text[part]);
    f->text[part] = bigger;
    return 0;
}

const char *tls_files_text(const struct tls_files *f, enum wire_tls_part part)
{
    return f->text[part] ? f->text[part] : "";
}

bool tls_files_same(const struct tls_files *a, const struct tls_files *b)
{
    for (int i = 0; i < WIRE_TLS_MAX; i++)
        if (!str_eq(tls_files_text(a, (enum wire_tls_part)i), tls_files_text(b, (enum wire_tls_part)i)))
            return false;
    return true;
}

bool tls_files_empty(const struct tls_files *f)
{
    return tls_files_same(f, &(struct tls_files){0});
}

void tls_files_wipe(struct tls_files *f)
{
    for (int i = 0; i < WIRE_TLS_MAX; i++) {
        if (f->text[i])
            explicit_bzero(f->text[i], strlen(f->text[i]));
        free(f->text[i]);
        f->text[i] = NULL;
    }
}

const char *tls_part_key(enum wire_tls_part part)
{
    static const char *const keys[WIRE_TLS_MAX] = {"TlsCertificate=", "TlsKey=", "TlsClientCa="};

    return keys[part];
}

/* ---- loading ---- */

struct loading {
    SSL_CTX *ctx;
    const struct tls_files *files;
    tls_tell_fn tell;
    bool wrong;
    int64_t expires;
};

static void say(struct loading *l, enum wire_tls_part part, const char *why)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    char text[256];

    snprintf(text, sizeof(text), "%s%s%s", why, reason ? ": " : "", reason ? reason : "");
    l->wrong = true;
    l->tell(true, part, text);
    ERR_clear_error();
}

static BIO *open_part(const struct loading *l, enum wire_tls_part part)
{
    return BIO_new_mem_buf(tls_files_text(l->files, part), -1);
}

/* Nobody is there to be asked. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    return -1;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

static void look_at_time(struct loading *l, const X509 *cert)
{
    l->expires = seconds_of(X509_get0_notAfter(cert));
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
        l->tell(false, WIRE_TLS_CERTIFICATE, "the certificate has expired");
    else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        l->tell(false, WIRE_TLS_CERTIFICATE, "the certificate is not valid yet");
}

/* The end of the file is an error to PEM's reader, and none to us. */
static bool is_at_end(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

static void load_chain(struct loading *l, BIO *in)
{
    X509 *one;

    while ((one = PEM_read_bio_X509(in, NULL, no_passphrase, NULL))) {
        if (!SSL_CTX_add1_chain_cert(l->ctx, one))
            say(l, WIRE_TLS_CERTIFICATE, "a certificate of the chain can't be used");
        X509_free(one);
    }
    if (!is_at_end())
        say(l, WIRE_TLS_CERTIFICATE, "the chain can't be read");
    ERR_clear_error();
}

static void load_certificate(struct loading *l)
{
    BIO *in = open_part(l, WIRE_TLS_CERTIFICATE);
    X509 *own = in ? PEM_read_bio_X509_AUX(in, NULL, no_passphrase, NULL) : NULL;

    if (!own) {
        say(l, WIRE_TLS_CERTIFICATE, "no certificate can be read");
    } else if (SSL_CTX_use_certificate(l->ctx, own) != 1) {
        say(l, WIRE_TLS_CERTIFICATE, "the certificate can't be used");
    } else {
        look_at_time(l, own);
        load_chain(l, in);
    }
    X509_free(own);
    BIO_free(in);
}

static void load_key(struct loading *l)
{
    BIO *in = open_part(l, WIRE_TLS_KEY);
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL) : NULL;

    if (!key)
        say(l, WIRE_TLS_KEY, "no private key can be read");
    else if (!l->wrong &&
             (SSL_CTX_use_PrivateKey(l->ctx, key) != 1 || SSL_CTX_check_private_key(l->ctx) != 1))
        say(l, WIRE_TLS_KEY, "the key is not that of the certificate");
    EVP_PKEY_free(key);
    BIO_free(in);
}

/* Once there is a list each certificate up to the authority's is looked for, one in between too. */
static bool add_authority(struct loading *l, X509_STORE *store, const X509_INFO *info)
{
    static const unsigned long revocation = X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;

    /* neighbours of different kinds come as one */
    if (info->crl && !(X509_STORE_add_crl(store, info->crl) && X509_STORE_set_flags(store, revocation)))
        return false;
    return !info->x509 ||
           (X509_STORE_add_cert(store, info->x509) && SSL_CTX_add_client_CA(l->ctx, info->x509));
}

/* Certificates of authorities and their lists of what is revoked, in any order. */
static void load_authorities(struct loading *l)
{
    BIO *in = open_part(l, WIRE_TLS_CLIENT_CA);
    X509_STORE *store = SSL_CTX_get_cert_store(l->ctx);
    STACK_OF(X509_INFO) *all = in ? PEM_X509_INFO_read_bio(in, NULL, no_passphrase, NULL) : NULL;
    int certs = 0;

    for (int i = 0; i < sk_X509_INFO_num(all); i++) {
        const X509_INFO *info = sk_X509_INFO_value(all, i);
        certs += info->x509 != NULL;
        if (!add_authority(l, store, info))
            say(l, WIRE_TLS_CLIENT_CA, "an authority or a list of revoked certificates can't be used");
    }
    if (!certs)
        say(l, WIRE_TLS_CLIENT_CA, "no certificate of an authority can be read");
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    BIO_free(in);
}

/* No resumption: a session would outlive the certificate, or the credential, that it was opened with. */
static bool set_up(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return SSL_CTX_set_num_tickets(ctx, 0) && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
           SSL_CTX_set_cipher_list(ctx, CIPHERS) &&
           SSL_CTX_set_session_id_context(ctx, (const unsigned char *)SESSION_CONTEXT,
                                          sizeof(SESSION_CONTEXT) - 1);
}

SSL_CTX *tls_load(const struct tls_files *f, tls_tell_fn tell, int64_t *expires)
{
    struct loading l = {.files = f, .tell = tell};

    /* files are out of reach here: what openssl.cnf(5) could say is said above */
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    if (!(l.ctx = SSL_CTX_new(TLS_server_method())) || !set_up(l.ctx)) {
        say(&l, WIRE_TLS_CERTIFICATE, "TLS can't be set up");
        SSL_CTX_free(l.ctx);
        return NULL;
    }
    load_certificate(&l);
    load_key(&l);
    if (*tls_files_text(f, WIRE_TLS_CLIENT_CA))
        load_authorities(&l);
    if (l.wrong) {
        SSL_CTX_free(l.ctx);
        return NULL;
    }
    *expires = l.expires;
    return l.ctx;
}
