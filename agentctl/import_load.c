/* SPDX-License-Identifier: Apache-2.0 */
/* Foreign files: read, bounded, and told apart. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/import.h"
#include "agentctl/import_node.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

const char *import_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

struct import_at import_place(const struct import_source *src, const char *p)
{
    struct import_at at = {src->path, 1, 1};
    const char *start = src->text;

    for (const char *s = src->text; s < p && *s; s++)
        if (*s == '\n') {
            at.line++;
            start = s + 1;
        }
    at.col = (unsigned)(p - start) + 1;
    return at;
}

/* The byte that no text has, or NULL. */
static const char *no_text(const struct import_source *src)
{
    for (size_t i = 0, n; i < src->len; i += n) {
        unsigned char c = (unsigned char)src->text[i];
        n = str_utf8_len(src->text + i, src->len - i);
        if (n == 0 || c == 0x7f || (c < ' ' && !(c && strchr("\t\r\n", c))))
            return src->text + i;
    }
    return NULL;
}

/* -EISDIR and the like for what is no regular file: a FIFO would keep us for ever. */
static ssize_t read_regular(struct import_source *src)
{
    _cleanup_close_ int fd = open(src->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    src->mode = st.st_mode;
    return fd_read_all(fd, LIMIT_IMPORT_FILE, &src->text);
}

/* A file of the command line is where the message is; one that a file names is in it. */
static void complain(struct import *im, const struct import_source *src, const struct import_at *at,
                     const char *what)
{
    struct import_at here = {src->path, 0, 0};

    import_error(im, at ? *at : here, "%s%s%s", at ? src->path : "", at ? ": " : "", what);
}

static bool judge(struct import *im, struct import_source *src, const struct import_at *at)
{
    ssize_t n = im->n_sources == LIMIT_IMPORT_FILES ? -EMFILE : read_regular(src);
    const char *bad;

    if (n < 0) {
        complain(im, src, at,
                 n == -EMFILE   ? "too many files; import them in parts"
                 : n == -EFBIG  ? "larger than 1 MiB; split it"
                 : n == -EINVAL ? "it is no regular file"
                                : strerror((int)-n));
        return false;
    }
    src->len = (size_t)n;
    if (str_starts(src->text, "\xef\xbb\xbf")) { /* a mark of UTF-8, and no text */
        src->len -= 3;
        memmove(src->text, src->text + 3, src->len + 1);
    }
    if ((bad = no_text(src))) {
        import_error(im, import_place(src, bad), "not a text in UTF-8; save it as one");
        return false;
    }
    return true;
}

static char *folder_of(struct import *im, const char *path)
{
    char real[PATH_MAX];
    char *slash;

    if (!realpath(path, real))
        return import_keep(im, "/");
    slash = strrchr(real, '/');
    if (slash == real)
        slash++;
    *slash = 0;
    return import_keep(im, real);
}

struct import_source *import_load(struct import *im, const char *path, const struct import_at *at)
{
    struct import_source *src = calloc(1, sizeof(*src));

    if (!src || !(src->path = import_keep(im, path)) || !judge(im, src, at)) {
        if (src)
            free(src->text);
        free(src);
        return NULL;
    }
    src->dir = folder_of(im, path);
    import_room(&im->sources, im->n_sources, &im->size_sources, sizeof(*im->sources));
    im->sources[im->n_sources++] = src;
    return src;
}

/* ---- which format it is ---- */

/* A line that begins with a word, blanks before it left out. */
static bool has_line(const struct import_source *src, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = src->text; p; p = strchr(p, '\n')) {
        p += strspn(p, " \t\r\n");
        if (strncasecmp(p, word, n) == 0)
            return true;
        if (!*p)
            break;
    }
    return false;
}

static bool any_line(const struct import_source *src, const char *const *words)
{
    for (; *words; words++)
        if (has_line(src, *words))
            return true;
    return false;
}

static const char *by_content(const struct import_source *src)
{
    static const char *const of_supervisor[] = {"[program:",
                                                "[supervisord]",
                                                "[group:",
                                                "[fcgi-program:",
                                                "[eventlistener:",
                                                "[include]",
                                                "[unix_http_server]",
                                                "[inet_http_server]",
                                                "[supervisorctl]",
                                                "[rpcinterface:",
                                                NULL};
    static const char *const of_monit[] = {
        "check process ",   "check file ",       "check host ", "check system ",  "check program ",
        "check directory ", "check filesystem ", "check fifo ", "check network ", "set daemon ",
        "set httpd ",       "set log",           NULL};
    const char *first = src->text + strspn(src->text, " \t\r\n");

    if (any_line(src, of_supervisor))
        return "supervisord";
    if (has_line(src, "[Service]"))
        return "systemd";
    if (import_js_fits(src->text) || *first == '{')
        return "pm2";
    if (has_line(src, "services:"))
        return "obagent";
    if (has_line(src, "apps:"))
        return "pm2";
    return any_line(src, of_monit) ? "monit" : NULL;
}

const char *import_guess(const struct import_source *src)
{
    const char *name = import_base(src->path);

    if (str_ends(name, ".service"))
        return "systemd";
    if (str_ends(name, ".js") || str_ends(name, ".cjs") || str_ends(name, ".mjs") || str_ends(name, ".json"))
        return "pm2";
    if (str_eq(name, "monitrc"))
        return "monit";
    return by_content(src);
}
