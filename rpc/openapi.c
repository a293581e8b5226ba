/* SPDX-License-Identifier: Apache-2.0 */
/* GET /openapi.json: the calls as OpenAPI 3.1 describes them, written from method.def, param.def, schema.def
 * and wire/errcode.def, so that there is nothing to keep in step by hand. Shapes are written as they come: no
 * table of them is kept in memory. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/fd.h"
#include "base/str.h"
#include "rpc/handlers.h"
#include "rpc/json_enc.h"
#include "rpc/link.h"
#include "rpc/reply.h"
#include "wire/wire.h"

#define SCHEMAS "#/components/schemas/"
#define WORD 64

static void open_key(struct buf *b, const char *name, char bracket)
{
    json_key(b, name);
    json_open(b, bracket);
}

/* ---- types ---- */

static void put_ref(struct buf *b, const char *name, const char *tail)
{
    char text[128];

    snprintf(text, sizeof(text), SCHEMAS "%s%s", name, tail);
    json_str(b, "$ref", text);
}

static void put_codes(struct buf *b)
{
    json_str(b, "type", "integer");
    open_key(b, "oneOf", '[');
    for (int e = WIRE_OK + 1; e < WIRE_E_MAX; e++) {
        json_open(b, '{');
        json_int(b, "const", wire_error_code((enum wire_error)e));
        json_str(b, "title", wire_error_text((enum wire_error)e));
        json_close(b, '}');
    }
    json_close(b, ']');
}

/* "string=A,B" */
static void put_words(struct buf *b, const char *list)
{
    json_str(b, "type", "string");
    json_words(b, "enum", list);
}

/* "string" or "string|null" */
static void put_plain(struct buf *b, const char *type, bool null)
{
    json_key(b, "type");
    if (!null) {
        json_put_str(b, type);
        return;
    }
    json_open(b, '[');
    json_put_str(b, type);
    json_put_str(b, "null");
    json_close(b, ']');
}

static void put_null_or(struct buf *b, const char *name)
{
    open_key(b, "oneOf", '[');
    json_open(b, '{');
    put_ref(b, name, "");
    json_close(b, '}');
    json_open(b, '{');
    json_str(b, "type", "null");
    json_close(b, '}');
    json_close(b, ']');
}

static void put_single(struct buf *b, char *type)
{
    char *null = strstr(type, "|null");

    if (null)
        *null = 0;
    if (str_eq(type, "code")) {
        put_codes(b);
    } else if (str_starts(type, "string=")) {
        put_words(b, type + strlen("string="));
    } else if (isupper((unsigned char)type[0])) {
        null ? put_null_or(b, type) : put_ref(b, type, "");
    } else if (str_eq(type, "time")) {
        put_plain(b, "string", null);
        json_str(b, "format", "date-time");
    } else if (str_eq(type, "count")) {
        put_plain(b, "integer", null);
        json_int(b, "minimum", 0);
    } else {
        put_plain(b, type, null);
    }
}

/* The members of a schema of that type. */
static void put_type(struct buf *b, const char *type)
{
    bool list = type[0] == '[', map = type[0] == '{';
    char word[128];

    str_copy(word, sizeof(word), list || map ? type + 1 : type);
    if (!list && !map) {
        put_single(b, word);
        return;
    }
    word[strcspn(word, "]}")] = 0;
    json_str(b, "type", list ? "array" : "object");
    open_key(b, list ? "items" : "additionalProperties", '{');
    put_single(b, word);
    json_close(b, '}');
}

static void put_help(struct buf *b, const char *help)
{
    if (*help)
        json_str(b, "description", help);
}

/* ---- shapes ---- */

/* An object that is being written: the names of its fields follow at its end. */
struct shape {
    struct buf *b;
    bool open;
    struct buf required; /* with commas between */
};

static void end_shape(struct shape *s)
{
    if (!s->open)
        return;
    json_close(s->b, '}');
    json_words(s->b, "required", s->required.p);
    json_bool(s->b, "additionalProperties", false);
    json_close(s->b, '}');
    s->open = false;
}

