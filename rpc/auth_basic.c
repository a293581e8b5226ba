/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "rpc/auth_parts.h"

const char *auth_scheme(const char *value, const char *scheme)
{
    size_t n = strlen(scheme);

    if (strncasecmp(value, scheme, n) != 0 || value[n] != ' ')
        return NULL;
    return value + n + strspn(value + n, " ");
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

int auth_base64(const char *s, unsigned char *out, size_t size)
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

    n = auth_base64(value, raw, sizeof(raw) - 1);
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

int auth_signed_header(const char *value, char name[LIMIT_CREDENTIAL_NAME + 1], uint8_t *mac, size_t size)
{
    const char *colon = strchr(value, ':');
    size_t n = colon ? (size_t)(colon - value) : 0;
    uint8_t raw[AUTH_MAC_256 + 2]; /* whole groups of base64 */

    if (n == 0 || n > LIMIT_CREDENTIAL_NAME || auth_base64(colon + 1, raw, sizeof(raw)) != (int)size)
        return -EINVAL;
    memcpy(name, value, n);
    name[n] = 0;
    memcpy(mac, raw, size);
    return 0;
}
