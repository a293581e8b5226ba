/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agentctl/http.h"
#include "agentctl/verbs.h"
#include "base/str.h"

#define COLUMNS 5
#define CELL 1400 /* a message has a path and a line of text */

static const char *const heads[COLUMNS] = {"ALIAS", "ACTION", "KEY", "COST", "DETAIL"};

/* The cells of a row, each as wide as it must be: for the first worker's key a whole row, then key and cost.
 */
struct table {
    int width[COLUMNS];
    bool print; /* else it is only measured */
    unsigned rows;
};

/* What a file says may hold anything: nothing of it reaches the terminal as a control sequence. */
static void text(const struct json *j, int object, const char *name, char *cell)
{
    char raw[CELL];

    str_escape(cell, CELL, json_copy(j, json_member(j, object, name), raw, sizeof(raw)));
}

static void put_row(struct table *t, const char *const cell[COLUMNS])
{
    int last = COLUMNS - 1;

    t->rows++;
    while (last > 0 && !*cell[last])
        last--;
    for (int i = 0; i < COLUMNS; i++) {
        int n = (int)strlen(cell[i]);
        if (!t->print && n > t->width[i])
            t->width[i] = n;
        else if (t->print && i < last)
            printf("%-*s  ", t->width[i], cell[i]);
        else if (t->print && i == last)
            printf("%s\n", cell[i]);
    }
}

static void put_item(struct table *t, const struct json *j, int item)
{
    char alias[CELL], action[CELL], detail[CELL], key[CELL], cost[CELL];
    int keys = json_member(j, item, "keys"), k = json_first(j, keys);

    text(j, item, "alias", alias);
    text(j, item, "action", action);
    text(j, item, "detail", detail);
    if (!*alias)
        str_copy(alias, CELL, "(agentd.conf)");
    if (k < 0)
        put_row(t, (const char *const[]){alias, action, "-", "-", detail});
    for (bool first = true; k >= 0; k = json_next(j, k), first = false) {
        text(j, k, "key", key);
        text(j, k, "cost", cost);
        put_row(t, (const char *const[]){first ? alias : "", first ? action : "", key, cost,
                                         first ? detail : ""});
    }
}

static void put_table(struct table *t, const struct json *j, int list)
{
    put_row(t, heads);
    for (int i = json_first(j, list); i >= 0; i = json_next(j, i))
        put_item(t, j, i);
}

static void print_table(const struct json *j, int data, bool plan)
{
    int list = json_member(j, data, "contents");
    struct table t = {.print = false};

    if (json_count(j, list) == 0) {
        printf(plan ? "Nothing differs.\n" : "Nothing changed.\n");
        return;
    }
    put_table(&t, j, list);
    t.print = true;
    put_table(&t, j, list);
}

/* One line each; how many there are. */
static unsigned print_lines(const struct json *j, int list, const char *indent)
{
    char raw[CELL], line[CELL];
    unsigned n = 0;

    for (int e = json_first(j, list); e >= 0; e = json_next(j, e), n++)
        fprintf(stderr, "%s%s\n", indent, str_escape(line, sizeof(line), json_copy(j, e, raw, sizeof(raw))));
    return n;
}

static int print_answer(const struct options *o, const struct http_reply *r)
{
    size_t len;
    const char *s = json_raw(&r->json, r->data, &len);

    if (o->json)
        printf("%.*s\n", (int)len, s);
    else
        print_table(&r->json, r->data, o->plan);
    fflush(stdout);
    return print_lines(&r->json, json_member(&r->json, r->data, "errors"), "agentctl: ") ? EXIT_REFUSED
                                                                                         : EXIT_DONE;
}

int reload_run(const struct options *o)
{
    struct http_reply r;
    int code;

    if ((o->count > 1 || o->all || o->match) && !o->plan)
        return fleet_run(o);
    code = http_ask(o, o->plan ? "GET" : "POST", "/agentd/v1/reload", &r);

    if (code == EXIT_REFUSED) {
        options_complain("reload: %s", r.message);
        print_lines(&r.json, json_member(&r.json, json_member(&r.json, 0, "error"), "subErrors"), "    ");
    } else if (code == EXIT_DONE) {
        code = print_answer(o, &r);
    }
    http_free(&r);
    return code;
}