static void begin_shape(struct shape *s, const char *name, const char *tail, const char *help)
{
    char full[WORD];

    end_shape(s);
    buf_reset(&s->required);
    snprintf(full, sizeof(full), "%s%s", name, tail);
    open_key(s->b, full, '{');
    json_str(s->b, "type", "object");
    put_help(s->b, help);
    open_key(s->b, "properties", '{');
    s->open = true;
}

static void put_field(struct shape *s, const char *name, const char *type, const char *help, bool required)
{
    open_key(s->b, name, '{');
    put_type(s->b, type);
    put_help(s->b, help);
    json_close(s->b, '}');
    if (required) {
        buf_str(&s->required, name);
        buf_char(&s->required, ',');
    }
}

#define FIELD(name, type, help) put_field(&s, name, type, help, true);
#define OPTIONAL(name, type, help) put_field(&s, name, type, help, false);

/* The envelope around one kind of data, or around an error. */
static void put_envelope(struct buf *b, const char *name, bool good)
{
    struct shape s = {b, false, BUF_INIT(LIMIT_HTTP_REPLY)};

    begin_shape(&s, name, "Reply", "");
    put_field(&s, good ? "data" : "error", name, "", true);
#define ENVELOPE_FIELDS
#include "rpc/schema.def"
#undef ENVELOPE_FIELDS
    open_key(b, "successful", '{');
    json_bool(b, "const", good);
    json_close(b, '}');
    buf_str(&s.required, "successful");
    end_shape(&s);
    buf_free(&s.required);
}

static void put_shapes(struct buf *b)
{
    struct shape s = {b, false, BUF_INIT(LIMIT_HTTP_REPLY)};

#define SCHEMA(name, help) begin_shape(&s, #name, "", help);
#include "rpc/schema.def"
#undef SCHEMA
    end_shape(&s);
    buf_free(&s.required);
}

#undef FIELD
#undef OPTIONAL

static bool is_type(const char *reply)
{
    return strchr(reply, '/') != NULL;
}

static void put_envelopes(struct buf *b)
{
    put_envelope(b, "Error", false);
    for (int i = 0; i < METHOD_COUNT; i++) {
        const char *reply = method_table[i].reply;
        int first = 0;
        while (!str_eq(method_table[first].reply, reply))
            first++;
        if (first == i && !is_type(reply))
            put_envelope(b, reply, true);
    }
}

/* ---- one call ---- */

/* What a row of param.def may depend on. */
struct traits {
    const struct method_info *m;
    bool ocp, change, manager, enveloped;
};

static struct traits traits_of(const struct method_info *m)
{
    return (struct traits){m, m->flags & METHOD_OCP, m->flags & METHOD_CHANGE, m->role == METHOD_MANAGER,
                           !is_type(m->reply)};
}

static bool has_word(const struct method_info *m, const char *word)
{
    char text[WORD];

    snprintf(text, sizeof(text), "{%s}", word);
    return strstr(m->path, text) != NULL;
}

/* A name with "!" behind it must be given. */
static void put_param(struct buf *b, const char *in, const char *name, const char *type, const char *help)
{
    char plain[WORD];
    bool must = str_eq(in, "path") || strchr(name, '!');

    snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(name, "!"), name);
    json_open(b, '{');
    json_str(b, "name", plain);
    json_str(b, "in", in);
    json_bool(b, "required", must);
    put_help(b, help);
    open_key(b, "schema", '{');
    put_type(b, type);
    json_close(b, '}');
    json_close(b, '}');
}

#define is(name) (t->m == &method_table[METHOD_##name])
#define ocp (t->ocp)
#define change (t->change)
#define manager (t->manager)
#define enveloped (t->enveloped)

static void put_params(struct buf *b, const struct traits *t)
{
    open_key(b, "parameters", '[');
#define PARAM(in, when, name, type, help)                        \
    if ((when) && (!str_eq(in, "path") || has_word(t->m, name))) \
        put_param(b, in, name, type, help);
#include "rpc/param.def"
#undef PARAM
    json_close(b, ']');
}

