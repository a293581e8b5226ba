/* SPDX-License-Identifier: Apache-2.0 */
/* store: ids and goals over agentd's life, on a clock that stands still; by the helper and at exit; and state
 * that can't be read. */
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/loop.h"
#include "agentd/reap.h"
#include "agentd/store.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "tests/fake/clock_fake.h"

#define WALL 1700000000000000

static char dir[64], path[96];
static unsigned n_errors; /* in the log */

static void sink(int level, const char *area, const struct log_about *about, const char *message)
{
    n_errors += level <= LOG_ERR;
}

static int make_dir(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/test_store.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/state", dir);
    log_set_sink(sink);
    n_errors = 0;
    clock_fake_set(WALL);
    return loop_init() < 0 ? -1 : reap_init();
}

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(name);
}

/* Helpers that were cancelled end and are reaped before the next test. */
static void stop(int fd, short what, void *arg)
{
    loop_stop();
}

static void stop_when_reaped(void)
{
    static struct loop_watch *timer;
    siginfo_t si;

    loop_free(&timer);
    if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0)
        timer = loop_timer(1, stop, NULL); /* after what is ready now */
}

static int remove_dir(void **state)
{
    store_on_written(NULL);
    store_set_collect(NULL);
    store_close();
    stop_when_reaped();
    loop_run(stop_when_reaped);
    reap_done();
    loop_done();
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{
    struct err e = {0};

    if (store_open(dir, &e) < 0)
        fail_msg("%s", e.text);
}

static void write_state(const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* The helper's write, waited for. */
static int written = -1, n_written;

static void on_written(bool ok)
{
    written = ok;
    n_written++;
    loop_stop();
}

static void write_by_helper(void)
{
    written = -1;
    n_written = 0;
    store_on_written(on_written);
    store_changed();
    assert_true(store_is_busy());
    if (written < 0)
        assert_int_equal(loop_run(NULL), 0);
    assert_int_equal(written, 1);
    assert_false(store_is_busy());
}

static void fill(void)
{
    struct store_entry *a = store_get("a", 0), *b = store_get("b", 0);

    assert_true(a && b);
    a->goal_up = false;
    a->goal_us = WALL + 7;
    a->goal_by = strdup("uid:0");
    a->def_hash_all = 0xfedcba9876543210;
    b->update_us = WALL + 9;
}

static void assert_filled(int64_t id_a, int64_t id_b)
{
    struct store_entry *a = store_find("a"), *b = store_find("b");

    assert_true(a && b);
    assert_int_equal(a->id, id_a);
    assert_int_equal(b->id, id_b);
    assert_false(a->goal_up);
    assert_true(b->goal_up); /* what was never said */
    assert_int_equal(a->goal_us, WALL + 7);
    assert_string_equal(a->goal_by, "uid:0");
    assert_string_equal(b->goal_by, "config");
    assert_true(a->def_hash_all == 0xfedcba9876543210);
    assert_int_equal(a->create_us, WALL);
    assert_int_equal(b->update_us, WALL + 9);
    assert_int_equal(store_created_us(), WALL);
}

static void round_trip(bool by_helper)
{
    int64_t a, b;
    struct stat st;

    open_store();
    assert_null(store_find("a"));
    fill();
    a = store_find("a")->id;
    b = store_find("b")->id;
    assert_true(a > 0 && b > 0 && a != b);
    if (by_helper)
        write_by_helper();
    else
        store_changed();
    store_flush(); /* meets a helper that is still writing, or has nothing to do */
    store_close();
    assert_null(store_find("a"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    clock_fake_pass(1000000000);
    open_store();
    assert_filled(a, b);
    store_get("a", 0);
    assert_filled(a, b); /* seen before: nothing is new */
    assert_int_equal(n_errors, 0);
}

static void test_by_helper(void **state)
{
    round_trip(true);
}

static void test_flush(void **state)
{
    round_trip(false);
}

static unsigned n_collected;

static void collect(void)
{
    n_collected++;
    store_get("late", 0);
}

static void test_collect(void **state)
{
    open_store();
    store_set_collect(collect);
    write_by_helper();
    assert_int_equal(n_collected, 1);
    store_close();
    store_set_collect(NULL);
    open_store();
    assert_non_null(store_find("late"));
}

/* A change while one write is under way makes another; who waits, waits for the last. */
static uint64_t each[4]; /* which write had ended, each time */

static void on_each_written(bool ok)
{
    if (n_written < 4)
        each[n_written] = store_written();
    n_written++;
    written = ok;
    if (!store_is_busy())
        loop_stop();
}

static void test_change_meanwhile(void **state)
{
    open_store();
    n_written = 0;
    written = -1;
    store_on_written(on_written);
    store_get("first", 0);
    uint64_t first = store_changed();
    store_get("second", 0);
    uint64_t second = store_changed();
    assert_int_equal(second, first + 1); /* what is being written has it not */
    assert_int_equal(store_changed(), second);
    store_on_written(on_each_written);
    assert_int_equal(loop_run(NULL), 0);
    assert_int_equal(n_written, 2);
    assert_int_equal(written, 1);
    assert_int_equal(each[0], first);
    assert_int_equal(each[1], second);
    assert_false(store_is_busy());
    store_close();
    open_store();
    assert_true(store_find("first") && store_find("second"));
}

static void test_no_disk(void **state)
{
    char gone[96];

    open_store();
    store_get("a", 0);
    snprintf(gone, sizeof(gone), "%s.gone", dir);
    assert_int_equal(rename(dir, gone), 0);
    written = -1;
    store_on_written(on_written);
    store_changed();
    assert_int_equal(loop_run(NULL), 0);
    assert_int_equal(written, 0);
    assert_int_equal(n_errors, 1);
    assert_int_equal(rename(gone, dir), 0);
}

/* --- ids --- */

static void test_ids(void **state)
{
    int64_t seen[40];
    char name[16];

    write_state("agentd-state 1 5\n"
                "a\t5000\t1\t2\tUP\t3\t0\tconfig\n"
                "b\t4000\t1\t2\tDOWN\t3\tabc\tbasic:ops\n");
    open_store();
    assert_int_equal(store_created_us(), 5);
    assert_int_equal(store_get("a", 0)->id, 5000);
    assert_in_range(store_get("new", 0)->id, 1001, 3999);
    assert_int_equal(store_get("given", 77)->id, 77);
    assert_int_equal(store_get("b", 6000)->id, 6000); /* Id= was set since */
    assert_int_equal(store_get("taker", 77)->id, 77);
    assert_int_not_equal(store_get("given", 0)->id, 77); /* one id, one worker */
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "w%d", i);
        seen[i] = store_get(name, 0)->id;
        assert_in_range(seen[i], 1001, 3999);
        assert_int_not_equal(seen[i], store_get("new", 0)->id);
        for (int j = 0; j < i; j++)
            assert_int_not_equal(seen[i], seen[j]);
        assert_int_equal(store_get(name, 0)->id, seen[i]); /* kept */
    }
}

/* --- what can't be read --- */

static void test_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "\n",
        "garbage\n",
        "agentd-state 2 5\n",
        "agentd-state 1\n",
        "agentd-state 1 5\na\t1\t2\n",
        "agentd-state 1 5\na\t1\t1\t2\tUP\t3\t0\n",
        "agentd-state 1 5\na\t1\t1\t2\tUP\t3\t0\tconfig\nb\t1", /* torn */
        "\177ELF\001\001",
    };
    char aside[104];

    snprintf(aside, sizeof(aside), "%s.bad", path);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[128] = "";
        unlink(aside);
        write_state(bad[i]);
        n_errors = 0;
        open_store(); /* it starts all the same */
        assert_int_equal(n_errors, 1);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_true(fd_read_file(AT_FDCWD, aside, text, sizeof(text)) >= 0);
        assert_string_equal(text, bad[i]);
        assert_non_null(store_get("fresh", 0));
        store_changed();
        store_flush();
        store_close();
        open_store();
        assert_non_null(store_find("fresh"));
        assert_int_equal(n_errors, 1);
        store_close();
    }
}

