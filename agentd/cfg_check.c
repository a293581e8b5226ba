/* SPDX-License-Identifier: Apache-2.0 */
/* ReadyCheck= and HealthCheck=: how a worker is asked from outside. */
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_mix.h"
#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

#define SOCKET_PATH_MAX 107 /* sun_path, unix(7) */

void cfg_check_free(struct cfg_check *k)
{
    if (!k)
        return;
    free(k->host);
    free(k->path);
    free(k->body);
    cfg_command_done(&k->command);
    free(k);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? str_eq(a, b) : a == b;
}

bool cfg_check_same(const struct cfg_check *a, const struct cfg_check *b)
{
    if (!a || !b)
        return a == b;
    return a->kind == b->kind && a->port == b->port && a->status == b->status &&
           a->stable_us == b->stable_us && same_text(a->path, b->path) && same_text(a->host, b->host) &&
           same_text(a->body, b->body) && same_text(a->command.text, b->command.text);
}

static char *dup_or_null(const char *s, bool *failed)
{
    char *copy = s ? strdup(s) : NULL;

    *failed = *failed || (s && !copy);
    return copy;
}

static char **dup_words(char *const *v, bool *failed)
{
    size_t n = 0;
    char **copy;

    if (!v)
        return NULL;
    while (v[n])
        n++;
    copy = cfg_list_pack(v, n);
    *failed = *failed || !copy;
    return copy;
}

static void dup_command(struct cfg_command *to, const struct cfg_command *from, bool *failed)
{
    to->path = dup_or_null(from->path, failed);
    to->text = dup_or_null(from->text, failed);
    to->argv = dup_words(from->argv, failed);
    to->late = dup_words(from->late, failed);
}

struct cfg_check *cfg_check_dup(const struct cfg_check *k)
{
    struct cfg_check *copy = malloc(sizeof(*copy));
    bool failed = false;

    if (!copy)
        return NULL;
    *copy = *k;
    copy->host = dup_or_null(k->host, &failed);
    copy->path = dup_or_null(k->path, &failed);
    copy->body = dup_or_null(k->body, &failed);
    dup_command(&copy->command, &k->command, &failed);
    if (failed) {
        cfg_check_free(copy);
        return NULL;
    }
    return copy;
}

struct reading {
    struct cfg_ctx *c;
    const struct cfg_key *k;
    const struct cfg_line *l;
    struct cfg_check *check;
};

static bool take_port(const struct reading *r, const char *text)
{
    uint64_t v;

    if (str_to_u64(text, 65535, &v) < 0 || v == 0)
        return false;
    r->check->port = (unsigned)v;
    return true;
}

static void read_tcp(const struct reading *r, const char *port)
{
    if (take_port(r, port))
        r->check->kind = CFG_CHECK_TCP;
    else
        cfg_error(r->c, r->l, 0, "%s=tcp: wants a port from 1 to 65535, not \"%s\"", r->k->name, port);
}

static void read_unix(const struct reading *r, const char *path)
{
    const char *why = cfg_path_wrong(path);

    if (!why && strlen(path) > SOCKET_PATH_MAX)
        why = "is too long for a socket";
    if (why) {
        cfg_error(r->c, r->l, 0, "%s=unix:%s %s", r->k->name, path, why);
        return;
    }
    r->check->kind = CFG_CHECK_UNIX;
    r->check->path = cfg_dup(r->c, path);
}

static void read_stable(const struct reading *r, const char *span)
{
    uint64_t us;

    if (str_to_usec(span, 1000000, &us) < 0 || us == 0 || us == STR_USEC_INFINITY) {
        cfg_error(r->c, r->l, 0, "%s=stable: wants a time span such as 5s, not \"%s\"", r->k->name, span);
        return;
    }
    r->check->kind = CFG_CHECK_STABLE;
    r->check->stable_us = us;
}

