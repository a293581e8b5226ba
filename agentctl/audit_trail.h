/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/audit_trail: the audit trail's files as lines in order, read directly, and what is wrong with
 * their chain. audit_read.c: files. audit_check.c: the chain. */
#ifndef AGENTCTL_AUDIT_TRAIL_H
#define AGENTCTL_AUDIT_TRAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "agentctl/options.h"
#include "base/chain.h"

struct audit_line {
    const char *text; /* not ended */
    size_t n;
    unsigned file, number; /* place in files; from 1 */
    bool whole;            /* it ends in a newline */
    bool good;             /* it begins as a record does: then seq, prev and hash are set */
    uint64_t seq;
    char prev[CHAIN_HEX], hash[CHAIN_HEX];
};

struct audit_trail {
    char **names, **texts; /* of files, the oldest first */
    unsigned n_files;
    struct audit_line *lines;
    size_t n_lines;
    bool has_head, wants_head; /* wants: all of a folder was read */
    struct chain_head head;    /* as it was before the files were read */
    uint64_t written;          /* the last number that it names after that; 0: not known */
    char head_name[1100];
};

/* What words names: a folder, or files in this order; none: the folder of o's configuration. EXIT_DONE, or
 * another code, and it was told. */
int audit_read(const struct options *o, char **words, struct audit_trail *ret);
bool audit_read_head_moved(const struct audit_trail *t); /* agentd has written since it was read */
void audit_read_free(struct audit_trail *t);

/* What is wrong with a line, or behind it; line 0: with the file. */
typedef void (*audit_found_fn)(const char *file, unsigned line, const char *what, const char *message,
                               void *arg);
void audit_check(const struct audit_trail *t, audit_found_fn found, void *arg);

#endif
