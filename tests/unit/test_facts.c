/* SPDX-License-Identifier: Apache-2.0 */
/* facts: what an agentd finds of one that was killed: all of this boot, nothing of another, and no harm from
 * a file that is torn or somebody else's. */
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentd/facts.h"
#include "base/fd.h"
#include "base/str.h"
#include "proc/pidref.h"

static char dir[64], path[96];

static struct facts found[256];
static int n_found;

static void note(const struct facts *f, void *arg)
{
    assert_ptr_equal(arg, found);
    assert_true(n_found < (int)ARRAY_LEN(found));
    found[n_found++] = *f;
}

static int open_facts(void)
{
    n_found = 0;
    return facts_open(dir, note, found);
}

static int make_dir(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/test_facts.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/facts", dir);
    return 0;
}

static int remove_dir(void **state)
{
    facts_close();
    unlink(path);
    return rmdir(dir);
}

static struct facts sample(const char *alias, uint8_t phase)
{
    struct facts f = {.phase = phase,
                      .leaf = 1,
                      .generation = 77,
                      .pid = 4711,
                      .start = 0x123456789abcdef0,
                      .def_hash = UINT64_MAX,
                      .ready_us = 1700000000000000,
                      .started_us = -1};

    str_copy(f.alias, sizeof(f.alias), alias);
    return f;
}

static int put(const char *alias, uint8_t phase)
{
    struct facts f = sample(alias, phase);
    int slot = facts_slot(alias);

    assert_true(slot >= 0);
    assert_int_equal(facts_put(slot, &f), 0);
    return slot;
}

static void assert_same(const struct facts *f, const char *alias, uint8_t phase)
{
    struct facts want = sample(alias, phase);

    assert_string_equal(f->alias, want.alias);
    assert_int_equal(f->phase, want.phase);
    assert_int_equal(f->leaf, want.leaf);
    assert_int_equal(f->generation, want.generation);
    assert_int_equal(f->pid, want.pid);
    assert_true(f->start == want.start && f->def_hash == want.def_hash);
    assert_true(f->ready_us == want.ready_us && f->started_us == want.started_us);
}

static void test_round_trip(void **state)
{
    char longest[LIMIT_ALIAS + 1];
    struct stat st;

    memset(longest, 'x', LIMIT_ALIAS);
    longest[LIMIT_ALIAS] = 0;
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 0);
    assert_int_equal(put("a", FACTS_INTENT), 0);
    assert_int_equal(put("b", FACTS_NONE), 1);
    assert_int_equal(put(longest, FACTS_READY), 2);
    assert_int_equal(put("a", FACTS_SPAWNED), 0); /* the last word counts */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    facts_close(); /* as if killed: nothing is written at the end */

    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 3);
    assert_same(&found[0], "a", FACTS_SPAWNED);
    assert_same(&found[1], "b", FACTS_NONE); /* its generation and last exit last */
    assert_same(&found[2], longest, FACTS_READY);
    assert_int_equal(facts_slot("b"), 1); /* found again, though nothing ran */
    assert_int_equal(facts_slot(longest), 2);
    assert_int_equal(facts_slot("new"), 3);
}

static void test_slots(void **state)
{
    char name[32];

    assert_int_equal(open_facts(), 0);
    for (int i = 0; i < 200; i++) { /* more than are made at once */
        snprintf(name, sizeof(name), "w%d", i);
        assert_int_equal(put(name, i % 10 ? FACTS_NONE : FACTS_READY), i);
    }
    facts_free_slot(10);
    facts_free_slot(20);
    facts_free_slot(-1);
    facts_free_slot(100000);
    facts_close();
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 198);
    for (int i = 0; i < n_found; i++)
        assert_false(str_eq(found[i].alias, "w10") || str_eq(found[i].alias, "w20"));
    assert_int_equal(facts_slot("w199"), 199);
    assert_int_equal(facts_slot("other"), 10); /* the first free one */
    assert_int_equal(facts_slot("another"), 20);
    assert_int_equal(facts_slot("w10"), 200);
}

static void test_limit(void **state)
{
    char name[32];
    struct facts f = sample("x", FACTS_READY);

    assert_int_equal(open_facts(), 0);
    for (int i = 0; i < LIMIT_WORKERS; i++) {
        snprintf(name, sizeof(name), "w%d", i);
        if (facts_slot(name) < 0)
            fail_msg("no slot for %s", name);
    }
    while (facts_slot(name) >= 0 && facts_slot(name) < LIMIT_WORKERS + 64) {
        static int more;
        snprintf(name, sizeof(name), "more%d", more++);
    }
    assert_int_equal(facts_slot("one too many"), -ENOSPC);
    assert_int_equal(facts_put(-1, &f), -ENOSPC);
    facts_close();
    assert_int_equal(facts_put(0, &f), -ENOSPC); /* no file */
}

