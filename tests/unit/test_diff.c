/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between two definitions, and what it costs: every key of the table, changed alone, gives
 * itself and its cost, and moves the hashes that it belongs to. */
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

#include "agentd/cfg_read.h"
#include "base/fd.h"
#include "base/str.h"

static char dir[64];

static void write_file(const char *name, const char *text)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
    close(fd);
}

static void make_folder(const char *name)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int make_dir(void **state)
{
    str_copy(dir, sizeof(dir), "/tmp/test_diff.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    make_folder("workers.d");
    make_folder("other.d");
    write_file("one.env", "SECRET=hidden\n");
    write_file("one.pem", "-----BEGIN NOTHING-----\n");
    write_file("one.cred", "cert one HOST_VIEWER\n");
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static int remove_dir(void **state)
{
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Nothing in these is a default that follows from another key. */
#define AGENT                                                                                     \
    "[Agent]\nHostId=1\nAgentId=1\nHostInnerIpAddress=192.0.2.1\nWorkersDirectory=%s/workers.d\n" \
    "RuntimeDirectory=/run/a\nInstallHome=/opt\n[Rpc]\nCredentials=%s/credentials\n%s[%s]\n%s\n"
#define WORKER "[Unit]\nDescription=d\n[Service]\nExecStart=/bin/true\nStandardOutput=null\n[%s]\n%s\n"

static struct cfg *load(void)
{
    struct cfg_report report;
    struct cfg *cfg;
    char path[128];

    cfg_report_init(&report);
    snprintf(path, sizeof(path), "%s/agentd.conf", dir);
    if (cfg_load(path, &report, &cfg) < 0 || report.n_errors)
        fail_msg("%s", report.errors.p);
    cfg_report_free(&report);
    return cfg;
}

static void write_agent(const char *listen, const char *section, const char *line)
{
    char text[2048];

    snprintf(text, sizeof(text), AGENT, dir, dir, listen, section, line);
    write_file("agentd.conf", text);
}

/* The only worker of a configuration with this line more. */
static struct cfg *load_worker(const char *section, const char *line)
{
    char text[1024];
    struct cfg *cfg;

    snprintf(text, sizeof(text), WORKER, section, line);
    write_file("workers.d/w.conf", text);
    write_file("workers.d/zz.conf", "[Service]\nExecStart=/bin/true\n"); /* for Requires= */
    cfg = load();
    assert_int_equal(cfg->n_workers, 2);
    return cfg;
}

/* A value of each key that is not its default; "@" is the folder. */
static const struct {
    enum cfg_section section;
    const char *name, *value;
    const char *instead; /* what is listed, if it is not the key itself */
} values[] = {
    {CFG_UNIT, "Description", "x", NULL},
    {CFG_UNIT, "After", "x", NULL},
    {CFG_UNIT, "Before", "x", NULL},
    {CFG_UNIT, "Requires", "zz", NULL},
    {CFG_UNIT, "Wants", "x", NULL},
    {CFG_UNIT, "BindsTo", "zz", NULL},
    {CFG_UNIT, "ConditionPathExists", "/x", NULL},
    {CFG_UNIT, "AssertPathExists", "/x", NULL},
    {CFG_UNIT, "StartLimitIntervalSec", "7", NULL},
    {CFG_UNIT, "StartLimitInterval", "7", "StartLimitIntervalSec=live"},
    {CFG_UNIT, "StartLimitBurst", "7", NULL},
    {CFG_SERVICE, "Type", "exec", NULL},
    {CFG_SERVICE, "ExecStart", "\nExecStart=/bin/false", NULL},
    {CFG_SERVICE, "ExecStartPre", "/bin/true", NULL},
    {CFG_SERVICE, "ExecStartPost", "/bin/true", NULL},
    {CFG_SERVICE, "ExecReload", "/bin/true", NULL},
    {CFG_SERVICE, "ExecStop", "/bin/true", NULL},
    {CFG_SERVICE, "ExecStopPost", "/bin/true", NULL},
    {CFG_SERVICE, "PIDFile", "/run/x.pid", NULL},
    {CFG_SERVICE, "RemainAfterExit", "yes", NULL},
    {CFG_SERVICE, "WorkingDirectory", "/tmp", NULL},
    {CFG_SERVICE, "User", "0", NULL},
    {CFG_SERVICE, "Group", "0", NULL},
    {CFG_SERVICE, "SupplementaryGroups", "0", NULL},
    {CFG_SERVICE, "UMask", "0077", NULL},
    {CFG_SERVICE, "RuntimeDirectory", "x", NULL},
    {CFG_SERVICE, "RuntimeDirectoryMode", "0700", NULL},
    {CFG_SERVICE, "RuntimeDirectoryPreserve", "yes", NULL},
    {CFG_SERVICE, "StateDirectory", "x", NULL},
    {CFG_SERVICE, "StateDirectoryMode", "0700", NULL},
    {CFG_SERVICE, "CacheDirectory", "x", NULL},
    {CFG_SERVICE, "CacheDirectoryMode", "0700", NULL},
    {CFG_SERVICE, "LogsDirectory", "x", NULL},
    {CFG_SERVICE, "LogsDirectoryMode", "0700", NULL},
    {CFG_SERVICE, "Environment", "A=1", NULL},
    {CFG_SERVICE, "EnvironmentFile", "@/one.env", NULL},
    {CFG_SERVICE, "LoadCredential", "key:/etc/key", NULL},
    {CFG_SERVICE, "SetCredential", "key:a secret", NULL},
    {CFG_SERVICE, "Restart", "no", NULL},
    {CFG_SERVICE, "RestartPreventExitStatus", "3", NULL},
    {CFG_SERVICE, "RestartSec", "7", NULL},
    {CFG_SERVICE, "RestartMaxDelaySec", "40", NULL},
    {CFG_SERVICE, "RestartSteps", "7", NULL},
    {CFG_SERVICE, "StartLimitIntervalSec", "7", "StartLimitIntervalSec=live"},
    {CFG_SERVICE, "StartLimitInterval", "7", "StartLimitIntervalSec=live"},
    {CFG_SERVICE, "StartLimitBurst", "7", "StartLimitBurst=live"},
    {CFG_SERVICE, "TimeoutStartSec", "7", NULL},
    {CFG_SERVICE, "TimeoutStopSec", "7", NULL},
    {CFG_SERVICE, "TimeoutSec", "7", "TimeoutStartSec=live,TimeoutStopSec=live"},
    {CFG_SERVICE, "KillSignal", "INT", NULL},
    {CFG_SERVICE, "KillMode", "mixed", NULL},
    {CFG_SERVICE, "SendSIGKILL", "no", NULL},
    {CFG_SERVICE, "WatchdogSec", "5", NULL},
    {CFG_SERVICE, "NotifyAccess", "all", NULL},
    {CFG_SERVICE, "FileDescriptorStoreMax", "3", NULL},
    {CFG_SERVICE, "SuccessExitStatus", "3", NULL},
    {CFG_SERVICE, "Nice", "0", NULL},
    {CFG_SERVICE, "OOMScoreAdjust", "0", NULL},
    {CFG_SERVICE, "CPUQuota", "50%", NULL},
    {CFG_SERVICE, "CPUWeight", "50", NULL},
    {CFG_SERVICE, "MemoryMin", "1M", NULL},
    {CFG_SERVICE, "MemoryLow", "1M", NULL},
    {CFG_SERVICE, "MemoryHigh", "10%", NULL},
    {CFG_SERVICE, "MemoryMax", "64M", NULL},
    {CFG_SERVICE, "MemorySwapMax", "0", NULL},
    {CFG_SERVICE, "TasksMax", "20", NULL},
    {CFG_SERVICE, "OOMPolicy", "kill", NULL},
    {CFG_SERVICE, "AmbientCapabilities", "CAP_CHOWN", NULL},
    {CFG_SERVICE, "CapabilityBoundingSet", "CAP_CHOWN", NULL},
    {CFG_SERVICE, "NoNewPrivileges", "yes", NULL},
    {CFG_SERVICE, "IgnoreSIGPIPE", "no", NULL},
    {CFG_SERVICE, "StandardOutput", "journal", NULL},
    {CFG_SERVICE, "StandardError", "journal", NULL},
    {CFG_WORKER, "Id", "7", NULL},
    {CFG_WORKER, "Alias", "x", NULL},
    {CFG_WORKER, "LogFilePattern", "/tmp/*.log", NULL},
    {CFG_WORKER, "Operable", "no", NULL},
    {CFG_WORKER, "ReadyCheck", "tcp:7", NULL},
    {CFG_WORKER, "HealthCheck", "http://127.0.0.1:8080/x 204 ok", NULL},
    {CFG_WORKER, "HealthInterval", "7", NULL},
    {CFG_WORKER, "HealthTimeout", "7", NULL},
    {CFG_WORKER, "HealthRetries", "7", NULL},
    {CFG_WORKER, "HealthAction", "report", NULL},
    {CFG_WORKER, "ListenStream", "8080", NULL},
    {CFG_WORKER, "RestartMode", "overlap", NULL},
    {CFG_WORKER, "LogMaxSize", "10M", NULL},
    {CFG_WORKER, "LogMaxFiles", "7", NULL},
    {CFG_WORKER, "LogCompress", "yes", NULL},
    {CFG_AGENT, "HostId", "7", NULL},
    {CFG_AGENT, "AgentId", "7", NULL},
    {CFG_AGENT, "InstallHome", "/srv", NULL},
    {CFG_AGENT, "HostInnerIpAddress", "192.0.2.7", NULL},
    {CFG_AGENT, "WorkersDirectory", "@/other.d", NULL},
    {CFG_AGENT, "RuntimeDirectory", "/run/b", NULL},
    {CFG_AGENT, "StateDirectory", "/var/b", NULL},
    {CFG_AGENT, "LogDirectory", "/var/c", NULL},
    {CFG_AGENT, "StopWorkersOnExit", "no", NULL},
    {CFG_AGENT, "StartConcurrency", "7", NULL},
    {CFG_AGENT, "StartRate", "7", NULL},
    {CFG_AGENT, "StartPressure", "7", NULL},
    {CFG_AGENT, "SampleMaxAgeMs", "7", NULL},
    {CFG_AGENT, "UpgradeTimeoutSec", "7", NULL},
    {CFG_RPC, "AllowPlaintextCredentials", "yes", NULL},
    {CFG_RPC, "ListenStream", "/run/b.sock", NULL},
    {CFG_RPC, "ListenTls",
     "127.0.0.1:62889\nTlsCertificate=@/one.pem\nTlsKey=@/one.pem\nCredentials=@/one.cred",
     "ListenTls=restart of agentd,TlsCertificate=live,TlsKey=live,Credentials=live"},
    {CFG_RPC, "TlsCertificate", "@/one.pem", NULL},
    {CFG_RPC, "TlsKey", "@/one.pem", NULL},
    {CFG_RPC, "TlsClientCa", "@/one.pem", NULL},
    {CFG_RPC, "Credentials", "@/others", NULL},
    {CFG_RPC, "User", "nobody", NULL},
    {CFG_RPC, "ManagerGroup", "nogroup", NULL},
    {CFG_RPC, "ViewerGroup", "nogroup", NULL},
    {CFG_RPC, "ReplyDeadlineSec", "7", NULL},
    {CFG_RPC, "MaxConnections", "77", NULL},
    {CFG_RPC, "MaxConnectionsPerSource", "7", NULL},
    {CFG_RPC, "RequestRate", "7", NULL},
    {CFG_RPC, "MaxRequestsPerConnection", "7", NULL},
    {CFG_RPC, "MaxHeaderBytes", "7777", NULL},
    {CFG_RPC, "MaxHeaders", "77", NULL},
    {CFG_RPC, "MaxLogStreams", "7", NULL},
    {CFG_RPC, "MaxEventStreams", "7", NULL},
    {CFG_RPC, "MaxOperationsQueued", "7", NULL},
    {CFG_RPC, "IdleTimeoutSec", "7", NULL},
    {CFG_RPC, "HeartbeatSec", "7", NULL},
    {CFG_RPC, "MaxRequestBytes", "77", NULL},
    {CFG_RPC, "RequestDeadlineSec", "7", NULL},
};

/* "Key=value", with the folder in the place of each @. */
static void write_line(char *line, size_t size, const char *key, const char *value)
{
    struct buf b = BUF_INIT(size);

    buf_printf(&b, "%s=", key);
    for (; *value; value++)
        buf_str(&b, *value == '@' ? dir : (const char[]){*value, 0});
    str_copy(line, size, b.p);
    buf_free(&b);
}

/* "Key=value" for the file, and what must be listed. */
static const char *line_of(const struct cfg_key *k, char *expected, size_t size)
{
    static char line[512];

    snprintf(expected, size, "%s=%s", k->name, cfg_cost_name(k->cost));
    if (str_starts(k->name, "Limit")) {
        snprintf(line, sizeof(line), "%s=7", k->name);
        return line;
    }
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        if (values[i].section != k->section || !str_eq(values[i].name, k->name))
            continue;
        if (values[i].instead)
            str_copy(expected, size, values[i].instead);
        write_line(line, sizeof(line), k->name, values[i].value);
        return line;
    }
    fail_msg("%s= has no value in this test", k->name);
    return NULL;
}

static const char *section_name(enum cfg_section s)
{
    static const char *const names[] = {"Unit", "Service", "Worker", "Install", "Agent", "Rpc"};

    return names[s];
}

static bool needs_root(const struct cfg_key *k)
{
    return k->section == CFG_SERVICE && geteuid() != 0 &&
           (str_eq(k->name, "User") || str_eq(k->name, "Group") || str_eq(k->name, "SupplementaryGroups"));
}

static void assert_keys(const struct cfg_key *k, struct buf *keys, const char *expected)
{
    if (!str_eq(keys->p ? keys->p : "", expected))
        fail_msg("[%s] %s= gives \"%s\", not \"%s\"", section_name(k->section), k->name, keys->p, expected);
    buf_reset(keys);
}

static void test_every_key_of_a_worker(void **state)
{
    struct buf keys = BUF_INIT(4096);
    char expected[128];
    struct cfg *base;
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);

    write_agent("", "Agent", "");
    base = load_worker("Service", "");
    for (const struct cfg_key *end = k + n; k < end; k++) {
        if (!cfg_keys_of_worker(k->section) || !k->parse || needs_root(k))
            continue;
        const char *line = line_of(k, expected, sizeof(expected));
        struct cfg *other = load_worker(section_name(k->section), line);
        const struct wk_def *a = base->workers[0], *b = other->workers[0];
        cfg_diff_worker(a, b, &keys);
        assert_keys(k, &keys, expected);
        if ((a->hash != b->hash) != (k->cost == CFG_COST_RESTART) || a->hash_all == b->hash_all)
            fail_msg("%s= and the hashes", k->name);
        if (k->cost != CFG_COST_SAME)
            assert_int_equal(cfg_diff_worker(b, a, &keys), k->cost);
        buf_reset(&keys);
        assert_int_equal(cfg_diff_worker(b, b, &keys), CFG_COST_NONE);
        cfg_free(other);
    }
    cfg_free(base);
    buf_free(&keys);
}

static void test_every_key_of_agentd(void **state)
{
    struct buf keys = BUF_INIT(4096);
    char expected[128];
    struct cfg *base, *other;
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);

    write_agent("ListenStream=/run/a.sock\n", "Agent", "");
    base = load();
    for (const struct cfg_key *end = k + n; k < end; k++) {
        if (cfg_keys_of_worker(k->section))
            continue;
        const char *line = line_of(k, expected, sizeof(expected));
        write_agent("ListenStream=/run/a.sock\n", section_name(k->section), line);
        other = load();
        assert_int_equal(cfg_diff_agent(base, base, other, &keys), k->cost);
        assert_keys(k, &keys, expected);
        /* What only a start changes is compared with the start. */
        cfg_diff_agent(other, base, other, &keys);
        snprintf(expected, sizeof(expected), "%s=%s", k->name, cfg_cost_name(k->cost));
        assert_keys(k, &keys, k->cost == CFG_COST_AGENTD ? expected : "");
        cfg_free(other);
    }
    cfg_free(base);
    buf_free(&keys);
}

