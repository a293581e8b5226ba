/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/options: the command line, what all verbs share of it, and the codes with which the command ends.
 * Knows no HTTP. */
#ifndef AGENTCTL_OPTIONS_H
#define AGENTCTL_OPTIONS_H

#include <stdbool.h>

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
    const char *file;   /* of credentials */
    const char *config; /* agentd's */
    bool json, follow, color, plan, generate;
    char **words; /* the verb, then its arguments; ends in NULL */
    int count;
};

/* 0, or -1: what is wrong was told on stderr. */
int options_parse(struct options *o, int argc, char **argv);

/* "agentctl: ..." on stderr */
void options_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The code for several results: what weighs most. */
int options_worse(int a, int b);

#endif
