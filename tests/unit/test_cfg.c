/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration reader on the corpora tests/conf_ok and tests/conf_bad, and what they can't say: trust,
 * name service, hashes, late variables, and mutations of all that is in the corpora. */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/cfg.h"
#include "agentd/cfg_parse.h"
#include "base/fd.h"
#include "base/str.h"

/* --- a temporary folder --- */

static char dir[64]; /* of the running test */

static int make_dir(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/test_cfg.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int remove_dir(void **state)
{
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *path_of(const char *name)
{
    static char path[2][4096];
    static unsigned turn;

    turn ^= 1;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
    return path[turn];
}

static void write_bytes(const char *name, const char *p, size_t n, mode_t mode)
{
    char *path = path_of(name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(fd_write_all(fd, p, n), 0);
}

/* Replaces each from in text. */
static char *replace(const char *text, const char *from, const char *to)
{
    struct buf b = BUF_INIT(1 << 24);

    buf_str(&b, "");
    for (const char *at; (at = strstr(text, from)); text = at + strlen(from)) {
        buf_put(&b, text, (size_t)(at - text));
        buf_str(&b, to);
    }
    buf_str(&b, text);
    assert_int_equal(b.error, 0);
    return b.p;
}

static void write_text(const char *name, const char *text)
{
    _cleanup_free_ char *s = replace(text, "@DIR@", dir);

    write_bytes(name, s, strlen(s), 0600);
}

static char *read_text(const char *path, size_t *len)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = fd_read_all(fd, 1 << 20, &text);
    assert_true(n >= 0);
    if (len)
        *len = (size_t)n;
    return text;
}

#define AGENT                                                                                     \
    "[Agent]\nInstallHome=/opt\nHostInnerIpAddress=192.0.2.1\nWorkersDirectory=@DIR@/workers.d\n" \
    "LogDirectory=@DIR@/log\n[Rpc]\nCredentials=@DIR@/credentials\n"

static void write_agent(void)
{
    write_text("agentd.conf", AGENT);
    assert_int_equal(mkdir(path_of("workers.d"), 0700), 0);
}

/* --- loading --- */

static struct cfg_report report;
static struct cfg *cfg;

static int load(void)
{
    cfg_report_init(&report);
    return cfg_load(path_of("agentd.conf"), &report, &cfg);
}

static void unload(void)
{
    cfg_free(cfg);
    cfg = NULL;
    cfg_report_free(&report);
}

static const char *errors(void)
{
    return report.errors.p ? report.errors.p : "";
}

static void assert_error(const char *part)
{
    if (!strstr(errors(), part))
        fail_msg("no \"%s\" in:\n%s", part, errors());
}

static struct wk_def *worker(const char *alias)
{
    for (unsigned i = 0; cfg && i < cfg->n_workers; i++)
        if (str_eq(cfg->workers[i]->alias, alias))
            return cfg->workers[i];
    fail_msg("no worker %s:\n%s", alias, errors());
    return NULL;
}

static bool is_broken(const char *alias)
{
    for (unsigned i = 0; i < cfg->n_broken; i++)
        if (str_eq(cfg->broken[i], alias))
            return true;
    return false;
}

/* Loads one worker "w" from text. */
static struct wk_def *load_one(const char *text)
{
    write_text("workers.d/w.conf", text);
    assert_int_equal(load(), 0);
    return worker("w");
}

/* --- corpora --- */

static char corpus[4096];

static int copy_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    const char *name = path + strlen(corpus);
    _cleanup_free_ char *text = NULL;
    size_t len;

    while (*name == '/')
        name++;
    if (flag == FTW_D)
        return *name ? mkdir(path_of(name), 0700) : 0;
    text = read_text(path, &len);
    assert_non_null(text);
    if (strlen(text) == len)
        write_text(name, text);
    else
        write_bytes(name, text, len, 0600);
    return 0;
}

static char *outcome(void)
{
    struct buf b = BUF_INIT(1 << 24);
    char *ret;

    if (report.n_errors) {
        buf_str(&b, errors());
    } else {
        buf_str(&b, report.warnings.p ? report.warnings.p : "");
        cfg_dump(cfg, &b);
    }
    assert_int_equal(b.error, 0);
    ret = replace(b.p, dir, "@DIR@");
    buf_free(&b);
    return ret;
}

/* SetCredential=: the dump keeps it to itself. */
static bool keeps_secrets(const struct wk_def *d)
{
    for (unsigned i = 0; i < d->n_secrets; i++)
        if (d->secrets[i].value)
            return true;
    return false;
}

/* What was dumped and read again is the same. */
static void round_trip(void)
{
    struct buf b = BUF_INIT(1 << 24);
    struct cfg_report again;
    struct cfg *other;
    char *second, name[512];

    cfg_dump(cfg, &b);
    assert_int_equal(mkdir(path_of("again"), 0700), 0);
    second = strstr(b.p, "\n# ");
    write_bytes("again.conf", b.p, second ? (size_t)(second - b.p) : b.len, 0600);
    for (unsigned i = 0; i < cfg->n_workers; i++) {
        char *end = strstr(second + 1, "\n# /");
        snprintf(name, sizeof(name), "again/%s.conf", cfg->workers[i]->alias);
        write_bytes(name, second, end ? (size_t)(end - second) : strlen(second), 0600);
        second = end;
    }
    assert_int_equal(mkdir(path_of("again.conf.d"), 0700), 0);
    write_text("again.conf.d/x.conf", "[Agent]\nWorkersDirectory=@DIR@/again\n");
    cfg_report_init(&again);
    if (cfg_load(path_of("again.conf"), &again, &other) < 0 || again.n_errors)
        fail_msg("the dump is not readable:\n%s\n%s", again.errors.p, b.p);
    assert_int_equal(other->n_workers, cfg->n_workers);
    for (unsigned i = 0; i < cfg->n_workers; i++) {
        assert_string_equal(other->workers[i]->alias, cfg->workers[i]->alias);
        if (other->workers[i]->hash_all != cfg->workers[i]->hash_all && !keeps_secrets(cfg->workers[i]))
            fail_msg("%s is another after a round trip:\n%s", cfg->workers[i]->alias, b.p);
    }
    cfg_free(other);
    cfg_report_free(&again);
    buf_free(&b);
}

static void write_expected(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

static void run_case(const char *kind, const char *name)
{
    const char *src = getenv("srcdir");
    _cleanup_free_ char *expected = NULL, *actual = NULL;

    snprintf(corpus, sizeof(corpus), "%s/tests/%s/%s", src ? src : ".", kind, name);
    assert_int_equal(make_dir(NULL), 0);
    assert_int_equal(nftw(corpus, copy_one, 16, FTW_PHYS), 0);
    if (geteuid() != 0 && access(path_of("needs-root"), F_OK) == 0) {
        remove_dir(NULL);
        return;
    }
    load();
    expected = read_text(strncat(corpus, "/expected", sizeof(corpus) - strlen(corpus) - 1), NULL);
    assert_non_null(expected);
    actual = outcome();
    if (getenv("AGENTD_WRITE_EXPECTED")) /* for its author, who reads the difference before it is committed */
        write_expected(corpus, actual);
    else if (!str_eq(expected, actual))
        fail_msg("%s/%s: expected\n%s\nbut got\n%s", kind, name, expected, actual);
    assert_int_equal(report.n_errors > 0, str_eq(kind, "conf_bad"));
    if (report.n_errors == 0)
        round_trip();
    unload();
    remove_dir(NULL);
}

static unsigned run_corpus(const char *kind, void (*run)(const char *kind, const char *name))
{
    const char *src = getenv("srcdir");
    struct dirent *e;
    unsigned n = 0;
    char path[4096];
    DIR *d;

    snprintf(path, sizeof(path), "%s/tests/%s", src ? src : ".", kind);
    assert_non_null(d = opendir(path));
    while ((e = readdir(d)))
        if (*e->d_name != '.') {
            run(kind, e->d_name);
            n++;
        }
    closedir(d);
    return n;
}

static void test_corpus_ok(void **state)
{
    assert_true(run_corpus("conf_ok", run_case) >= 15);
}

static void test_corpus_bad(void **state)
{
    assert_true(run_corpus("conf_bad", run_case) >= 30);
}

/* --- trust --- */

#define TRUE "[Service]\nExecStart=/bin/true\n"

static void test_writable_by_others(void **state)
{
    write_agent();
    write_bytes("workers.d/w.conf", TRUE, strlen(TRUE), 0620);
    write_bytes("workers.d/v.conf", TRUE, strlen(TRUE), 0602);
    write_bytes("workers.d/u.conf", TRUE, strlen(TRUE), 0644);
    assert_int_equal(load(), 0);
    worker("u");
    assert_int_equal(cfg->n_workers, 1);
    assert_true(is_broken("w") && is_broken("v"));
    assert_error("w.conf:1:1: ");
    assert_error("is writable by its group or others (mode 0620)");
    assert_int_equal(report.n_agent_errors, 0);
    unload();
}

static void test_folder_writable_by_others(void **state)
{
    static const struct {
        mode_t mode;
        bool ok;
    } rows[] = {{0755, true}, {0775, false}, {0757, false}, {01777, true}, {0700, true}};

    write_agent();
    write_text("workers.d/w.conf", TRUE);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(chmod(path_of("workers.d"), rows[i].mode), 0);
        assert_int_equal(load(), rows[i].ok ? 0 : -EINVAL);
        if (!rows[i].ok)
            assert_error("agentd.conf:4:18: WorkersDirectory=");
        unload();
    }
}

static void test_links(void **state)
{
    write_agent();
    assert_int_equal(mkdir(path_of("real"), 0700), 0);
    assert_int_equal(mkdir(path_of("open"), 0700), 0);
    write_text("real/t.conf", "[Service]\nExecStart=/bin/sleep %i\n");
    write_text("open/o.conf", TRUE);
    assert_int_equal(chmod(path_of("open"), 0777), 0);
    assert_int_equal(symlink("../real/t.conf", path_of("workers.d/t@1.conf")), 0);
    assert_int_equal(symlink(path_of("real/t.conf"), path_of("workers.d/t@2.conf")), 0);
    assert_int_equal(symlink("../open/o.conf", path_of("workers.d/o.conf")), 0);
    assert_int_equal(symlink("/dev/null", path_of("workers.d/masked.conf")), 0);
    assert_int_equal(symlink("loop.conf", path_of("workers.d/loop.conf")), 0);
    assert_int_equal(symlink("gone.conf", path_of("workers.d/dangling.conf")), 0);
    assert_int_equal(mkdir(path_of("workers.d/folder.conf"), 0700), 0);
    assert_int_equal(mkfifo(path_of("workers.d/fifo.conf"), 0600), 0);
    assert_int_equal(load(), 0);
    assert_string_equal(worker("t@1")->exec.argv[1], "1");
    assert_string_equal(worker("t@2")->exec.argv[1], "2");
    assert_int_equal(cfg->n_workers, 2);
    assert_true(is_broken("o") && is_broken("loop") && is_broken("dangling") && is_broken("folder") &&
                is_broken("fifo"));
    assert_int_equal(cfg->n_broken, 5);
    unload();
}

static void test_owner(void **state)
{
    if (geteuid() != 0)
        skip();
    write_agent();
    write_text("workers.d/w.conf", TRUE);
    write_text("workers.d/l.conf.target", TRUE);
    assert_int_equal(symlink("l.conf.target", path_of("workers.d/l.conf")), 0);
    assert_int_equal(chown(path_of("workers.d/w.conf"), 65533, 0), 0);
    assert_int_equal(lchown(path_of("workers.d/l.conf"), 65533, 0), 0);
    assert_int_equal(load(), 0);
    assert_error("belongs to uid 65533, not to root");
    assert_true(is_broken("w") && is_broken("l"));
    unload();
}

static void test_env_file_trust(void **state)
{
    write_agent();
    write_bytes("w.env", "A=1\n", 4, 0666);
    write_text("workers.d/w.conf", TRUE "EnvironmentFile=@DIR@/w.env\n");
    assert_int_equal(load(), 0);
    assert_error("w.conf:3:17: EnvironmentFile=");
    unload();
}

static void test_credentials_mode(void **state)
{
    static const char line[] = "aksk key HOST_VIEWER sekrit\n";

    write_agent();
    write_bytes("credentials", line, strlen(line), 0640);
    assert_int_equal(load(), -EINVAL);
    assert_error("credentials:1:1: others than its owner may use it (mode 0640); chmod 0600");
    assert_null(strstr(errors(), "sekrit"));
    unload();
    assert_int_equal(chmod(path_of("credentials"), 0400), 0);
    assert_int_equal(load(), 0);
    unload();
}

static void test_agent_file_missing(void **state)
{
    assert_int_equal(load(), -EINVAL);
    assert_null(cfg);
    assert_error("agentd.conf:1:1: ");
    assert_int_equal(report.n_agent_errors, 1);
    unload();
}

/* --- secrets --- */

static void test_secrets_stay(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    struct wk_def *d;

    write_agent();
    write_text("w.env", "PASSWORD=hunter2\n");
    d = load_one("[Service]\nEnvironmentFile=@DIR@/w.env\nExecStart=/bin/echo -p ${PASSWORD} $PASSWORD\n");
    assert_string_equal(d->exec.argv[2], "hunter2");
    assert_string_equal(d->exec.argv[3], "hunter2");
    assert_string_equal(d->env[0], "PASSWORD=hunter2");
    assert_string_equal(d->exec.text, "/bin/echo -p ${PASSWORD} ${PASSWORD}");
    cfg_dump(cfg, &b);
    assert_null(strstr(b.p, "hunter2"));
    buf_free(&b);
    unload();
}

/* --- names --- */

static void test_late_variables(void **state)
{
    struct wk_def *d;

    write_agent();
    d = load_one("[Service]\nExecStart=/bin/echo ${AGENTD_ID} $USER x${HOME} $$HOME\n");
    cfg_resolve(cfg, &report);
    d = worker("w");
    assert_non_null(d->exec.late);
    assert_int_equal(cfg_expand_late(d, 4711), 0);
    assert_string_equal(d->exec.argv[1], "4711");
    assert_string_equal(d->exec.argv[2], d->ids.user);
    assert_int_equal(strncmp(d->exec.argv[3], "x/", 2), 0);
    assert_string_equal(d->exec.argv[4], "$HOME");
    assert_null(d->exec.argv[5]);
    unload();
}

static void test_resolve(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    struct cfg_report first;
    struct cfg *resolved;

    write_agent();
    write_text("workers.d/a.conf", TRUE "WorkingDirectory=~\n");
    write_text("workers.d/b.conf", TRUE "\nUser=no-such-user-here\n");
    write_text("workers.d/c.conf", geteuid() ? TRUE : TRUE "User=nobody\nGroup=0\nSupplementaryGroups=0 1\n");
    assert_int_equal(load(), 0);
    assert_int_equal(report.n_errors, 0);
    cfg_resolve(cfg, &report);
    assert_error("b.conf:4:6: User=no-such-user-here is not known on this host");
    assert_true(is_broken("b"));
    assert_int_equal(cfg->n_workers, 2);
    assert_int_equal(*worker("a")->workdir, '/');
    assert_int_equal(worker("c")->ids.set, geteuid() == 0);
    if (geteuid() == 0) {
        assert_int_equal(worker("c")->ids.gid, 0);
        assert_true(worker("c")->ids.n_groups >= 2);
        assert_int_equal(worker("c")->ids.groups[0], 0);
    }
    cfg_resolved_put(cfg, &report, &b);
    first = report;
    resolved = cfg;

    assert_int_equal(load(), 0); /* as agentd's own, whose helper was the first */
    for (size_t n = 0; n < b.len; n += 3) {
        assert_int_equal(cfg_resolved_get(cfg, &report, b.p, n), -EBADMSG);
        unload();
        assert_int_equal(load(), 0);
    }
    assert_int_equal(cfg_resolved_get(cfg, &report, b.p, b.len), 0);
    assert_int_equal(cfg->n_workers, resolved->n_workers);
    assert_string_equal(errors(), first.errors.p);
    assert_int_equal(report.n_errors, first.n_errors);
    assert_true(is_broken("b"));
    for (unsigned i = 0; i < cfg->n_workers; i++) {
        assert_true(cfg->workers[i]->hash == resolved->workers[i]->hash);
        assert_string_equal(cfg->workers[i]->ids.user, resolved->workers[i]->ids.user);
        assert_string_equal(cfg->workers[i]->workdir, resolved->workers[i]->workdir);
    }
    unload();
    cfg_free(resolved);
    cfg_report_free(&first);
    buf_free(&b);
}

static void test_without_root(void **state)
{
    pid_t pid;
    int status;

    if (geteuid() != 0)
        skip();
    write_agent();
    write_text("workers.d/w.conf", TRUE "User=root\n");
    write_text("workers.d/v.conf", TRUE "User=65533\nGroup=65533\n");
    assert_int_equal(chown(dir, 65533, 65533), 0);
    static const char *const names[] = {"agentd.conf", "workers.d", "workers.d/w.conf", "workers.d/v.conf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(chown(path_of(names[i]), 65533, 65533), 0);
    if ((pid = fork()) == 0) {
        int bad = setgid(65533) < 0 || setuid(65533) < 0 || load() != 0;
        bad = bad || !strstr(errors(), "w.conf:3:6: User=root needs root; agentd runs as uid 65533");
        if (!bad)
            cfg_resolve(cfg, &report);
        _exit(bad || cfg->n_workers != 1 || cfg->workers[0]->ids.set ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- hashes --- */

static void test_hash(void **state)
{
    static const struct {
        const char *text;
        bool restart, all; /* differs from the first */
    } rows[] = {
        {TRUE, false, false},
        {"# a comment\n" TRUE, false, false},
        {TRUE "Restart=no\n", false, true},
        {TRUE "[Worker]\nOperable=no\n", false, true},
        {TRUE "[Unit]\nDescription=x\n", false, true},
        {TRUE "Environment=A=1\n", true, true},
        {TRUE "LimitNOFILE=5\n", false, true},
        {TRUE "Nice=0\n", false, true},
        {TRUE "UMask=0077\n", true, true},
        {TRUE "Type=exec\n", true, true},
        {TRUE "User=0\n", true, true},
        {TRUE "StandardError=null\n", true, true},
        {TRUE "CapabilityBoundingSet=\n", true, true},
        {"[Service]\nExecStart=/bin/true x\n", true, true},
    };
    uint64_t hash = 0, all = 0;

    write_agent();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (geteuid() != 0 && strstr(rows[i].text, "User="))
            continue;
        struct wk_def *d = load_one(rows[i].text);
        if (i == 0) {
            hash = d->hash;
            all = d->hash_all;
        }
        if ((d->hash != hash) != rows[i].restart || (d->hash_all != all) != rows[i].all)
            fail_msg("row %zu", i);
        unload();
    }
}

/* --- mutations --- */

static uint64_t seed;

static unsigned rnd(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static size_t mutate(char *p, size_t len, size_t max)
{
    static const char *const bits[] = {
        "\\", "\"",   "%",        "${", "$$",   "\n",         "=",      "[",      "\n[Service]\n",        ":",
        "~",  "\\\n", "infinity", "@",  "\xff", "ExecStart=", "Alias=", "Id=9\n", "99999999999999999999", "-",
        ";",  "'",    "%i%I",     "\\x"};

    for (unsigned n = 1 + rnd(4); n > 0; n--) {
        size_t at = len ? rnd((unsigned)len) : 0, cut = len ? rnd((unsigned)(len - at) % 40 + 1) : 0;
        const char *bit = bits[rnd(ARRAY_LEN(bits))];
        size_t m = strlen(bit);
        switch (rnd(4)) {
        case 0:
            if (len)
                p[at] = (char)rnd(256);
            break;
        case 1:
            memmove(p + at, p + at + cut, len - at - cut);
            len -= cut;
            break;
        case 2:
            if (len + cut < max) {
                memmove(p + at + cut, p + at, len - at);
                len += cut;
            }
            break;
        default:
            if (len + m < max) {
                memmove(p + at + m, p + at, len - at);
                memcpy(p + at, bit, m);
                len += m;
            }
        }
    }
    return len;
}

/* Mutates one file of the case a few times; whatever it says, cfg_load answers. */
static void mutate_file(const char *name, unsigned rounds)
{
    char *path = strdup(path_of(name)), *p = malloc(65536);
    size_t len;
    _cleanup_free_ char *text = read_text(path, &len);

    assert_true(path && p);
    for (unsigned i = 0; text && len < 32768 && i < rounds; i++) {
        memcpy(p, text, len);
        size_t n = mutate(p, len, 65536);
        write_bytes(name, p, n, 0600);
        int r = load();
        assert_true(r == 0 || r == -EINVAL);
        assert_int_equal(r == 0, cfg != NULL);
        assert_int_equal(r == 0, report.n_agent_errors == 0);
        if (cfg) {
            struct buf b = BUF_INIT(1 << 24);
            cfg_dump(cfg, &b);
            for (unsigned k = 0; k < cfg->n_workers; k++)
                assert_true(cfg->workers[k]->exec.argv && cfg->workers[k]->env && cfg->workers[k]->exec.text);
            buf_free(&b);
        }
        unload();
    }
    if (text)
        write_bytes(name, text, len, 0600);
    free(path);
    free(p);
}

static void mutate_case(const char *kind, const char *name)
{
    const char *src = getenv("srcdir");
    struct dirent *e;
    char file[512];
    DIR *d;

    snprintf(corpus, sizeof(corpus), "%s/tests/%s/%s", src ? src : ".", kind, name);
    assert_int_equal(make_dir(NULL), 0);
    assert_int_equal(nftw(corpus, copy_one, 16, FTW_PHYS), 0);
    mutate_file("agentd.conf", 15);
    if (access(path_of("credentials"), F_OK) == 0)
        mutate_file("credentials", 20);
    if (access(path_of("one.env"), F_OK) == 0)
        mutate_file("one.env", 100);
    assert_non_null(d = opendir(path_of("workers.d")));
    while ((e = readdir(d)))
        if (e->d_type == DT_REG && *e->d_name != '.') {
            snprintf(file, sizeof(file), "workers.d/%s", e->d_name);
            mutate_file(file, 30);
        }
    closedir(d);
    remove_dir(NULL);
}

static void test_mutations(void **state)
{
    const char *given = getenv("TEST_SEED");

    seed = given ? strtoull(given, NULL, 0) | 1 : 0x9e3779b97f4a7c15ull;
    run_corpus("conf_ok", mutate_case);
    run_corpus("conf_bad", mutate_case);
}

/* --- how it fails when there is too much --- */

static void test_error_limit(void **state)
{
    struct buf b = BUF_INIT(1 << 20);

    write_agent();
    buf_str(&b, TRUE);
    for (unsigned i = 0; i < 5 * LIMIT_CONFIG_ERRORS; i++)
        buf_str(&b, "Nonsense=1\n");
    write_bytes("workers.d/w.conf", b.p, b.len, 0600);
    assert_int_equal(load(), 0);
    assert_int_equal(report.n_errors, 5 * LIMIT_CONFIG_ERRORS);
    unsigned lines = 0;
    for (const char *p = errors(); (p = strchr(p, '\n')); p++)
        lines++;
    assert_int_equal(lines, LIMIT_CONFIG_ERRORS);
    unload();
    buf_free(&b);
}

static void test_file_too_large(void **state)
{
    static char p[LIMIT_CONFIG_FILE + 1];

    write_agent();
    memset(p, '\n', sizeof(p));
    write_bytes("workers.d/w.conf", p, sizeof(p), 0600);
    assert_int_equal(load(), 0);
    assert_error("w.conf:1:1: larger than 262144 bytes");
    unload();
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    umask(022);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_ok),
        cmocka_unit_test(test_corpus_bad),
        IN_DIR(test_writable_by_others),
        IN_DIR(test_folder_writable_by_others),
        IN_DIR(test_links),
        IN_DIR(test_owner),
        IN_DIR(test_env_file_trust),
        IN_DIR(test_credentials_mode),
        IN_DIR(test_agent_file_missing),
        IN_DIR(test_secrets_stay),
        IN_DIR(test_late_variables),
        IN_DIR(test_resolve),
        IN_DIR(test_without_root),
        IN_DIR(test_hash),
        IN_DIR(test_error_limit),
        IN_DIR(test_file_too_large),
        cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests_name("cfg", tests, NULL, NULL);
}
