/* SPDX-License-Identifier: Apache-2.0 */
/* A systemd unit is a worker's file as it is. Which of its keys agentd has comes from agentd's own tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentctl/import.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

struct known {
    const char *section, *key;
};

/* clang-format off */
#define CFG_KEY(section, name, ...) {#section, name},
#define CFG_SYSTEMD(section, name) {#section, name},
/* clang-format on */
static const struct known of_agentd[] = {
#include "agentd/cfg_keys.def"
};
static const struct known of_systemd[] = {
#include "agentd/cfg_systemd.def"
};
#undef CFG_KEY
#undef CFG_SYSTEMD

struct unit {
    struct import *im;
    struct import_worker *w;
    const struct import_source *src;
    const char *section; /* as the tables have it; "" before the first, or in one that is left out */
    bool install, has_restart, is_oneshot;
    unsigned starts;            /* ExecStart= */
    struct import_at second_at; /* of the second one */
};

static bool is_in(const struct known *list, size_t n, const char *section, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(list[i].section, section) && str_eq(list[i].key, key))
            return true;
    return false;
}

/* ---- what agentd refuses ---- */

static const char *refused(const char *key, const char *value)
{
    if (str_eq(key, "Type") && str_eq(value, "dbus"))
        return "agentd has no Type=dbus; write Type=simple, and a ReadyCheck= in [Worker]";
    if (str_eq(key, "KillMode") && str_eq(value, "none"))
        return "agentd has no KillMode=none; write KillMode=process";
    if (str_starts(key, "Exec") && value[strspn(value, "-@:+!")] == '|')
        return "agentd has no prefix |; take it out";
    if (str_eq(key, "EnvironmentFile") && strpbrk(value, "*?["))
        return "agentd takes no wildcard in it; name each file";
    return NULL;
}

static void note_value(struct unit *u, struct import_at at, const char *key, const char *value)
{
    if (str_eq(key, "ExecStart") && ++u->starts == 2)
        u->second_at = at;
    if (str_eq(key, "ExecStart") && !*value)
        u->starts = 0;
    u->has_restart |= str_eq(key, "Restart") && *value;
    if (str_eq(key, "Type"))
        u->is_oneshot = str_eq(value, "oneshot");
}

static void assignment(struct unit *u, struct import_at at, const char *key, const char *value)
{
    struct import_entry *e = import_key(u->im, u->w, at, key, value);
    const char *why = refused(key, value);

    if (u->install) {
        import_none(e, "agentd starts every worker");
    } else if (str_starts(key, "X-")) {
        import_same(e, "a key for others");
    } else if (why) {
        import_error(u->im, at, "%s", why);
    } else if (is_in(of_agentd, ARRAY_LEN(of_agentd), u->section, key)) {
        import_into(e, "%s=%s", key, value);
        if (str_eq(key, "RestartSec"))
            import_note(e, "the first retry is at once; the delay then grows up to RestartMaxDelaySec=, 30s "
                           "unless it is set");
        note_value(u, at, key, value);
    } else if (is_in(of_systemd, ARRAY_LEN(of_systemd), u->section, key)) {
        import_none(e, "agentd has none of it: a warning, without effect");
    } else {
        import_error(u->im, at,
                     "%s= is no key of systemd's in this section, and agentd refuses it; take it out", key);
    }
}

/* ---- the file ---- */

static void heading(struct unit *u, struct import_at at, const char *s)
{
    static const struct {
        const char *heading, *section;
    } sections[] = {{"[Unit]", "CFG_UNIT"},
                    {"[Service]", "CFG_SERVICE"},
                    {"[Worker]", "CFG_WORKER"},
                    {"[Install]", "CFG_INSTALL"}};

    u->section = "";
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (str_eq(s, sections[i].heading))
            u->section = sections[i].section;
    u->install = str_eq(s, "[Install]");
    if (!*u->section && !str_starts(s, "[X-"))
        import_error(u->im, at, "%s is no section of a service; take it out", s);
}

static char *trimmed(struct import *im, const char *s, size_t n)
{
    while (n && strchr(" \t\r", s[n - 1]))
        n--;
    while (n && strchr(" \t", *s)) {
        s++;
        n--;
    }
    return import_keep_n(im, s, n);
}

