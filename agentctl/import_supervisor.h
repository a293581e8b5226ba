/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import_supervisor: what its two files share: the sections, and one process of a program while it
 * is read. */
#ifndef AGENTCTL_IMPORT_SUPERVISOR_H
#define AGENTCTL_IMPORT_SUPERVISOR_H

#include "agentctl/import_ini.h"

/* A worker's place in the order of starts. */
struct import_supervisor_place {
    struct import_worker *w;
    struct import_entry *entry;
    long priority[2]; /* of the group, and in it */
};

struct import_supervisor {
    struct import *im;
    struct import_supervisor_place *places;
    size_t n_places, size_places;
    struct import_ini ini;
    const struct import_ini_section *main; /* [supervisord], or NULL */
    struct import_words of_main;           /* of its environment=: name, value, name, value */
    const char *main_environment;          /* its text; NULL: there is none */
};

struct import_supervisor_program {
    struct import_supervisor *s;
    struct import *im;
    struct import_worker *w;
    struct import_ini_section *section; /* NULL: while [supervisord] or [include] is read */
    const char *name, *group, *here;
    unsigned number, numprocs;
    struct import_words variables; /* of environment=: name, value, name, value */
    long priority[2];              /* of the group and in it */
};

/* text with its %(...)s replaced. NULL after an error at `at`. */
const char *import_supervisor_expand(const struct import_supervisor_program *p, struct import_at at,
                                     const char *text);
/* The value of a key of [supervisord], which knows no program. NULL after an error. */
const char *import_supervisor_main(struct import_supervisor *s, const struct import_ini_key *k);
/* KEY="value",... ; false after an error. */
bool import_supervisor_variables(struct import *im, struct import_at at, const char *text,
                                 struct import_words *ret);
/* yes, true, on, 1 and their contraries. */
bool import_supervisor_bool(const char *s, bool *ret);

/* Fills in the worker from the section's keys. */
void import_supervisor_program(struct import_supervisor_program *p);
/* Once all are read: After=. */
void import_supervisor_order(struct import_supervisor *s);

#endif
