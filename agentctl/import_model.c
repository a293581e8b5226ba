/* SPDX-License-Identifier: Apache-2.0 */
/* The workers that come to be, and the account of the source's keys. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentctl/import.h"
#include "agentctl/options.h"
#include "base/array.h"
#include "base/limits.h"
#include "base/str.h"

#define TEXT_MAX (4 << 20)

/* Nothing is open or half done while a file is read: to end here loses nothing. */
static void *need(void *p)
{
    if (!p) {
        options_complain("import: no memory");
        exit(EXIT_UNASKED);
    }
    return p;
}

void import_room(void *array, size_t n, size_t *size, size_t bytes)
{
    need(array_room(array, n, size, bytes) < 0 ? NULL : (void *)array);
}

/* A small file may ask for many copies of itself: a thousand processes of one program. */
static void count(struct import *im, size_t bytes)
{
    im->bytes += bytes;
    if (im->bytes <= LIMIT_IMPORT_MEMORY)
        return;
    options_complain("import: more than %u MiB would come of it; import it in parts; nothing is written",
                     LIMIT_IMPORT_MEMORY >> 20);
    exit(EXIT_REFUSED);
}

static char *keep(struct import *im, char *s)
{
    need(s);
    count(im, strlen(s) + sizeof(s));
    import_room(&im->kept, im->n_kept, &im->size_kept, sizeof(*im->kept));
    im->kept[im->n_kept++] = s;
    return s;
}

char *import_keep(struct import *im, const char *s)
{
    return keep(im, strdup(s));
}

char *import_keep_n(struct import *im, const char *s, size_t n)
{
    return keep(im, strndup(s, n));
}

char *import_print(struct import *im, const char *fmt, ...)
{
    va_list ap;
    char *s;

    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        s = NULL;
    va_end(ap);
    return keep(im, s);
}

char *import_take(struct import *im, struct buf *b)
{
    char *s = b->p;

    if (b->error == -EFBIG) {
        options_complain("import: a value would have more than %zu KiB; nothing is written", b->max >> 10);
        exit(EXIT_REFUSED);
    }
    if (b->error)
        need(NULL);
    if (!s)
        return import_keep(im, "");
    b->p = NULL;
    buf_free(b);
    return keep(im, s);
}

void import_error(struct import *im, struct import_at at, const char *fmt, ...)
{
    char text[1024], safe[2 * sizeof(text)], path[512];
    va_list ap;

    if (++im->errors > LIMIT_IMPORT_ERRORS)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_escape(path, sizeof(path), at.file);
    str_escape(safe, sizeof(safe), text);
    if (at.line)
        fprintf(stderr, "%s:%u:%u: %s\n", path, at.line, at.col, safe);
    else
        fprintf(stderr, "%s: %s\n", path, safe);
}

/* ---- workers ---- */

const char *import_alias(const char *name, char buf[IMPORT_ALIAS])
{
    size_t n = 0;

    for (; *name && n < LIMIT_ALIAS; name++)
        if (((unsigned char)*name & 0xc0) != 0x80) /* one sign for one character */
            buf[n++] = isalnum((unsigned char)*name) || (strchr("_.:@-", *name)) ? *name : '_';
    buf[n] = 0;
    if (*buf == '.' || *buf == '-')
        *buf = '_';
    if (n && buf[n - 1] == '@') /* that would be a template, which starts nothing */
        buf[n - 1] = '_';
    return buf;
}

struct import_worker *import_find(const struct import *im, const char *alias)
{
    for (size_t i = 0; i < im->n_workers; i++)
        if (str_eq(im->workers[i]->alias, alias))
            return im->workers[i];
    return NULL;
}

static bool may_add(struct import *im, struct import_at at, const char *name, const char *alias)
{
    const struct import_worker *other = import_find(im, alias);

    if (!*alias)
        import_error(im, at, "it has an empty name; give it one");
    else if (other)
        import_error(im, at,
                     "\"%s\" would be the worker %s, as %s at %s:%u is; give one of them another name", name,
                     alias, other->origin, other->at.file, other->at.line);
    else if (im->n_workers == LIMIT_IMPORT_WORKERS)
        import_error(im, at, "more than %u workers; import some of the files alone", LIMIT_IMPORT_WORKERS);
    else
        return true;
    return false;
}

struct import_worker *import_worker_as(struct import *im, struct import_at at, const char *origin,
                                       const char *name, const char *alias)
{
    struct import_worker *w;

    if (!may_add(im, at, name, alias))
        return NULL;
    w = need(calloc(1, sizeof(*w)));
    w->alias = import_keep(im, alias);
    w->origin = import_keep(im, origin);
    w->at = at;
    import_room(&im->workers, im->n_workers, &im->size_workers, sizeof(*im->workers));
    im->workers[im->n_workers++] = w;
    return w;
}

