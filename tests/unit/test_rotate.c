/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation: marks, ranges and names; and the helper's work on the file systems that are here, killed at each
 * of its system calls, with what a worker's user can put in its way. */
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
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/helper.h"
#include "agentd/rotate_cut.h"
#include "agentd/rotate_gz.h"
#include "agentd/rotate_head.h"
#include "agentd/rotate_work.h"
#include "base/fd.h"
#include "base/str.h"

#define LINE 100
#define LIMIT 65536
#define FILES 20

/* --- pure -------------------------------------------------------------------------------------------------
 */

static void test_marks(void **state)
{
    const struct rotate_mark marks[] = {{ROTATE_FILLER, 0, 0, 256, 0},
                                        {ROTATE_FILLER, UINT64_C(1) << 60, 0, 4351, 0},
                                        {ROTATE_COLLAPSING, 12345, UINT64_C(10) << 20, 300, 0},
                                        {ROTATE_PUNCHING, UINT64_MAX, UINT64_MAX, LIMIT_LOG_FILL, 4351}};
    char text[ROTATE_MARK];

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        struct rotate_mark m;
        rotate_cut_encode(&marks[i], text);
        for (size_t at = 0; at < sizeof(text); at++)
            assert_true(text[at] == ' ' || text[at] == '\t');
        m = rotate_cut_decode(text, sizeof(text));
        assert_int_equal(m.kind, marks[i].kind);
        assert_true(m.shift == marks[i].shift && m.cut == marks[i].cut);
        assert_true(m.fill == marks[i].fill && m.old_fill == marks[i].old_fill);
        assert_int_equal(rotate_cut_decode(text, sizeof(text) - 1).kind, ROTATE_PLAIN);
        text[7] = text[7] == ' ' ? '\t' : ' ';
        assert_int_equal(rotate_cut_decode(text, sizeof(text)).kind, ROTATE_PLAIN);
    }
    memset(text, ' ', sizeof(text));
    assert_int_equal(rotate_cut_decode(text, sizeof(text)).kind, ROTATE_PLAIN);
}

static void test_plans(void **state)
{
    struct rotate_plan p;
    char text[ROTATE_MARK];

    assert_true(rotate_cut_plan(0, 0, 100000, 4096, &p));
    assert_true(p.from == 0 && p.to == 100000 && p.cut == 98304 && p.fill == 1696);
    /* the end of a block: room for a mark all the same */
    assert_true(rotate_cut_plan(0, 0, 98304 + 10, 4096, &p));
    assert_true(p.cut == 94208 && p.fill == 4106);
    /* behind a hole and a filler */
    assert_true(rotate_cut_plan(8192, 8500, 20000, 4096, &p));
    assert_true(p.from == 8500 && p.cut == 16384 && p.fill == 3616);
    assert_false(rotate_cut_plan(0, 0, 4096, 4096, &p));
    assert_false(rotate_cut_plan(0, 0, 10, 4096, &p));
    assert_false(rotate_cut_plan(8192, 8500, 12287, 4096, &p));
    assert_false(rotate_cut_plan(0, 5000, 4000, 4096, &p));
    assert_false(rotate_cut_plan(0, 0, 100000, 0, &p));
    rotate_cut_encode(&(struct rotate_mark){ROTATE_FILLER, 0, 0, LIMIT_LOG_FILL + 1, 0}, text);
    assert_int_equal(rotate_cut_decode(text, sizeof(text)).kind,
                     ROTATE_PLAIN); /* nobody takes that much memory */
    /* whatever the numbers are, the mark fits before the cut and the filler is none too short */
    for (uint64_t to = 0; to < 40000; to += 37)
        for (uint64_t fill = 0; fill < 5000; fill += 256)
            if (rotate_cut_plan(4096, 4096 + fill, to, 4096, &p)) {
                assert_true(p.cut % 4096 == 0 && p.cut >= 4096 + ROTATE_MARK && p.cut > 4096 + fill);
                assert_true(p.fill >= ROTATE_MARK && p.cut + p.fill == to && p.from == 4096 + fill);
            }
}

static void test_names(void **state)
{
    char name[256], longest[256];

    assert_true(rotate_cut_name("a.log", ROTATE_OLD, 12, name, sizeof(name)));
    assert_string_equal(name, "a.log.12");
    assert_true(rotate_cut_name("a.log", ROTATE_OLD_GZ, 2, name, sizeof(name)));
    assert_string_equal(name, "a.log.2.gz");
    memset(longest, 'a', 253);
    longest[253] = 0;
    assert_true(rotate_cut_name(longest, ROTATE_OLD, 1, name, sizeof(name)));
    assert_false(rotate_cut_name(longest, ROTATE_OLD, 10, name, sizeof(name)));
    assert_false(rotate_cut_name(longest, ROTATE_COPYING, 0, name, sizeof(name)));
}

