/* SPDX-License-Identifier: Apache-2.0 */
/* Searches in logs, on files: which are read, and what of them while they are rotated. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "agentd/logs_chain.h"
#include "agentd/logs_plan.h"
#include "agentd/logs_read.h"
#include "agentd/logs_work.h"
#include "agentd/rotate_cut.h"
#include "base/fd.h"
#include "base/str.h"

/* --- files ------------------------------------------------------------------------------------------------
 */

static char dir[64];
static char pattern[80];
static struct wk_def def = {
    .alias = (char *)"web", .log_pattern = pattern, .out.kind = CFG_OUT_NULL, .err.kind = CFG_OUT_NULL};
static struct logs_source source;

static int make_dir(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/agentd-logs.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[80];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    free(source.parts);
    free(source.beyond);
    source = (struct logs_source){.def = &def};
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[400];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *p, size_t n)
{
    _cleanup_close_ int fd = open(path_of(name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && fd_write_all(fd, p, n) == 0);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/* The file as agentd leaves it behind a cut: of the bytes ever written the first gone are no more there. */
static void cut(const char *name, uint64_t gone, const char *rest)
{
    char head[ROTATE_MARK];

    rotate_cut_encode(&(struct rotate_mark){ROTATE_FILLER, gone - ROTATE_MARK, 0, ROTATE_MARK, 0}, head);
    head[ROTATE_MARK - 1] = '\n';
    assert_int_equal(truncate(path_of(name), 0), 0);
    put(name, head, sizeof(head));
    put_text(name, rest);
}

/* As a plan has it that was made now. */
static struct logs_source *listed(const char *name, bool live)
{
    struct stat st;

    source = (struct logs_source){.def = &def, .live = live};
    snprintf(source.folder, sizeof(source.folder), "%s/", dir);
    str_copy(source.name, sizeof(source.name), name);
    assert_int_equal(stat(path_of(name), &st), 0);
    source.file = logs_plan_file(AT_FDCWD, path_of(name), &st);
    return &source;
}

/* --- rotation ---------------------------------------------------------------------------------------------
 */

#define LOST 1000 /* bytes that were cut off, and of which nothing is left */

static int open_at(struct logs_read *r, const struct logs_source *s, bool may_skip)
{
    char why[200];

    *r = (struct logs_read){.may_skip = may_skip, .file = {.fd = -1}};
    return logs_read_open(r, s, 0, why, sizeof(why));
}

/* What has gone from the beginning of it is told, or skipped by who may; "last" is what is left. */
static void expect_lost(const struct logs_source *s)
{
    struct logs_read r;
    char buf[64];

    assert_int_equal(open_at(&r, s, false), -ESTALE);
    logs_read_close(&r);
    assert_int_equal(open_at(&r, s, true), 0);
    assert_true(r.at == LOST);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 5);
    logs_read_close(&r);
}

/* A file that is cut for the first time loses nothing silently: it is listed anew. */
static void test_first_cut(void **state)
{
    struct logs_source *s;
    struct logs_read r;
    char buf[64];

    put_text("a.log", "first\n");
    s = listed("a.log", true);
    assert_int_equal(open_at(&r, s, false), 0);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 6);
    cut("a.log", LOST, "last\n");
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), -ESTALE);
    logs_read_close(&r);
    expect_lost(s);
    s = listed("a.log", false); /* renamed by others: its head tells of what is not looked for */
    assert_int_equal(open_at(&r, s, false), 0);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 5);
    logs_read_close(&r);
}

static void on_alarm(int sig)
{
}

/* While it is being cut its places are not known: the search waits, and an alarm ends it, or tells here. */
static void test_held(void **state)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = INT64_C(1) << 62, .l_len = 1};
    static const struct itimerval often = {{.tv_usec = 20000}, {.tv_usec = 20000}}, never;
    struct logs_source *s;
    int fd;

    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    s = listed("a.log", true);
    fd = open(path_of("a.log"), O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
    assert_int_equal(sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm}, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    assert_int_equal(logs_chain_find(s), -EINTR);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_false(s->cut);
    close(fd);
    assert_int_equal(logs_chain_find(s), 1);
    assert_true(s->cut);
}

