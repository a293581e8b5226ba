/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_res on a folder of plain files: what is written where, in which order, and what is left alone. The
 * real files are seen in tests/qemu. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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

#include "base/fd.h"
#include "base/str.h"
#include "proc/cgroup_res.h"

#define ALL (CGROUP_CPU | CGROUP_MEMORY | CGROUP_PIDS)

static const struct {
    const char *name, *text;
} fresh[] = {
    {"cpu.idle", "0\n"},     {"cpu.weight", "100\n"},     {"cpu.max", "max 100000\n"},
    {"memory.min", "0\n"},   {"memory.low", "0\n"},       {"memory.high", "max\n"},
    {"memory.max", "max\n"}, {"memory.oom.group", "0\n"}, {"pids.max", "max\n"},
};

static char dir[64];
static struct cgroup_leaf leaf;
static struct cgroup_root root;

static void put(const char *name, const char *text)
{
    int fd = openat(leaf.fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

/* The kernel takes a value whole; a plain file keeps the end of a longer one, which starts with a newline or
 * digit. */
static void assert_file(const char *name, const char *text)
{
    char now[128];

    assert_true(fd_read_file(leaf.fd, name, now, sizeof(now)) >= 0);
    if (strncmp(now, text, strlen(text)) != 0)
        fail_msg("%s is \"%s\", not \"%s\"", name, now, text);
}

static int make_leaf(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/test_res.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    leaf.fd = root.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(fresh); i++)
        put(fresh[i].name, fresh[i].text);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int remove_leaf(void **state)
{
    close(leaf.fd);
    return nftw(dir, remove_one, 4, FTW_DEPTH | FTW_PHYS);
}

static struct cgroup_res with(enum cgroup_res_row row, enum cgroup_amount kind, uint64_t v)
{
    struct cgroup_res r = {0};

    r.row[row].kind = kind;
    r.row[row].v = v;
    return r;
}

static void assert_text(enum cgroup_res_row row, enum cgroup_amount kind, uint64_t v, const char *text)
{
    struct cgroup_res r = with(row, kind, v);
    char got[CGROUP_RES_TEXT];

    assert_string_equal(cgroup_res_text(&r, row, got), text);
}

static void test_text(void **state)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
    char text[32];

    assert_text(CGROUP_RES_CPU_QUOTA, CGROUP_PARTS, 15000, "150000 100000");
    assert_text(CGROUP_RES_CPU_QUOTA, CGROUP_PARTS, 100, "1000 100000");
    assert_text(CGROUP_RES_CPU_QUOTA, CGROUP_PARTS, 55, "1000 181818"); /* no quota is below a millisecond */
    assert_text(CGROUP_RES_CPU_QUOTA, CGROUP_PARTS, 1, "1000 1000000");
    assert_text(CGROUP_RES_CPU_QUOTA, CGROUP_UNSET, 0, "max 100000");
    assert_text(CGROUP_RES_CPU_WEIGHT, CGROUP_NUMBER, 10000, "10000");
    assert_text(CGROUP_RES_MEM_MAX, CGROUP_INFINITE, 0, "max");
    assert_text(CGROUP_RES_MEM_MAX, CGROUP_NUMBER, 64 << 20, "67108864");
    snprintf(text, sizeof(text), "%llu", (unsigned long long)page);
    assert_text(CGROUP_RES_MEM_MAX, CGROUP_NUMBER, page + 1, text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)(pages / 2 * page));
    assert_text(CGROUP_RES_MEM_HIGH, CGROUP_PARTS, 5000, text);
    assert_text(CGROUP_RES_TASKS_MAX, CGROUP_NUMBER, 20, "20");
    assert_text(CGROUP_RES_TASKS_MAX, CGROUP_INFINITE, 0, "max");
}

static void test_apply(void **state)
{
    struct cgroup_res r = with(CGROUP_RES_MEM_MAX, CGROUP_NUMBER, 64 << 20);
    struct cgroup_res_result result;

    r.row[CGROUP_RES_TASKS_MAX].kind = CGROUP_NUMBER;
    r.row[CGROUP_RES_TASKS_MAX].v = 20;
    assert_true(cgroup_res_differs(&leaf, &r, ALL));
    cgroup_res_apply(&leaf, &r, ALL, &result);
    assert_int_equal(result.failed | (unsigned)result.error, 0);
    assert_file("memory.max", "67108864");
    assert_file("pids.max", "20");
    assert_file("memory.high", "max\n");
    assert_file("cpu.max", "max 100000\n");
}

/* Nothing is written where what is there is what is wanted. */
static void test_same(void **state)
{
    struct cgroup_res r = with(CGROUP_RES_CPU_QUOTA, CGROUP_PARTS, 5000);
    struct cgroup_res_result result;

    put("cpu.max", "50000 100000\n");
    assert_false(cgroup_res_differs(&leaf, &r, ALL));
    assert_int_equal(fchmodat(leaf.fd, "cpu.max", 0400, 0), 0);
    cgroup_res_apply(&leaf, &r, ALL, &result);
    assert_int_equal(result.failed, 0);
    assert_false(cgroup_res_differs(&leaf, NULL, CGROUP_MEMORY | CGROUP_PIDS));
    assert_true(cgroup_res_differs(&leaf, NULL, ALL));
}

