/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cred.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define WORDS 5 /* one more than any kind has */

static const char *hash_wrong(const char *s)
{
    return strlen(s) < 13 || strchr(s, ':') ? "the hash is none of crypt(3)" : NULL;
}

static const char *digest_wrong(const char *s)
{
    return strlen(s) != 64 || strspn(s, "0123456789abcdef") != 64
               ? "the token is not a SHA-256 in 64 lower-case hexadecimal digits"
               : NULL;
}

static const struct {
    const char *name, *form;
    const char *(*secret_wrong)(const char *secret); /* NULL: any */
    bool secret;
} kinds[CRED_KINDS] = {
    [CRED_BASIC] = {"basic", "a basic line is: basic NAME ROLE CRYPT-HASH", hash_wrong, true},
    [CRED_BEARER] = {"bearer", "a bearer line is: bearer NAME ROLE SHA256", digest_wrong, true},
    [CRED_AKSK] = {"aksk", "an aksk line is: aksk ACCESS-KEY ROLE SECRET", NULL, true},
    [CRED_CERT] = {"cert", "a cert line is: cert SUBJECT-OR-SAN ROLE", NULL, false},
};

const char *cred_kind_name(enum cred_kind kind)
{
    return kinds[kind].name;
}

int cred_kind_of(const char *word)
{
    for (int i = 0; i < CRED_KINDS; i++)
        if (str_eq(kinds[i].name, word))
            return i;
    return -EINVAL;
}

const char *cred_role_name(bool manager)
{
    return manager ? "HOST_MANAGER" : "HOST_VIEWER";
}

/* A name is part of the actor that operations are kept under, so it has to fit there whole; and a colon ends
 * it in two of the headers that it comes in. */
static const char *name_wrong(enum cred_kind kind, const char *s)
{
    size_t n = strlen(s);

    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return "the name has a control character";
    if (!str_is_utf8(s, n))
        return "the name is not valid UTF-8";
    if (kind == CRED_CERT)
        return n > LIMIT_CREDENTIAL_SUBJECT
                   ? "the name is longer than " TEXT(LIMIT_CREDENTIAL_SUBJECT) " bytes"
                   : NULL;
    if (strchr(s, ':') || n > LIMIT_CREDENTIAL_NAME)
        return "the name has a colon or is longer than " TEXT(LIMIT_CREDENTIAL_NAME) " bytes";
    return NULL;
}

/* What is wrong with the words; *word says which. NULL: nothing, ret is filled. */
static const char *judge(char *const w[], unsigned n, unsigned *word, struct cred *ret)
{
    int kind = cred_kind_of(w[0]);
    const char *why;

    *word = 0;
    if (kind < 0)
        return "a credential starts with basic, bearer, aksk or cert";
    if (n != (kinds[kind].secret ? 4 : 3))
        return kinds[kind].form;
    *word = 1;
    if ((why = name_wrong((enum cred_kind)kind, w[1])))
        return why;
    *word = 2;
    if (!str_eq(w[2], cred_role_name(false)) && !str_eq(w[2], cred_role_name(true)))
        return "the role is neither HOST_VIEWER nor HOST_MANAGER";
    *word = 3;
    if (kinds[kind].secret_wrong && (why = kinds[kind].secret_wrong(w[3])))
        return why;
    *ret = (struct cred){(enum cred_kind)kind, str_eq(w[2], cred_role_name(true)), w[1],
                         kinds[kind].secret ? w[3] : ""};
    return NULL;
}

/* Splits a line at blanks, in place; at[]: the column of each word. */
static unsigned split(char *line, char *words[WORDS], unsigned at[WORDS])
{
    unsigned n = 0;

    for (char *p = line; *(p += strspn(p, " \t\r")) && n < WORDS;) {
        at[n] = (unsigned)(p - line) + 1;
        words[n++] = p;
        p += strcspn(p, " \t\r");
        if (*p)
            *p++ = 0;
    }
    return n;
}

int cred_parse(char *line, struct cred *ret, struct cred_wrong *wrong)
{
    char *words[WORDS];
    unsigned at[WORDS], n, word;

    wrong->column = 1;
    wrong->why = "the line is longer than " TEXT(LIMIT_CREDENTIAL_LINE) " bytes";
    if (strlen(line) > LIMIT_CREDENTIAL_LINE)
        return -EINVAL;
    n = split(line, words, at);
    if (n == 0 || *words[0] == '#')
        return 0;
    if (!(wrong->why = judge(words, n, &word, ret)))
        return 1;
    wrong->column = at[word];
    return -EINVAL;
}