static void put_member(struct buf *b, struct buf *required, const char *name, const char *type,
                       const char *help)
{
    char plain[WORD];

    snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(name, "!"), name);
    open_key(b, plain, '{');
    put_type(b, type);
    put_help(b, help);
    json_close(b, '}');
    if (strchr(name, '!'))
        buf_printf(required, "%s%s", required->len ? "," : "", plain);
}

static void put_members(struct buf *b, struct buf *required, const struct traits *t)
{
#define BODY(when, name, type, help) \
    if (when)                        \
        put_member(b, required, name, type, help);
#include "rpc/param.def"
#undef BODY
}

/* Nothing for a call that takes none. */
static void put_body(struct buf *b, const struct traits *t)
{
    struct buf members = BUF_INIT(LIMIT_HTTP_REPLY), required = BUF_INIT(1024);

    put_members(&members, &required, t);
    if (members.len) {
        open_key(b, "requestBody", '{');
        json_bool(b, "required", required.len > 0);
        open_key(b, "content", '{');
        open_key(b, "application/json", '{');
        open_key(b, "schema", '{');
        json_str(b, "type", "object");
        json_words(b, "required", required.p ? required.p : "");
        open_key(b, "properties", '{');
        buf_put(b, members.p, members.len);
        for (int i = 0; i < 5; i++)
            json_close(b, '}');
    }
    buf_free(&members);
    buf_free(&required);
}

static void put_header(struct buf *b, const char *name, const char *help)
{
    open_key(b, name, '{');
    put_help(b, help);
    open_key(b, "schema", '{');
    json_str(b, "type", "string");
    json_close(b, '}');
    json_close(b, '}');
}

static void put_headers(struct buf *b, const struct traits *t, int status)
{
    open_key(b, "headers", '{');
#define HEADER(of, when, name, help) \
    if (status == (of) && (when))    \
        put_header(b, name, help);
#include "rpc/param.def"
#undef HEADER
    json_close(b, '}');
}

#undef is
#undef ocp
#undef change
#undef manager
#undef enveloped

static void put_content(struct buf *b, const char *reply)
{
    open_key(b, "content", '{');
    open_key(b, is_type(reply) ? reply : "application/json", '{');
    open_key(b, "schema", '{');
    if (!is_type(reply))
        put_ref(b, reply, "Reply");
    else
        json_str(b, "type", str_eq(reply, "application/json") ? "object" : "string");
    if (str_eq(reply, "text/event-stream")) { /* of each event's data */
        json_str(b, "contentMediaType", "application/json");
        open_key(b, "contentSchema", '{');
        json_str(b, "$ref", "#/components/schemas/Event");
        json_close(b, '}');
    }
    json_close(b, '}');
    json_close(b, '}');
    json_close(b, '}');
}

static void put_failure(struct buf *b, const char *status)
{
    open_key(b, status, '{');
    json_str(b, "$ref", "#/components/responses/Error");
    json_close(b, '}');
}

static void put_response(struct buf *b, const struct traits *t, int status, const char *reply,
                         const char *help)
{
    char text[8];

    snprintf(text, sizeof(text), "%d", status);
    open_key(b, text, '{');
    put_help(b, help);
    put_headers(b, t, status);
    put_content(b, reply);
    json_close(b, '}');
}

static void put_responses(struct buf *b, const struct traits *t)
{
    open_key(b, "responses", '{');
    put_response(b, t, 200, t->m->reply, t->change ? "It is done" : "As asked");
    if (t->change)
        put_response(b, t, 202, t->ocp ? "Error" : t->m->reply,
                     "It goes on: the operation tells when it is done");
    put_failure(b, "4XX");
    put_failure(b, "default");
    json_close(b, '}');
}

static void put_lower(struct buf *b, const char *name, const char *text)
{
    char lower[WORD];
    size_t n = 0;

    for (; text[n] && n < sizeof(lower) - 1; n++)
        lower[n] = (char)tolower((unsigned char)text[n]);
    lower[n] = 0;
    if (name)
        json_str(b, name, lower);
    else
        open_key(b, lower, '{');
}

