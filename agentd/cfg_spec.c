/* SPDX-License-Identifier: Apache-2.0 */
/* %-specifiers of systemd.unit(5). Those about a user mean agentd's own, as systemd's mean the manager's:
 * they are read from /etc/passwd and never ask name service, which may block. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <fcntl.h>
#include <unistd.h>

#include "agentd/cfg_read.h"
#include "base/fd.h"
#include "base/str.h"

static void closep(FILE **f)
{
    if (*f)
        fclose(*f);
}

/* The entry with that name, or if name is NULL with that id, into own; its id, or -1. */
static int64_t local_user(const char *name, uid_t uid, struct cfg_own *own)
{
    _cleanup_(closep) FILE *f = fopen("/etc/passwd", "re");
    struct passwd *p;

    while (f && (p = fgetpwent(f)))
        if (name ? str_eq(p->pw_name, name) : p->pw_uid == uid) {
            if (own) {
                str_copy(own->user, sizeof(own->user), p->pw_name);
                str_copy(own->home, sizeof(own->home), p->pw_dir);
                str_copy(own->shell, sizeof(own->shell), p->pw_shell);
            }
            return p->pw_uid;
        }
    return -1;
}

static int64_t local_group(const char *name, gid_t gid, struct cfg_own *own)
{
    _cleanup_(closep) FILE *f = fopen("/etc/group", "re");
    struct group *g;

    while (f && (g = fgetgrent(f)))
        if (name ? str_eq(g->gr_name, name) : g->gr_gid == gid) {
            if (own)
                str_copy(own->group, sizeof(own->group), g->gr_name);
            return g->gr_gid;
        }
    return -1;
}

int64_t cfg_local_uid(const char *name)
{
    uint64_t id;

    return str_to_u64(name, UINT32_MAX - 1, &id) == 0 ? (int64_t)id : local_user(name, 0, NULL);
}

int64_t cfg_local_gid(const char *name)
{
    uint64_t id;

    return str_to_u64(name, UINT32_MAX - 1, &id) == 0 ? (int64_t)id : local_group(name, 0, NULL);
}

static const char *env_or(const char *name, const char *other)
{
    const char *v = getenv(name);

    return v && *v ? v : other;
}

void cfg_own(struct cfg_own *ret)
{
    *ret = (struct cfg_own){"root", "/root", "/bin/sh", "root"};
    if (geteuid() != 0 && local_user(NULL, geteuid(), ret) < 0) {
        snprintf(ret->user, sizeof(ret->user), "%u", (unsigned)geteuid());
        str_copy(ret->user, sizeof(ret->user), env_or("USER", ret->user));
        str_copy(ret->home, sizeof(ret->home), env_or("HOME", "/"));
        str_copy(ret->shell, sizeof(ret->shell), env_or("SHELL", "/bin/sh"));
    }
    if (getegid() != 0 && local_group(NULL, getegid(), ret) < 0)
        snprintf(ret->group, sizeof(ret->group), "%u", (unsigned)getegid());
}

/* Folders by letter: systemd's for the system manager, and for a user's below the home (XDG). */
static const struct {
    char letter;
    const char *system, *variable, *below_home;
} folders[] = {
    {'t', "/run", "XDG_RUNTIME_DIR", NULL},      {'S', "/var/lib", "XDG_STATE_HOME", ".local/state"},
    {'L', "/var/log", NULL, ".local/state/log"}, {'C', "/var/cache", "XDG_CACHE_HOME", ".cache"},
    {'E', "/etc", "XDG_CONFIG_HOME", ".config"},
};

static bool put_folder(struct buf *b, char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        const char *v;
        struct cfg_own own;
        if (folders[i].letter != letter)
            continue;
        if (geteuid() == 0) {
            buf_str(b, folders[i].system);
        } else if (folders[i].variable && (v = getenv(folders[i].variable)) && *v == '/') {
            buf_str(b, v);
        } else if (folders[i].below_home) {
            cfg_own(&own);
            buf_printf(b, "%s/%s", own.home, folders[i].below_home);
        } else {
            buf_printf(b, "/run/user/%u", (unsigned)geteuid());
        }
        return true;
    }
    return false;
}

