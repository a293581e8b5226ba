/* SPDX-License-Identifier: Apache-2.0 */
/* LoadCredential= and SetCredential=, systemd.exec(5). What they are is said by no message and no dump: names
 * and paths only. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/cfg_mix.h"
#include "agentd/cfg_read.h"
#include "agentd/cfg_values.h"
#include "base/fd.h"
#include "base/str.h"

static void free_secret(struct cfg_secret *s)
{
    if (s->value)
        explicit_bzero(s->value, strlen(s->value));
    free(s->id);
    free(s->path);
    free(s->value);
    *s = (struct cfg_secret){0};
}

void cfg_secrets_free(struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_secrets; i++)
        free_secret(&d->secrets[i]);
    free(d->secrets);
    d->secrets = NULL;
    d->n_secrets = 0;
}

/* A file's name, and one of systemd's. */
static bool id_ok(const char *s, size_t n)
{
    if (n == 0 || n > 255 || (*s == '.' && (n == 1 || (n == 2 && s[1] == '.'))))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || s[i] == '/')
            return false;
    return true;
}

/* "Key=": those of this key are forgotten. */
static void forget(struct wk_def *d, bool paths)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->n_secrets; i++)
        if ((d->secrets[i].path != NULL) == paths)
            free_secret(&d->secrets[i]);
        else
            d->secrets[n++] = d->secrets[i];
    d->n_secrets = n;
}

/* Takes s; a later one of the same key and id stands for the earlier. */
static void add(struct cfg_ctx *c, const struct cfg_line *l, struct cfg_secret s)
{
    struct wk_def *d = c->def;
    struct cfg_secret *bigger;

    for (unsigned i = 0; i < d->n_secrets; i++)
        if (str_eq(d->secrets[i].id, s.id) && !d->secrets[i].path == !s.path) {
            free_secret(&d->secrets[i]);
            d->secrets[i] = s;
            return;
        }
    if (d->n_secrets == LIMIT_SECRETS)
        cfg_error(c, l, 0, "more than %u credentials", LIMIT_SECRETS);
    else if (!(bigger = realloc(d->secrets, (d->n_secrets + 1) * sizeof(s))))
        cfg_oom(c);
    else {
        d->secrets = bigger;
        bigger[d->n_secrets++] = s;
        return;
    }
    free_secret(&s);
}

CFG_PARSER(cfg_value_load_credential)
{
    const char *colon = strchr(value, ':'), *why;
    size_t n = colon ? (size_t)(colon - value) : 0;
    struct cfg_secret s = {0};

    if (!*value) {
        forget(c->def, true);
        return;
    }
    if (!colon || !id_ok(value, n)) {
        cfg_error(c, l, 0, "%s= is ID:PATH, ID being a file's name, not \"%s\"", k->name, value);
        return;
    }
    if ((why = cfg_path_wrong(colon + 1))) {
        cfg_error(c, l, 0, "%s=: \"%s\" %s", k->name, colon + 1, why);
        return;
    }
    s.id = strndup(value, n);
    s.path = strdup(colon + 1);
    if (s.id && s.path) {
        cfg_path_simplify(s.path);
        add(c, l, s);
        return;
    }
    cfg_oom(c);
    free_secret(&s);
}

CFG_PARSER(cfg_value_set_credential)
{
    const char *colon = strchr(value, ':');
    size_t n = colon ? (size_t)(colon - value) : 0;
    struct cfg_words w = {.s = value, .at = n + 1, .flags = CFG_WORD_ESCAPES | CFG_WORD_LINE};
    struct cfg_secret s = {0};
    int r;

    if (!*value) {
        forget(c->def, false);
        return;
    }
    if (!colon || !id_ok(value, n)) {
        cfg_error(c, l, 0, "%s= is ID:VALUE, ID being a file's name", k->name);
        return;
    }
    if ((r = cfg_word(&w, &s.value)) == 0)
        s.value = strdup("");
    if (r == -EINVAL) {
        cfg_error(c, l, w.start, "%s=: %s", k->name, w.why);
        return;
    }
    s.id = strndup(value, n);
    if (s.id && s.value) {
        add(c, l, s);
        return;
    }
    cfg_oom(c);
    free_secret(&s);
}

static uint64_t mix_secrets(uint64_t h, const struct wk_def *d, bool paths)
{
    for (unsigned i = 0; i < d->n_secrets; i++) {
        const struct cfg_secret *s = &d->secrets[i];
        const char *what = paths ? s->path : s->value;
        if (what)
            h = str_hash(str_hash(h, s->id, strlen(s->id) + 1), what, strlen(what) + 1);
    }
    return str_hash(h, "", 1);
}

CFG_MIXER(cfg_mix_load_credential)
{
    return mix_secrets(h, object, true);
}

CFG_MIXER(cfg_mix_set_credential)
{
    return mix_secrets(h, object, false);
}

void cfg_secret_dump(const struct wk_def *d, struct buf *b)
{
    for (unsigned i = 0; i < d->n_secrets; i++) {
        const struct cfg_secret *s = &d->secrets[i];
        if (!s->path) {
            buf_printf(b, "# %s is set by a SetCredential=\n", s->id);
            continue;
        }
        buf_printf(b, "LoadCredential=%s:", s->id);
        for (const char *p = s->path; *p; p++)
            buf_printf(b, *p == '%' ? "%%%%" : "%c", *p);
        buf_char(b, '\n');
    }
}
