/* SPDX-License-Identifier: Apache-2.0 */
/* credential add, list, revoke, rotate: on the credentials file itself; agentd takes it over at its next
 * reload. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentctl/credential_file.h"
#include "agentctl/credential_secret.h"
#include "agentctl/verbs.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

#define TOKEN_BYTES 32 /* of tokens and secret keys */
#define PASSWORD_BYTES 16
#define KEY_BYTES 8 /* of an access key: it is no secret, it has to be one of a kind */

struct made {
    enum cred_kind kind;
    char name[LIMIT_CREDENTIAL_SUBJECT + 1];
    bool manager;
    char shown[LIMIT_HTTP_PASSWORD]; /* to be told once; "": it was given, or there is none */
    char kept[CREDENTIAL_HASH];      /* what stands in the file; "" of a cert */
};

static const char *file_of(const struct options *o)
{
    return o->file ? o->file : CREDENTIAL_FILE;
}

/* ---- the command line ---- */

static int usage(void)
{
    options_complain(
        "credential what? add KIND NAME ROLE, list, revoke KIND NAME, or rotate KIND NAME, where KIND "
        "is basic, bearer, aksk or cert and ROLE is HOST_VIEWER or HOST_MANAGER");
    return EXIT_USAGE;
}

/* As agentd will read it; with something in the place of a secret that is not made yet. */
static int check_words(const struct made *m, const char *role)
{
    char line[LIMIT_CREDENTIAL_LINE + 2];
    static const char *const samples[] = {
        [CRED_BASIC] = " $y$0123456789",
        [CRED_BEARER] = " 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        [CRED_AKSK] = " s",
        [CRED_CERT] = "",
    };
    struct cred c;
    struct cred_wrong wrong;

    snprintf(line, sizeof(line), "%s %s %s%s", cred_kind_name(m->kind), m->name, role, samples[m->kind]);
    if (!*m->name || strpbrk(m->name, " \t\r\n") || strpbrk(role, " \t\r\n"))
        wrong.why = "a name and a role are one word each";
    else if (cred_parse(line, &c, &wrong) > 0)
        return EXIT_DONE;
    options_complain("credential: %s", wrong.why);
    return EXIT_USAGE;
}

static int take_kind(struct made *m, const char *word)
{
    int kind = cred_kind_of(word);

    if (kind < 0)
        return usage();
    m->kind = (enum cred_kind)kind;
    return EXIT_DONE;
}

/* ---- secrets ---- */

static int make_password(const struct options *o, struct made *m)
{
    char given[LIMIT_HTTP_PASSWORD];
    int r = o->generate ? credential_secret_random(m->shown, PASSWORD_BYTES)
                        : credential_secret_ask(given, sizeof(given));

    if (r == 0)
        r = credential_secret_hash(m->kept, o->generate ? m->shown : given);
    explicit_bzero(given, sizeof(given));
    return r;
}

static int make_secret(const struct options *o, struct made *m)
{
    int r = 0;

    if (m->kind == CRED_BASIC)
        r = make_password(o, m);
    else if (m->kind != CRED_CERT)
        r = credential_secret_random(m->shown, TOKEN_BYTES);
    if (r == 0 && m->kind == CRED_BEARER)
        r = credential_secret_digest(m->kept, m->shown);
    else if (r == 0 && m->kind == CRED_AKSK)
        str_copy(m->kept, sizeof(m->kept), m->shown);
    if (r == 0)
        return EXIT_DONE;
    options_complain("credential: %s",
                     r == -ENODATA
                         ? "a password is read from the standard input, and there is none; or --generate"
                     : r == -E2BIG        ? "the password is too long"
                     : r == -EKEYREJECTED ? "the two passwords differ"
                                          : strerror(-r));
    return EXIT_REFUSED;
}

/* ---- what is told ---- */

static void put_json_word(const char *name, const char *value, const char *end)
{
    printf("\"%s\":\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            putchar('\\');
        putchar(*value);
    }
    printf("\"%s", end);
}

static void put_json(const struct cred *c, const char *shown)
{
    printf("{");
    put_json_word("kind", cred_kind_name(c->kind), ",");
    put_json_word("name", c->name, ",");
    put_json_word("role", cred_role_name(c->manager), *shown ? "," : "");
    if (*shown)
        put_json_word("secret", shown, "");
    printf("}");
}

/* A secret that could not be told is lost: it can only be made anew. */
static int flush(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    options_complain("the standard output can't be written: %s", strerror(errno));
    return EXIT_REFUSED;
}

static int tell(const struct options *o, const struct made *m, const char *done)
{
    const struct cred c = {m->kind, m->manager, m->name, ""};

    if (o->json) {
        put_json(&c, m->shown);
        printf("\n");
    } else if (*m->shown) {
        printf("%s%s%s\n", m->kind == CRED_AKSK ? m->name : "", m->kind == CRED_AKSK ? " " : "", m->shown);
    }
    options_complain("%s %s: %s; in force after `agentctl reload` (or SIGHUP to agentd)",
                     cred_kind_name(m->kind), m->name, done);
    return flush(EXIT_DONE);
}

/* ---- changes ---- */

static int write_made(struct credential_file *f, const struct made *m)
{
    char line[2 * LIMIT_CREDENTIAL_LINE];
    int code;

    snprintf(line, sizeof(line), "%s %s %s%s%s", cred_kind_name(m->kind), m->name, cred_role_name(m->manager),
             *m->kept ? " " : "", m->kept);
    code = credential_file_change(f, m->kind, m->name, line);
    explicit_bzero(line, sizeof(line));
    return code;
}

