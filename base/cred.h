/* SPDX-License-Identifier: Apache-2.0 */
/* base/cred: a line of the credentials file, agentd.conf(5): the one table of its kinds. Pure; knows no file.
 * What is wrong is said without a word of the line. */
#ifndef BASE_CRED_H
#define BASE_CRED_H

#include <stdbool.h>

enum cred_kind { CRED_BASIC, CRED_BEARER, CRED_AKSK, CRED_CERT, CRED_KINDS };

struct cred {
    enum cred_kind kind;
    bool manager;       /* HOST_MANAGER, else HOST_VIEWER */
    const char *name;   /* the user, the token's name, the access key, the subject or SAN */
    const char *secret; /* the hash of crypt(3), the SHA-256 in hexadecimal, the secret key; "" of a cert */
};

struct cred_wrong {
    const char *why;
    unsigned column; /* from 1, in bytes */
};

const char *cred_kind_name(enum cred_kind kind);
int cred_kind_of(const char *word); /* enum cred_kind, or -EINVAL */
const char *cred_role_name(bool manager);

/* Splits the line in place, without its line feed; ret points into it then.
 * 1 a credential, 0 a comment or nothing, -EINVAL with wrong filled. */
int cred_parse(char *line, struct cred *ret, struct cred_wrong *wrong);

#endif