/* Each row has a cost that means something, and a mixer unless another row stands for it. */
static void test_table(void **state)
{
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);

    for (size_t i = 0; i < n; i++) {
        bool worker = cfg_keys_of_worker(k[i].section);
        assert_true(k[i].cost != CFG_COST_NONE);
        assert_true((k[i].cost == CFG_COST_SAME) == (k[i].mix == NULL));
        if (!worker)
            assert_true(k[i].cost == CFG_COST_LIVE || k[i].cost == CFG_COST_AGENTD);
    }
}

/* Where the manual names the key in the list behind from; NULL: not before the list ends. */
static const char *named(const char *from, const char *key)
{
    const char *end = strstr(from, ".El");
    char word[64];

    snprintf(word, sizeof(word), " %s=", key);
    from = strstr(from, word);
    return from && from < end ? from : NULL;
}

static void assert_manual(const char *page, const char *heading, bool worker)
{
    const char *src = getenv("srcdir");
    _cleanup_free_ char *text = NULL;
    char path[4096], item[64];
    size_t n;
    const struct cfg_key *k = cfg_keys_all(&n);
    int fd;

    snprintf(path, sizeof(path), "%s/man/%s", src ? src : ".", page);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(fd_read_all(fd, 1 << 20, &text) > 0);
    close(fd);
    for (const struct cfg_key *end = k + n; k < end; k++) {
        const char *list = strstr(text, heading), *at, *next;
        if (cfg_keys_of_worker(k->section) != worker || k->cost == CFG_COST_SAME || !k->parse)
            continue;
        assert_non_null(list);
        snprintf(item, sizeof(item), "\n.It %s\n", cfg_cost_name(k->cost));
        assert_non_null(list = strstr(list, item));
        next = strstr(list + 1, "\n.It ");
        at = named(list, k->name);
        if (!at || (next && at > next && next < strstr(list, ".El")))
            fail_msg("%s does not name %s= under \"%s\"", page, k->name, cfg_cost_name(k->cost));
    }
}