static int add_made(const struct options *o, const struct made *m)
{
    struct credential_file f;
    int code = credential_file_open(&f, file_of(o), true);

    if (code == EXIT_DONE && credential_file_has(&f, m->kind, m->name)) {
        options_complain("%s: %s %s is there already; rotate makes it a new secret", f.path,
                         cred_kind_name(m->kind), m->name);
        code = EXIT_REFUSED;
    } else if (code == EXIT_DONE && f.count >= LIMIT_CREDENTIALS) {
        options_complain("%s: it has %u credentials, no more are taken", f.path, f.count);
        code = EXIT_REFUSED;
    } else if (code == EXIT_DONE) {
        code = write_made(&f, m);
    }
    credential_file_close(&f);
    return code;
}

/* "add aksk ROLE" makes the access key too. */
static int take_name(const struct options *o, struct made *m)
{
    if (o->count == 5) {
        if (strlen(o->words[3]) >= sizeof(m->name)) {
            options_complain("credential: the name is too long");
            return EXIT_USAGE;
        }
        str_copy(m->name, sizeof(m->name), o->words[3]);
        return EXIT_DONE;
    }
    if (o->count != 4 || m->kind != CRED_AKSK)
        return usage();
    return credential_secret_random(m->name, KEY_BYTES) < 0 ? EXIT_REFUSED : EXIT_DONE;
}

static int add(const struct options *o, struct made *m)
{
    int code;

    if (o->count < 4)
        return usage();
    if ((code = take_kind(m, o->words[2])) != EXIT_DONE || (code = take_name(o, m)) != EXIT_DONE ||
        (code = check_words(m, o->words[o->count - 1])) != EXIT_DONE)
        return code;
    m->manager = str_eq(o->words[o->count - 1], cred_role_name(true));
    if ((code = make_secret(o, m)) != EXIT_DONE || (code = add_made(o, m)) != EXIT_DONE)
        return code;
    return tell(o, m, "added");
}

/* The credential that the command names, with its role; what is not there is told. */
static int find_made(const struct credential_file *f, struct made *m, const char *name)
{
    char line[LIMIT_CREDENTIAL_LINE + 2];
    struct cred c;
    bool found = false;

    for (unsigned i = 0; !found && credential_file_get(f, i, line, &c); i++)
        found = c.kind == m->kind && str_eq(c.name, name);
    if (found) {
        str_copy(m->name, sizeof(m->name), c.name);
        m->manager = c.manager;
    } else {
        options_complain("%s: there is no %s %s", f->path, cred_kind_name(m->kind), name);
    }
    explicit_bzero(line, sizeof(line));
    return found ? EXIT_DONE : EXIT_REFUSED;
}

static int change(const struct options *o, struct made *m, bool rotate)
{
    struct credential_file f;
    int code;

    if (o->count != 4)
        return usage();
    if ((code = take_kind(m, o->words[2])) != EXIT_DONE)
        return code;
    if (rotate && m->kind == CRED_CERT) {
        options_complain("credential: a cert has no secret here");
        return EXIT_USAGE;
    }
    if (rotate && (code = make_secret(o, m)) != EXIT_DONE)
        return code;
    if ((code = credential_file_open(&f, file_of(o), true)) == EXIT_DONE &&
        (code = find_made(&f, m, o->words[3])) == EXIT_DONE)
        code = rotate ? write_made(&f, m) : credential_file_change(&f, m->kind, m->name, NULL);
    credential_file_close(&f);
    return code == EXIT_DONE ? tell(o, m, rotate ? "has a new secret" : "revoked") : code;
}

/* ---- list ---- */

static void list_one(const struct options *o, const struct cred *c, bool first)
{
    char name[4 * LIMIT_CREDENTIAL_SUBJECT + 1];

    if (!o->json) {
        printf("%-6s  %-12s  %s\n", cred_kind_name(c->kind), cred_role_name(c->manager),
               str_escape(name, sizeof(name), c->name));
        return;
    }
    printf("%s", first ? "" : ",");
    put_json(c, "");
}

static int list(const struct options *o)
{
    struct credential_file f;
    char line[LIMIT_CREDENTIAL_LINE + 2];
    struct cred c;
    int code;

    if (o->count != 2)
        return usage();
    if ((code = credential_file_open(&f, file_of(o), false)) == EXIT_DONE) {
        printf("%s", o->json ? "{\"contents\":[" : "KIND    ROLE          NAME\n");
        for (unsigned i = 0; credential_file_get(&f, i, line, &c); i++)
            list_one(o, &c, i == 0);
        printf("%s", o->json ? "]}\n" : "");
        explicit_bzero(line, sizeof(line));
        code = flush(f.wrong ? EXIT_REFUSED : EXIT_DONE);
    }
    credential_file_close(&f);
    return code;
}

int credential_run(const struct options *o)
{
    struct made m = {.kind = CRED_BASIC};
    const char *verb = o->count > 1 ? o->words[1] : "";
    int code;

    if (str_eq(verb, "add"))
        code = add(o, &m);
    else if (str_eq(verb, "revoke") || str_eq(verb, "rotate"))
        code = change(o, &m, str_eq(verb, "rotate"));
    else
        code = str_eq(verb, "list") ? list(o) : usage();
    explicit_bzero(&m, sizeof(m));
    return code;
}
