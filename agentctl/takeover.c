/* SPDX-License-Identifier: Apache-2.0 */
/* adopt and upgrade: asked of agentd itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agentctl/http.h"
#include "agentctl/private.h"
#include "agentctl/verbs.h"
#include "base/str.h"

/* The operation as agentd tells it over HTTP. */
static void print_json(const struct options *o, const char *operation)
{
    struct http_reply r;
    char path[200];
    size_t len;

    if (http_ask(o, "GET", http_path(path, sizeof(path), "/agentd/v1/operations/", operation, ""), &r) ==
        EXIT_DONE) {
        const char *s = json_raw(&r.json, r.data, &len);
        printf("%.*s\n", (int)len, s);
    }
    http_free(&r);
}

static int tell(const struct options *o, int code, const struct private_reply *r)
{
    if (code == EXIT_REFUSED)
        options_complain("%s: %s", o->words[0], r->message[0] ? r->message : wire_error_text(r->error));
    if (o->json && r->operation[0] && (code == EXIT_DONE || code == EXIT_REFUSED))
        print_json(o, r->operation);
    else if (code == EXIT_DONE && r->message[0])
        printf("%s\n", r->message);
    else if (code == EXIT_DONE)
        printf(str_eq(o->words[0], "adopt") ? "%s: process %s was taken over\n"
                                            : "%s: was given to process %s\n",
               o->words[1], o->words[2]);
    return code;
}

int takeover_upgrade(const struct options *o)
{
    struct wire_call v = {.verb = WIRE_VERB_UPGRADE};
    struct private_reply r;

    if (o->count != 1) {
        options_complain("upgrade takes no words: the installed program takes over");
        return EXIT_USAGE;
    }
    return tell(o, private_ask(o, &v, &r), &r);
}

static int of_process(const struct options *o, enum wire_verb verb, const char *usage)
{
    struct wire_call v = {.verb = (uint8_t)verb};
    struct private_reply r;
    uint64_t pid;

    if (o->count != 3 || str_to_u64(o->words[2], INT32_MAX, &pid) < 0 || pid < 2) {
        options_complain("%s", usage);
        return EXIT_USAGE;
    }
    if (o->reader && (str_to_u64(o->reader, INT32_MAX, &v.from) < 0 || v.from < 2)) {
        options_complain("--reader is a pid, not \"%s\"", o->reader);
        return EXIT_USAGE;
    }
    v.name = o->words[1];
    v.pid = (uint32_t)pid;
    return tell(o, private_ask(o, &v, &r), &r);
}

int takeover_adopt(const struct options *o)
{
    return of_process(o, WIRE_VERB_ADOPT, "adopt takes a worker's alias and the pid of its running process");
}

int takeover_release(const struct options *o)
{
    return of_process(o, WIRE_VERB_RELEASE,
                      "release takes a worker's alias and the pid of a process whose cgroup it goes into");
}