/* --- the work ---------------------------------------------------------------------------------------------
 */

static char dir[64], path[128];
static struct cfg_output_to to = {.kind = CFG_OUT_APPEND, .path = path};
static struct cfg_ids ids;
static struct rotate_job job = {.to = &to, .ids = &ids, .limit = LIMIT, .max_files = FILES};
static unsigned next_line;

static char *name_of(const char *suffix)
{
    static char name[2][192];
    static int which;

    which = !which;
    snprintf(name[which], sizeof(name[which]), "%s%s", path, suffix);
    return name[which];
}

static void make_dir(const char *where)
{
    snprintf(dir, sizeof(dir), "%s/test_rotate.XXXXXX", where);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/w.log", dir);
    next_line = 0;
}

static void remove_dir(void)
{
    char command[32][192];
    unsigned n = 0;

    snprintf(command[n++], sizeof(command[0]), "%s", path);
    snprintf(command[n++], sizeof(command[0]), "%s.rotating", path);
    snprintf(command[n++], sizeof(command[0]), "%s.rotated", path);
    snprintf(command[n++], sizeof(command[0]), "%s.packing", path);
    for (unsigned i = 0; i < n; i++)
        unlink(command[i]);
    for (unsigned i = 1; i <= FILES + 2; i++) {
        snprintf(command[0], sizeof(command[0]), "%s.%u", path, i);
        unlink(command[0]);
        snprintf(command[0], sizeof(command[0]), "%s.%u.gz", path, i);
        unlink(command[0]);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void write_lines(unsigned n)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    char line[LINE + 1];

    assert_true(fd >= 0);
    for (unsigned i = 0; i < n; i++) {
        snprintf(line, sizeof(line), "%010u %*s\n", next_line++, LINE - 12, "x");
        assert_int_equal(write(fd, line, LINE), LINE);
    }
    close(fd);
}

/* The lines of one file have to be those from *next on. */
static void expect_lines(const char *file, unsigned *next)
{
    FILE *f = fopen(file, "re");
    char line[8192];

    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        const char *p = line;
        while (*p == ' ' || *p == '\t')
            p++;
        if (*p == '\n')
            continue;
        if (strtoul(line, NULL, 10) != *next || strlen(line) != LINE)
            fail_msg("%s has \"%.40s\" where line %u was expected", file, line, *next);
        ++*next;
    }
    fclose(f);
}

/* Holes are read as nothing. */
static void copy_without_hole(const char *from, const char *file)
{
    int in = open(from, O_RDONLY | O_CLOEXEC),
        out = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    off_t at = lseek(in, 0, SEEK_DATA);
    char piece[65536];
    ssize_t n;

    while (at >= 0 && (n = pread(in, piece, sizeof(piece), at)) > 0) {
        assert_int_equal(write(out, piece, (size_t)n), n);
        at += n;
    }
    close(in);
    close(out);
}

static void expect_all(void)
{
    unsigned next = 0;
    struct stat st;
    char suffix[16];

    assert_int_equal(stat(name_of(".rotating"), &st), -1);
    assert_int_equal(stat(name_of(".rotated"), &st), -1);
    for (unsigned i = FILES + 1; i > 0; i--) {
        snprintf(suffix, sizeof(suffix), ".%u", i);
        if (stat(name_of(suffix), &st) == 0)
            expect_lines(name_of(suffix), &next);
    }
    copy_without_hole(path, name_of(".packing"));
    expect_lines(name_of(".packing"), &next);
    unlink(name_of(".packing"));
    assert_int_equal(next, next_line);
}

static int child_of_helper(int out)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    dup2(null, HELPER_KEPT);
    return rotate_work_run(out, &job);
}

/* Runs the helper; kill_at > 0: it is killed at that stop before or after a system call. True: it lived. */
static bool run(unsigned kill_at, struct rotate_report *report)
{
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        int out = fcntl(fds[1], F_DUPFD_CLOEXEC, 20);
        if (kill_at) {
            ptrace(PTRACE_TRACEME, 0, NULL, NULL);
            raise(SIGSTOP);
        }
        _exit(child_of_helper(out));
    }
    close(fds[1]);
    for (unsigned stops = 0;; stops++) {
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            break;
        if (stops && stops == kill_at)
            kill(pid, SIGKILL);
        else
            ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    }
    memset(report, 0, sizeof(*report));
    (void)!read(fds[0], report, sizeof(*report));
    close(fds[0]);
    return WIFEXITED(status);
}

