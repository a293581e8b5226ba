/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/credential_file: the credentials file, read and replaced whole: what a reader sees is always one
 * state of it. Comments and other lines stay as they are. Knows lines and their kinds; never what a secret is
 * made of. Each function that returns a code has told what is wrong. */
#ifndef AGENTCTL_CREDENTIAL_FILE_H
#define AGENTCTL_CREDENTIAL_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/cred.h"

#define CREDENTIAL_FILE "/etc/agentd/credentials"

struct credential_file {
    const char *path;
    char name[NAME_MAX + 1];
    int dir;    /* the folder; locked while the file is to be changed */
    char *text; /* NULL: there is no file yet */
    uid_t uid;
    gid_t gid;
    unsigned count; /* of credentials */
    bool wrong;     /* a line is malformed */
};

/* An enum options_exit. A file that others may use, or that is a symbolic link, is refused. */
int credential_file_open(struct credential_file *f, const char *path, bool change);
void credential_file_close(struct credential_file *f);

/* The i-th credential; false: there are no more. ret points into line, of LIMIT_CREDENTIAL_LINE + 2 bytes. */
bool credential_file_get(const struct credential_file *f, unsigned i, char *line, struct cred *ret);
bool credential_file_has(const struct credential_file *f, enum cred_kind kind, const char *name);

/* Puts line in the place of all of that kind and name, else at the end; NULL takes them away. */
int credential_file_change(struct credential_file *f, enum cred_kind kind, const char *name,
                           const char *line);

#endif
