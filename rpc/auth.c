/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/auth.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/feature.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "rpc/auth_parts.h"
#include "rpc/link.h"
#include "rpc/listen.h"
#include "rpc/tls.h"

struct entry {
    char *line; /* cred points into it */
    size_t len;
    struct cred cred;
};

struct set {
    struct entry entries[LIMIT_CREDENTIALS];
    size_t count;
};

/* One password that waits for a child, or is with one. */
struct check {
    struct check *next;
    struct request *request;
    auth_fn done;
    struct event *result; /* the pipe's end, while a child computes */
    int fd;
    bool known; /* there is such a user: else the same work is done for nothing */
    enum method_role role;
    uint8_t key[AUTH_KEY];
    char source[AUTH_SOURCE];
    char user[LIMIT_HTTP_PASSWORD], password[LIMIT_HTTP_PASSWORD], hash[LIMIT_CREDENTIAL_LINE];
};

static struct set current, coming;
static struct event_base *loop;
static struct check *waiting, **waiting_end = &waiting, *running;
static unsigned waiting_count, running_count;

/* ---- the set ---- */

static void wipe(char *line, size_t len)
{
    explicit_bzero(line, len);
    free(line);
}

static void clear_set(struct set *s)
{
    for (size_t i = 0; i < s->count; i++)
        wipe(s->entries[i].line, s->entries[i].len);
    s->count = 0;
}

void auth_begin(void)
{
    clear_set(&coming);
}

int auth_add(const char *line)
{
    struct entry *e = &coming.entries[coming.count];
    struct cred_wrong wrong;

    if (coming.count == LIMIT_CREDENTIALS)
        return -ENOSPC;
    if (!(e->line = strdup(line)))
        return -ENOMEM;
    e->len = strlen(line);
    if (cred_parse(e->line, &e->cred, &wrong) > 0)
        coming.count++;
    else
        wipe(e->line, e->len); /* agentd has said what is wrong with it */
    return 0;
}

void auth_commit(void)
{
    clear_set(&current);
    current = coming;
    coming.count = 0;
    auth_cache_clear();
}

/* The i-th of a kind; NULL: there are no more. */
static const struct cred *nth(enum cred_kind kind, unsigned i)
{
    for (size_t k = 0; k < current.count; k++)
        if (current.entries[k].cred.kind == kind && i-- == 0)
            return &current.entries[k].cred;
    return NULL;
}

static const struct cred *find(enum cred_kind kind, const char *name)
{
    const struct cred *c;

    for (unsigned i = 0; (c = nth(kind, i)); i++)
        if (str_eq(c->name, name))
            return c;
    return NULL;
}

/* ---- the unix socket ---- */

static bool in_groups(const gid_t *groups, size_t n, gid_t primary, int64_t wanted)
{
    if (wanted < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((int64_t)groups[i] == wanted)
            return true;
    return (int64_t)primary == wanted;
}

static enum method_role role_of_groups(int fd)
{
    gid_t few[64];
    _cleanup_free_ gid_t *many = NULL;
    gid_t *groups = few;
    socklen_t len = sizeof(few), cred_len = sizeof(struct ucred);
    struct ucred cred;
    const struct wire_hello *h = link_hello();
    int r;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0)
        return METHOD_NONE;
    r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &len);
    feature_note(FEATURE_PEER_GROUPS, r == 0 || errno == ERANGE);
    if (r < 0) {
        /* ERANGE tells the length; a kernel without the option leaves the primary group */
        if (errno != ERANGE || !(many = malloc(len)) ||
            getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, many, &len) < 0)
            len = 0;
        groups = many;
    }
    if (in_groups(groups, len / sizeof(gid_t), cred.gid, h->manager_gid))
        return METHOD_MANAGER;
    return in_groups(groups, len / sizeof(gid_t), cred.gid, h->viewer_gid) ? METHOD_VIEWER : METHOD_NONE;
}

static enum auth_verdict check_unix(struct request *r)
{
    uid_t uid = listen_uid(r->conn);
    int *cached = listen_role_cache(r->conn), epoch = (int)(link_epoch() & 0xffff) << 2;

