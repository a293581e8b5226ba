/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import_monit: what its two files share: a monitrc as statements of words. */
#ifndef AGENTCTL_IMPORT_MONIT_H
#define AGENTCTL_IMPORT_MONIT_H

#include "agentctl/import.h"

struct import_monit_word {
    const char *text;       /* without its quotes */
    const char *from, *end; /* in the source */
    unsigned line, col;
    bool quoted, first; /* first: of its line */
};

struct import_monit_statement {
    const struct import_monit_word *v;
    size_t n;
    struct import_at at;
    const char *text; /* as it stands, on one line */
};

struct import_monit {
    struct import *im;
    struct import_source *src;
    struct import_monit_word *words;
    size_t n_words, size_words;
    struct import_monit_statement *statements;
    size_t n, size;
};

/* Words and statements of the source. False after an error. */
bool import_monit_parse(struct import_monit *m);
void import_monit_free(struct import_monit *m);

/* The word, in any case and without quotes. */
bool import_monit_is(const struct import_monit_statement *s, size_t i, const char *word);
/* Its place behind from, or n. */
size_t import_monit_find(const struct import_monit_statement *s, size_t from, const char *word);
/* The word at i, or "". */
const char *import_monit_text(const struct import_monit_statement *s, size_t i);

/* `if ...` of a process, into e, whose worker's it is. */
struct import_monit_tests {
    unsigned cycle; /* seconds */
    bool checked;   /* there is a HealthCheck= */
    bool limited, memory;
};
void import_monit_if(struct import *im, const struct import_monit_statement *s, struct import_entry *e,
                     struct import_monit_tests *t);

#endif
