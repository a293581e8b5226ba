# SPDX-License-Identifier: Apache-2.0
"""Configuration: told with file, line and column; wrong files cost what they define; HUP changes what changed."""
import os
import signal
import socket
import subprocess

import harness
from harness import Case, both, eventually


class Check(Case):
    def test_good(self):
        h = self.host()
        h.worker("web")
        r = h.run_agentd("--check-config")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "", ""))

    def test_all_errors_at_once(self):
        h = self.host()
        h.write("workers.d/a.conf", "[Service]\nExecStart=/bin/true\nTimeoutStopSecs=3\n")
        h.write("workers.d/b.conf", "[Service]\nExecStart=relative\nRestart=sometimes\n[Nothing]\nX=1\n")
        h.write("agentd.conf", h.agentd_conf().replace("HostId=20", "HostId=twenty"))
        r = h.run_agentd("--check-config")
        self.assertEqual((r.returncode, r.stdout), (2, ""))
        for pattern in (r"a\.conf:3:1: .*did you mean.*TimeoutStopSec", r"b\.conf:2:\d+: ", r"b\.conf:3:\d+: ", r"b\.conf:4:\d+: ",
                        r"agentd\.conf:2:\d+: "):
            self.assertRegex(r.stderr, pattern)
        for line in r.stderr.splitlines():
            self.assertRegex(line, r"^/\S+:\d+:\d+: \S")

    def test_dump_is_read_again(self):
        h = self.host()
        h.worker("web", "--listen 1", "Environment=\"A=b c\"\nRestart=on-failure", "ReadyCheck=tcp:1")
        r = h.run_agentd("--dump-config")
        self.assertEqual(r.returncode, 0, r.stderr)
        for text in ("HostId=20", "Restart=on-failure", "ReadyCheck=tcp:1"):
            self.assertIn(text, r.stdout)

    def test_usage(self):
        h = self.host()
        self.assertEqual(h.run_agentd("--no-such-option").returncode, 2)
        self.assertEqual(h.run_agentd("word").returncode, 2)
        r = h.run_agentd("--version")
        self.assertEqual((r.returncode, r.stdout[:7]), (0, "agentd "))


class Start(Case):
    def refused(self, h, pattern, code):
        r = h.run_agentd()
        self.assertEqual(r.returncode, code, r.stderr)
        self.assertRegex(r.stderr, pattern)
        self.assertFalse(os.path.exists(h.socket))
        self.assertEqual(h.processes(), {})

    def test_broken_agentd_conf(self):
        h = self.host()
        h.worker("web")
        h.write("agentd.conf", h.agentd_conf() + "Nonsense=1\n")
        self.refused(h, r"agentd\.conf:\d+:\d+: ", 2)
        h.write("agentd.conf", h.agentd_conf(), 0o666)
        self.refused(h, "writable", 2)
        os.unlink(h.dir + "/agentd.conf")
        self.refused(h, "agentd.conf", 2)

    def test_broken_worker(self):
        h = self.host()
        good = h.worker("good")
        h.worker("bad", service="Bogus=1")
        h.worker("open")
        os.chmod(h.workers + "/open.conf", 0o666)
        h.start()
        self.assertEqual(set(h.all_up()), {"good"})
        self.assertRegex(h.log(), r"bad\.conf:\d+:\d+: ")
        self.assertRegex(h.log(), r"open\.conf.*writable")
        self.assertEqual(h.verb(good, "restart").status, 200)
        h.stop()

    @harness.needs_root
    def test_file_of_somebody_else(self):
        h = self.host()
        h.worker("theirs")
        os.chown(h.workers + "/theirs.conf", harness.ORDINARY, -1)
        h.worker("good")
        h.start()
        self.assertEqual(set(h.all_up()), {"good"})
        self.assertRegex(h.log(), r"theirs\.conf.*uid %d" % harness.ORDINARY)
        h.stop()

    def test_second_agentd(self):
        h = self.host()
        h.worker("web")
        h.start()
        before = h.all_up()["web"]["pid"]
        r = h.run_agentd()
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn("pid %d" % h.pid, r.stderr)
        self.assertEqual(h.record("web")["pid"], before)
        self.assertEqual(h.operation("web", "restart").status, 200)
        h.stop()

    def test_socket_in_use(self):
        """Another RuntimeDirectory, the same socket: the second takes nothing away from the first."""
        h = self.host()
        h.worker("web")
        h.start()
        h.all_up()
        other = self.host()
        other.write("agentd.conf", other.agentd_conf().replace(other.socket, h.socket))
        r = other.run_agentd()
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn(h.socket, r.stderr)
        self.assertEqual(h.operation("web", "restart").status, 200)
        h.stop()

    def test_stop_by_int(self):
        h = self.host()
        h.worker("web", "--children 1 --grandchild")
        h.start()
        h.all_up()
        h.proc.send_signal(signal.SIGINT)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        h.assert_nothing_left()

    def test_workers_stay(self):
        """StopWorkersOnExit=no: they run on, and the next agentd knows them."""
        h = self.host(agent="StopWorkersOnExit=no")
        h.worker("web", "--children 1", section="ReadyCheck=stable:20ms")
        h.start()
        w = h.all_up()["web"]
        h.proc.send_signal(signal.SIGTERM)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        h.tree(None, 2)
        h.start()
        again = h.all_up()["web"]
        self.assertEqual((again["pid"], again["ownership"]), (w["pid"], "adopted"))
        h.tree(None, 2)
        h.write("agentd.conf", h.agentd_conf().replace("StopWorkersOnExit=no", "StopWorkersOnExit=yes"))
        h.ok("POST", "/agentd/v1/reload")
        h.stop()


