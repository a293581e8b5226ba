/* SPDX-License-Identifier: Apache-2.0 */
#include "agentd/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

#define MAGIC "agentd-state"
#define STATE_MAX (64 << 20)
#define HEAD_MAX 96
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* --- writing ------------------------------------------------------------------------------------- */

void state_begin(struct buf *b, const char *kind)
{
    buf_str(b, kind);
}

void state_put_u64(struct buf *b, const char *key, uint64_t value)
{
    if (value)
        buf_printf(b, " %s=%" PRIu64, key, value);
}

void state_put(struct buf *b, const char *key, int64_t value)
{
    if (value)
        buf_printf(b, " %s=%" PRId64, key, value);
}

/* What would end a word or a line travels as %NN. */
void state_put_text(struct buf *b, const char *key, const char *value)
{
    if (!value || !value[0])
        return;
    buf_printf(b, " %s=", key);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++)
        if (*p <= ' ' || *p == '%' || *p == 0x7f)
            buf_printf(b, "%%%02x", *p);
        else
            buf_char(b, (char)*p);
}

void state_end(struct buf *b)
{
    buf_char(b, '\n');
}

/* The first line, whose checksum covers what stands before it and all that follows. */
static void make_head(char *head, size_t size, unsigned version, unsigned oldest, const char *body, size_t n)
{
    size_t at = (size_t)snprintf(head, size, MAGIC " %u %u %zu ", version, oldest, n);

    snprintf(head + at, size - at, "%016" PRIx64 "\n", str_hash(str_hash(STR_HASH_INIT, head, at), body, n));
}

static int write_whole(int fd, const struct buf *b)
{
    char head[HEAD_MAX];
    int r;

    make_head(head, sizeof(head), STATE_VERSION, STATE_OLDEST, b->p, b->len);
    if ((r = fd_write_all(fd, head, strlen(head))) < 0 || (r = fd_write_all(fd, b->p, b->len)) < 0)
        return r;
    return fcntl(fd, F_ADD_SEALS, SEALS) < 0 ? -errno : 0;
}

