/* SPDX-License-Identifier: Apache-2.0 */
/* Searches in logs, on files: which are read, and what of them while they are rotated. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/logs_chain.h"
#include "agentd/logs_plan.h"
#include "agentd/logs_read.h"
#include "agentd/rotate_cut.h"
#include "base/fd.h"
#include "base/str.h"

/* --- files ------------------------------------------------------------------------------------------------
 */

static char dir[64];
static struct wk_def def = {.alias = (char *)"web"};
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

/* A file that is cut for the first time after it was listed loses nothing silently: it is listed anew. */
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
    assert_int_equal(open_at(&r, s, false), -ESTALE);
    logs_read_close(&r);
    assert_int_equal(open_at(&r, s, true), 0);
    assert_true(r.at == LOST);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 5);
    logs_read_close(&r);
    s = listed("a.log", false); /* renamed by others: its head tells of what is not looked for */
    assert_int_equal(open_at(&r, s, false), 0);
    assert_int_equal(logs_read(&r, buf, sizeof(buf)), 5);
    logs_read_close(&r);
}

int main(void)
{
#define ON_FILES(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        ON_FILES(test_first_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