@both
class Reload(Case):
    cgroup = True

    def test_hup(self):
        h = self.host(cgroup=self.cgroup)
        for alias in ("same", "changes", "breaks", "goes", "relabelled"):
            h.worker(alias, "--children 1", section="ReadyCheck=stable:10ms")
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        h.worker("changes", "--children 2", section="ReadyCheck=stable:10ms", id=102)
        h.write("workers.d/breaks.conf", "[Service]\nExecStart=/bin/true\nWrong=1\n")
        h.worker("relabelled", "--children 1", "TimeoutStopSec=3", "ReadyCheck=stable:10ms\nLogFilePattern=/tmp/nothing*.log", id=105)
        h.remove("goes")
        new = h.worker("new")
        tree = h.processes("goes")
        h.drain()
        h.proc.send_signal(signal.SIGHUP)
        h.wait_notify("RELOADING=1")
        h.wait_notify("READY=1")
        eventually(lambda: set(h.all()) == {"same", "changes", "breaks", "relabelled", "new"}, what="five workers")
        eventually(lambda: len(h.processes("changes")) == 3)
        h.all_up()
        now = h.pids_of_all()
        for alias in ("same", "breaks", "relabelled"):
            self.assertEqual(now[alias], before[alias], alias)
        self.assertNotEqual(now["changes"], before["changes"])
        self.assertEqual([p for p in tree if harness.is_alive(p)], [])
        self.assertEqual(h.process(new)["status"], "STARTED")
        self.assertEqual(h.process(105)["logFilePattern"], "/tmp/nothing*.log")
        self.assertRegex(h.log(), r"breaks\.conf:\d+:\d+: ")
        # its process dies: it comes back on the last good definition
        os.kill(before["breaks"], signal.SIGKILL)
        eventually(lambda: h.record("breaks")["generation"] == 2 and h.record("breaks")["state"] == "UP")
        h.stop()

    def test_call(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("b")
        h.start()
        h.all_up()
        rows = h.ok("POST", "/agentd/v1/reload")["contents"]
        self.assertEqual(rows, [])
        h.worker("a", "--children 1", id=101)
        h.remove("b")
        h.worker("c")
        rows = {r["alias"]: r["action"] for r in h.ok("POST", "/agentd/v1/reload")["contents"]}
        self.assertEqual(rows, {"a": "restart", "b": "remove", "c": "add"})
        h.write("workers.d/d.conf", "[Service]\nExecStart=/bin/true\nWrong=1\n")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500, r)
        self.assertRegex(r.message, r"d\.conf:3:\d+: ")
        h.write("agentd.conf", h.agentd_conf() + "Wrong=1\n")
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500, r)
        self.assertRegex(r.message, r"agentd\.conf:\d+:\d+: ")
        eventually(lambda: set(h.all_up()) == {"a", "c"})
        h.stop()

    def test_stopped_stays_stopped(self):
        h = self.host(cgroup=self.cgroup)
        id = h.worker("off")
        h.start()
        h.all_up()
        h.verb(id, "stop")
        h.worker("off", "--children 1", id=id)
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(h.record("off")["state"], "DOWN")
        self.assertEqual(h.processes(), {})
        h.remove("off")
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual(h.all(), {})
        h.stop()

    def test_many_hups_while_restarting(self):
        h = self.host(cgroup=self.cgroup)
        ids = [h.worker("w%d" % i, "--children 1") for i in range(5)]
        h.start()
        h.all_up()
        for i in range(20):
            h.worker("w1", "--children %d" % (i % 3), id=ids[1])
            h.proc.send_signal(signal.SIGHUP)
            self.assertEqual(h.verb(ids[i % 5], "restart").status, 200)
        h.worker("w1", "--children 4", id=ids[1])
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: len(h.processes("w1")) == 5)
        self.assertEqual(len(h.all_up()), 5)
        h.stop()


