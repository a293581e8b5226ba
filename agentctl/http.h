/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/http: asks agentd, over its unix socket or a URL, and takes the envelope apart. The only file that
 * knows libcurl. Failures are told on stderr, with what to do about them. */
#ifndef AGENTCTL_HTTP_H
#define AGENTCTL_HTTP_H

#include <stdbool.h>
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
    char host[24];      /* Agentd-Host-Id */
    bool absent;        /* nobody listens there */
    bool enough;        /* set by who takes a stream: it ends here, and that is no failure */
};

struct http_request {
    const char *method, *path;
    const char *body; /* JSON, or NULL */
    const char *if_match, *idempotency_key, *last_event;
    int wait_sec;    /* Prefer: wait=; -1: as long as agentd does */
    int timeout_sec; /* of the whole exchange; 0: none */
    bool async;      /* Prefer: respond-async */
    bool quiet;      /* that agentd can't be asked is not told */
};

/* EXIT_DONE: an answer with data is in ret (whatever its status); else a code, and it was told. Free ret
 * always. */
int http_ask(const struct options *o, const char *method, const char *path, struct http_reply *ret);
int http_send(const struct options *o, const struct http_request *q, struct http_reply *ret);
void http_free(struct http_reply *r);

/* A body that is no envelope; ret has status, body and headers, whatever they are. */
int http_fetch(const struct options *o, const struct http_request *q, struct http_reply *ret);

int http_open(struct http_reply *r); /* its body is an envelope after all: data and message. As http_ask. */

/* Gets a log's bytes. Each piece goes to take, as it comes; ret has status, message and cursor. */
typedef void (*http_take_fn)(void *arg, const char *p, size_t n);
int http_stream(const struct options *o, const char *path, http_take_fn take, void *arg,
                struct http_reply *ret);
int http_listen(const struct options *o, const struct http_request *q, http_take_fn take, void *arg,
                struct http_reply *ret);

/* HostId= of the agentd that is asked, for OCP's paths. EXIT_DONE, or another code, and it was told. */
int http_host(const struct options *o, char host[24]);

/* head, name with everything special escaped, tail. Returns buf. */
char *http_path(char *buf, size_t size, const char *head, const char *name, const char *tail);

#endif
