/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/options: the command line, what all verbs share of it, and the codes with which the command ends.
 * Knows no HTTP. */
#ifndef AGENTCTL_OPTIONS_H
#define AGENTCTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum options_exit {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1, /* asked, and refused or failed */
    EXIT_USAGE = 2,
    EXIT_UNASKED = 3, /* could not ask */
    EXIT_GOES_ON = 4, /* timed out, and still going on */
};

#define OPTIONS_CONFIG "/etc/agentd/agentd.conf"
#define OPTIONS_SOCKET "/run/agentd/agentd.sock"

struct options {
    const char *socket, *url, *user, *token_file, *reason, *cert, *key, *cacert;
    const char *lines; /* -n */
    const char *private_socket;
    const char *file;         /* of credentials */
    const char *config;       /* agentd's */
    const char *from, *write; /* of import */
    const char *match, *max_unavailable, *wait, *if_match, *idempotency_key, *since, *delay, *sort;
    const char *task_token, *reader;
    bool json, follow, color, plan, generate, all, async, yes, no_wait, watch, check, force, hold, undo;
    uint64_t given; /* a bit for each row of options_table */
    char **words;   /* the verb, then its arguments; ends in NULL */
    int count;
};

enum options_kind { OPTIONS_TEXT, OPTIONS_FLAG, OPTIONS_FORMAT, OPTIONS_PLAIN, OPTIONS_VERB };

struct options_row {
    bool any; /* every verb takes it */
    const char *name;
    char letter;
    const char *argument; /* NULL: it takes none */
    enum options_kind kind;
    size_t field; /* its place in struct options */
    const char *help;
};

extern const struct options_row options_table[];
extern const unsigned options_count;

/* 0, or -1: what is wrong was told on stderr. */
int options_parse(struct options *o, int argc, char **argv);

/* The list of names, with blanks between, has this one. */
bool options_listed(const char *list, const char *name);

/* Only options that every verb takes, or that the list names. 0, or -1, and it was told. */
int options_allow(const struct options *o, const char *list);

/* The number of an option that has one, or otherwise if it was not given. 0, or -1, and it was told. */
int options_number(const char *name, const char *value, uint64_t least, uint64_t most, uint64_t otherwise,
                   uint64_t *ret);

/* "agentctl: ..." on stderr */
void options_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The code for several results: what weighs most. */
int options_worse(int a, int b);

#endif
