/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/http: asks agentd, over its unix socket or a URL, and takes the envelope apart. The only file that
 * knows libcurl. Failures are told on stderr, with what to do about them. */
#ifndef AGENTCTL_HTTP_H
#define AGENTCTL_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "agentctl/options.h"
#include "base/buf.h"
#include "rpc/json_dec.h"

struct http_reply {
    int status;
    struct buf body;
    struct json json;
    int data;           /* token of it, -1: a failure */
    char operation[80]; /* Agentd-Operation */
    char message[512];  /* of a failure */
    char cursor[80];    /* Agentd-Log-Cursor */
};

/* EXIT_DONE: an answer with data is in ret (whatever its status); else a code, and it was told. Free ret
 * always. */
int http_ask(const struct options *o, const char *method, const char *path, struct http_reply *ret);
void http_free(struct http_reply *r);

/* Gets a log's bytes. Each piece goes to take, as it comes; ret has status, message and cursor. */
typedef void (*http_take_fn)(void *arg, const char *p, size_t n);
int http_stream(const struct options *o, const char *path, http_take_fn take, void *arg,
                struct http_reply *ret);

/* head, name with everything special escaped, tail. Returns buf. */
char *http_path(char *buf, size_t size, const char *head, const char *name, const char *tail);

#endif
