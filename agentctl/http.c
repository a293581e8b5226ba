/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/fd.h"
#include "base/str.h"

#define MAX_REPLY (64 << 20)
#define MAX_TOKENS (8 << 20)
#define MAX_SECRET 512

/* One exchange; the handle, and with it the connection, stays for the next. */
struct exchange {
    struct http_reply *reply;
    http_take_fn take; /* NULL: the body is gathered */
    void *arg;
};

static CURL *handle;
static char secret[MAX_SECRET]; /* password or token */

/* ---- secrets ---- */

static int read_token(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, secret, sizeof(secret) - 1);

    if (n <= 0) {
        options_complain("%s: %s", path, n < 0 ? strerror(errno) : "empty");
        return -1;
    }
    secret[n] = 0;
    secret[strcspn(secret, "\r\n")] = 0;
    return 0;
}

static int ask_password(const char *user)
{
    _cleanup_close_ int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    struct termios old, quiet;
    ssize_t n;

    if (tty < 0 || tcgetattr(tty, &old) < 0) {
        options_complain("no terminal to ask for the password of %s: set AGENTCTL_PASSWORD", user);
        return -1;
    }
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    dprintf(tty, "Password of %s: ", user);
    tcsetattr(tty, TCSAFLUSH, &quiet);
    n = read(tty, secret, sizeof(secret) - 1);
    tcsetattr(tty, TCSAFLUSH, &old);
    dprintf(tty, "\n");
    if (n <= 0)
        return -1;
    secret[n] = 0;
    secret[strcspn(secret, "\r\n")] = 0;
    return 0;
}

static int set_credentials(const struct options *o)
{
    const char *given = getenv("AGENTCTL_PASSWORD");

    if (o->token_file) {
        if (read_token(o->token_file) < 0)
            return -1;
        curl_easy_setopt(handle, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(handle, CURLOPT_XOAUTH2_BEARER, secret);
    } else if (o->user) {
        if (given)
            str_copy(secret, sizeof(secret), given);
        else if (ask_password(o->user) < 0)
            return -1;
        curl_easy_setopt(handle, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(handle, CURLOPT_USERNAME, o->user);
        curl_easy_setopt(handle, CURLOPT_PASSWORD, secret);
    }
    explicit_bzero(secret, sizeof(secret)); /* curl has its copy */
    return 0;
}

/* ---- one exchange ---- */

static void keep_header(const char *line, const char *name, char *buf, size_t size)
{
    size_t n = strlen(name);

    if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
        str_copy(buf, size, line + n + 1 + strspn(line + n + 1, " "));
        buf[strcspn(buf, "\r\n")] = 0;
    }
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    char line[256];

    if (n < sizeof(line)) {
        memcpy(line, p, n);
        line[n] = 0;
        keep_header(line, "Agentd-Operation", x->reply->operation, sizeof(x->reply->operation));
        keep_header(line, "Agentd-Log-Cursor", x->reply->cursor, sizeof(x->reply->cursor));
        keep_header(line, "Agentd-Host-Id", x->reply->host, sizeof(x->reply->host));
    }
    return n;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
    struct exchange *x = arg;
    long status = 0;

    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    if (x->take && status == 200)
        x->take(x->arg, p, n);
    else
        buf_put(&x->reply->body, p, n);
    return x->reply->body.error || x->reply->enough ? 0 : n;
}

static int set_up(const struct options *o)
{
    if (handle)
        return 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(handle = curl_easy_init())) {
        options_complain("out of memory");
        return -1;
    }
    if (!o->url)
        curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, o->socket);
    if (o->cert)
        curl_easy_setopt(handle, CURLOPT_SSLCERT, o->cert);
    if (o->key)
        curl_easy_setopt(handle, CURLOPT_SSLKEY, o->key);
    if (o->cacert) {
        curl_easy_setopt(handle, CURLOPT_CAINFO, o->cacert);
        curl_easy_setopt(handle, CURLOPT_CAPATH, NULL); /* these authorities, and no others */
    }
    curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L); /* a host that vanishes ends a stream too */
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    return set_credentials(o);
}

static void explain(const struct options *o, CURLcode code)
{
    long os = 0;

    curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &os);
    if (o->url || code != CURLE_COULDNT_CONNECT)
        options_complain("%s: %s", o->url ? o->url : o->socket, curl_easy_strerror(code));
    else if (access(o->socket, F_OK) < 0)
        options_complain("%s: %s. Is agentd running? See: systemctl status agentd", o->socket,
                         strerror(errno));
    else if (os == EACCES || access(o->socket, W_OK) < 0)
        options_complain("%s: %s. Be root or in the group that ManagerGroup= or ViewerGroup= names",
                         o->socket, strerror(EACCES));
    else
        options_complain("%s: nobody listens. Is agentd running? See: systemctl status agentd", o->socket);
}

static void set_method(const struct http_request *q)
{
    bool post = str_eq(q->method, "POST");
    const char *body = q->body ? q->body : "";

    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(handle, CURLOPT_NOBODY, 0L);
    if (post) {
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
    } else if (str_eq(q->method, "HEAD")) {
        curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(handle, CURLOPT_HTTPGET, 1L);
        if (!str_eq(q->method, "GET"))
            curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, q->method);
    }
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
    char line[1200];

    if (!value)
        return;
    snprintf(line, sizeof(line), "%s: %s", name, value);
    *list = curl_slist_append(*list, line);
}

