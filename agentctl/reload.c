/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/str.h"

static void print_item(const struct json *j, int item)
{
    char raw[512], alias[128], action[64], detail[600];

    str_escape(alias, sizeof(alias), json_copy(j, json_member(j, item, "alias"), raw, sizeof(raw)));
    str_escape(action, sizeof(action), json_copy(j, json_member(j, item, "action"), raw, sizeof(raw)));
    str_escape(detail, sizeof(detail), json_copy(j, json_member(j, item, "detail"), raw, sizeof(raw)));
    printf("%s: %s%s%s\n", alias, action, *detail ? ": " : "", detail);
}

/* What went wrong, one line each. */
static void print_details(const struct json *j)
{
    char raw[600], line[700];
    int list = json_member(j, json_member(j, 0, "error"), "subErrors");

    for (int e = json_first(j, list); e >= 0; e = json_next(j, e)) {
        json_copy(j, e, raw, sizeof(raw));
        raw[strcspn(raw, "\n")] = 0;
        fprintf(stderr, "    %s\n", str_escape(line, sizeof(line), raw));
    }
}

int reload_run(const struct options *o)
{
    struct http_reply r;
    size_t len;
    int code = http_ask(o, "POST", "/agentd/v1/reload", &r);

    if (code == EXIT_REFUSED) {
        options_complain("reload: %s", r.message);
        print_details(&r.json);
    } else if (code == EXIT_DONE && o->json) {
        const char *s = json_raw(&r.json, r.data, &len);
        printf("%.*s\n", (int)len, s);
    } else if (code == EXIT_DONE) {
        for (int i = json_first(&r.json, json_member(&r.json, r.data, "contents")); i >= 0;
             i = json_next(&r.json, i))
            print_item(&r.json, i);
    }
    http_free(&r);
    return code;
}
