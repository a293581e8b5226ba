# SPDX-License-Identifier: Apache-2.0
"""The unit files of Debian's packages, unchanged, beside a drop-in of two lines: loaded, run, restarted, stopped; and sshd, whose
logins outlive it. All in namespaces of their own: nothing of the machine's configuration, data or ports is touched."""
import os
import re
import shutil
import subprocess

import harness
from harness import Case, eventually, is_alive

LONG = True
UNITS = "/lib/systemd/system"
# alias: (unit file, ports, what must be said to be without effect)
SERVICES = {
    "nginx": ("nginx.service", "80", []),
    "redis-server": ("redis-server.service", "6379", ["PrivateTmp", "SystemCallFilter", "ProtectSystem"]),
    "ssh": ("ssh.service", "22", []),
    "cron": ("cron.service", "", []),
    "memcached": ("memcached.service", "11211", ["PrivateTmp", "RestrictNamespaces"]),
    "prometheus-node-exporter": ("prometheus-node-exporter.service", "9100", []),
    "postgresql@15-main": ("postgresql@.service", "5432", ["PartOf", "RequiresMountsFor", "SyslogIdentifier"]),
    "haproxy": ("haproxy.service", "", ["BindReadOnlyPaths"]),
}
# Copies of /etc and /var that take what is written, an empty /run with what the packages want there, and a loopback.
SCRIPT = """set -e
mkdir -p "$0/over"
mount -t tmpfs tmpfs "$0/over"
for d in etc var; do
    mkdir -p "$0/over/$d/up" "$0/over/$d/work"
    mount -t overlay overlay -o "lowerdir=/$d,upperdir=$0/over/$d/up,workdir=$0/over/$d/work" "/$d"
done
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
systemd-tmpfiles --create memcached.conf postgresql-common.conf haproxy.conf
printf 'UsePAM no\\nStrictModes no\\nPermitRootLogin yes\\nAuthorizedKeysFile %s\\n' "$0/key.pub" >/etc/ssh/sshd_config.d/test.conf
exec "$@"
"""


@harness.needs_root
class Debian(Case):
    def setUp(self):
        missing = [u for u, _, _ in SERVICES.values() if not os.path.exists("%s/%s" % (UNITS, u))]
        if missing:
            self.skipTest("not installed: " + ", ".join(missing))
        if not harness.cgroup2():
            self.skipTest("no cgroup2")

    def prepare(self, *aliases):
        h = self.host()
        h.wrap = [*harness.own_root(), "unshare", "--mount", "--net", "sh", "-c", SCRIPT, h.dir]
        for i, alias in enumerate(aliases):
            shutil.copyfile("%s/%s" % (UNITS, SERVICES[alias][0]), "%s/%s.conf" % (h.workers, alias))
            os.mkdir("%s/%s.conf.d" % (h.workers, alias))
            h.write("workers.d/%s.conf.d/worker.conf" % alias, "[Worker]\nId=%d\n" % (i + 1))
        return h

    def tree(self, h, alias):
        """All processes in the worker's cgroups."""
        found = set()
        for leaf in h.leaves():
            if leaf == "w-" + alias or leaf.startswith("w-%s~" % alias):
                with open("%s/%s/cgroup.procs" % (h.cgroup_dir(), leaf), encoding="ascii") as f:
                    found |= {int(p) for p in f.read().split()}
        return found

    def test_all(self):
        h = self.prepare(*SERVICES)
        r = h.run_agentd("--check-config")
        self.assertEqual(r.returncode, 0, r.stderr)
        for alias, (_, _, keys) in SERVICES.items():
            for key in keys:
                self.assertRegex(r.stderr, r"%s\.conf:\d+:\d+: warning: %s= is systemd's, agentd does not have it" % (re.escape(alias), key))
        h.start()
        for alias in SERVICES:
            h.until(alias, "UP")
        for alias, (_, ports, _) in SERVICES.items():
            with self.subTest(alias):
                before = h.until(alias, "UP")
                tree = self.tree(h, alias)
                self.assertIn(before["pid"], tree)
                if ports:
                    eventually(lambda: h.record(alias)["ports"] == ports, what="%s on %s, not %s" % (alias, ports, h.record(alias)["ports"]))
                r = h.operation(alias, "restart")
                self.assertEqual(r.status, 200, r)
                now = h.until(alias, "UP")
                self.assertNotEqual(now["pid"], before["pid"])
                self.assertEqual([p for p in tree if is_alive(p)], [])
                if ports:
                    eventually(lambda: h.record(alias)["ports"] == ports)
                r = h.operation(alias, "stop")
                self.assertEqual(r.status, 200, r)
                self.assertEqual((h.record(alias)["state"], self.tree(h, alias)), ("DOWN", set()))
                self.assertEqual(h.operation(alias, "start").status, 200)
        self.assertEqual(h.operation("nginx", "reload").status, 200)
        self.assertEqual(h.operation("ssh", "reload").status, 200)
        h.all_up(60)
        h.stop()

    def test_logins(self):
        """A restart of sshd leaves them alone and lists them, and so do the next agentd and the one after it."""
        h = self.prepare("ssh")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.dir + "/key"], check=True)
        h.start()
        eventually(lambda: h.record("ssh")["ports"] == "22")
        login = subprocess.Popen(["nsenter", "-t", str(h.pid), "-n", "ssh", "-F", "none", "-i", h.dir + "/key", "-o", "StrictHostKeyChecking=no",
                                  "-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1", "echo here; exec cat"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(login.wait)
        self.addCleanup(login.kill)
        self.assertEqual(login.stdout.readline(), "here\n")
        main = h.record("ssh")["pid"]
        logins = self.tree(h, "ssh") - {main}
        self.assertTrue(logins)
        r = h.operation("ssh", "restart")
        self.assertEqual((r.status, set(r.data["leftovers"])), (200, logins), r)
        for _ in range(2):
            self.assertEqual(set(h.record("ssh")["leftovers"]), logins)
            self.assertNotIn(h.record("ssh")["pid"], logins | {main})
            h.kill()
            h.start()
        r = h.operation("ssh", "stop")
        self.assertEqual((r.status, set(r.data["leftovers"])), (200, logins), r)
        self.assertEqual(set(h.record("ssh")["leftovers"]), logins)
        login.stdin.write("still\n")
        login.stdin.flush()
        self.assertEqual(login.stdout.readline(), "still\n")
        login.stdin.close()
        self.assertEqual(login.wait(harness.DEADLINE), 0)
        eventually(lambda: not any(is_alive(p) for p in logins))
        eventually(lambda: h.operation("ssh", "start").status == 200 and h.record("ssh")["leftovers"] == [])
        h.stop()