/* The manual says of each key what the table says. */
static void test_manual(void **state)
{
    assert_manual("agentd.worker.5", "\n.Sh WHAT A CHANGE COSTS", true);
    assert_manual("agentd.conf.5", "\n.Ss What a change costs", false);
}

static void assert_worker(const char *first, const char *second, const char *expected)
{
    struct buf keys = BUF_INIT(4096);
    struct cfg *a = load_worker("Service", first), *b = load_worker("Service", second);

    cfg_diff_worker(a->workers[0], b->workers[0], &keys);
    assert_string_equal(keys.p ? keys.p : "", expected);
    buf_free(&keys);
    cfg_free(a);
    cfg_free(b);
}

static void test_several(void **state)
{
    write_agent("", "Agent", "");
    assert_worker("", "Nice=3\nUMask=077\n[Worker]\nReadyCheck=tcp:9",
                  "UMask=restart,Nice=live,ReadyCheck=next start");
    assert_worker("ExecStart=\nExecStart=-/bin/true", "", "ExecStart=live");
    assert_worker("ExecStart=\nExecStart=-/bin/false", "", "ExecStart=restart");
    assert_worker("StandardOutput=journal", "StandardOutput=null", "StandardOutput=restart");
    assert_worker("StandardError=null", "", "");
    assert_worker("Environment=A=1 B=2", "Environment=A=1 B=3", "Environment=restart");
}

