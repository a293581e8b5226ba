/* SPDX-License-Identifier: Apache-2.0 */
/* setup: HostId= as a drop-in beside agentd's configuration, so that the file itself stays the package's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/conf.h"
#include "agentctl/out.h"
#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define NAME "50-setup.conf"
#define ID_MAX (UINT64_C(1) << 53) /* as HostId= */

struct place {
    char dir[PATH_MAX]; /* of the drop-ins */
    char path[PATH_MAX + 32];
    int fd;
};

static int complain(const char *path, const char *what)
{
    options_complain("setup: %s: %s%s", path, what, str_eq(what, strerror(EACCES)) ? ": are you root?" : "");
    return EXIT_REFUSED;
}

/* ---- the folder ---- */

static int open_place(const char *config, struct place *p)
{
    size_t n = strlen(config);
    int r;

    if (n < 6 || n >= sizeof(p->dir) - 3 || !str_eq(config + n - 5, ".conf") || config[n - 6] == '/')
        return complain(config, "its name has to end in .conf: agentd reads no drop-ins of another");
    if (access(config, F_OK) < 0)
        return complain(config, strerror(errno));
    snprintf(p->dir, sizeof(p->dir), "%s.d", config);
    snprintf(p->path, sizeof(p->path), "%s/" NAME, p->dir);
    r = mkdir(p->dir, 0755);
    if (r < 0 && errno != EEXIST)
        return complain(p->dir, strerror(errno));
    p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->fd < 0 || (r == 0 && fchmod(p->fd, 0755) < 0))
        return complain(p->dir, strerror(errno));
    return EXIT_DONE;
}

/* ---- what others say ---- */

/* A drop-in that is read after ours must not say otherwise. */
static int judge(const struct place *p, const char *name, const char *id)
{
    char value[64];
    unsigned line = 0;
    bool says;
    int fd = openat(p->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

    if (!f) {
        options_complain("setup: %s/%s: %s", p->dir, name, strerror(errno));
        fd_close(fd);
        return EXIT_REFUSED;
    }
    says = conf_get(f, "HostId", value, sizeof(value), &line);
    fclose(f);
    if (!says || str_eq(value, id))
        return EXIT_DONE;
    options_complain("setup: %s/%s:%u says HostId=%s, and is read after " NAME
                     ": take it out there, or set it there",
                     p->dir, name, line, value);
    return EXIT_REFUSED;
}

static bool is_later(const char *name)
{
    return conf_is_drop_in(name) && strcmp(name, NAME) > 0;
}

static int judge_others(const struct place *p, const char *id)
{
    int fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = EXIT_DONE;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        fd_close(fd);
        return complain(p->dir, strerror(errno));
    }
    while (code == EXIT_DONE && (e = readdir(d)))
        if (is_later(e->d_name))
            code = judge(p, e->d_name, id);
    closedir(d);
    return code;
}

/* ---- ours ---- */

static int write_text(int fd, const char *text)
{
    int r = fchmod(fd, 0644) < 0 ? -errno : fd_write_all(fd, text, strlen(text));

    return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

/* A crash leaves the earlier file or the new one; the name of the temporary one is none that agentd reads. */
static int replace(const struct place *p, const char *text)
{
    char temporary[64];
    _cleanup_close_ int fd = fd_temporary(p->fd, NAME, 0644, temporary, sizeof(temporary));
    int r;

    if (fd < 0)
        return fd;
    r = write_text(fd, text);
    if (r == 0 && renameat(p->fd, temporary, p->fd, NAME) < 0)
        r = -errno;
    if (r < 0)
        unlinkat(p->fd, temporary, 0);
    else
        r = fsync(p->fd) < 0 ? -errno : 0;
    return r;
}

static int write_ours(const struct place *p, const char *id)
{
    char text[160];
    int r;

    snprintf(text, sizeof(text),
             "# Written by `agentctl setup`, which replaces this file.\n[Agent]\nHostId=%s\n", id);
    r = replace(p, text);
    return r < 0 ? complain(p->path, strerror(-r)) : EXIT_DONE;
}

/* ---- what is in force ---- */

static int say(const struct options *o, const struct place *p, const char *id, const char *in_force)
{
    bool running = in_force != NULL;

    if (running && !str_eq(in_force, id)) {
        options_complain("setup: %s is written, but the agentd that runs has HostId %s: does it read %s?",
                         p->path, *in_force ? in_force : "unset", o->config);
        return EXIT_REFUSED;
    }
    if (o->json) {
        printf("{\"hostId\":%s,\"file\":", id);
        out_string(p->path, strlen(p->path));
        printf(",\"running\":%s}\n", running ? "true" : "false");
        return EXIT_DONE;
    }
    printf("HostId=%s: %s %s\n", id, p->path,
           running ? "is in force" : "is in force once agentd starts; it does not run");
    return EXIT_DONE;
}

static void tell_refused(const struct place *p, const struct http_reply *r)
{
    int list = json_member(&r->json, json_member(&r->json, 0, "error"), "subErrors");
    char raw[OUT_TEXT], text[OUT_TEXT];

    options_complain("setup: %s is written, but the reload was refused: %s", p->path, r->message);
    for (int i = json_first(&r->json, list); i >= 0; i = json_next(&r->json, i))
        fprintf(stderr, "    %s\n", str_escape(text, sizeof(text), json_copy(&r->json, i, raw, sizeof(raw))));
}

static int take_over(const struct options *o, const struct place *p, const char *id)
{
    struct http_request q = {.method = "POST", .path = "/agentd/v1/reload", .wait_sec = -1, .quiet = true};
    struct http_reply r;
    int code = http_send(o, &q, &r);
    bool absent = r.absent;

    if (code == EXIT_REFUSED)
        tell_refused(p, &r);
    http_free(&r);
    if (code == EXIT_UNASKED && absent)
        return say(o, p, id, NULL);
    if (code != EXIT_REFUSED) {
        q = (struct http_request){.method = "HEAD", .path = "/agentd/v1/workers", .wait_sec = -1};
        if ((code = http_fetch(o, &q, &r)) == EXIT_DONE)
            code = say(o, p, id, r.status == 200 ? r.host : "");
        http_free(&r);
    }
    return code;
}

int setup_run(const struct options *o)
{
    struct place p = {.fd = -1};
    char id[24];
    uint64_t v;
    int code;

    if (o->count != 2 || str_to_u64(o->words[1], ID_MAX, &v) < 0 || v == 0) {
        options_complain("setup takes the host's id, as OCP knows it: a positive number up to 2^53");
        return EXIT_USAGE;
    }
    if (o->url) {
        options_complain("setup writes a file of this host, and takes no --url");
        return EXIT_USAGE;
    }
    snprintf(id, sizeof(id), "%llu", (unsigned long long)v);
    code = open_place(o->config, &p);
    if (code == EXIT_DONE && (code = judge_others(&p, id)) == EXIT_DONE &&
        (code = write_ours(&p, id)) == EXIT_DONE)
        code = take_over(o, &p, id);
    fd_close(p.fd);
    return code;
}