    if (uid == (uid_t)-1)
        return AUTH_FORBIDDEN;
    if (*cached < 0 || (*cached & ~3) != epoch)
        *cached =
            epoch | (uid == 0 || uid == link_hello()->own_uid ? (int)METHOD_MANAGER
                                                              : (int)role_of_groups(listen_fd(r->conn)));
    r->role = (enum method_role)(*cached & 3);
    snprintf(r->actor, sizeof(r->actor), "uid:%u", uid);
    return r->role == METHOD_NONE ? AUTH_FORBIDDEN : AUTH_GRANTED;
}

/* ---- passwords ---- */

static void free_check(struct check *c)
{
    if (c->result)
        event_free(c->result);
    fd_close(c->fd);
    explicit_bzero(c, sizeof(*c));
    free(c);
}

static enum auth_verdict grant(struct request *r, enum cred_kind kind, const char *name,
                               enum method_role role)
{
    r->role = role;
    snprintf(r->actor, sizeof(r->actor), "%s:%.*s", cred_kind_name(kind), LIMIT_CREDENTIAL_NAME, name);
    return AUTH_GRANTED;
}

static enum method_role role_of(const struct cred *c)
{
    return c->manager ? METHOD_MANAGER : METHOD_VIEWER;
}

/* A wrong one. name: as we know it, else NULL: what was sent in its place may be a secret. */
static enum auth_verdict fail(struct request *r, const char *source, const char *kind, const char *name,
                              const char *why)
{
    auth_slow_note(source, kind, name, why);
    r->retry_sec = auth_slow_failed(source, clock_mono_us());
    return r->retry_sec ? AUTH_SLOWED : AUTH_DENIED;
}

static void end_check(struct check *c, enum auth_verdict v)
{
    struct request *r = c->request;
    auth_fn done = c->done;

    if (v == AUTH_GRANTED) {
        auth_cache_put(c->key);
        grant(r, CRED_BASIC, c->user, c->role);
    } else if (v == AUTH_DENIED) {
        v = fail(r, c->source, "basic", c->known ? c->user : NULL,
                 c->known ? "the password is wrong" : "no such user");
    }
    free_check(c);
    done(r, v);
}

/* For as long as an address waits no more of its guesses are worth the work. */
static bool is_slowed(struct request *r, const char *source)
{
    r->retry_sec = auth_slow_wait(source, clock_mono_us());
    return r->retry_sec > 0;
}

/* As long for a wrong byte at the start as for one at the end. */
static bool differ_bytes(const char *a, const char *b)
{
    size_t n = strlen(b);
    volatile unsigned char sum = 0;

    if (strlen(a) != n)
        return true;
    for (size_t i = 0; i < n; i++)
        sum = (unsigned char)(sum | (a[i] ^ b[i]));
    return sum != 0;
}

/* In the child: nothing of the parent is used but memory. */
static _Noreturn void child(const struct check *c, int to)
{
    struct rlimit cpu = {LIMIT_AUTH_CHECK_SEC, LIMIT_AUTH_CHECK_SEC};
    struct crypt_data *data = calloc(1, sizeof(*data));
    const char *got;
    bool differ = true;
    char answer;

    /* no socket of ours may stay open for as long as a hash takes; and nobody is left to read it without us
     */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(to, STDIN_FILENO);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    setrlimit(RLIMIT_CPU, &cpu);
    if (data && (got = crypt_rn(c->password, c->hash, data, (int)sizeof(*data))))
        differ = differ_bytes(got, c->hash);
    answer = !differ && c->known ? 'y' : 'n';
    fd_write_all(STDIN_FILENO, &answer, 1);
    _exit(0);
}

static void start_waiting(void);

static void on_result(evutil_socket_t fd, short what, void *arg)
{
    struct check *c = arg, **at = &running;
    char answer = 0;
    ssize_t n = read(fd, &answer, 1);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    running_count--;
    end_check(c, n == 1 ? (answer == 'y' ? AUTH_GRANTED : AUTH_DENIED) : AUTH_FAILED);
    start_waiting();
}