/* A caller's name never makes a line or a field of the file. */
static void test_hostile_name(void **state)
{
    struct store_entry *e;

    open_store();
    e = store_get("a", 0);
    e->goal_by = strdup("x\tz\nb\t1\t1\t2\tDOWN\t3\t0\troot");
    e->goal_up = true;
    store_changed();
    store_flush();
    store_close();
    open_store();
    assert_int_equal(n_errors, 0);
    assert_null(store_find("b"));
    assert_non_null(e = store_find("a"));
    assert_true(e->goal_up);
    assert_string_equal(e->goal_by, "x\\x09z\\x0ab\\x091\\x091\\x092\\x09DOWN\\x093\\x090\\x09root");
}

static void test_refused(void **state)
{
    struct err e = {0};

    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(store_open(dir, &e), -ELOOP);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(store_open("/tmp/test_store.nothing", &e), -ENOENT);
    assert_non_null(strstr(e.text, "/tmp/test_store.nothing"));
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        IN_DIR(test_by_helper), IN_DIR(test_flush), IN_DIR(test_collect), IN_DIR(test_change_meanwhile),
        IN_DIR(test_no_disk),   IN_DIR(test_ids),   IN_DIR(test_bad),     IN_DIR(test_hostile_name),
        IN_DIR(test_refused),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
