/* SPDX-License-Identifier: Apache-2.0 */
/* agentctl/import: foreign configurations as workers' files. What all formats share: workers that come to be,
 * an account of every key of the source, and messages. A format reads its file, calls import_worker for each
 * program and import_key for each key that it meets; nothing is written before all files are read. */
#ifndef AGENTCTL_IMPORT_H
#define AGENTCTL_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct import_at {
    const char *file; /* lives as long as the import */
    unsigned line, col;
};

enum import_section { IMPORT_UNIT, IMPORT_SERVICE, IMPORT_WORKER, IMPORT_SECTIONS };

struct import_line {
    enum import_section section;
    const char *key; /* constant */
    char *value;
    struct import_at at; /* of the key of the source that it comes of */
};

struct import_worker {
    char *alias, *origin; /* origin: what it is called in the source */
    struct import_at at;
    struct import_line *lines;
    size_t n, size;
    char *raw;                                             /* the whole file, instead of lines; or NULL */
    enum { IMPORT_UNSEEN, IMPORT_OPEN, IMPORT_DONE } mark; /* for who looks for circles */
};

enum import_verdict {
    IMPORT_NONE,  /* there is no counterpart; why says why */
    IMPORT_SAME,  /* agentd does so anyway */
    IMPORT_TAKEN, /* as `to` says */
};

struct import_entry {
    struct import_worker *worker; /* NULL: of no worker */
    struct import_at at;
    bool is_default; /* not in the source: what its tool does without it */
    bool is_phrase;  /* key and value are words of one statement */
    char *key, *value, *why;
    struct buf to; /* Key=value, a line each */
    enum import_verdict verdict;
};

/* A file as it was read. */
struct import_source {
    char *path, *dir; /* dir: absolute, where it is */
    char *text;       /* UTF-8 without NUL or control characters but white space */
    size_t len;
    mode_t mode;
};

struct import {
    struct import_source **sources;
    size_t n_sources, size_sources;
    struct import_worker **workers;
    size_t n_workers, size_workers;
    struct import_entry **entries;
    size_t n_entries, size_entries;
    char **kept;
    size_t n_kept, size_kept;
    size_t bytes;    /* of what is kept, about */
    unsigned errors; /* messages told */
    const char *format;
    unsigned monit_cycle; /* seconds, once `set daemon` has said them */
};

/* --- import_model.c: never fail; without memory, or with more than LIMIT_IMPORT_MEMORY, the command ends ---
 */

