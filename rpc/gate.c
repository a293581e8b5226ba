/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/gate.h"

#include <string.h>

#include "base/fd.h"

enum state {
    AT_START,
    AT_METHOD,
    AT_TARGET,
    AT_VERSION,
    AT_VERSION_LF,
    AT_LINE, /* first byte of a header line, or of the empty one */
    AT_NAME,
    AT_BLANK, /* between colon and value */
    AT_VALUE,
    AT_VALUE_LF,
    AT_END_LF,
    AT_BODY,
    AT_REFUSED,
};

enum known { KNOWN_NONE, KNOWN_HOST, KNOWN_LENGTH, KNOWN_CODING, KNOWN_EXPECT, KNOWN_AUTH, KNOWN_TYPE };

static const struct {
    const char *name;
    uint8_t len;
} known_names[] = {
    [KNOWN_NONE] = {"", 0},
    [KNOWN_HOST] = {"host", 4},
    [KNOWN_LENGTH] = {"content-length", 14},
    [KNOWN_CODING] = {"transfer-encoding", 17},
    [KNOWN_EXPECT] = {"expect", 6},
    [KNOWN_AUTH] = {"authorization", 13},
    [KNOWN_TYPE] = {"content-type", 12},
};

/* evhttp has these and a few more; a body only makes sense for the ones that say so. */
static const struct {
    const char *name;
    uint8_t body;
} methods[] = {{"GET", 0}, {"HEAD", 0}, {"POST", 1}, {"PUT", 1}, {"DELETE", 0}, {"OPTIONS", 0}, {"PATCH", 1}};

#define C_TOKEN 1  /* RFC 9110, tchar */
#define C_TARGET 2 /* RFC 3986: what path and query may hold, '%' apart */
#define C_VALUE 4  /* visible, blank, tab, or a byte above ASCII */
#define C_HOST 8

static uint8_t classes[256];

static void build_classes(void)
{
    for (int c = 0; c < 256; c++) {
        int alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        uint8_t k = 0;
        if (alnum || (c && strchr("!#$%&'*+-.^_`|~", c)))
            k |= C_TOKEN;
        if (alnum || (c && strchr("-._~!$&'()*+,;=:@/?", c)))
            k |= C_TARGET;
        if (c == '\t' || (c >= 0x20 && c != 0x7f))
            k |= C_VALUE;
        if (alnum || (c && strchr("-._~:[]%", c)))
            k |= C_HOST;
        classes[c] = k;
    }
}

void gate_init(struct gate *g, const struct gate_limits *limits)
{
    if (!classes['a'])
        build_classes();
    memset(g, 0, sizeof(*g));
    g->limits = limits;
    g->state = AT_START;
}

static int refuse(struct gate *g, enum wire_error error, const char *reason)
{
    g->state = AT_REFUSED;
    g->error = error;
    g->reason = reason;
    return -1;
}

static int bad(struct gate *g, const char *reason)
{
    return refuse(g, WIRE_E_BAD_REQUEST, reason);
}

static void open_request(struct gate *g)
{
    g->inside = 1;
    g->wants_go = 0;
    g->hosts = g->has_length = g->has_coding = g->has_expect = g->has_auth = g->has_type = 0;
    g->percent = g->in_query = g->word_len = 0;
    g->head_bytes = g->headers = g->target_len = g->segment_len = g->segment_dots = 0;
    g->body_left = 0;
    g->state = AT_METHOD;
}

static int end_method(struct gate *g)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (strlen(methods[i].name) == g->word_len && memcmp(methods[i].name, g->word, g->word_len) == 0) {
            g->method = (uint8_t)i;
            g->state = AT_TARGET;
            return 0;
        }
    return g->word_len ? refuse(g, WIRE_E_NOT_IMPLEMENTED, "the method is not known")
                       : bad(g, "a request starts with its method");
}

static int on_method(struct gate *g, uint8_t c)
{
    if (c == ' ')
        return end_method(g);
    if (!(classes[c] & C_TOKEN))
        return bad(g, "a method is a token");
    if (g->word_len == sizeof(g->word))
        return refuse(g, WIRE_E_NOT_IMPLEMENTED, "the method is not known");
    g->word[g->word_len++] = (char)c;
    return 0;
}

/* One path segment is over: nothing that another reader of the path would fold away. */
static int end_segment(struct gate *g, int more)
{
    if (g->segment_len && g->segment_len <= 2 && g->segment_dots == g->segment_len)
        return bad(g, "the path has a dot segment");
    if (more && g->segment_len == 0 && g->target_len > 1)
        return bad(g, "the path has an empty segment");
    g->segment_len = g->segment_dots = 0;
    return 0;
}

