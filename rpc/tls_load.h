/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/tls_load: from PEM to what connections are made of, and what is wrong with it in words for people.
 * Never knows where the text is from. */
#ifndef RPC_TLS_LOAD_H
#define RPC_TLS_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/tls.h"

struct ssl_ctx_st;

struct tls_files {
    char *text[WIRE_TLS_MAX]; /* NULL: none */
};

int tls_files_add(struct tls_files *f, enum wire_tls_part part, const char *piece); /* 0, -E2BIG, -ENOMEM */
const char *tls_files_text(const struct tls_files *f, enum wire_tls_part part);     /* never NULL */
bool tls_files_same(const struct tls_files *a, const struct tls_files *b);
bool tls_files_empty(const struct tls_files *f);
void tls_files_wipe(struct tls_files *f);
const char *tls_part_key(enum wire_tls_part part); /* "TlsKey=" */

/* NULL: it is wrong, and told. Expiry is told too, but no error. *expires: the certificate's, seconds since
 * 1970. */
struct ssl_ctx_st *tls_load(const struct tls_files *f, tls_tell_fn tell, int64_t *expires);

#endif
