/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/change: one operation on one worker: asked for, waited for, told. Knows nothing of the others. */
#ifndef AGENTCTL_CHANGE_H
#define AGENTCTL_CHANGE_H

#include "agentctl/options.h"

#define CHANGE_WAIT_MOST 86400   /* seconds */
#define CHANGE_UNTIL_AGENTD (-1) /* to wait as long as agentd answers late */
#define CHANGE_AWAY_US 30000000  /* agentd may be gone for so long meanwhile */

struct change {
    const char *alias;
    int wait_sec;       /* or CHANGE_UNTIL_AGENTD */
    bool async;         /* begun is enough */
    bool quiet;         /* a wait that is over is no word on stderr */
    bool wipe;          /* a line of progress stands on stderr: away with it before anything is told */
    int *shown;         /* results printed so far: with -o json they are elements of an array */
    char operation[80]; /* its id, once it is known */
};

/* Asks for what o's verb says. EXIT_DONE: it is done, and told (with async: begun). EXIT_GOES_ON: operation
 * says which. All codes but that with quiet were told. */
int change_ask(const struct options *o, struct change *c);

/* Looks at the operation. EXIT_GOES_ON: as before; else its end, told. EXIT_UNASKED: agentd does not answer.
 */
int change_look(const struct options *o, struct change *c);

#endif