/* "HOST", "HOST:PORT", "[V6]:PORT"; ends it in place. */
static bool take_host(const struct reading *r, char *text)
{
    char *colon;

    if (*text == '[') {
        char *end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        colon = end[1] ? end + 1 : NULL;
        *end = 0;
    } else if ((colon = strchr(text, ':'))) {
        *colon = 0;
    }
    r->check->port = 80;
    if (!*text || strpbrk(text, "@/?#") || (colon && !take_port(r, colon + 1)))
        return false;
    r->check->host = cfg_dup(r->c, text);
    return true;
}

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

/* //HOST[:PORT][/PATH] [STATUS] [TEXT] */
static const char *take_url(const struct reading *r, char *text)
{
    char *rest = strchr(text, ' '), *path;
    uint64_t status;

    if (rest)
        *rest++ = 0;
    if (!str_starts(text, "//") || !is_printable(text))
        return "wants an address such as http://127.0.0.1:8080/health";
    path = strchr(text + 2, '/');
    if (!(r->check->path = cfg_dup(r->c, path ? path : "/")))
        return NULL;
    if (strchr(r->check->path, '#'))
        return "sends no fragment: leave out what is behind \"#\"";
    if (path)
        *path = 0;
    if (!take_host(r, text + 2))
        return "wants HOST or HOST:PORT, an IPv6 address in brackets";
    rest = rest ? rest + strspn(rest, " ") : NULL;
    if (rest && strspn(rest, "0123456789") == 3 && (!rest[3] || rest[3] == ' ')) {
        char *end = rest + 3;
        rest = *end ? end + strspn(end, " ") : end;
        *end = 0;
        if (str_to_u64(end - 3, 599, &status) < 0 || status < 100)
            return "wants a status from 100 to 599";
        r->check->status = (unsigned)status;
    }
    if (rest && *rest)
        r->check->body = cfg_dup(r->c, rest);
    return NULL;
}

static void read_http(const struct reading *r, const char *url)
{
    _cleanup_free_ char *text = cfg_dup(r->c, str_starts(url, "http:") ? url + strlen("http:") : url);
    const char *why = text ? take_url(r, text) : NULL;

    if (why)
        cfg_error(r->c, r->l, 0, "%s=http:%s %s", r->k->name, url, why);
    else
        r->check->kind = CFG_CHECK_HTTP;
}

static void read_check(const struct reading *r, const char *value, bool stable)
{
    if (str_starts(value, "tcp:"))
        read_tcp(r, value + 4);
    else if (str_starts(value, "unix:"))
        read_unix(r, value + 5);
    else if (str_starts(value, "http:"))
        read_http(r, value + 5);
    else if (stable && str_starts(value, "stable:"))
        read_stable(r, value + 7);
    else if (str_starts(value, "exec:"))
        r->check->kind = CFG_CHECK_EXEC; /* its words are read when all variables are known */
    else
        cfg_error(r->c, r->l, 0, "%s= is tcp:PORT, unix:PATH, http:URL%s exec:COMMAND%s, not \"%s\"",
                  r->k->name, stable ? "," : " or", stable ? " or stable:SPAN" : "", value);
}

static void read_into(struct cfg_ctx *c, const struct cfg_key *k, const struct cfg_line *l, const char *value,
                      struct cfg_check **target, bool stable)
{
    struct reading r = {c, k, l, NULL};

    cfg_check_free(TAKE_PTR(*target));
    if (!*value)
        return;
    if (!(r.check = calloc(1, sizeof(*r.check)))) {
        cfg_oom(c);
        return;
    }
    read_check(&r, value, stable);
    if (r.check->kind == CFG_CHECK_NONE)
        cfg_check_free(r.check);
    else
        *target = r.check;
}

CFG_PARSER(cfg_value_ready)
{
    c->ready_at = l;
    read_into(c, k, l, value, target, true);
}

CFG_PARSER(cfg_value_health)
{
    c->health_at = l;
    read_into(c, k, l, value, target, false);
}
