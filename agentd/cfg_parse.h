/* SPDX-License-Identifier: Apache-2.0 */
/* agentd/cfg_parse: the line grammar of systemd.syntax(7), pure: text in, assignments with their positions
 * out. A line that ends in an odd number of backslashes goes on in the next one, comments between the two are
 * left out, and what a message says about a value names the original line. */
#ifndef AGENTD_CFG_PARSE_H
#define AGENTD_CFG_PARSE_H

#include <stdbool.h>
#include <stddef.h>

/* value[at] and what follows, up to the next piece, came from line:col. */
struct cfg_piece {
    unsigned at, line, col;
};

/* One assignment, or with key NULL a section's heading. */
struct cfg_line {
    const char *file;            /* borrowed from cfg_lines */
    char *section, *key, *value; /* one block, which section owns */
    unsigned line, col;          /* of the key or heading, from 1; columns count bytes */
    struct cfg_piece *pieces;    /* of value */
    unsigned n_pieces;
};

/* The lines of a file and its drop-ins, in the order of reading. */
struct cfg_lines {
    struct cfg_line *v;
    size_t n, size;
    char **files;
    size_t n_files;
};

typedef void (*cfg_complain_fn)(void *ctx, const char *file, unsigned line, unsigned col,
                                const char *message);

/* Appends the lines of text (len bytes) to out. What is wrong goes to complain and is left out.
 * 0, or -ENOMEM. */
int cfg_parse(const char *file, const char *text, size_t len, struct cfg_lines *out, cfg_complain_fn complain,
              void *ctx);
void cfg_lines_free(struct cfg_lines *l);

#define CFG_AT_KEY ((size_t)-1)

/* Where value[at] was written (CFG_AT_KEY: the key). */
void cfg_line_at(const struct cfg_line *l, size_t at, unsigned *line, unsigned *col);

/* --- words: blanks separate, quotes join, C escapes (extract_first_word of systemd) --- */

#define CFG_WORD_QUOTES 1u  /* quotes join and are removed */
#define CFG_WORD_ESCAPES 2u /* C escapes are replaced */
#define CFG_WORD_RELAX 4u   /* an open quote at the end is closed, as in the words of a $VARIABLE */

#define CFG_WORD_LINE 8u /* blanks do not separate: the rest of the line is one word */

struct cfg_words {
    const char *s;
    unsigned flags;
    size_t at;       /* where to go on */
    size_t start;    /* of the last word, or of what is wrong */
    const char *why; /* what is wrong */
};

/* The next word, malloc'ed (caller frees). 1, 0 at the end, -EINVAL with why and start, -ENOMEM. */
int cfg_word(struct cfg_words *w, char **ret);

/* --- lists in one block --- */

struct cfg_list {
    char **v; /* NULL-terminated if not NULL */
    size_t n, size;
};

int cfg_list_add(struct cfg_list *l, char *s); /* takes s, also when it fails; NULL s fails. 0 or -ENOMEM */
void cfg_list_clear(struct cfg_list *l);
/* The list as one block (array and strings), malloc'ed; NULL if there is no memory. */
char **cfg_list_pack(char *const *v, size_t n);

#endif