/* A copy that lives as long as the import. */
char *import_keep(struct import *im, const char *s);
char *import_keep_n(struct import *im, const char *s, size_t n);
/* printf into such a copy. */
char *import_print(struct import *im, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for one more in an array, as array_room. */
void import_room(void *array, size_t n, size_t *size, size_t bytes);
/* What a buffer has, "" for an empty one, as a copy that lives as long as the import; frees the buffer. */
char *import_take(struct import *im, struct buf *b);

/* FILE:LINE:COL: message, on stderr. Of more than LIMIT_IMPORT_ERRORS the rest is counted. */
void import_error(struct import *im, struct import_at at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A worker named so; a name that is no alias is made one, and that is in the account. NULL after an error. */
struct import_worker *import_worker(struct import *im, struct import_at at, const char *origin,
                                    const char *name);
/* The same with an alias that is right. */
struct import_worker *import_worker_as(struct import *im, struct import_at at, const char *origin,
                                       const char *name, const char *alias);
/* The one with this alias, or NULL. */
struct import_worker *import_find(const struct import *im, const char *alias);
/* name as an alias, in buf. */
#define IMPORT_ALIAS 65
const char *import_alias(const char *name, char buf[IMPORT_ALIAS]);

/* A key of the source: until something else is said it has no counterpart. */
struct import_entry *import_key(struct import *im, struct import_worker *w, struct import_at at,
                                const char *key, const char *value);
/* One that the source does not have, and its tool's default. */
struct import_entry *import_default(struct import *im, struct import_worker *w, const char *key,
                                    const char *value);
/* Of a tool that hands on all of its own environment. */
void import_environment(struct import *im, struct import_worker *w, const char *tool);
/* A line of the worker's file that comes of the key. */
void import_to(struct import_entry *e, enum import_section s, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The key is taken over, though no line says so. */
void import_into(struct import_entry *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Unless a line came of another part of it. */
void import_none(struct import_entry *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void import_same(struct import_entry *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What is to be known of it beside; added to what was said. */
void import_note(struct import_entry *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Once all files are read: what agentd would refuse of the workers' files is an error. */
void import_judge(struct import *im);
/* All that was kept. */
void import_free(struct import *im);

/* The worker's file. */
void import_text(const struct import_worker *w, struct buf *b);
/* It begins as that does, and so was not written by hand; but not for a systemd unit, which is as it was. */
bool import_is_text(const char *text);

/* --- import_words.c --- */

struct import_words {
    char **v;
    size_t n, size;
};

void import_words_add(struct import *im, struct import_words *w, const char *s);
void import_words_free(struct import_words *w); /* the list, not what is in it */
/* s as the shell reads it, without expansions: shlex.split of Python. NULL, or what is wrong. */
const char *import_words_shell(struct import *im, const char *s, struct import_words *w);
/* A command for an Exec key: quoted, with $ and % doubled. The first word is an absolute path by now. */
char *import_words_exec(struct import *im, const struct import_words *w);
/* The same of the program at path, which finds the first word in its place: what runs has it so, and adopt
 * compares. */
char *import_words_exec_as(struct import *im, const char *path, const struct import_words *w);
/* NAME=value for Environment=. NULL, or what is wrong with it. */
const char *import_words_env(struct import *im, const char *name, const char *value, char **ret);
/* s with % doubled. */
char *import_words_plain(struct import *im, const char *s);
/* The absolute path of a program without a slash, by PATH and the system's folders; NULL. */
char *import_words_program(struct import *im, const char *name);
/* path, below dir if it is relative, without . and .. */
char *import_words_path(struct import *im, const char *dir, const char *path);
/* "3", "1.5s", "1h30m", "500ms" with units ns us ms s m h, a bare number having unit_us. False: it is none.
 */
bool import_words_span(const char *s, double unit_us, double *ret_us);
/* Microseconds as a span of systemd's, in buf. */
#define IMPORT_SPAN 32
const char *import_words_write_span(double us, char buf[IMPORT_SPAN]);
/* The same for TimeoutStopSec= and TimeoutStartSec=, where 0 would be no limit: at least a millisecond. */
const char *import_words_write_timeout(double us, char buf[IMPORT_SPAN]);
/* Before each start but the first retry, of a tool that waits for nothing: agentd's own delay would grow,
 * until so many starts in an interval that is theirs could never be. */
#define IMPORT_DELAY_US 100e3
/* A size with a unit of two letters at most, in any case, base 1024. False: it is none. */
bool import_words_size(const char *s, uint64_t *ret);
/* A signal's name with SIG before it, in buf, from one with or without, in any case, or a number. NULL: none.
 */
const char *import_words_signal(const char *s, char buf[16]);
/* NULL, or what is wrong with it as User= and Group=: agentd refuses those that are not known. */
const char *import_words_user(const char *s);
const char *import_words_group(const char *s);

/* --- formats: each reads src, and tells what is wrong by import_error --- */

void import_obagent_read(struct import *im, struct import_source *src);
void import_supervisor_read(struct import *im, struct import_source *src);
void import_unit_read(struct import *im, struct import_source *src);
void import_monit_read(struct import *im, struct import_source *src);
void import_pm2_read(struct import *im, struct import_source *src);

/* --- import_load.c --- */

/* Reads path, which was named at `at` (or on the command line, if at is NULL). NULL after an error. */
struct import_source *import_load(struct import *im, const char *path, const struct import_at *at);
/* Where byte p of the source is. */
struct import_at import_place(const struct import_source *src, const char *p);
/* Its name without folders. */
const char *import_base(const char *path);
/* obagent, supervisord, systemd, monit or pm2; NULL: it can't be told. */
const char *import_guess(const struct import_source *src);

/* --- import.c --- */

/* Reads a file, and judges what comes of it. 0, or -1, and it was told. */
int import_read(struct import *im, const char *path);

/* --- what comes of it --- */

/* The workers' files and the account, on stdout. written: the folder, or NULL. */
void import_tell(const struct import *im, bool json, const char *written);
/* Every file, or none, into the folder. 0, or an exit code, and it was told. */
int import_write(const struct import *im, const char *dir, bool force);

#endif