static int end_target(struct gate *g)
{
    if (g->target_len == 0)
        return bad(g, "the target is missing");
    if (g->percent)
        return bad(g, "a percent sign without two hex digits");
    if (!g->in_query && end_segment(g, 0) < 0)
        return -1;
    g->word_len = 0;
    g->state = AT_VERSION;
    return 0;
}

static int hex_value(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static int on_percent(struct gate *g, uint8_t c)
{
    int v = hex_value(c);

    if (v < 0)
        return bad(g, "a percent sign without two hex digits");
    g->percent_value = (uint8_t)(g->percent_value << 4 | v);
    if (--g->percent)
        return 0;
    if (g->percent_value < 0x20 || g->percent_value == 0x7f)
        return bad(g, "the target encodes a control character");
    if (g->percent_value == '/' && !g->in_query)
        return bad(g, "the path encodes a slash");
    g->segment_len++;
    g->segment_dots += g->percent_value == '.';
    return 0;
}

static int on_target(struct gate *g, uint8_t c)
{
    if (c == ' ')
        return end_target(g);
    if (++g->target_len > g->limits->target)
        return refuse(g, WIRE_E_URI_TOO_LONG, "the target is too long");
    if (g->target_len == 1)
        return c == '/' ? 0 : bad(g, "the target must start with a slash");
    if (g->percent)
        return on_percent(g, c);
    if (c == '%') {
        g->percent = 2;
        g->percent_value = 0;
        return 0;
    }
    if (!(classes[c] & C_TARGET))
        return bad(g, "the target has a character that must be encoded");
    if (g->in_query)
        return 0;
    if (c == '/')
        return end_segment(g, 1);
    if (c == '?') {
        g->in_query = 1;
        return end_segment(g, 0);
    }
    g->segment_len++;
    g->segment_dots += c == '.';
    return 0;
}

static int on_version(struct gate *g, uint8_t c)
{
    static const char expected[] = "HTTP/1.";

    if (g->word_len < 7) {
        if (c != (uint8_t)expected[g->word_len++])
            return bad(g, "only HTTP/1.1 and HTTP/1.0 are spoken");
        return 0;
    }
    if (g->word_len++ == 7) {
        if (c != '0' && c != '1')
            return bad(g, "only HTTP/1.1 and HTTP/1.0 are spoken");
        g->minor = (uint8_t)(c - '0');
        return 0;
    }
    if (c != '\r')
        return bad(g, "the request line must end in CR LF");
    g->state = AT_VERSION_LF;
    return 0;
}

static int on_line(struct gate *g, uint8_t c)
{
    if (c == '\r') {
        g->state = AT_END_LF;
        return 0;
    }
    if (c == ' ' || c == '\t')
        return bad(g, "a folded header");
    if (!(classes[c] & C_TOKEN))
        return bad(g, "a header's name is a token");
    if (++g->headers > g->limits->headers)
        return refuse(g, WIRE_E_HEADERS_TOO_LARGE, "too many headers");
    g->name[0] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
    g->name_len = 1;
    g->state = AT_NAME;
    return 0;
}

static int count_once(struct gate *g, uint8_t *seen, const char *reason)
{
    return (*seen)++ ? bad(g, reason) : 0;
}

static int end_name(struct gate *g)
{
    g->known = KNOWN_NONE;
    for (uint8_t i = 1; i < ARRAY_LEN(known_names); i++)
        if (g->name_len == known_names[i].len && memcmp(g->name, known_names[i].name, g->name_len) == 0)
            g->known = i;
    g->value_len = g->value_gap = 0;
    g->state = AT_BLANK;
    switch (g->known) {
    case KNOWN_HOST:
        return count_once(g, &g->hosts, "more than one Host");
    case KNOWN_LENGTH:
        return count_once(g, &g->has_length, "more than one Content-Length");
    case KNOWN_EXPECT:
        return count_once(g, &g->has_expect, "more than one Expect");
    case KNOWN_AUTH:
        return count_once(g, &g->has_auth, "more than one Authorization");
    case KNOWN_TYPE:
        return count_once(g, &g->has_type, "more than one Content-Type");
    case KNOWN_CODING:
        g->has_coding = 1;
        return 0;
    default:
        return 0;
    }
}

static int on_name(struct gate *g, uint8_t c)
{
    if (c == ':')
        return end_name(g);
    if (!(classes[c] & C_TOKEN))
        return bad(g, c == ' ' || c == '\t' ? "a blank before the colon" : "a header's name is a token");
    if (g->name_len < GATE_NAME)
        g->name[g->name_len++] = (char)(c >= 'A' && c <= 'Z' ? c | 32 : c);
    return 0;
}

static int end_length(struct gate *g)
{
    uint64_t v = 0;

    if (g->value_len == 0)
        return bad(g, "Content-Length is empty");
    for (uint8_t i = 0; i < g->value_len; i++) {
        if (g->value[i] < '0' || g->value[i] > '9')
            return bad(g, "Content-Length is not a number");
        if (v > UINT64_MAX / 20)
            return refuse(g, WIRE_E_TOO_LARGE, "the body is too large");
        v = v * 10 + (uint64_t)(g->value[i] - '0');
    }
    g->body_left = v;
    return 0;
}

static int end_value(struct gate *g)
{
    g->state = AT_VALUE_LF;
    if (g->known == KNOWN_LENGTH)
        return end_length(g);
    if (g->known == KNOWN_EXPECT && (g->value_len != 12 || strncasecmp(g->value, "100-continue", 12) != 0))
        return bad(g, "only 100-continue may be expected");
    return 0;
}

/* Keeps the start of a value that matters; blanks only count when something follows them. */
static int keep_value(struct gate *g, uint8_t c)
{
    if (c == ' ' || c == '\t') {
        g->value_gap = 1;
        return 0;
    }
    if (g->value_gap && (g->known == KNOWN_HOST || g->known == KNOWN_LENGTH || g->known == KNOWN_EXPECT))
        return bad(g, "a blank inside of a value that is one word");
    if (g->known == KNOWN_HOST && !(classes[c] & C_HOST))
        return bad(g, "Host is not a host");
    if (g->value_len == GATE_VALUE)
        return g->known == KNOWN_LENGTH ? bad(g, "Content-Length is not a number") : 0;
    g->value[g->value_len++] = (char)c;
    return 0;
}

static int on_value(struct gate *g, uint8_t c)
{
    if (c == '\r')
        return end_value(g);
    if (!(classes[c] & C_VALUE))
        return bad(g, "a control character in a header");
    return g->known ? keep_value(g, c) : 0;
}

static int on_blank(struct gate *g, uint8_t c)
{
    if (c == ' ' || c == '\t')
        return 0;
    g->state = AT_VALUE;
    return on_value(g, c);
}

static void end_request(struct gate *g)
{
    g->requests++;
    g->inside = g->wants_go = 0;
    g->whole = g->fed;
    g->state = AT_START;
}

/* The empty line is in: is what was announced one request, read the same by everybody? */
static int end_head(struct gate *g)
{
    if (g->has_coding && g->has_length)
        return bad(g, "Content-Length and Transfer-Encoding");
    if (g->has_coding)
        return refuse(g, WIRE_E_NOT_IMPLEMENTED, "Transfer-Encoding is not taken, send a Content-Length");
    if (g->minor == 1 && !g->hosts)
        return bad(g, "Host is missing");
    if (g->body_left && !methods[g->method].body)
        return bad(g, "this method takes no body");
    if (g->body_left > g->limits->body)
        return refuse(g, WIRE_E_TOO_LARGE, "the body is too large");
    if (g->body_left == 0) {
        end_request(g);
        return 0;
    }
    g->wants_go = g->has_expect && g->minor == 1;
    g->state = AT_BODY;
    return 0;
}

static int on_lf(struct gate *g, uint8_t c)
{
    if (c != '\n')
        return bad(g, "a line must end in CR LF");
    if (g->state == AT_END_LF)
        return end_head(g);
    g->state = AT_LINE;
    return 0;
}

static int on_byte(struct gate *g, uint8_t c)
{
    if (++g->head_bytes > g->limits->head)
        return refuse(g, WIRE_E_HEADERS_TOO_LARGE, "the headers are too large");
    switch ((enum state)g->state) {
    case AT_METHOD:
        return on_method(g, c);
    case AT_TARGET:
        return on_target(g, c);
    case AT_VERSION:
        return on_version(g, c);
    case AT_LINE:
        return on_line(g, c);
    case AT_NAME:
        return on_name(g, c);
    case AT_BLANK:
        return on_blank(g, c);
    case AT_VALUE:
        return on_value(g, c);
    default:
        return on_lf(g, c);
    }
}

enum gate_verdict gate_feed(struct gate *g, const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n;

    if (g->state == AT_REFUSED)
        return GATE_REFUSED;
    while (p < end) {
        if (g->state == AT_BODY) {
            uint64_t take = (uint64_t)(end - p) < g->body_left ? (uint64_t)(end - p) : g->body_left;
            p += take;
            g->fed += take;
            if ((g->body_left -= take) == 0)
                end_request(g);
            continue;
        }
        if (g->state == AT_START)
            open_request(g);
        g->fed++;
        if (on_byte(g, *p++) < 0)
            return GATE_REFUSED;
    }
    return GATE_FINE;
}