/* 0 or -errno. Children are never waited for: SIGCHLD is ignored, so the kernel clears them away. */
static int start_child(struct check *c)
{
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fd_nonblock(ends[0], 1);
    pid = fork();
    if (pid == 0)
        child(c, ends[1]);
    fd_close(ends[1]);
    c->fd = ends[0];
    c->result = pid < 0 ? NULL : event_new(loop, ends[0], EV_READ | EV_PERSIST, on_result, c);
    if (!c->result || event_add(c->result, NULL) < 0)
        return -ENOMEM;
    explicit_bzero(c->password, sizeof(c->password));
    c->next = running;
    running = c;
    running_count++;
    return 0;
}

static void start_waiting(void)
{
    while (waiting && running_count < LIMIT_AUTH_CHECKS) {
        struct check *c = waiting;
        if (!(waiting = c->next))
            waiting_end = &waiting;
        waiting_count--;
        /* the same password may have been found right while this one waited */
        if (c->known && auth_cache_has(c->key))
            end_check(c, AUTH_GRANTED);
        else if (is_slowed(c->request, c->source))
            end_check(c, AUTH_SLOWED);
        else if (start_child(c) < 0)
            end_check(c, AUTH_FAILED);
    }
}

static enum auth_verdict queue_check(struct check *c)
{
    if (running_count >= LIMIT_AUTH_CHECKS && waiting_count >= LIMIT_AUTH_WAITING) {
        free_check(c);
        return AUTH_BUSY;
    }
    if (running_count < LIMIT_AUTH_CHECKS) {
        if (start_child(c) == 0)
            return AUTH_WAITING;
        free_check(c);
        return AUTH_FAILED;
    }
    c->next = NULL;
    *waiting_end = c;
    waiting_end = &c->next;
    waiting_count++;
    return AUTH_WAITING;
}

/* The credential of that user, or, so that an unknown name takes as long, any. */
static int fill_check(struct check *c)
{
    const struct cred *known = find(CRED_BASIC, c->user), *any = known ? known : nth(CRED_BASIC, 0);

    if (!any)
        return -ENOENT;
    c->known = known != NULL;
    c->role = role_of(any);
    str_copy(c->hash, sizeof(c->hash), any->secret);
    auth_cache_key(c->key, any, c->user, c->password);
    return 0;
}

static enum auth_verdict judge_basic(struct check *c)
{
    struct request *r = c->request;

    if (c->known && auth_cache_has(c->key)) {
        grant(r, CRED_BASIC, c->user, c->role);
        free_check(c);
        return AUTH_GRANTED;
    }
    if (is_slowed(r, c->source)) {
        free_check(c);
        return AUTH_SLOWED;
    }
    return queue_check(c);
}

static enum auth_verdict check_basic(struct request *r, const char *value, auth_fn done)
{
    struct check *c = calloc(1, sizeof(*c));
    enum auth_verdict v;

    if (!c)
        return AUTH_FAILED;
    c->fd = -1;
    c->request = r;
    c->done = done;
    str_copy(c->source, sizeof(c->source), listen_source(r->conn));
    if (auth_basic_header(value, c->user, c->password) == 0 && fill_check(c) == 0)
        return judge_basic(c);
    v = fail(r, c->source, "basic", NULL, "the header is malformed, or nobody has a password");
    free_check(c);
    return v;
}

/* ---- tokens and signatures ---- */

/* All of them are looked at, so that it takes as long for each. */
static enum auth_verdict check_bearer(struct request *r, const char *token)
{
    const struct cred *c, *right = NULL;
    char hex[65];

    auth_sign_digest(hex, token);
    for (unsigned i = 0; (c = nth(CRED_BEARER, i)); i++)
        if (CRYPTO_memcmp(hex, c->secret, 64) == 0)
            right = c;
    if (right)
        return grant(r, CRED_BEARER, right->name, role_of(right));
    return fail(r, listen_source(r->conn), "bearer", NULL, "no such token");
}

typedef enum auth_verdict (*sign_fn)(struct request *r, const char *value,
                                     const struct cred *(*find)(enum cred_kind kind, const char *name),
                                     const struct cred **ret, const char **why);

static enum auth_verdict check_signature(struct request *r, const char *value, sign_fn check)
{
    const struct cred *c;
    const char *why, *source = listen_source(r->conn);
    enum auth_verdict v = check(r, value, find, &c, &why);