static struct curl_slist *make_headers(const struct options *o, const struct http_request *q)
{
    struct curl_slist *list = NULL;
    char tag[80], wait[32];

    if (str_eq(q->method, "POST"))
        add_header(&list, "Content-Type", "application/json");
    add_header(&list, "Agentd-Reason", o->reason);
    add_header(&list, "Idempotency-Key", q->idempotency_key);
    add_header(&list, "Last-Event-ID", q->last_event);
    if (q->if_match)
        snprintf(tag, sizeof(tag), "\"%.60s\"", q->if_match);
    add_header(&list, "If-Match", q->if_match ? tag : NULL);
    snprintf(wait, sizeof(wait), "wait=%d", q->wait_sec);
    add_header(&list, "Prefer", q->async ? "respond-async" : q->wait_sec >= 0 ? wait : NULL);
    return list;
}

static int perform(const struct options *o, const struct http_request *q, struct exchange *x)
{
    struct curl_slist *headers;
    char url[2048];
    long status = 0;
    CURLcode code;

    if (set_up(o) < 0)
        return EXIT_UNASKED;
    snprintf(url, sizeof(url), "%s%s", o->url ? o->url : "http://localhost", q->path);
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT, (long)q->timeout_sec);
    set_method(q);
    headers = make_headers(o, q);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    code = curl_easy_perform(handle);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (code != CURLE_OK && !x->reply->enough) {
        x->reply->absent = code == CURLE_COULDNT_CONNECT;
        if (!q->quiet)
            explain(o, code);
        return EXIT_UNASKED;
    }
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    x->reply->status = (int)status;
    return EXIT_DONE;
}

/* ---- the envelope ---- */

static const char *advice(int status)
{
    switch (status) {
    case 401:
        return " (give --user or --token-file)";
    case 403:
        return " (be root or in the group that ManagerGroup= names; ViewerGroup= may only look)";
    case 503:
        return " (try again)";
    default:
        return "";
    }
}

int http_open(struct http_reply *r)
{
    char message[sizeof(r->message)];

    r->data = -1;
    if (!r->body.p || json_parse(&r->json, r->body.p, r->body.len, MAX_TOKENS) < 0) {
        options_complain("the answer (HTTP %d) is not agentd's", r->status);
        return EXIT_UNASKED;
    }
    r->data = json_member(&r->json, 0, "data");
    json_copy(&r->json, json_member(&r->json, json_member(&r->json, 0, "error"), "message"), message,
              sizeof(message));
    str_escape(r->message, sizeof(r->message), message);
    return EXIT_DONE;
}

int http_fetch(const struct options *o, const struct http_request *q, struct http_reply *ret)
{
    struct exchange x = {.reply = ret};

    *ret = (struct http_reply){.data = -1, .body = BUF_INIT(MAX_REPLY)};
    return perform(o, q, &x);
}

int http_send(const struct options *o, const struct http_request *q, struct http_reply *ret)
{
    int r;

    if ((r = http_fetch(o, q, ret)) != EXIT_DONE || (r = http_open(ret)) != EXIT_DONE)
        return r;
    if (ret->status / 100 == 2)
        return EXIT_DONE;
    size_t n = strlen(ret->message);
    str_copy(ret->message + n, sizeof(ret->message) - n, advice(ret->status));
    return EXIT_REFUSED;
}

int http_ask(const struct options *o, const char *method, const char *path, struct http_reply *ret)
{
    struct http_request q = {.method = method, .path = path, .wait_sec = -1};

    return http_send(o, &q, ret);
}

int http_listen(const struct options *o, const struct http_request *q, http_take_fn take, void *arg,
                struct http_reply *ret)
{
    struct exchange x = {.reply = ret, .take = take, .arg = arg};
    int r;

    *ret = (struct http_reply){.data = -1, .body = BUF_INIT(MAX_REPLY)};
    if ((r = perform(o, q, &x)) != EXIT_DONE || ret->status == 200)
        return r;
    return (r = http_open(ret)) == EXIT_DONE ? EXIT_REFUSED : r;
}

int http_stream(const struct options *o, const char *path, http_take_fn take, void *arg,
                struct http_reply *ret)
{
    struct http_request q = {.method = "GET", .path = path, .wait_sec = -1};

    return http_listen(o, &q, take, arg, ret);
}

int http_host(const struct options *o, char host[24])
{
    struct http_request q = {.method = "HEAD", .path = "/agentd/v1/workers", .wait_sec = -1};
    struct http_reply r;
    int code = http_fetch(o, &q, &r);

    str_copy(host, 24, r.host);
    if (code == EXIT_DONE && r.status != 200) {
        options_complain("refused: HTTP %d%s", r.status, advice(r.status));
        code = EXIT_REFUSED;
    } else if (code == EXIT_DONE && !*host) {
        options_complain("HostId= is not set in agentd.conf; `agentctl setup` sets it");
        code = EXIT_REFUSED;
    }
    http_free(&r);
    return code;
}

void http_free(struct http_reply *r)
{
    json_free(&r->json);
    buf_free(&r->body);
}

char *http_path(char *buf, size_t size, const char *head, const char *name, const char *tail)
{
    char *escaped = curl_easy_escape(NULL, name, 0);

    snprintf(buf, size, "%s%s%s", head, escaped ? escaped : "", tail);
    curl_free(escaped);
    return buf;
}