static void pack(const char *name, const char *text)
{
    gzFile f = gzopen(path_of(name), "ab");

    assert_true(f && gzwrite(f, text, (unsigned)strlen(text)) == (int)strlen(text));
    assert_int_equal(gzclose(f), Z_OK);
}

/* What is packed tells a length that is less than its own, as one of more than 4 GiB does: that is told. */
static void test_too_long_to_tell(void **state)
{
    struct logs_source *s;
    struct logs_read r;
    char buf[64];

    pack("a.log.1.gz", "of a first member\n");
    pack("a.log.1.gz", "second\n");
    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    s = listed("a.log", true);
    assert_int_equal(logs_chain_find(s), 1);
    assert_true(s->n_parts == 1 && s->parts[0].size == 7);
    assert_int_equal(open_at(&r, s, false), 0);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 7);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), -EOVERFLOW);
    logs_read_close(&r);
    free(s->parts);
    unlink(path_of("a.log.1.gz"));
    pack("a.log.1.gz", "second\n");
    s = listed("a.log", true);
    assert_int_equal(logs_chain_find(s), 1);
    assert_int_equal(open_at(&r, s, false), 0);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 7);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 5);
    logs_read_close(&r);
}

static void put_line_of(const char *name, size_t n)
{
    char text[LOST + 1];

    memset(text, 'x', n);
    text[n - 1] = '\n';
    text[n] = 0;
    put_text(name, text);
}

/* A copy that has no number yet stands between the newest of those that have one and what is left. */
static void test_copied(void **state)
{
    struct logs_source *s;
    struct logs_read r;
    char buf[2 * LOST];
    size_t n = 0;
    ssize_t got;

    put_line_of("a.log.1", 600);
    put_line_of("a.log.rotated", 400);
    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    s = listed("a.log", true);
    assert_int_equal(logs_chain_find(s), 1);
    assert_true(s->n_parts == 1 && s->parts[0].start == 0 && s->parts[0].size == 600);
    assert_int_equal(open_at(&r, s, false), 0);
    while ((got = logs_read(&r, buf + n, sizeof(buf) - n)) > 0)
        n += (size_t)got;
    assert_int_equal(n, LOST + 5);
    assert_true(buf[599] == '\n' && buf[998] == 'x' && memcmp(buf + LOST, "last\n", 5) == 0);
    logs_read_close(&r);
}

/* A part that is another file by now, or has another length, is none: what it is has to be found out anew. */
static void test_part_changed(void **state)
{
    struct logs_source *s;

    put_line_of("a.log.1", LOST);
    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    s = listed("a.log", true);
    assert_int_equal(logs_chain_find(s), 1);
    put_text("a.log.1", "more\n");
    expect_lost(s);
}

static void expect_planned(struct logs_query *q, unsigned n, const char *const *names)
{
    static const bool is_alias[LIMIT_LOG_TYPES] = {true};
    const struct wk_def *const defs[] = {&def};
    struct logs_plan p;

    snprintf(pattern, sizeof(pattern), "%s/*.log", dir);
    assert_int_equal(logs_plan_make(&(struct logs_wanted){defs, 1, q, is_alias}, &p), 0);
    for (unsigned i = 0; i < n && i < p.n; i++)
        assert_string_equal(p.v[i]->name, names[i]);
    assert_int_equal(p.n, n);
    logs_plan_free(&p);
}

/* Of the numbered files only those are a part of it that agentd can have cut off. */
static void test_numbers_of_others(void **state)
{
    static const char *const names[] = {"a.log.3", "a.log.2", "a.log"};
    static struct logs_query q;
    char text[] = "tweb";

    assert_int_equal(logs_match_read(text, &q), 0);
    put_line_of("a.log.1", LOST - 1);
    put_text("a.log.2", "of another's rotation\n");
    put_text("a.log.3", "\n"); /* would fit, but is behind one that does not */
    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    expect_planned(&q, 3, names);
}

