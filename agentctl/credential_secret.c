/* SPDX-License-Identifier: Apache-2.0 */
#include "agentctl/credential_secret.h"

#include <crypt.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

static void put_hex(char *hex, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

int credential_secret_random(char *hex, size_t n)
{
    uint8_t bytes[64];

    if (n > sizeof(bytes) || getrandom(bytes, n, 0) != (ssize_t)n)
        return -EIO;
    put_hex(hex, bytes, n);
    explicit_bzero(bytes, sizeof(bytes));
    return 0;
}

/* ---- asking ---- */

static int read_line(char *buf, size_t size)
{
    size_t n = 0;
    ssize_t got;

    /* byte by byte: what comes after the line is not ours */
    while (n < size && (got = read(STDIN_FILENO, buf + n, 1)) > 0 && buf[n] != '\n')
        n++;
    if (n == size)
        return -E2BIG;
    buf[n] = 0;
    if (n && buf[n - 1] == '\r')
        buf[--n] = 0;
    return n && strlen(buf) == n ? 0 : -ENODATA;
}

static int ask_once(const char *prompt, char *buf, size_t size)
{
    struct termios old, quiet;
    int r;

    if (tcgetattr(STDIN_FILENO, &old) < 0)
        return -errno;
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    fputs(prompt, stderr); /* from here on nothing typed is shown */
    r = read_line(buf, size);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stderr);
    return r;
}

int credential_secret_ask(char *buf, size_t size)
{
    char again[LIMIT_HTTP_PASSWORD];
    int r;

    if (!isatty(STDIN_FILENO))
        return read_line(buf, size);
    if ((r = ask_once("Password: ", buf, size)) == 0 &&
        (r = ask_once("Once more: ", again, sizeof(again))) == 0 && !str_eq(buf, again))
        r = -EKEYREJECTED;
    explicit_bzero(again, sizeof(again));
    return r;
}

/* ---- keeping ---- */

int credential_secret_hash(char hash[CREDENTIAL_HASH], const char *password)
{
    struct crypt_data *data = calloc(1, sizeof(*data));
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    const char *got = NULL;

    if (data && crypt_gensalt_rn("$y$", 0, NULL, 0, setting, (int)sizeof(setting)))
        got = crypt_rn(password, setting, data, (int)sizeof(*data));
    if (got)
        str_copy(hash, CREDENTIAL_HASH, got);
    if (data)
        explicit_bzero(data, sizeof(*data));
    free(data);
    return got ? 0 : -ENOSYS;
}

int credential_secret_digest(char hex[65], const char *token)
{
    uint8_t raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(token, strlen(token), raw, &n, EVP_sha256(), NULL) != 1 || n != 32)
        return -EIO;
    put_hex(hex, raw, n);
    return 0;
}