    if (v == AUTH_GRANTED)
        return grant(r, CRED_AKSK, c->name, role_of(c));
    if (v == AUTH_DENIED)
        return fail(r, source, "aksk", c ? c->name : NULL, why);
    if (v == AUTH_BUSY)
        auth_slow_note(source, "aksk", c->name, why);
    return v;
}

/* ---- which way ---- */

/* ---- certificates ---- */

/* The actor has room for a credential's name; of a longer one a digest tells it from those that begin alike.
 */
static enum auth_verdict grant_certificate(struct request *r, const struct cred *c)
{
    char hex[65], name[LIMIT_CREDENTIAL_NAME + 1];

    if (strlen(c->name) <= LIMIT_CREDENTIAL_NAME)
        return grant(r, CRED_CERT, c->name, role_of(c));
    auth_sign_digest(hex, c->name);
    snprintf(name, sizeof(name), "%.*s~%.16s", LIMIT_CREDENTIAL_NAME - 17, c->name, hex);
    return grant(r, CRED_CERT, name, role_of(c));
}

/* By its certificate alone, which the handshake has proven. A manager's line counts before a viewer's. */
static enum auth_verdict check_certificate(struct request *r, struct bufferevent *tls)
{
    const struct cred *c, *found = NULL;

    for (unsigned i = 0; (c = nth(CRED_CERT, i)); i++)
        if ((!found || c->manager) && tls_client_is(tls, c->name))
            found = c;
    if (found)
        return grant_certificate(r, found);
    return tls_client_came_with(tls)
               ? fail(r, listen_source(r->conn), "cert", NULL, "nobody's certificate here")
               : AUTH_DENIED;
}

/* May a secret travel there as it is? */
static bool may_be_plain(const struct request *r)
{
    return listen_is_loopback(r->conn) || listen_tls(r->conn) || link_hello()->plaintext_credentials;
}

enum auth_verdict auth_check(struct request *r, auth_fn done)
{
    const char *header, *value;

    if (!r->conn)
        return AUTH_FAILED;
    if (listen_is_unix(r->conn))
        return check_unix(r);
    if (!(header = request_header(r, "Authorization")))
        return listen_tls(r->conn) ? check_certificate(r, listen_tls(r->conn)) : AUTH_DENIED;
    if ((value = auth_scheme(header, AUTH_SCHEME)))
        return check_signature(r, value, auth_aksk_check);
    if (!may_be_plain(r))
        return AUTH_FORBIDDEN;
    if ((value = auth_scheme(header, AUTH_SCHEME_256)))
        return check_signature(r, value, auth_digest_check);
    if ((value = auth_scheme(header, "Bearer")))
        return check_bearer(r, value);
    if ((value = auth_scheme(header, "Basic")))
        return check_basic(r, value, done);
    return fail(r, listen_source(r->conn), "Authorization", NULL, "the scheme is not known");
}

const char *auth_challenge(const struct request *r, unsigned i)
{
    static const struct {
        enum cred_kind kind;
        bool plain; /* the secret itself would be sent */
        const char *text;
    } ways[] = {
        {CRED_BASIC, true, "Basic realm=\"agentd\""},
        {CRED_BEARER, true, "Bearer realm=\"agentd\""},
        {CRED_AKSK, false, AUTH_SCHEME " realm=\"agentd\""},
    };

    for (size_t k = 0; r->conn && k < ARRAY_LEN(ways); k++)
        if (nth(ways[k].kind, 0) && (!ways[k].plain || may_be_plain(r)) && i-- == 0)
            return ways[k].text;
    return NULL;
}

void auth_cancel_all(void)
{
    while (running) {
        struct check *c = running;
        running = c->next;
        running_count--;
        end_check(c, AUTH_FAILED);
    }
    while (waiting) {
        struct check *c = waiting;
        waiting = c->next;
        waiting_count--;
        end_check(c, AUTH_FAILED);
    }
    waiting_end = &waiting;
}

int auth_init(struct event_base *base)
{
    loop = base;
    auth_cache_init();
    auth_aksk_init();
    return signal(SIGCHLD, SIG_IGN) == SIG_ERR ? -errno : 0;
}