static void put_call(struct buf *b, const struct method_info *m)
{
    struct traits t = traits_of(m);

    put_lower(b, NULL, m->verb);
    put_lower(b, "operationId", m->name);
    json_str(b, "summary", m->help);
    if (m->role == METHOD_NONE) {
        open_key(b, "security", '[');
        json_close(b, ']');
    } else {
        json_str(b, "x-agentd-role", method_role_name(m->role));
    }
    put_params(b, &t);
    put_body(b, &t);
    put_responses(b, &t);
    json_close(b, '}');
}

/* ---- the document ---- */

static bool is_first(int i)
{
    for (int k = 0; k < i; k++)
        if (str_eq(method_table[k].path, method_table[i].path))
            return false;
    return true;
}

static void put_paths(struct buf *b)
{
    open_key(b, "paths", '{');
    for (int i = 0; i < METHOD_COUNT; i++) {
        if (!is_first(i))
            continue;
        open_key(b, method_table[i].path, '{');
        for (int k = i; k < METHOD_COUNT; k++)
            if (str_eq(method_table[k].path, method_table[i].path))
                put_call(b, &method_table[k]);
        json_close(b, '}');
    }
    json_close(b, '}');
}

static void put_server(struct buf *b, const char *url)
{
    json_open(b, '{');
    json_str(b, "url", url);
    json_close(b, '}');
}

/* The ways in over TCP and TLS. */
static const struct {
    const char *name, *type, *key, *value;
} ways[] = {
    {"basic", "http", "scheme", "basic"},
    {"bearer", "http", "scheme", "bearer"},
    {"aksk", "apiKey", "name", "Authorization"},
    {"certificate", "mutualTLS", NULL, NULL},
};

static void put_security(struct buf *b)
{
    open_key(b, "security", '[');
    json_open(b, '{'); /* the unix socket's peer */
    json_close(b, '}');
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        json_open(b, '{');
        open_key(b, ways[i].name, '[');
        json_close(b, ']');
        json_close(b, '}');
    }
    json_close(b, ']');
}

static void put_schemes(struct buf *b)
{
    open_key(b, "securitySchemes", '{');
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        open_key(b, ways[i].name, '{');
        json_str(b, "type", ways[i].type);
        if (ways[i].key)
            json_str(b, ways[i].key, ways[i].value);
        if (str_eq(ways[i].type, "apiKey"))
            json_str(b, "in", "header");
        json_close(b, '}');
    }
    json_close(b, '}');
}

static void put_about(struct buf *b)
{
    json_str(b, "openapi", "3.1.0");
    open_key(b, "info", '{');
    json_str(b, "title", "agentd");
    json_str(b, "description",
             "The workers of one host. On a unix socket the role comes from the peer, on TCP from the "
             "credentials; "
             "HEAD is as GET, OPTIONS tells what a path knows.");
    json_str(b, "version", link_hello()->version);
    open_key(b, "license", '{');
    json_str(b, "name", "Apache-2.0");
    json_str(b, "identifier", "Apache-2.0");
    json_close(b, '}');
    json_close(b, '}');
    open_key(b, "servers", '[');
    put_server(b, "/");
    put_server(b, METHOD_PREFIX);
    json_close(b, ']');
    put_security(b);
}

static void put_components(struct buf *b)
{
    open_key(b, "components", '{');
    open_key(b, "schemas", '{');
    put_shapes(b);
    put_envelopes(b);
    json_close(b, '}');
    open_key(b, "responses", '{');
    open_key(b, "Error", '{');
    put_help(b, "It failed; the code tells why");
    put_content(b, "Error");
    json_close(b, '}');
    json_close(b, '}');
    put_schemes(b);
    json_close(b, '}');
}

void openapi_serve(struct request *r)
{
    struct buf *b = reply_bare();

    json_open(b, '{');
    put_about(b);
    put_paths(b);
    put_components(b);
    json_close(b, '}');
    buf_char(b, '\n');
    reply_send_bare(r, "application/json");
}