static void put_own(struct buf *b, char letter)
{
    struct cfg_own own;

    cfg_own(&own);
    switch (letter) {
    case 'u':
        buf_str(b, own.user);
        break;
    case 'g':
        buf_str(b, own.group);
        break;
    case 'h':
        buf_str(b, own.home);
        break;
    case 's':
        buf_str(b, own.shell);
        break;
    case 'U':
        buf_printf(b, "%u", (unsigned)geteuid());
        break;
    default:
        buf_printf(b, "%u", (unsigned)getegid());
    }
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* systemd-escape --unescape: '-' is '/', \xHH a byte. */
static void put_unescaped(struct buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool coded = s[i] == '\\' && i + 3 < n && s[i + 1] == 'x' && hex(s[i + 2]) >= 0 && hex(s[i + 3]) >= 0;
        int c = (unsigned char)s[i];
        c = coded ? hex(s[i + 2]) * 16 + hex(s[i + 3]) : c == '-' ? '/' : c;
        buf_char(b, c >= ' ' ? (char)c : '?'); /* no line of a path is forged */
        i += coded ? 3 : 0;
    }
}

/* What comes from the file's name: PREFIX@INSTANCE. */
static void put_name(struct buf *b, char letter, const struct cfg_names *names)
{
    const char *at = strchr(names->stem, '@'), *instance = at ? at + 1 : "";
    size_t prefix = at ? (size_t)(at - names->stem) : strlen(names->stem), dash = prefix;

    while (dash && names->stem[dash - 1] != '-')
        dash--;
    switch (letter) {
    case 'i':
        buf_str(b, instance);
        break;
    case 'I':
        put_unescaped(b, instance, strlen(instance));
        break;
    case 'p':
        buf_put(b, names->stem, prefix);
        break;
    case 'P':
        put_unescaped(b, names->stem, prefix);
        break;
    case 'j':
        buf_put(b, names->stem + dash, prefix - dash);
        break;
    case 'J':
        put_unescaped(b, names->stem + dash, prefix - dash);
        break;
    case 'f':
        buf_char(b, '/');
        put_unescaped(b, *instance ? instance : names->stem, *instance ? strlen(instance) : prefix);
        break;
    case 'n':
        buf_printf(b, "%s.service", names->alias);
        break;
    default:
        buf_str(b, names->alias);
    }
}

/* An id file of the host: its hexadecimal digits. */
static bool put_id(struct buf *b, const char *path)
{
    char text[64];
    ssize_t n = fd_read_file(AT_FDCWD, path, text, sizeof(text));

    if (n < 32)
        return false;
    for (char *p = text; *p; p++)
        if (hex(*p) >= 0)
            buf_char(b, *p);
    return true;
}

static bool put_host(struct buf *b, char letter)
{
    struct utsname u;

    if (letter == 'm')
        return put_id(b, "/etc/machine-id");
    if (letter == 'b')
        return put_id(b, "/proc/sys/kernel/random/boot_id");
    if (uname(&u) < 0)
        return false;
    if (letter == 'l')
        u.nodename[strcspn(u.nodename, ".")] = 0;
    buf_str(b, letter == 'v' ? u.release : u.nodename);
    return true;
}

/* The specifier's text into b; NULL, or what is wrong. */
static const char *put_spec(struct buf *b, char letter, const struct cfg_names *names)
{
    if (letter == '%')
        buf_char(b, '%');
    else if (letter && strchr("iIpPjJfnN", letter))
        put_name(b, letter, names);
    else if (letter && strchr("ugUGhs", letter))
        put_own(b, letter);
    else if (letter && strchr("Hlmbv", letter))
        return put_host(b, letter) ? NULL : "is not known on this host";
    else if (letter == 'T' || letter == 'V')
        buf_str(b, env_or("TMPDIR", letter == 'T' ? "/tmp" : "/var/tmp"));
    else if (!put_folder(b, letter))
        return "is no specifier; write %% for a percent sign";
    return NULL;
}

char *cfg_spec(struct cfg_ctx *c, const struct cfg_line *l, size_t at, const char *s)
{
    struct buf b = BUF_INIT(LIMIT_CONFIG_LINE * 2);
    const char *why = NULL;
    char *ret = NULL;

    if (!strchr(s, '%'))
        return cfg_dup(c, s);
    for (; *s && !why; s++)
        if (*s != '%') {
            buf_char(&b, *s);
        } else if ((why = put_spec(&b, s[1], &c->names))) {
            cfg_error(c, l, at, "%%%.1s %s", s + 1, why);
        } else {
            s++;
        }
    if (!why && b.error)
        cfg_error(c, l, at, "too long with its specifiers replaced");
    else if (!why)
        ret = cfg_dup(c, b.p ? b.p : "");
    buf_free(&b);
    return ret;
}
