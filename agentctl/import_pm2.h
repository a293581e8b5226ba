/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import_pm2: what its two files share: one process of an app while it is read. */
#ifndef AGENTCTL_IMPORT_PM2_H
#define AGENTCTL_IMPORT_PM2_H

#include "agentctl/import_node.h"

struct import_pm2 {
    struct import *im;
    struct import_worker *w;
    struct import_node *node; /* the app */
    const char *cwd;          /* absolute */
    unsigned number, count;   /* which of its instances, of how many */
    bool by_node;             /* what runs it is node, or has that in its name */
};

/* The first of these keys that is there, and its place in the account. NULL: none is, or it is null. */
struct import_node *import_pm2_get(struct import_pm2 *a, const char *const *names, struct import_entry **ret);
/* A value as JavaScript makes a text of it. */
const char *import_pm2_text(struct import_pm2 *a, const struct import_node *n);
void import_pm2_wrong(struct import_pm2 *a, const struct import_node *n, const char *wanted);
/* A list, or a text that is cut into words as pm2 does. */
void import_pm2_words(struct import_pm2 *a, const struct import_node *n, struct import_words *words);

/* All keys but those of the command, the environment and the number of instances. */
void import_pm2_keys(struct import_pm2 *a);

#endif
