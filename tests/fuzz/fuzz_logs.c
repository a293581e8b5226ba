/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/logs_line, logs_name, logs_match and rpc/obagent_read: what a search reads of logs, of names and of
 * bodies. What the listener makes of a body agentd can read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/logs_line.h"
#include "agentd/logs_match.h"
#include "agentd/logs_name.h"
#include "base/buf.h"
#include "base/limits.h"
#include "rpc/obagent_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(int ok)
{
    if (!ok)
        abort();
}

static void read_line(const char *p, size_t n)
{
    struct logs_line l = {.us = 1};

    if (logs_line_read(p, n, INT64_C(1704164645000000), &l)) {
        must(strlen(l.level) < sizeof(l.level) && (!l.level[0] || logs_line_level(l.level, strlen(l.level))));
        must(l.offset > -86400 && l.offset < 86400);
        must(l.us > INT64_C(-70000000000000000) && l.us < INT64_C(300000000000000000));
    } else {
        must(l.us == 1);
    }
}

static void read_names(const char *text)
{
    const char *other = text + strcspn(text, "|");
    char name[256];
    struct logs_name a;

    strncpy(name, text, sizeof(name) - 1)[sizeof(name) - 1] = 0;
    name[strcspn(name, "|")] = 0;
    if (logs_name_read(name, &a))
        must(a.stem > 0 && a.stem <= strlen(name));
    logs_name_is_type(name, other);
    must((logs_name_compare(name, other) < 0) == (logs_name_compare(other, name) > 0));
}

static void read_body(const char *p, size_t n, bool zip)
{
    static struct logs_query q;
    struct buf b = BUF_INIT(LIMIT_HTTP_BODY);
    char why[256];

    if (obagent_read_search(p, n, zip, &b, why, sizeof(why)) == 0) {
        must(b.len <= LIMIT_LOG_QUERY_TEXT && logs_match_read(b.p, &q) == 0 && q.zip == zip);
    } else {
        must(strlen(why) < sizeof(why));
    }
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct logs_query q;
    char *exact = malloc(n + 1);

    if (!exact)
        return 0;
    memcpy(exact, p, n);
    exact[n] = 0;
    read_line((const char *)p, n); /* not ended by NUL */
    read_names(exact);
    read_body((const char *)p, n, false);
    read_body((const char *)p, n, true);
    logs_match_read(exact, &q);
    free(exact);
    return 0;
}
