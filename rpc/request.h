/* SPDX-License-Identifier: Apache-2.0 */
/* rpc/request: one HTTP request from its dispatch to its reply. Owned by whoever has to answer it next; ends
 * in exactly one of the functions of rpc/reply.h, also when the client has gone meanwhile. */
#ifndef RPC_REQUEST_H
#define RPC_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/method.h"
#include "rpc/route.h"
#include "wire/wire.h"

struct evhttp_request;
struct listen_conn;

#define REQUEST_ACTOR 80

struct request {
    struct evhttp_request *http;
    struct listen_conn *conn;         /* NULL: the client has gone */
    struct request *next;             /* in the list of what it waits for */
    const struct method_info *method; /* NULL before routing */
    uint64_t start_us;
    unsigned retry_sec; /* of a 429 or 503; 0: 1 */
    enum route_verb verb;
    enum method_role role;
    bool ocp;
    bool sampled; /* it has waited for a sample already */
    bool events;  /* stream is rpc/events' */
    void *stream; /* rpc/stream's or rpc/events', while the reply is one */
    char trace[17];
    char actor[REQUEST_ACTOR];
    struct route route;
};

/* Takes a whole request over from the listener: routes, asks who it is, hands it to its handler. */
void request_serve(struct listen_conn *c, struct evhttp_request *http);
void request_gone(struct request *r); /* its connection is away */
void request_free(struct request *r); /* rpc/reply's, after the last byte was handed over */

const char *request_header(const struct request *r, const char *name); /* NULL if it is not there */
/* The values of all headers of that name, with commas between, as RFC 9110 has them. 1; 0: there is none;
 * -E2BIG. */
int request_header_all(const struct request *r, const char *name, char *buf, size_t size);
/* Runs the handler again, when what the request waited for is there. */
void request_resume(struct request *r);
void request_refuse_all(void); /* from now on 503: agentd has gone */

#endif