/* What is not set any more goes back. */
static void test_back(void **state)
{
    struct cgroup_res_result result;

    put("memory.max", "4096\n");
    put("cpu.idle", "1\n");
    cgroup_res_apply(&leaf, NULL, ALL, &result);
    assert_int_equal(result.failed, 0);
    assert_file("memory.max", "max");
    assert_file("cpu.idle", "0");
}

/* Files of a controller that was not had are not touched. */
static void test_controllers(void **state)
{
    struct cgroup_res r = with(CGROUP_RES_MEM_MAX, CGROUP_NUMBER, 4096);
    struct cgroup_res_result result;

    assert_int_equal(cgroup_res_needs(&r), CGROUP_MEMORY);
    assert_int_equal(cgroup_res_needs(NULL), 0);
    assert_int_equal(cgroup_res_lost(&r, CGROUP_CPU | CGROUP_PIDS), 1u << CGROUP_RES_MEM_MAX);
    assert_int_equal(cgroup_res_lost(&r, CGROUP_MEMORY), 0);
    cgroup_res_apply(&leaf, &r, CGROUP_CPU, &result);
    assert_int_equal(result.failed, 0);
    assert_file("memory.max", "max\n");
}

/* A kernel without it: named if it was asked for, and the rest is done. */
static void test_missing_file(void **state)
{
    struct cgroup_res r = with(CGROUP_RES_SWAP_MAX, CGROUP_NUMBER, 0);
    struct cgroup_res_result result;

    r.row[CGROUP_RES_TASKS_MAX].kind = CGROUP_NUMBER;
    r.row[CGROUP_RES_TASKS_MAX].v = 5;
    cgroup_res_apply(&leaf, &r, ALL, &result); /* the folder has no memory.swap.max */
    assert_int_equal(result.failed, 1u << CGROUP_RES_SWAP_MAX);
    assert_int_equal(result.error, -ENOENT);
    assert_file("pids.max", "5");
}

static void test_hash(void **state)
{
    struct cgroup_res none = {0}, a = with(CGROUP_RES_MEM_MAX, CGROUP_NUMBER, 1),
                      b = with(CGROUP_RES_MEM_HIGH, CGROUP_NUMBER, 1);

    assert_int_equal(cgroup_res_hash(NULL), 0);
    assert_int_equal(cgroup_res_hash(&none), 0);
    assert_true(cgroup_res_hash(&a) && cgroup_res_hash(&a) != cgroup_res_hash(&b));
}

/* Only what is needed, and only what can be had: what the last write was is what the plain file has. */
static void test_enable(void **state)
{
    put("cgroup.controllers", "cpuset cpu io memory hugetlb\n");
    put("cgroup.subtree_control", "");
    assert_int_equal(cgroup_res_enable(&root, 0), 0);
    assert_int_equal(root.controllers, 0);
    assert_file("cgroup.subtree_control", "");
    assert_int_equal(cgroup_res_enable(&root, CGROUP_MEMORY | CGROUP_PIDS), 0);
    assert_int_equal(root.controllers, CGROUP_MEMORY);
    assert_file("cgroup.subtree_control", "+memory");
    put("cgroup.subtree_control", "cpu memory\n");
    assert_int_equal(cgroup_res_enable(&root, CGROUP_MEMORY), 0);
    assert_int_equal(root.controllers, CGROUP_CPU | CGROUP_MEMORY);
    assert_file("cgroup.subtree_control", "cpu memory\n");
}

static void test_read(void **state)
{
    uint64_t v;

    put("memory.events", "low 0\noom 3\noom_kill 2\n");
    assert_int_equal(cgroup_res_read(&leaf, "memory.events", "oom_kill", &v), 0);
    assert_int_equal(v, 2);
    assert_int_equal(cgroup_res_read(&leaf, "memory.events", "oom", &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(cgroup_res_read(&leaf, "memory.events", "oom_group_kill", &v), -ENODATA);
    put("memory.current", "4096\n");
    assert_int_equal(cgroup_res_read(&leaf, "memory.current", NULL, &v), 0);
    assert_int_equal(v, 4096);
    assert_int_equal(cgroup_res_read(&leaf, "no.such", NULL, &v), -ENOENT);
    assert_int_equal(cgroup_res_read(&(struct cgroup_leaf)CGROUP_LEAF_NULL, "x", NULL, &v), -EOPNOTSUPP);
}

#define IN_LEAF(f) cmocka_unit_test_setup_teardown(f, make_leaf, remove_leaf)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_hash), IN_LEAF(test_apply),
        IN_LEAF(test_same),          IN_LEAF(test_back),          IN_LEAF(test_controllers),
        IN_LEAF(test_missing_file),  IN_LEAF(test_enable),        IN_LEAF(test_read),
    };

    return cmocka_run_group_tests_name("cgroup_res", tests, NULL, NULL);
}
