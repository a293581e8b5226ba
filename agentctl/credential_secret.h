/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/credential_secret: how secrets are made, asked for and kept. Nothing is told; 0 or -errno. */
#ifndef AGENTCTL_CREDENTIAL_SECRET_H
#define AGENTCTL_CREDENTIAL_SECRET_H

#include <stddef.h>

#define CREDENTIAL_HASH 384 /* bytes of any hash of crypt(3) */

/* n random bytes as 2 * n hexadecimal digits. */
int credential_secret_random(char *hex, size_t n);
/* A line of the standard input, without its end; from a terminal it is asked for twice, unseen.
 * -ENODATA: there is none; -E2BIG; -EKEYREJECTED: the two differ. */
int credential_secret_ask(char *buf, size_t size);
int credential_secret_hash(char hash[CREDENTIAL_HASH], const char *password); /* yescrypt, crypt(5) */
int credential_secret_digest(char hex[65], const char *token);                /* SHA-256 */

#endif