struct import_worker *import_worker(struct import *im, struct import_at at, const char *origin,
                                    const char *name)
{
    char alias[IMPORT_ALIAS];
    struct import_worker *w = import_worker_as(im, at, origin, name, import_alias(name, alias));

    if (w && !str_eq(alias, name)) {
        struct import_entry *e = import_key(im, w, at, "(name)", name);
        import_into(e, "%s.conf", alias);
        import_note(e, "the name is no alias: letters, digits and _.@:-, at most %u", LIMIT_ALIAS);
    }
    return w;
}

/* ---- the account ---- */

struct import_entry *import_key(struct import *im, struct import_worker *w, struct import_at at,
                                const char *key, const char *value)
{
    struct import_entry *e = need(calloc(1, sizeof(*e)));

    count(im, sizeof(*e) + strlen(key) + strlen(value));
    *e = (struct import_entry){.worker = w,
                               .at = at,
                               .key = need(strdup(key)),
                               .value = need(strdup(value)),
                               .to = BUF_INIT(TEXT_MAX)};
    import_room(&im->entries, im->n_entries, &im->size_entries, sizeof(*im->entries));
    im->entries[im->n_entries++] = e;
    return e;
}

struct import_entry *import_default(struct import *im, struct import_worker *w, const char *key,
                                    const char *value)
{
    struct import_entry *e = import_key(im, w, w->at, key, value);

    e->is_default = true;
    return e;
}

void import_environment(struct import *im, struct import_worker *w, const char *tool)
{
    import_none(import_default(im, w, "(environment)", import_print(im, "as %s has it", tool)),
                "a worker has none of agentd's, but what Environment= and EnvironmentFile= say, and PATH");
}

static char *__attribute__((format(printf, 1, 0))) format(const char *fmt, va_list ap)
{
    char *s;

    if (vasprintf(&s, fmt, ap) < 0)
        s = NULL;
    return need(s);
}

static void taken_as(struct import_entry *e, const char *before, const char *text)
{
    e->verdict = IMPORT_TAKEN;
    if (e->to.len)
        buf_char(&e->to, '\n');
    buf_str(&e->to, before);
    if (*before)
        buf_char(&e->to, '=');
    buf_str(&e->to, text);
}

void import_to(struct import_entry *e, enum import_section s, const char *key, const char *fmt, ...)
{
    struct import_worker *w = e->worker;
    va_list ap;
    char *value;

    va_start(ap, fmt);
    value = format(fmt, ap);
    va_end(ap);
    taken_as(e, key, value);
    import_room(&w->lines, w->n, &w->size, sizeof(*w->lines));
    w->lines[w->n++] = (struct import_line){s, key, value, e->at};
}

void import_into(struct import_entry *e, const char *fmt, ...)
{
    va_list ap;
    char *text;

    va_start(ap, fmt);
    text = format(fmt, ap);
    va_end(ap);
    taken_as(e, "", text);
    free(text);
}

static void add_why(struct import_entry *e, char *more)
{
    char *both;

    if (!e->why) {
        e->why = more;
        return;
    }
    if (asprintf(&both, "%s; %s", e->why, more) < 0)
        both = NULL;
    free(e->why);
    free(more);
    e->why = need(both);
}

/* clang-format off */
#define ADD_WHY(e, fmt)                \
    do {                               \
        va_list ap;                    \
        va_start(ap, fmt);             \
        add_why((e), format(fmt, ap)); \
        va_end(ap);                    \
    } while (0)
/* clang-format on */

void import_none(struct import_entry *e, const char *fmt, ...)
{
    ADD_WHY(e, fmt);
}

void import_same(struct import_entry *e, const char *fmt, ...)
{
    if (e->verdict == IMPORT_NONE)
        e->verdict = IMPORT_SAME;
    ADD_WHY(e, fmt);
}

void import_note(struct import_entry *e, const char *fmt, ...)
{
    ADD_WHY(e, fmt);
}

/* ---- the file ---- */

static void put_section(const struct import_worker *w, enum import_section s, struct buf *b)
{
    static const char *const names[IMPORT_SECTIONS] = {"Unit", "Service", "Worker"};
    bool any = false;

    for (size_t i = 0; i < w->n; i++) {
        if (w->lines[i].section != s)
            continue;
        if (!any)
            buf_printf(b, "\n[%s]\n", names[s]);
        any = true;
        buf_printf(b, "%s=%s\n", w->lines[i].key, w->lines[i].value);
    }
}

#define HEAD "# From "
#define TAIL ", by `agentctl import`.\n"

bool import_is_text(const char *text)
{
    const char *end = strchr(text, '\n');
    size_t n = end ? (size_t)(end + 1 - text) : 0;

    return n > strlen(TAIL) && str_starts(text, HEAD) && str_starts(end + 1 - strlen(TAIL), TAIL);
}

