/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentctl/audit_trail.h"
#include "agentctl/conf.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define STATE_DIR "/var/lib/agentd"
#define FILE_MAX (256u << 20)

static int cannot(const char *path, int error)
{
    options_complain("audit: %s: %s%s", path, strerror(error), error == EACCES ? ": are you root?" : "");
    return EXIT_UNASKED;
}

static int read_path(const char *path, char **text, size_t *n)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t got = fd < 0 ? -errno : fd_read_all(fd, FILE_MAX, text);

    *n = got > 0 ? (size_t)got : 0;
    return got < 0 ? (int)got : 0;
}

/* The room doubles each time that it is full. */
static bool make_room(struct audit_trail *t)
{
    struct audit_line *l;

    if (t->n_lines & (t->n_lines - 1))
        return true;
    if (!(l = realloc(t->lines, (t->n_lines ? 2 * t->n_lines : 1) * sizeof(*l))))
        return false;
    t->lines = l;
    return true;
}

static bool add_line(struct audit_trail *t, const char *text, size_t n, unsigned number, bool whole)
{
    struct audit_line *l;

    if (!make_room(t))
        return false;
    l = &t->lines[t->n_lines++];
    *l = (struct audit_line){.text = text, .n = n, .file = t->n_files - 1, .number = number, .whole = whole};
    l->good = chain_read(text, n, &l->seq, l->prev) == 0;
    chain_hash(l->hash, text, n);
    return true;
}

static bool add_file(struct audit_trail *t, const char *name, char *text, size_t size)
{
    char **names = realloc(t->names, (t->n_files + 1) * sizeof(*names));
    char **texts = realloc(t->texts, (t->n_files + 1) * sizeof(*texts));
    unsigned number = 0;

    t->names = names ? names : t->names;
    t->texts = texts ? texts : t->texts;
    if (!names || !texts || !(names[t->n_files] = strdup(name)))
        return false;
    texts[t->n_files++] = text;
    for (size_t at = 0, n; at < size; at += n + 1) {
        const char *end = memchr(text + at, '\n', size - at);
        n = end ? (size_t)(end - text) - at : size - at;
        if (!add_line(t, text + at, n, ++number, end != NULL))
            return false;
    }
    return true;
}

/* EXIT_DONE also if it is not there, and need not be. */
static int take_file(struct audit_trail *t, const char *path, bool must)
{
    char *text = NULL;
    size_t n;
    int r = read_path(path, &text, &n);

    if (r == -ENOENT && !must)
        return EXIT_DONE;
    if (r == 0 && !add_file(t, path, text, n))
        r = -ENOMEM;
    return r < 0 ? cannot(path, -r) : EXIT_DONE;
}

static bool read_head(const char *path, struct chain_head *ret)
{
    char *text = NULL;
    size_t n;
    bool good = read_path(path, &text, &n) == 0 && chain_head_get(text, ret) == 0;

    free(text);
    return good;
}

bool audit_read_head_moved(const struct audit_trail *t)
{
    struct chain_head h;

    return t->wants_head && read_head(t->head_name, &h) &&
           (!t->has_head || h.last.seq != t->head.last.seq || !str_eq(h.last.hash, t->head.last.hash));
}

/* The head first: what stands in the files is then at least what it says; and again when they are read. */
static int take_dir(struct audit_trail *t, const char *dir)
{
    char path[1100];
    struct chain_head h;
    int code = EXIT_DONE;

    t->wants_head = true;
    snprintf(t->head_name, sizeof(t->head_name), "%.1000s/audit.head", dir);
    t->has_head = read_head(t->head_name, &t->head);
    for (unsigned i = LIMIT_AUDIT_FILES - 1; i > 0 && code == EXIT_DONE; i--) {
        snprintf(path, sizeof(path), "%.1000s/audit.%u", dir, i);
        code = take_file(t, path, false);
    }
    snprintf(path, sizeof(path), "%.1000s/audit", dir);
    if (code == EXIT_DONE)
        code = take_file(t, path, !t->has_head);
    t->written = read_head(t->head_name, &h) ? h.last.seq : 0;
    return code;
}

/* StateDirectory= of [Agent], as far as it can be read without agentd. */
static int find_dir(const struct options *o, char *dir, size_t size)
{
    char path[1000];
    int r;

    str_copy(dir, size, STATE_DIR);
    r = conf_find(o->config, "StateDirectory", dir, size, path);
    if (r < 0 && (r != -ENOENT || !str_eq(o->config, OPTIONS_CONFIG)))
        return cannot(path, -r);
    if (!strchr(dir, '%'))
        return EXIT_DONE;
    options_complain("audit: StateDirectory=%s is known to agentd only: name the folder", dir);
    return EXIT_USAGE;
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int audit_read(const struct options *o, char **words, struct audit_trail *ret)
{
    char dir[1000];
    int code;

    *ret = (struct audit_trail){0};
    if (!words[0])
        return (code = find_dir(o, dir, sizeof(dir))) == EXIT_DONE ? take_dir(ret, dir) : code;
    if (is_dir(words[0]) && words[1]) {
        options_complain("audit: one folder, or files in their order");
        return EXIT_USAGE;
    }
    if (is_dir(words[0]))
        return take_dir(ret, words[0]);
    for (code = EXIT_DONE; *words && code == EXIT_DONE; words++)
        code = take_file(ret, *words, true);
    return code;
}

void audit_read_free(struct audit_trail *t)
{
    for (unsigned i = 0; i < t->n_files; i++) {
        free(t->names[i]);
        free(t->texts[i]);
    }
    free(t->names);
    free(t->texts);
    free(t->lines);
    *t = (struct audit_trail){0};
}