/* EPERM: a container's filter of system calls. */
bool state_can_seal(void)
{
    _cleanup_close_ int fd = memfd_create("agentd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    return fd >= 0 || (errno != ENOSYS && errno != EPERM);
}

int state_seal(const struct buf *b)
{
    int fd, r;

    if (b->error || !b->len)
        return b->error ? b->error : -EINVAL;
    if ((fd = memfd_create("agentd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING)) < 0)
        return -errno;
    if ((r = write_whole(fd, b)) < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* --- reading ------------------------------------------------------------------------------------- */

/* Each word becomes a string; a line ends in an empty one. */
static void split(struct state *s)
{
    for (char *p = s->text; p < s->end; p++)
        if (*p == ' ' || *p == '\n')
            *p = *p == ' ' ? 0 : 1;
}

/* Where the body begins, or -errno with err filled. What is written in another way than we do is damaged. */
static int judge_head(const char *bytes, size_t n, unsigned *version, struct err *err)
{
    char head[HEAD_MAX], want[HEAD_MAX];
    const char *end = memchr(bytes, '\n', n < HEAD_MAX ? n : HEAD_MAX - 1);
    size_t at = end ? (size_t)(end - bytes) + 1 : 0;
    unsigned oldest;

    memcpy(head, bytes, at);
    head[at] = 0;
    if (sscanf(head, MAGIC " %u %u ", version, &oldest) != 2)
        return err_set(err, EBADMSG, "this is no state of agentd");
    if (oldest > STATE_VERSION || *version < STATE_READS)
        return err_set(
            err, EPROTO,
            "the state has version %u, readable from version %u on; this agentd knows version %u and reads "
            "from %u on",
            *version, oldest, STATE_VERSION, STATE_READS);
    make_head(want, sizeof(want), *version, oldest, bytes + at, n - at);
    return str_eq(head, want) ? (int)at : err_set(err, EBADMSG, "the state is damaged");
}

int state_parse(const char *bytes, size_t n, struct state *ret, struct err *err)
{
    unsigned version;
    int r = judge_head(bytes, n, &version, err);
    size_t at = (size_t)r;

    *ret = (struct state){0};
    if (r < 0)
        return r;
    if (!(ret->text = malloc(n - at + 1)))
        return err_set(err, ENOMEM, "no memory for the state");
    memcpy(ret->text, bytes + at, n - at);
    ret->end = ret->text + (n - at);
    *ret->end = 0;
    ret->version = version;
    split(ret);
    return 0;
}

/* Never by the descriptor's offset: the guardian and the new image have it in common, and read at the same
 * time. */
static ssize_t read_whole(int fd, char **ret)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0 || st.st_size > (off_t)STATE_MAX)
        return -EBADMSG;
    if (!(*ret = malloc((size_t)st.st_size)))
        return -ENOMEM;
    return fd_read_at(fd, *ret, (size_t)st.st_size, 0);
}

int state_read(int fd, struct state *ret, struct err *err)
{
    _cleanup_free_ char *bytes = NULL;
    ssize_t n;

    *ret = (struct state){0};
    if ((n = read_whole(fd, &bytes)) < 0)
        return err_set(err, (int)-n, "the state can't be read: %s", strerror((int)-n));
    return state_parse(bytes, (size_t)n, ret, err);
}

void state_done(struct state *s)
{
    if (s->text)
        explicit_bzero(s->text, (size_t)(s->end - s->text));
    free(s->text);
    *s = (struct state){0};
}

/* Lines end in \1; the words of a line are strings, the last one ends in that \1. */
static const char *line_end(const struct state *s, const char *line)
{
    const char *p = memchr(line, 1, (size_t)(s->end - line));

    return p ? p : s->end;
}

static bool word_is(const char *word, const char *end, const char *text, char then)
{
    size_t n = strlen(text);

    return (size_t)(end - word) >= n && memcmp(word, text, n) == 0 &&
           (word[n] == then || (then == 0 && word[n] == 1));
}

const char *state_next(const struct state *s, const char *kind, const char *line)
{
    const char *p = line ? line_end(s, line) + 1 : s->text;

    for (; p && p < s->end; p = line_end(s, p) + 1)
        if (word_is(p, s->end, kind, 0))
            return p;
    return NULL;
}

/* Where the value starts; *n its length. */
static const char *find(const struct state *s, const char *line, const char *key, size_t *n)
{
    const char *end = line_end(s, line);

    for (const char *p = line; p < end;) {
        const char *stop = memchr(p, 0, (size_t)(end - p));
        stop = stop ? stop : end;
        if (word_is(p, stop, key, '=')) {
            p += strlen(key) + 1;
            *n = (size_t)(stop - p);
            return p;
        }
        p = stop + 1;
    }
    return NULL;
}

static uint64_t number(const struct state *s, const char *line, const char *key)
{
    char text[24];
    size_t n;
    const char *p = find(s, line, key, &n);

    if (!p || n >= sizeof(text))
        return 0;
    memcpy(text, p, n);
    text[n] = 0;
    return text[0] == '-' ? (uint64_t)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
}

int64_t state_get(const struct state *s, const char *line, const char *key)
{
    return (int64_t)number(s, line, key);
}

uint64_t state_get_u64(const struct state *s, const char *line, const char *key)
{
    return number(s, line, key);
}

/* Descriptors are never 0: that is standard input. */
int state_get_fd(const struct state *s, const char *line, const char *key)
{
    int fd = (int)number(s, line, key);

    return fd > 0 && fcntl(fd, F_GETFD) >= 0 ? fd : -1;
}

char *state_get_text(const struct state *s, const char *line, const char *key)
{
    size_t n;
    const char *p = find(s, line, key, &n);
    char *text = p ? malloc(n + 1) : NULL, *to = text;
    unsigned c;

    if (!text)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '%' && i + 2 < n && sscanf(p + i + 1, "%2x", &c) == 1) {
            *to++ = (char)c;
            i += 2;
        } else {
            *to++ = p[i];
        }
    }
    *to = 0;
    return text;
}

bool state_is(const struct state *s, const char *line, const char *key, const char *value)
{
    _cleanup_free_ char *text = state_get_text(s, line, key);

    return text && str_eq(text, value);
}

void state_each_fd(const struct state *s, bool over_exec)
{
    for (const char *p = s->text; p < s->end; p++) {
        bool begins = p == s->text || p[-1] == 0 || p[-1] == 1;
        const char *equals = begins ? memchr(p, '=', strcspn(p, "\1")) : NULL;
        size_t n = equals ? (size_t)(equals - p) : 0;
        if (!(n == 2 && memcmp(p, "fd", 2) == 0) && !(n > 3 && memcmp(equals - 3, "_fd", 3) == 0))
            continue;
        int fd = atoi(equals + 1);
        if (fd > 2)
            fcntl(fd, F_SETFD, over_exec ? 0 : FD_CLOEXEC);
    }
}