/* A line with those that continue it, trimmed. */
static void logical(struct unit *u, struct import_at at, const char *s)
{
    const char *eq = strchr(s, '=');

    if (strlen(s) > LIMIT_CONFIG_LINE)
        import_error(u->im, at, "longer than the %u bytes that agentd takes", LIMIT_CONFIG_LINE);
    else if (*s == '[')
        heading(u, at, s);
    else if (!u->section)
        import_error(u->im, at, "not in a [Section]; take it out");
    else if (!*u->section)
        return;
    else if (!eq || eq == s)
        import_error(u->im, at, "neither [Section] nor Key=value; take it out");
    else
        assignment(u, at, trimmed(u->im, s, (size_t)(eq - s)), trimmed(u->im, eq + 1, strlen(eq + 1)));
}

static bool goes_on(const char *s, size_t n)
{
    size_t k = 0;

    while (k < n && s[n - 1 - k] == '\\')
        k++;
    return k % 2;
}

static void read_lines(struct unit *u)
{
    struct buf b = BUF_INIT(LIMIT_IMPORT_FILE * 2);
    struct import_at start = {u->src->path, 0, 1};
    unsigned line = 0;

    for (const char *p = u->src->text; *p;) {
        size_t n = strcspn(p, "\n"), skip = strspn(p, " \t\r"), end = n;
        bool comment = skip < n && (p[skip] == '#' || p[skip] == ';'), more;
        line++;
        while (end > skip && p[end - 1] == '\r')
            end--;
        more = !comment && goes_on(p, end);
        if (!comment && skip < end) {
            if (b.len == 0)
                start = (struct import_at){u->src->path, line, (unsigned)skip + 1};
            buf_put(&b, p + skip, end - skip - more);
            if (more)
                buf_char(&b, ' ');
        }
        if (!more && !(comment && b.len) && b.len) {
            logical(u, start, trimmed(u->im, b.p, b.len));
            buf_reset(&b);
        }
        p += n + (p[n] == '\n');
    }
    if (b.len)
        logical(u, start, trimmed(u->im, b.p, b.len));
    buf_free(&b);
}

static const char *alias_of(struct import *im, const struct import_source *src)
{
    const char *base = import_base(src->path), *dot = strrchr(base, '.');

    return dot && dot != base ? import_keep_n(im, base, (size_t)(dot - base)) : base;
}

static void read_beside(struct unit *u)
{
    const char *folder = import_print(u->im, "%s.d", u->src->path);

    if (access(folder, F_OK) == 0)
        import_none(import_key(u->im, u->w, (struct import_at){u->src->path, 1, 1}, "(drop-ins)", folder),
                    "they are not read; copy them to %s.conf.d", u->w->alias);
    if (!u->has_restart && !u->is_oneshot) {
        struct import_entry *e = import_default(u->im, u->w, "Restart", "no");
        import_none(e, "agentd's default is always; write Restart=no if it is to stay down");
    }
}

/* NAME@.service is a template, as NAME@.conf is: its name is taken as it is. */
static struct import_worker *add_worker(struct import *im, const struct import_source *src,
                                        struct import_at at)
{
    const char *name = alias_of(im, src), *origin = import_print(im, "systemd, %s", import_base(src->path));
    char alias[IMPORT_ALIAS];
    size_t n = strlen(name);
    struct import_worker *w;

    if (n < 2 || name[n - 1] != '@' || n >= LIMIT_ALIAS)
        return import_worker(im, at, origin, name);
    import_alias(import_keep_n(im, name, n - 1), alias);
    if ((w = import_worker_as(im, at, origin, name, import_print(im, "%s@", alias)))) {
        struct import_entry *e = import_key(im, w, at, "(template)", name);
        import_into(e, "%s.conf", w->alias);
        import_note(e, "it starts nothing; a link NAME@INSTANCE.conf to it does");
    }
    return w;
}

void import_unit_read(struct import *im, struct import_source *src)
{
    struct unit u = {.im = im, .src = src};
    struct import_at start = {src->path, 1, 1};
    bool newline = src->len && src->text[src->len - 1] == '\n';

    if (!(u.w = add_worker(im, src, start)))
        return;
    u.w->raw = import_print(im, "%s%s", src->text, newline ? "" : "\n");
    read_lines(&u);
    read_beside(&u);
    if (!u.starts)
        import_error(im, start, "no ExecStart= in [Service]; agentd has nothing to run");
    else if (u.starts > 1 && !u.is_oneshot)
        import_error(im, u.second_at, "a second ExecStart=, which only Type=oneshot may have; take one out");
}
