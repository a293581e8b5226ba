/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/import_ini.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"

#define BLANKS " \t\r\f"

struct reader {
    struct import *im;
    struct import_ini *ini;
    const struct import_source *src;
    struct import_ini_section *section;
    bool open;        /* the last key of the section may go on */
    struct buf value; /* of that key so far */
    size_t indent;    /* of the line that it began in */
    unsigned line;
};

struct import_ini_section *import_ini_section(const struct import_ini *ini, const char *name)
{
    for (size_t i = 0; i < ini->n; i++)
        if (str_eq(ini->sections[i]->name, name))
            return ini->sections[i];
    return NULL;
}

struct import_ini_key *import_ini_key(const struct import_ini_section *s, const char *name)
{
    for (size_t i = s ? s->n : 0; i-- > 0;)
        if (str_eq(s->keys[i].name, name))
            return &s->keys[i];
    return NULL;
}

static bool fail(struct reader *r, size_t col, const char *what)
{
    import_error(r->im, (struct import_at){r->src->path, r->line, (unsigned)col + 1}, "%s", what);
    return false;
}

/* The value of the last key has ended. */
static void close_value(struct reader *r)
{
    if (r->open)
        r->section->keys[r->section->n - 1].value = import_keep(r->im, r->value.p);
    r->open = false;
}

static bool heading(struct reader *r, const char *s, size_t n, size_t col)
{
    const char *end = memchr(s, ']', n);
    char *name;

    if (!end || end == s + 1)
        return fail(r, col, "a section's heading is written [name]");
    name = import_keep_n(r->im, s + 1, (size_t)(end - s - 1));
    if ((r->section = import_ini_section(r->ini, name)))
        return true;
    if (r->ini->n == LIMIT_IMPORT_MEMBERS)
        return fail(r, col, "too many sections; split the file");
    if (!(r->section = calloc(1, sizeof(*r->section))))
        return fail(r, col, "no memory");
    *r->section = (struct import_ini_section){
        .name = name, .at = {r->src->path, r->line, (unsigned)col + 1}, .src = r->src};
    import_room(&r->ini->sections, r->ini->n, &r->ini->size, sizeof(*r->ini->sections));
    r->ini->sections[r->ini->n++] = r->section;
    return true;
}

static const char *lower(struct import *im, const char *s, size_t n)
{
    char *copy = import_keep_n(im, s, n);

    for (char *p = copy; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

/* An earlier one of that name does not count any more; it is in the account. */
static void replace(struct reader *r, struct import_ini_key *old)
{
    if (!old)
        return;
    old->replaced = true;
    import_none(import_key(r->im, NULL, old->at, old->name, old->value ? old->value : ""),
                "line %u sets it again", r->line);
}

static bool assignment(struct reader *r, const char *s, size_t n, size_t col)
{
    size_t key = 0, value;
    struct import_ini_section *section = r->section;
    const char *name;

    if (!section)
        return fail(r, col, "a key before the first [section]");
    while (key < n && s[key] != '=' && s[key] != ':')
        key++;
    if (key == n || key == 0)
        return fail(r, col, "neither [section] nor key=value");
    if (section->n == LIMIT_IMPORT_MEMBERS)
        return fail(r, col, "too many keys in this section");
    value = key + 1;
    while (key && strchr(BLANKS, s[key - 1]))
        key--;
    while (value < n && strchr(BLANKS, s[value]))
        value++;
    name = lower(r->im, s, key);
    replace(r, import_ini_key(section, name));
    import_room(&section->keys, section->n, &section->size, sizeof(*section->keys));
    section->keys[section->n++] =
        (struct import_ini_key){.name = name, .at = {r->src->path, r->line, (unsigned)col + 1}};
    buf_reset(&r->value);
    buf_str(&r->value, "");
    buf_put(&r->value, s + value, n - value);
    r->open = true;
    return true;
}

/* Where a comment begins in the line, or n: at ; or # first in it or behind a blank. */
static size_t comment_at(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((s[i] == ';' || s[i] == '#') && (i == 0 || strchr(BLANKS, s[i - 1])))
            return i;
    return n;
}

static bool read_line(struct reader *r, const char *s, size_t n)
{
    size_t indent = 0, end = comment_at(s, n);

    while (end && strchr(BLANKS, s[end - 1]))
        end--;
    while (indent < end && strchr(BLANKS, s[indent]))
        indent++;
    if (indent == end)
        return true;
    if (r->open && indent > r->indent) {
        buf_char(&r->value, '\n');
        buf_put(&r->value, s + indent, end - indent);
        return true;
    }
    close_value(r);
    r->indent = indent;
    return s[indent] == '[' ? heading(r, s + indent, end - indent, indent)
                            : assignment(r, s + indent, end - indent, indent);
}

bool import_ini_read(struct import *im, struct import_ini *ini, const struct import_source *src)
{
    struct reader r = {.im = im, .ini = ini, .src = src, .value = BUF_INIT(LIMIT_IMPORT_FILE + 1)};
    const char *p = src->text;
    bool fine = true;

    for (size_t n; *p; p += n, p += *p == '\n') {
        n = strcspn(p, "\n");
        r.line++;
        fine = read_line(&r, p, n) && fine;
    }
    close_value(&r);
    buf_free(&r.value);
    return fine;
}

void import_ini_free(struct import_ini *ini)
{
    for (size_t i = 0; i < ini->n; i++) {
        free(ini->sections[i]->keys);
        free(ini->sections[i]);
    }
    free(ini->sections);
    *ini = (struct import_ini){0};
}
