/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/state: what one image of agentd hands to the next over an exec: lines of KIND and key=value pairs in
 * a sealed memfd, with a version, the oldest version that can read it, and a checksum. A key that is not
 * there reads as its default, one that is not known is left alone: so an older and a newer image read each
 * other as long as no meaning changes; when one does, STATE_OLDEST is raised and the older image refuses it
 * before the exec. Knows text; never knows what is in it. memfd_create(2), fcntl(2) F_ADD_SEALS. */
#ifndef AGENTD_STATE_H
#define AGENTD_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define STATE_VERSION 1
#define STATE_OLDEST 1 /* an image must know at least this version to read what we write */
#define STATE_READS 1  /* and we read what was written by this version or a later one */

/* --- writing: into b, one line after the other --- */
void state_begin(struct buf *b, const char *kind);
void state_put(struct buf *b, const char *key, int64_t value);          /* 0 is left out */
void state_put_u64(struct buf *b, const char *key, uint64_t value);     /* the same */
void state_put_text(struct buf *b, const char *key, const char *value); /* NULL and "" are left out */
void state_end(struct buf *b);
bool state_can_seal(void); /* the kernel has what it takes */
/* A sealed memfd with the lines of b, or -errno. */
int state_seal(const struct buf *b);

/* --- reading --- */
struct state {
    char *text; /* NULs between the words */
    char *end;
    unsigned version;
};

/* Reads the memfd; its descriptor stays the caller's. 0 or -errno with err filled. */
int state_read(int fd, struct state *ret, struct err *err);
/* The same from n bytes, for tests. */
int state_parse(const char *bytes, size_t n, struct state *ret, struct err *err);
void state_done(struct state *s);

/* The next line of that kind behind `line` (NULL: the first), or NULL. */
const char *state_next(const struct state *s, const char *kind, const char *line);
/* The value of a key of a line; 0 or NULL if it is not there. Text is malloc'ed. */
int64_t state_get(const struct state *s, const char *line, const char *key);
uint64_t state_get_u64(const struct state *s, const char *line, const char *key);
int state_get_fd(const struct state *s, const char *line, const char *key); /* -1: not there */
/* All that are named fd or end in _fd: over an exec (on), or not. */
void state_each_fd(const struct state *s, bool over_exec);
char *state_get_text(const struct state *s, const char *line, const char *key);
bool state_is(const struct state *s, const char *line, const char *key, const char *value);

#endif