/* A file system that is full, and is not any more. */
static void test_written_later(void **state)
{
    struct facts b = sample("b", FACTS_READY);
    struct rlimit was, none;
    int failed, slot;
    bool kept, late, again;

    assert_int_equal(open_facts(), 0);
    put("a", FACTS_READY);
    slot = facts_slot("b");
    assert_true(facts_are_kept());
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    none = (struct rlimit){1, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    failed = facts_put(slot, &b);
    kept = facts_are_kept();
    late = facts_are_late();
    again = facts_put_again();
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(failed, -EFBIG);
    assert_true(!kept && late && !again);
    put("c", FACTS_READY);
    assert_false(facts_are_kept()); /* another one's success is not its own */
    assert_true(facts_put_again());
    assert_true(facts_are_kept() && !facts_are_late());
    facts_close();
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 3);
    assert_same(&found[1], "b", FACTS_READY);
    facts_close();
}

static void patch(off_t at, const void *p, size_t n)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, p, n, at), n);
}

static off_t size_of(void)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void left_behind(void)
{
    assert_int_equal(open_facts(), 0);
    put("a", FACTS_READY);
    put("b", FACTS_READY);
    facts_close();
}

/* Void: nothing is found, and the file starts anew and works. */
static void assert_void(void)
{
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 0);
    assert_int_equal(size_of(), 512);
    assert_int_equal(put("c", FACTS_READY), 0);
    facts_close();
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 1);
    assert_same(&found[0], "c", FACTS_READY);
    facts_close();
}

static void test_other_boot(void **state)
{
    char id[37];

    left_behind();
    str_copy(id, sizeof(id), pidref_boot_id());
    id[35] = id[35] == '0' ? '1' : '0';
    patch(16, id, 36);
    assert_void();
}

static void test_foreign(void **state)
{
    static const char *const texts[] = {"",        "agentd facts 2",   "agentd facts 3\n",
                                        "\177ELF", "agentd facts 1\n", "agentd facts 2\n"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(fd_write_all(fd, texts[i], strlen(texts[i])), 0);
        assert_void();
    }
    left_behind();
    patch(0, "agentd facts 3\n", 15);
    assert_void();
    left_behind();
    patch(16, "", 1); /* no boot id */
    assert_void();
}

/* Every length a write or a full file system may leave. */
static void test_torn(void **state)
{
    const off_t whole = 512 * 3;

    for (off_t n = 0; n <= whole; n++) {
        unlink(path);
        left_behind();
        assert_int_equal(size_of(), whole);
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(open_facts(), 0);
        int sure = n < 512 ? 0 : (int)(n / 512) - 1; /* whole slots */
        assert_true(n_found >= sure && n_found <= sure + 1);
        if (n_found > 0)
            assert_same(&found[0], "a", FACTS_READY);
        if (n_found > 1)
            assert_same(&found[1], "b", FACTS_READY);
        facts_close();
    }
}

static void test_garbage_slots(void **state)
{
    char junk[256];

    left_behind();
    memset(junk, 0xff, sizeof(junk));
    patch(512, junk, sizeof(junk)); /* no end of the alias, a phase that there is not */
    assert_int_equal(open_facts(), 0);
    for (int i = 0; i < n_found; i++)
        assert_true(strlen(found[i].alias) <= LIMIT_ALIAS);
    assert_same(&found[n_found - 1], "b", FACTS_READY);
    facts_close();
    memset(junk, 0, sizeof(junk));
    patch(512, junk, sizeof(junk));
    assert_int_equal(open_facts(), 0);
    assert_int_equal(n_found, 1);
    assert_int_equal(facts_slot("x"), 0);
}

static void test_refused(void **state)
{
    assert_int_equal(symlink("/tmp/test_facts.nothing", path), 0);
    assert_int_equal(open_facts(), -ELOOP);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(open_facts(), -EISDIR);
    rmdir(path);
    assert_int_equal(facts_open("/tmp/test_facts.nothing", note, NULL), -ENOENT);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        IN_DIR(test_round_trip),    IN_DIR(test_slots),         IN_DIR(test_limit),
        IN_DIR(test_written_later), IN_DIR(test_other_boot),    IN_DIR(test_foreign),
        IN_DIR(test_torn),          IN_DIR(test_garbage_slots), IN_DIR(test_refused),
    };

    return cmocka_run_group_tests_name("facts", tests, NULL, NULL);
}
