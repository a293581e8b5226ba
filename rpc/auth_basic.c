/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "rpc/auth.h"

/* The next word of *s, blanks skipped, into buf; false if there is none or it does not fit. */
static bool take_word(const char **s, char *buf, size_t size)
{
    size_t n;

    *s += strspn(*s, " \t");
    n = strcspn(*s, " \t\r\n");
    if (n == 0 || n >= size)
        return false;
    memcpy(buf, *s, n);
    buf[n] = 0;
    *s += n;
    return true;
}

int auth_basic_line(const char *line, struct auth_basic *ret)
{
    char word[AUTH_WORD];

    if (!take_word(&line, word, sizeof(word)) || !str_eq(word, "basic"))
        return -ENOENT;
    if (!take_word(&line, ret->name, sizeof(ret->name)) || !take_word(&line, word, sizeof(word)) ||
        !take_word(&line, ret->hash, sizeof(ret->hash)))
        return -EINVAL;
    ret->role = str_eq(word, "HOST_MANAGER")  ? METHOD_MANAGER
                : str_eq(word, "HOST_VIEWER") ? METHOD_VIEWER
                                              : METHOD_NONE;
    return ret->role == METHOD_NONE ? -EINVAL : 0;
}

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: whole groups, right padding, no other characters. Bytes written or -EINVAL. */
static int decode64(const char *s, unsigned char *out, size_t size)
{
    size_t len = strlen(s), at = 0, pad = 0;

    if (len == 0 || len % 4 || len / 4 * 3 > size)
        return -EINVAL;
    while (pad < 2 && s[len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = i + k >= len - pad ? 0 : digit64(s[i + k]);
            if (d < 0)
                return -EINVAL;
            v = v << 6 | (uint32_t)d;
        }
        for (size_t k = 0; k < 3; k++)
            out[at++] = (unsigned char)(v >> (16 - 8 * k));
    }
    return (int)(at - pad);
}

int auth_basic_header(const char *value, char *user, char *password)
{
    unsigned char raw[2 * LIMIT_HTTP_PASSWORD + 4];
    char *colon;
    int n, r = -EINVAL;

    if (strncasecmp(value, "Basic ", 6) != 0)
        return -EINVAL;
    value += 6 + strspn(value + 6, " ");
    n = decode64(value, raw, sizeof(raw) - 1);
    if (n >= 0 && !memchr(raw, 0, (size_t)n)) {
        raw[n] = 0;
        colon = strchr((char *)raw, ':');
        if (colon && colon - (char *)raw < LIMIT_HTTP_PASSWORD && strlen(colon + 1) < LIMIT_HTTP_PASSWORD) {
            *colon = 0;
            strcpy(user, (char *)raw);
            strcpy(password, colon + 1);
            r = 0;
        }
    }
    explicit_bzero(raw, sizeof(raw));
    return r;
}