class Sockets(Case):
    def test_usr1(self):
        h = self.host()
        h.worker("web")
        h.start()
        h.all_up()
        os.unlink(h.socket)
        h.proc.send_signal(signal.SIGUSR1)
        eventually(lambda: os.path.exists(h.socket))

        def answers():
            try:
                return h.record("web")["state"] == "UP"
            except OSError:
                return False
        eventually(answers, 10)
        h.stop()

    def test_unlinked(self):
        """Noticed without a signal, however it is taken away; who is connected stays so."""
        h = self.host()
        h.worker("web")
        h.start()
        h.all_up()
        kept = h.connect()
        kept.request("GET", "/agentd/v1/workers/web")
        self.assertEqual(kept.getresponse().read()[:7], b'{"data"')

        def answers():
            try:
                return h.record("web")["state"] == "UP"
            except OSError:
                return False
        for path in (h.socket, h.run + "/private"):
            for how in ("unlink", "rename", "cover"):
                with self.subTest(path=path, how=how):
                    before = os.lstat(path).st_ino
                    if how == "unlink":
                        os.unlink(path)
                    elif how == "rename":
                        os.rename(path, path + ".away")
                        os.unlink(path + ".away")
                    else:
                        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                            s.bind(path + ".other")
                        os.rename(path + ".other", path)
                    eventually(lambda: os.path.exists(path) and os.lstat(path).st_ino != before and answers(), 10)
                    if path != h.socket:
                        r = eventually(lambda: (lambda r: r.returncode == 1 and r)(h.ctl("--private", path, "adopt", "web", "99999999")))
                        self.assertIn("no process 99999999", r.stderr)
        kept.request("GET", "/agentd/v1/workers/web")
        self.assertEqual(kept.getresponse().status, 200)
        kept.close()
        h.stop()

    def test_tcp(self):
        import base64
        import http.client
        port = harness.free_port()
        h = self.host(rpc="ListenStream=127.0.0.1:%d" % port)
        h.worker("web")
        r = h.run_agentd()
        self.assertNotEqual(r.returncode, 0, "TCP without a credential is refused")
        crypted = subprocess.run(["/usr/bin/perl", "-e", "print crypt('secret', '$6$rounds=1000$salt')"],
                                 capture_output=True, text=True, check=True).stdout
        h.write("credentials", "basic ann HOST_MANAGER %s\nbasic joe HOST_VIEWER %s\n" % (crypted, crypted), 0o600)
        h.start()
        h.all_up()

        def ask(method, path, user=None, password="secret"):
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
            head = {"Content-Length": "0"} if method == "POST" else {}
            if user:
                head["Authorization"] = "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()
            c.request(method, path, None, head)
            r = c.getresponse()
            body = r.read()
            c.close()
            return r.status, body
        restart = "/api/v2/compute/hosts/20/agent/processes/101/restart"
        self.assertEqual(ask("POST", restart)[0], 401)
        self.assertEqual(ask("POST", restart, "ann", "wrong")[0], 401)
        self.assertEqual(ask("POST", restart, "joe")[0], 403)
        self.assertEqual(ask("GET", "/agentd/v1/workers", "joe")[0], 200)
        self.assertEqual(ask("POST", restart, "ann")[0], 200)
        for p in (h.pid, h.rpc_pid()):
            with open("/proc/%d/cmdline" % p, "rb") as f:
                self.assertNotIn(b"secret", f.read())
        self.assertNotIn("secret", h.log().replace("secret of", ""))
        h.stop()
