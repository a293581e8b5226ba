/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/private: frames on agentd's private socket: for what is not asked over HTTP. Knows the wire; no
 * HTTP. */
#ifndef AGENTCTL_PRIVATE_H
#define AGENTCTL_PRIVATE_H

#include "agentctl/options.h"
#include "wire/wire.h"

struct private_reply {
    enum wire_error error;
    char operation[64], message[1024];
};

/* Sends the call (its number and key are filled in) and waits for its end, also over agentd's death: the key
 * finds the operation again. EXIT_DONE, EXIT_REFUSED, or another code that was told. */
int private_ask(const struct options *o, struct wire_call *v, struct private_reply *ret);

#endif