/* The same name, and name service gives it another group. */
static void test_resolved(void **state)
{
    struct buf keys = BUF_INIT(4096);
    struct cfg *a, *b;
    gid_t one = 1, two = 2;

    write_agent("", "Agent", "");
    a = load_worker("Service", "");
    b = load_worker("Service", "");
    a->workers[0]->ids = (struct cfg_ids){.uid = 7, .user = cfg_nothing, .groups = &one, .n_groups = 1};
    b->workers[0]->ids = (struct cfg_ids){.uid = 7, .user = cfg_nothing, .groups = &two, .n_groups = 1};
    assert_int_equal(cfg_diff_worker(a->workers[0], b->workers[0], &keys), CFG_COST_RESTART);
    assert_string_equal(keys.p, "User=restart");
    b->workers[0]->ids = a->workers[0]->ids;
    assert_int_equal(cfg_diff_worker(a->workers[0], b->workers[0], &keys), CFG_COST_NONE);
    a->workers[0]->ids = b->workers[0]->ids = (struct cfg_ids){0};
    cfg_free(a);
    cfg_free(b);
    buf_free(&keys);
}

/* A broken file's first message stays with its alias. */
static void test_why(void **state)
{
    struct cfg_report report;
    struct cfg *cfg;
    char path[128], expected[256];

    write_agent("", "Agent", "");
    write_file("workers.d/bad.conf", "[Service]\nExecStart=/bin/true\nWrong=1\nRestart=perhaps\n");
    write_file("workers.d/w.conf", "[Service]\nExecStart=/bin/true\n[Worker]\nId=5\n");
    write_file("workers.d/x.conf", "[Service]\nExecStart=/bin/true\n[Worker]\nId=5\n");
    cfg_report_init(&report);
    snprintf(path, sizeof(path), "%s/agentd.conf", dir);
    assert_int_equal(cfg_load(path, &report, &cfg), 0);
    assert_int_equal(cfg->n_broken, 3);
    snprintf(expected, sizeof(expected), "%s/workers.d/bad.conf:3:1: unknown key Wrong=", dir);
    assert_true(str_starts(cfg->broken_why[0], expected));
    assert_non_null(strstr(cfg->broken_why[0], "(and 1 more)"));
    assert_non_null(strstr(cfg->broken_why[1], "x.conf:4:4: the id 5 is taken already"));
    assert_string_equal(cfg->broken_why[1], cfg->broken_why[2]);
    cfg_free(cfg);
    cfg_report_free(&report);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_manual),
        IN_DIR(test_every_key_of_a_worker),
        IN_DIR(test_every_key_of_agentd),
        IN_DIR(test_several),
        IN_DIR(test_resolved),
        IN_DIR(test_why),
    };

    umask(022);
    return cmocka_run_group_tests_name("diff", tests, NULL, NULL);
}
