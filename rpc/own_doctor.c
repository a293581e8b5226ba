/* SPDX-License-Identifier: Apache-2.0 */
/* What is not as it should be: agentd's findings, and what the listener alone knows; and of the kernel's
 * features which are there, as far as either has met them. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/feature.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/call.h"
#include "rpc/change.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/reply.h"
#include "rpc/tls.h"
#include "rpc/view.h"

#define DAY 86400
#define TEXT 600

struct feature {
    enum feature_state state;
    char why[TEXT];
};

/* --- findings --------------------------------------------------------------------------------------- */

static void put_finding(struct buf *b, const char *severity, const char *what, const char *advice)
{
    json_open(b, '{');
    json_str(b, "severity", severity);
    json_str(b, "what", what);
    json_str(b, "advice", advice);
    json_close(b, '}');
}

static void put_findings(struct buf *b, const char *items)
{
    char severity[32], what[TEXT], advice[TEXT];

    for (; *items; items = view_next_line(items)) {
        view_field(&items, severity, sizeof(severity));
        view_field(&items, what, sizeof(what));
        view_field(&items, advice, sizeof(advice));
        put_finding(b, severity, what, advice);
    }
}

/* The listener knows its certificate, agentd does not. */
static void look_at_certificate(struct buf *b)
{
    int64_t left = tls_expires() - clock_wall_us() / 1000000;
    char what[128];

    if (!tls_expires() || left >= LIMIT_TLS_RENEW_DAYS * DAY)
        return;
    snprintf(what, sizeof(what), "the certificate of TlsCertificate= %s %lld days",
             left < 0 ? "has expired since" : "expires in", (long long)((left < 0 ? -left : left) / DAY));
    put_finding(b, left < 0 ? "error" : "warning", what, "renew it, then agentctl reload");
}

/* --- features --------------------------------------------------------------------------------------- */

static void look_up(struct feature *all, const char **line)
{
    char name[LIMIT_ALIAS], state[32], why[TEXT];

    view_field(line, name, sizeof(name));
    view_field(line, state, sizeof(state));
    view_field(line, why, sizeof(why));
    for (unsigned i = 0; i < FEATURE_MAX; i++)
        if (str_eq(feature_table[i].name, name)) {
            all[i].state = feature_state_from(state);
            str_copy(all[i].why, TEXT, all[i].state == FEATURE_LACKING ? why : "");
        }
}

/* Each is met by one of the two: by agentd, or here. */
static void gather(struct feature *all, const char *told)
{
    for (; *told; told = view_next_line(told))
        look_up(all, &told);
    for (unsigned i = 0; i < FEATURE_MAX; i++)
        if (all[i].state == FEATURE_UNTRIED)
            all[i].state = feature_state(i);
}

static void cure_of(const struct feature_row *row, char cure[TEXT])
{
    const char *how = row->cure;

    snprintf(cure, TEXT, *how ? "%s (Linux %s or later)" : "%sLinux %s or later", how, row->since);
}

static void put_lacks(struct buf *b, const struct feature *all)
{
    char what[2 * TEXT], cure[TEXT];

    for (unsigned i = 0; i < FEATURE_MAX; i++) {
        const struct feature_row *row = &feature_table[i];
        if (all[i].state != FEATURE_LACKING)
            continue;
        snprintf(what, sizeof(what), "no %s%s%s%s: %s", row->name, all[i].why[0] ? " (" : "", all[i].why,
                 all[i].why[0] ? ")" : "", row->cost);
        cure_of(row, cure);
        put_finding(b, row->severity, what, cure);
    }
}

static void put_features(struct buf *b, const struct feature *all)
{
    char cure[TEXT];

    for (unsigned i = 0; i < FEATURE_MAX; i++) {
        const struct feature_row *row = &feature_table[i];
        cure_of(row, cure);
        json_open(b, '{');
        json_str(b, "name", row->name);
        json_str(b, "state", feature_state_name(all[i].state));
        json_str(b, "since", row->since);
        json_str(b, "why", all[i].why);
        json_str(b, "cost", row->cost);
        json_str(b, "cure", cure);
        json_close(b, '}');
    }
}

static void on_doctor(void *arg, enum call_end end, const struct wire_reply *reply, int fd)
{
    struct feature all[FEATURE_MAX] = {0};
    struct buf *b;

    if (!change_is_good(arg, end, reply, fd))
        return;
    gather(all, reply->features);
    b = reply_data(arg);
    json_open(b, '{');
    json_key(b, "contents");
    json_open(b, '[');
    look_at_certificate(b);
    put_findings(b, reply->items);
    put_lacks(b, all);
    json_close(b, ']');
    json_key(b, "features");
    json_open(b, '[');
    put_features(b, all);
    json_close(b, ']');
    json_close(b, '}');
    reply_send(arg, 200);
}

void own_doctor(struct request *r)
{
    struct wire_call v = {.verb = WIRE_VERB_DOCTOR};

    change_ask(r, &v, on_doctor);
}
