/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import_ini: sections with keys, as Python's configparser reads them for supervisor: a value goes
 * on in lines that are further in, ; and # begin a comment after a blank, a section may come twice, and of a
 * key that does the last one counts. Knows no format's keys. */
#ifndef AGENTCTL_IMPORT_INI_H
#define AGENTCTL_IMPORT_INI_H

#include "agentctl/import.h"

struct import_ini_key {
    const char *name, *value;
    struct import_at at;
    bool replaced; /* a later one of its name counts; it is in the account already */
    bool seen;     /* for who reads the keys */
};

struct import_ini_section {
    const char *name;
    struct import_at at;
    const struct import_source *src;
    struct import_ini_key *keys;
    size_t n, size;
};

struct import_ini {
    struct import_ini_section **sections;
    size_t n, size;
};

/* Adds what the source has. False after an error. */
bool import_ini_read(struct import *im, struct import_ini *ini, const struct import_source *src);
void import_ini_free(struct import_ini *ini);
struct import_ini_section *import_ini_section(const struct import_ini *ini, const char *name);
/* The last one of that name, or NULL. */
struct import_ini_key *import_ini_key(const struct import_ini_section *s, const char *name);

#endif