void import_text(const struct import_worker *w, struct buf *b)
{
    char origin[256];

    if (w->raw) {
        buf_str(b, w->raw);
        return;
    }
    buf_printf(b, HEAD "%s" TAIL, str_escape(origin, sizeof(origin), w->origin));
    for (int s = 0; s < IMPORT_SECTIONS; s++)
        put_section(w, (enum import_section)s, b);
}

/* ---- what agentd would refuse ---- */

static bool has_control(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
            return true;
    return false;
}

/* The program of a command, or a whole value, is too long for a path, or is no file. */
static bool is_no_path(const struct import_line *l)
{
    bool command = str_starts(l->key, "Exec"), quoted = command && *l->value == '"';
    size_t n = command ? strcspn(l->value + quoted, quoted ? "\"" : " ") : strlen(l->value);

    if (command && n <= 1)
        return true;
    return n >= PATH_MAX && (command || str_eq(l->key, "WorkingDirectory") || str_eq(l->key, "PIDFile") ||
                             str_starts(l->key, "Standard"));
}

static void judge_lines(struct import *im, const struct import_worker *w)
{
    unsigned variables = 0, commands = 0;

    for (size_t i = 0; i < w->n; i++) {
        const struct import_line *l = &w->lines[i];
        variables += str_eq(l->key, "Environment");
        commands += str_starts(l->key, "Exec");
        if (strlen(l->value) + strlen(l->key) + 2 > LIMIT_CONFIG_LINE)
            import_error(im, l->at, "%s= would be longer than the %u bytes that agentd takes", l->key,
                         LIMIT_CONFIG_LINE);
        else if (is_no_path(l))
            import_error(im, l->at, "%s= would have no path in it that can be", l->key);
        else if (has_control(l->value))
            import_error(im, l->at, "%s= would have a control character in its value; take it out", l->key);
    }
    if (variables > LIMIT_ENV)
        import_error(im, w->at,
                     "%s: more than %u variables; put them in a file, for EnvironmentFile=", w->alias,
                     LIMIT_ENV);
    if (commands > LIMIT_COMMANDS)
        import_error(im, w->at, "%s: more than %u commands", w->alias, LIMIT_COMMANDS);
}

/* agentd refuses workers that wait for each other in a circle. True: one was found, and told. Only a monitrc
 * can have one: After= of supervisor's priorities goes one way. No deeper than there are workers. */
static bool has_circle(struct import *im, struct import_worker *w)
{
    bool found = false;

    w->mark = IMPORT_OPEN;
    for (size_t i = 0; i < w->n && !found; i++) {
        struct import_worker *to = str_eq(w->lines[i].key, "BindsTo") || str_eq(w->lines[i].key, "After")
                                       ? import_find(im, w->lines[i].value)
                                       : NULL;
        if (to && to->mark == IMPORT_OPEN)
            import_error(im, w->lines[i].at, "%s and %s depend on each other; take one of it out", w->alias,
                         to->alias);
        found = to && (to->mark == IMPORT_OPEN || (to->mark == IMPORT_UNSEEN && has_circle(im, to)));
    }
    w->mark = IMPORT_DONE;
    return found;
}

void import_judge(struct import *im)
{
    for (size_t i = 0; i < im->n_workers; i++)
        if (im->workers[i]->mark == IMPORT_UNSEEN && has_circle(im, im->workers[i]))
            return;
    for (size_t i = 0; i < im->n_workers; i++) {
        struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
        judge_lines(im, im->workers[i]);
        import_text(im->workers[i], &b);
        if (b.error)
            import_error(im, im->workers[i]->at,
                         "%s.conf would be larger than the %u bytes that agentd takes", im->workers[i]->alias,
                         LIMIT_CONFIG_FILE);
        buf_free(&b);
    }
}

/* ---- the end ---- */

static void free_workers(struct import *im)
{
    for (size_t i = 0; i < im->n_workers; i++) {
        struct import_worker *w = im->workers[i];
        for (size_t k = 0; k < w->n; k++)
            free(w->lines[k].value);
        free(w->lines);
        free(w);
    }
    free(im->workers);
}

void import_free(struct import *im)
{
    free_workers(im);
    for (size_t i = 0; i < im->n_entries; i++) {
        buf_free(&im->entries[i]->to);
        free(im->entries[i]->key);
        free(im->entries[i]->value);
        free(im->entries[i]->why);
        free(im->entries[i]);
    }
    for (size_t i = 0; i < im->n_sources; i++) {
        free(im->sources[i]->text);
        free(im->sources[i]);
    }
    for (size_t i = 0; i < im->n_kept; i++)
        free(im->kept[i]);
    free(im->entries);
    free(im->sources);
    free(im->kept);
}
