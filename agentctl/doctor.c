/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/str.h"

static const char *text(const struct json *j, int item, const char *name, char *line, size_t size)
{
    char raw[512];

    return str_escape(line, size, json_copy(j, json_member(j, item, name), raw, sizeof(raw)));
}

/* True if it is an error. */
static bool print_finding(const struct json *j, int item)
{
    char severity[32], what[600], advice[600];

    text(j, item, "severity", severity, sizeof(severity));
    printf("%s: %s\n    %s\n", severity, text(j, item, "what", what, sizeof(what)),
           text(j, item, "advice", advice, sizeof(advice)));
    return str_eq(severity, "error");
}

int doctor_run(const struct options *o)
{
    struct http_reply r;
    size_t len;
    bool bad = false, any = false;
    int code = http_ask(o, "GET", "/agentd/v1/doctor", &r);

    if (code == EXIT_REFUSED)
        options_complain("doctor: %s", r.message);
    if (code == EXIT_DONE) {
        for (int i = json_first(&r.json, json_member(&r.json, r.data, "contents")); i >= 0;
             i = json_next(&r.json, i)) {
            any = true;
            if (!o->json)
                bad = print_finding(&r.json, i) || bad;
        }
        if (o->json) {
            const char *s = json_raw(&r.json, r.data, &len);
            printf("%.*s\n", (int)len, s);
        } else if (!any) {
            printf("nothing is missing\n");
        }
    }
    http_free(&r);
    return code == EXIT_DONE && bad ? EXIT_REFUSED : code;
}