/* While a file is being compressed it is there twice. */
static void test_twice_there(void **state)
{
    static const char *const names[] = {"a.log.2.gz", "a.log.1", "a.log", "b.log.gz"};
    static struct logs_query q;
    char text[] = "tweb";

    assert_int_equal(logs_match_read(text, &q), 0);
    pack("a.log.2.gz", "older\n");
    pack("a.log.1.gz", "old\n");
    put_text("a.log.1", "old\n");
    put_text("a.log", "new\n");
    pack("b.log.gz", "other\n");
    expect_planned(&q, 4, names);
}

/* --- a user's part of a search ----------------------------------------------------------------------------
 */

#define LINES 2000 /* of which an answer is made that fits into no pipe */

/* Of all of web's files. Its pid; out: where its answer comes from. */
static pid_t begin_part(struct logs_result *r, int *out)
{
    static struct logs_query query;
    static const bool is_alias[LIMIT_LOG_TYPES] = {true};
    const struct wk_def *const defs[] = {&def};
    struct logs_wanted wanted = {.defs = defs, .n = 1, .query = &query, .is_alias = is_alias};
    struct logs_work w = {.query = &query, .result = r};
    char text[] = "tweb\nn10000\n";
    int fds[2];
    pid_t pid;

    assert_int_equal(logs_match_read(text, &query), 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    if ((pid = fork()) == 0) {
        close(fds[0]);
        w.out = fds[1];
        logs_work_run(&w, &wanted);
        _exit(0);
    }
    close(fds[1]);
    *out = fds[0];
    return pid;
}

static struct logs_result *share_result(void)
{
    return mmap(NULL, LOGS_RESULT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Its answer's length. */
static size_t finish_part(pid_t pid, int out)
{
    char answer[4096];
    size_t all = 0;
    ssize_t n;
    int status;

    while ((n = read(out, answer, sizeof(answer))) > 0)
        all += (size_t)n;
    close(out);
    assert_true(waitpid(pid, &status, 0) == pid && status == 0);
    return all;
}

/* Nothing of it is right, so nothing is sent. */
static void test_nothing_wrong_is_sent(void **state)
{
    struct logs_result *r = share_result();
    int out;
    pid_t pid;

    pack("a.log.1.gz", "one\ntwo\nthree\n");
    pack("a.log.1.gz", "second\nthird\n");
    put_text("a.log", "");
    cut("a.log", LOST, "last\n");
    put_text("b.log", "fine\n");
    snprintf(pattern, sizeof(pattern), "%s/*.log", dir);
    pid = begin_part(r, &out);
    assert_int_equal(finish_part(pid, out), 0);
    assert_true(!r->head_sent && r->error == EIO && str_starts(r->message, "a.log: "));
    munmap(r, LOGS_RESULT_SIZE);
}

/* When a file has gone meanwhile the others are listed anew, and when that fails it is told: the rest of them
 * is not left out without a word. */
static void test_second_plan_fails(void **state)
{
    struct logs_result *r = share_result();
    char line[1002], name[32];
    int out;
    pid_t pid;

    memset(line, 'x', sizeof(line));
    line[1000] = '\n';
    line[1001] = 0;
    for (int i = 0; i < LINES; i++)
        put_text("a.log", line);
    put_text("b.log", "gone\n");
    snprintf(pattern, sizeof(pattern), "%s/*.log", dir);
    pid = begin_part(r, &out);
    assert_int_equal(read(out, name, sizeof(name)), sizeof(name)); /* a.log is being read */
    unlink(path_of("b.log"));
    for (int i = 0; i <= LIMIT_LOG_SOURCES; i++) {
        snprintf(name, sizeof(name), "c%d.log", i);
        put_text(name, "");
    }
    finish_part(pid, out);
    assert_true(r->head_sent && r->error == E2BIG && str_starts(r->message, "logType: "));
    munmap(r, LOGS_RESULT_SIZE);
}

int main(void)
{
#define ON_FILES(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        ON_FILES(test_first_cut),         ON_FILES(test_held),
        ON_FILES(test_too_long_to_tell),  ON_FILES(test_copied),
        ON_FILES(test_part_changed),      ON_FILES(test_numbers_of_others),
        ON_FILES(test_twice_there),       ON_FILES(test_nothing_wrong_is_sent),
        ON_FILES(test_second_plan_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
