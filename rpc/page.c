/* SPDX-License-Identifier: Apache-2.0 */
/* GET /: the workers at one look, for a browser: one text, without a script, and nothing is loaded. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "rpc/handlers.h"
#include "rpc/link.h"
#include "rpc/reply.h"
#include "rpc/sample.h"
#include "rpc/table.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>agentd</title>\n<style>\n"
    "body { font-family: sans-serif; margin: 2em; color: #222; background: #fff }\n"
    "table { border-collapse: collapse }\n"
    "th, td { text-align: left; padding: .3em .8em; border-bottom: 1px solid #ddd; vertical-align: top }\n"
    "td.n { text-align: right }\n"
    "tr.bad td.s { color: #a00; font-weight: bold }\n"
    "tr.good td.s { color: #060 }\n"
    "</style>\n</head>\n<body>\n";

/* As text or as an attribute's value in quotes. */
static void put_text(struct buf *b, const char *s)
{
    static const struct {
        char c;
        const char *as;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};

    while (*s) {
        size_t n = strcspn(s, "&<>\"'");
        buf_put(b, s, n);
        s += n;
        for (size_t i = 0; *s && i < sizeof(escapes) / sizeof(escapes[0]); i++)
            if (*s == escapes[i].c) {
                buf_str(b, escapes[i].as);
                s++;
                break;
            }
    }
}

static void put_cell(struct buf *b, const char *class, const char *text)
{
    buf_printf(b, "<td%s%s%s>", *class ? " class=\"" : "", class, *class ? "\"" : "");
    put_text(b, text);
    buf_str(b, "</td>");
}

static void put_number(struct buf *b, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    put_cell(b, "n", text);
}

/* What it is in, and where it does not run, why. */
static void put_state(struct buf *b, const struct wire_record *r)
{
    buf_str(b, "<td class=\"s\">");
    put_text(b, r->state);
    if (*r->message) {
        buf_str(b, "<br><small>");
        put_text(b, r->message);
        buf_str(b, "</small>");
    }
    buf_str(b, "</td>");
}

static void put_row(struct buf *b, const struct wire_record *r)
{
    bool good = str_eq(r->state, r->goal) && !str_eq(r->health, "unhealthy");
    char since[CLOCK_TEXT_MAX] = "";

    if (r->since_us > 0)
        clock_iso(r->since_us, 0, since);
    buf_printf(b, "<tr class=\"%s\">", good ? "good" : "bad");
    put_number(b, (uint64_t)r->id);
    put_cell(b, "", r->alias);
    put_state(b, r);
    put_cell(b, "", since);
    put_cell(b, "", r->reason);
    put_cell(b, "", r->health);
    put_number(b, r->alive ? r->pid : 0);
    put_number(b, r->restarts);
    put_cell(b, "", r->alive ? r->ports : "");
    put_cell(b, "", r->description);
    buf_str(b, "</tr>\n");
}

static void put_head(struct buf *b)
{
    const struct wire_hello *h = link_hello();
    char now[CLOCK_TEXT_MAX];

    buf_str(b, head);
    buf_str(b, "<h1>agentd ");
    put_text(b, h->version);
    buf_str(b, "</h1>\n<p>");
    if (h->host_id)
        buf_printf(b, "Host %lld, ", (long long)h->host_id);
    put_text(b, clock_iso(clock_wall_us(), 0, now));
    buf_printf(b, ". %zu workers.</p>\n<table>\n", table_count());
    buf_str(b, "<tr><th>Id</th><th>Worker</th><th>State</th><th>Since</th><th>Reason</th><th>Health</th>"
               "<th>Pid</th><th>Restarts</th><th>Ports</th><th>Description</th></tr>\n");
}

void page_serve(struct request *r)
{
    struct wire_record record;
    struct buf *b;

    if (sample_wait(r, 0, table_count()))
        return;
    b = reply_bare();
    put_head(b);
    for (size_t i = 0; i < table_count(); i++) {
        table_decode(table_at(i), &record);
        put_row(b, &record);
    }
    buf_str(b, "</table>\n</body>\n</html>\n");
    reply_header(r, "Content-Security-Policy",
                 "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
                 "frame-ancestors 'none'");
    reply_header(r, "X-Content-Type-Options", "nosniff");
    reply_header(r, "Referrer-Policy", "no-referrer");
    reply_send_bare(r, "text/html; charset=utf-8");
}