static bool is_there(const char *where)
{
    return access(where, W_OK) == 0;
}

/* A first and a second cut, so that there is a filler to go and files to move. */
static void killed_everywhere(const char *where)
{
    struct rotate_report report;
    unsigned kill_at = 1;
    bool lived = false;

    job.max_files = FILES;
    for (; !lived; kill_at++) {
        make_dir(where);
        write_lines(1000);
        assert_true(run(0, &report));
        assert_int_equal(report.error, 0);
        assert_int_equal(report.cuts, 1);
        write_lines(1000);
        lived = run(kill_at, &report);
        write_lines(7);
        assert_true(run(0, &report));
        if (report.error)
            fail_msg("killed at %u: %s", kill_at, report.why);
        write_lines(7);
        expect_all();
        remove_dir();
    }
    assert_true(kill_at > 50);
}

static void test_killed_on_disk(void **state)
{
    if (!is_there("/var/tmp"))
        skip();
    killed_everywhere("/var/tmp");
}

static void test_killed_in_memory(void **state)
{
    if (!is_there("/dev/shm"))
        skip();
    killed_everywhere("/dev/shm");
}

static void test_reports_what_has_gone(void **state)
{
    struct rotate_report report;
    struct rotate_head h;
    uint64_t gone = 0;
    int fd;

    make_dir("/tmp");
    job.ring = mmap(NULL, sizeof(*job.ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(job.ring, MAP_FAILED);
    for (int i = 0; i < 3; i++) {
        write_lines(1000);
        assert_true(run(0, &report));
        assert_int_equal(report.cuts, 1);
        for (unsigned k = 0; k < job.ring->n; k++) {
            assert_true(job.ring->gone[k].shift == gone);
            assert_true(job.ring->gone[k].at_us != ROTATE_GOING);
        }
        job.ring->n = 0;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(rotate_head_read(fd, &h), 0);
        close(fd);
        assert_true(h.shift == 0 || h.shift > gone); /* 0: it was punched */
        gone = h.shift;
    }
    munmap(job.ring, sizeof(*job.ring));
    job.ring = NULL;
    assert_true(h.base + h.shift == 3000 * LINE); /* where the next line comes, counted from the first */
    assert_int_equal(h.size, h.base);
    expect_all();
    remove_dir();
}

static void test_oldest_go(void **state)
{
    struct rotate_report report;
    struct stat st;

    make_dir("/tmp");
    job.max_files = 3;
    for (int i = 0; i < 6; i++) {
        write_lines(1000);
        assert_true(run(0, &report));
        assert_int_equal(report.error, 0);
    }
    assert_int_equal(stat(name_of(".3"), &st), 0);
    assert_int_equal(stat(name_of(".4"), &st), -1);
    job.max_files = 2; /* a reload */
    write_lines(1000);
    assert_true(run(0, &report));
    assert_int_equal(stat(name_of(".2"), &st), 0);
    assert_int_equal(stat(name_of(".3"), &st), -1);
    job.max_files = FILES;
    remove_dir();
}

static void test_lines_without_end(void **state)
{
    struct rotate_report report;
    struct stat st;
    int fd;

    make_dir("/tmp");
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    for (int i = 0; i < 30; i++) /* no newline: it is cut where it ends, after all patience */
        assert_int_equal(write(fd, "0123456789abcdef0123456789abcdef", 32), 32);
    for (int i = 0; i < 2 * LIMIT_LOG_LINE; i += 4096) {
        char piece[4096];
        memset(piece, 'y', sizeof(piece));
        assert_int_equal(write(fd, piece, sizeof(piece)), sizeof(piece));
    }
    close(fd);
    assert_true(run(0, &report));
    assert_int_equal(report.error, 0);
    assert_int_equal(stat(name_of(".1"), &st), 0);
    assert_int_equal(st.st_size, 960 + 2 * LIMIT_LOG_LINE);
    remove_dir();
}

/* --- what is in the way
 * ------------------------------------------------------------------------------------- */

static void refused(const char *what)
{
    struct rotate_report report;

    assert_true(run(0, &report));
    if (!report.error || !strstr(report.why, what) || !strstr(report.why, "w.log"))
        fail_msg("%d \"%s\" does not say \"%s\"", report.error, report.why, what);
    assert_int_equal(report.cuts, 0);
}

static void test_planted(void **state)
{
    const char *suffixes[] = {".1", ".rotating", ".rotated"};
    char other[192];
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        make_dir("/tmp");
        snprintf(other, sizeof(other), "%s/other", dir);
        close(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        write_lines(1000);
        /* a folder is removed by nobody */
        assert_int_equal(mkdir(name_of(suffixes[i]), 0700), 0);
        refused(suffixes[i]);
        assert_int_equal(rmdir(name_of(suffixes[i])), 0);
        if (i != 1) { /* a leftover copy, whatever it is, goes: its name only */
            assert_int_equal(symlink(other, name_of(suffixes[i])), 0);
            refused("not a regular file");
            unlink(name_of(suffixes[i]));
            assert_int_equal(link(other, name_of(suffixes[i])), 0);
            refused("not a regular file");
            unlink(name_of(suffixes[i]));
            assert_int_equal(mkfifo(name_of(suffixes[i]), 0600), 0);
            refused("not a regular file");
            unlink(name_of(suffixes[i]));
        } else {
            struct rotate_report report;
            assert_int_equal(symlink(other, name_of(suffixes[i])), 0);
            assert_true(run(0, &report));
            assert_int_equal(report.error, 0);
        }
        assert_int_equal(stat(other, &st), 0);
        assert_int_equal(st.st_size, 0);
        unlink(other);
        remove_dir();
    }
}

static void test_live_file_planted(void **state)
{
    char other[192];

    make_dir("/tmp");
    snprintf(other, sizeof(other), "%s/other", dir);
    write_lines(1000);
    assert_int_equal(link(path, other), 0);
    refused("with one name");
    unlink(path);
    assert_int_equal(symlink(other, path), 0);
    refused("a symbolic link");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused("not a regular file");
    unlink(path);
    refused("No such file");
    unlink(other);
    remove_dir();
}

/* With more rights than the worker has: not on a path that others can turn elsewhere. */
static void test_folder_of_others(void **state)
{
    make_dir("/tmp");
    write_lines(1000);
    assert_int_equal(chmod(dir, 0777), 0);
    refused("writable by its group or others");
    remove_dir();
}

static void test_locked(void **state)
{
    struct rotate_report report;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = INT64_C(1) << 62, .l_len = 1};
    int fd;

    make_dir("/tmp");
    write_lines(1000);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
    refused("keeps it locked");
    close(fd);
    assert_true(run(0, &report));
    assert_int_equal(report.cuts, 1);
    expect_all();
    remove_dir();
}

/* Somebody writes marks of his own, and takes the copy away. */
static void test_false_marks(void **state)
{
    const struct rotate_mark marks[] = {{ROTATE_COLLAPSING, 0, 1 << 30, 300, 0},
                                        {ROTATE_COLLAPSING, 0, 0, 300, 0},
                                        {ROTATE_PUNCHING, 0, 65536, UINT32_MAX, 0},
                                        {ROTATE_FILLER, UINT64_MAX, 0, UINT32_MAX, 0}};
    char text[ROTATE_MARK];
    struct rotate_report report;
    struct stat st;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        make_dir("/tmp");
        write_lines(1000);
        rotate_cut_encode(&marks[i], text);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, text, sizeof(text), 0), sizeof(text));
        close(fd);
        assert_true(run(0, &report));
        assert_int_equal(report.error, 0);
        assert_int_equal(stat(name_of(".1"), &st), 0);
        assert_int_equal(st.st_size, 1000 * LINE); /* taken for lines */
        remove_dir();
    }
    make_dir("/tmp");
    write_lines(1000);
    rotate_cut_encode(&(struct rotate_mark){ROTATE_COLLAPSING, 0, 65536, 300, 0}, text);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, text, sizeof(text), 0), sizeof(text));
    close(fd);
    refused("was removed or changed");
    assert_true(run(0, &report));
    assert_int_equal(report.error, 0);
    remove_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_killed_on_disk),
        cmocka_unit_test(test_killed_in_memory),
        cmocka_unit_test(test_reports_what_has_gone),
        cmocka_unit_test(test_oldest_go),
        cmocka_unit_test(test_lines_without_end),
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_live_file_planted),
        cmocka_unit_test(test_folder_of_others),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_false_marks),
    };

    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
