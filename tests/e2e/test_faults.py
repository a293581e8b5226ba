# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is said with its stage, cause and path, and costs nobody else anything."""
import json
import os

import harness
from harness import Case, HOST_ID, both, eventually, is_alive


@both
class DoesNotComeUp(Case):
    """Each of these workers can't be started; two good ones stand beside them."""
    cgroup = True

    def setUp(self):
        super().setUp()
        self.h = h = self.host(cgroup=self.cgroup)
        h.worker("good")
        h.worker("fine", "--children 1")
        d = h.dir
        self.plain = h.write("plain", "#!/bin/sh\n", 0o644)
        self.noexec = h.write("noexec", "no program\n", 0o755)
        self.script = h.write("script", "#!%s/no-interpreter\n" % d, 0o755)
        os.mkdir(d + "/out")
        os.symlink(d + "/target", d + "/out/link")
        os.mkfifo(d + "/out/fifo")
        with open(d + "/out/first", "w", encoding="ascii"):
            pass
        os.link(d + "/out/first", d + "/out/second")
        os.mkdir(d + "/out/folder")

    def check(self, alias, id, stage, cause, path):
        h = self.h
        others = {a: p for a, p in h.pids_of_all().items() if a in ("good", "fine")}
        for prefix in ("", "/api/v2"):
            r = h.verb(id, "restart", prefix)
            self.assertEqual(r.status, 500, r)
            self.assertIs(r.json["successful"], False)
            self.assertNotIn("data", r.json)
            for part in (stage, cause, path):
                self.assertIn(part, r.message)
            self.assertEqual(r.headers["Agentd-Operation"] is not None, True)
        w = h.record(alias)
        self.assertEqual((w["alive"], w["pid"]), (False, 0))
        for part in (stage, cause, path):
            self.assertIn(part, w["message"])
        self.assertEqual(w["lastExit"]["kind"], "spawn-failed")
        self.assertIn(w["state"], ("BACKOFF", "COOLDOWN", "STARTING", "KILLING"))
        self.assertEqual(h.process(id)["status"], "STOPPED")
        self.assertEqual({a: p for a, p in h.pids_of_all().items() if a in others}, others)
        self.assertEqual(h.verb(id, "stop").status, 200)
        self.assertEqual(h.record(alias)["state"], "DOWN")
        self.assertEqual(h.processes(alias), {})

    def test_program(self):
        h = self.h
        rows = [
            ("missing", dict(command=h.dir + "/not-there"), "executing", "ENOENT", h.dir + "/not-there"),
            ("plain", dict(command=self.plain), "executing", "EACCES", self.plain),
            ("noexec", dict(command=self.noexec), "executing", "ENOEXEC", self.noexec),
            ("script", dict(command=self.script), "executing", "ENOENT", self.script),
            ("folder", dict(command=h.dir + "/out"), "executing", "EACCES", h.dir + "/out"),
            ("nodir", dict(service="WorkingDirectory=%s/nowhere" % h.dir), "working directory", "ENOENT", h.dir + "/nowhere"),
            ("notdir", dict(service="WorkingDirectory=" + self.plain), "working directory", "ENOTDIR", self.plain),
        ]
        self.run_rows(rows)

    def test_output(self):
        o = self.h.dir + "/out"
        rows = [(name, dict(service="StandardOutput=append:%s/%s" % (o, path)), "standard output", cause, o + "/" + path)
                for name, path, cause in (("link", "link", "ELOOP"), ("fifo", "fifo", ""), ("hard", "second", "EMLINK"),
                                          ("folder", "folder", "EISDIR"), ("gone", "no/where", "ENOENT"))]
        rows.append(("err", dict(service="StandardError=append:%s/link" % o), "standard error", "ELOOP", o + "/link"))
        self.run_rows(rows)
        self.assertFalse(os.path.exists(self.h.dir + "/target"))
        self.assertEqual(os.path.getsize(o + "/first"), 0)

    def run_rows(self, rows):
        ids = {alias: self.h.worker(alias, **how) for alias, how, _, _, _ in rows}
        self.h.start()
        self.h.until("good", "UP")
        self.h.until("fine", "UP")
        for alias, _, stage, cause, path in rows:
            with self.subTest(alias):
                self.check(alias, ids[alias], stage, cause, path)
        # once what was missing is there, the next request overrides what the failures had brought
        self.h.stop()

    def test_repaired(self):
        id = self.h.worker("late", command=self.h.dir + "/late")
        self.h.start()
        self.h.until("late", "BACKOFF")
        os.symlink(harness.WORKER, self.h.dir + "/late")
        r = self.h.verb(id, "restart")
        self.assertEqual((r.status, r.data["status"]), (200, "STARTED"), r)
        self.assertEqual(self.h.record("late")["message"], "")
        self.h.stop()

    def test_unknown_user(self):
        id = self.h.worker("who", service="User=no-such-user-here")
        r = self.h.run_agentd("--check-config")
        self.assertEqual(r.returncode, 2)
        self.assertRegex(r.stderr, r"who\.conf:\d+:\d+: .*no-such-user-here")
        self.h.start()
        for other in ("good", "fine"):
            self.h.until(other, "UP")
        before = {a: w["pid"] for a, w in self.h.all().items() if a != "who"}
        r = self.h.verb(id, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertRegex(r.message, "changing the user.*no-such-user-here")
        self.assertRegex(self.h.record("who")["message"], "no-such-user-here")
        self.assertEqual(before, {a: w["pid"] for a, w in self.h.all().items() if a != "who"})
        self.h.stop()


@both
class DiesEarly(Case):
    cgroup = True

    def test_before_ready(self):
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        seen = h.dir + "/seen"
        id = h.worker("die", "--log %s x --stderr \"of generation ${AGENTD_GENERATION}\" --stderr last-words --delay 20 --exit 7" % seen,
                      service="Restart=no", section="ReadyCheck=tcp:%d" % port, command=None)
        note = h.worker("note", "--stderr \"no way\" --kill 9", "Type=notify\nRestart=no")
        mute = h.worker("mute", "--exit 4", "Type=notify\nRestart=no\nStandardError=null")
        h.start()
        eventually(lambda: h.record("die")["lastExit"])
        h.until("die", "DOWN")
        r = h.verb(id, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertIn("status 7", r.message)
        self.assertIn("last-words", r.message)
        self.assertEqual(r.message.count("last-words"), 1, "lines of the incarnation before are shown too")
        w = h.record("die")
        self.assertEqual((w["lastExit"]["kind"], w["lastExit"]["status"]), ("exited", 7))
        eventually(lambda: h.record("note")["lastExit"])
        h.until("note", "DOWN")
        r = h.verb(note, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertIn("signal 9", r.message)
        self.assertIn("no way", r.message)
        w = h.record("note")["lastExit"]
        self.assertEqual((w["kind"], w["signal"]), ("killed", 9))
        eventually(lambda: h.record("mute")["lastExit"])
        h.until("mute", "DOWN")
        r = h.verb(mute, "start")
        self.assertEqual(r.status, 500, r)
        self.assertIn("status 4", r.message)
        h.stop()

    def test_never_ready(self):
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        id = h.worker("never", "--children 2 --grandchild --stderr waiting", "TimeoutStartSec=300ms\nRestart=no", "ReadyCheck=tcp:%d" % port)
        h.start()
        eventually(lambda: h.record("never")["lastExit"])
        h.until("never", "DOWN")
        r = h.verb(id, "restart")
        self.assertEqual(r.status, 500, r)
        self.assertIn("TimeoutStartSec", r.message)
        self.assertIn("waiting", r.message)
        self.assertEqual(h.processes("never"), {})
        h.stop()

    def test_crash_loop(self):
        h = self.host(cgroup=self.cgroup)
        flag = h.dir + "/flag"
        id = h.worker("loop", service="RestartSec=20ms\nRestartMaxDelaySec=60ms\nStartLimitBurst=4\nStartLimitIntervalSec=60",
                      command="/bin/sh -c \"[ -e %s ] && exec %s; exit 3\"" % (flag, harness.WORKER))
        steady = h.worker("steady")
        h.start()
        pid = h.until("steady", "UP")["pid"]
        w = h.until("loop", "COOLDOWN")
        self.assertIn("status 3", w["message"])
        self.assertGreaterEqual(w["generation"], 4)
        self.assertLessEqual(w["generation"], 6)
        self.assertIsNotNone(w["nextRetryAt"])
        generation = w["generation"]
        # it is simple, so the restart answers at exec; what matters: it is tried at once, although it cools down
        r = h.verb(id, "restart")
        self.assertIn(r.status, (200, 500))
        self.assertGreater(h.record("loop")["generation"], generation)
        h.until("loop", "COOLDOWN")
        with open(flag, "w", encoding="ascii"):
            pass
        r = h.verb(id, "restart")
        self.assertEqual(r.status, 200, r)
        # sh needs a moment to become the worker; it stays
        self.assertTrue(is_alive(r.data["pid"]))
        self.assertEqual(h.process(steady)["pid"], pid)
        h.stop()

    def test_restart_no(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("no", "--exit 3", "Restart=no")
        h.worker("clean", "--exit 0", "Restart=on-failure")
        h.worker("dirty", "--delay 5 --exit 1", "Restart=on-failure\nRestartSec=5ms\nStartLimitBurst=3")
        h.worker("fine", "--exit 5", "Restart=on-failure\nSuccessExitStatus=5")
        h.worker("prevented", "--exit 6", "Restart=always\nRestartPreventExitStatus=6")
        h.start()
        for alias, status in (("no", 3), ("clean", 0), ("fine", 5), ("prevented", 6)):
            eventually(lambda a=alias: h.record(a)["lastExit"])
            w = h.until(alias, "DOWN")
            self.assertEqual((alias, w["generation"], w["lastExit"]["status"]), (alias, 1, status))
        self.assertGreaterEqual(h.until("dirty", "COOLDOWN")["generation"], 3)
        h.stop()


@both
class DoesNotGo(Case):
    cgroup = True

    def test_ignores_term(self):
        h = self.host(cgroup=self.cgroup)
        id = h.worker("deaf", "--ignore-term --children 1 --grandchild", "TimeoutStopSec=300ms", "ReadyCheck=stable:50ms")
        h.worker("other")
        h.start()
        pids = h.all_up()
        tree = h.processes("deaf")
        self.assertEqual(len(tree), 3)
        r = h.operation("deaf", "restart")
        self.assertEqual([p for p in tree if is_alive(p)], [])
        self.assertEqual((r.status, r.data["result"]), (200, "done"), r)
        self.assertIn(pids["deaf"]["pid"], r.data["killed"])
        self.assertEqual(sorted(r.data["killed"]), sorted(tree))
        self.assertEqual(r.data["survivors"], [])
        self.assertEqual(h.record("other")["pid"], pids["other"]["pid"])
        r = h.verb(id, "stop")
        self.assertEqual((r.status, h.processes("deaf")), (200, {}))
        h.stop()

    def test_grandchild_ignores_term(self):
        h = self.host(cgroup=self.cgroup)
        id = h.worker("leaves", "--slow-stop 0 --delay 0 --children 1", "TimeoutStopSec=300ms")
        deaf = h.worker("deaf", command="/bin/sh -c \"%s --ignore-term --grandchild & exec %s\"" % (harness.WORKER, harness.WORKER),
                        service="TimeoutStopSec=300ms", section="ReadyCheck=stable:100ms")
        h.start()
        h.all_up()
        tree = h.processes("deaf")
        self.assertEqual(len(tree), 3, tree)
        r = h.verb(deaf, "restart")
        self.assertEqual([p for p in tree if is_alive(p)], [])
        self.assertEqual(r.status, 200, r)
        self.assertEqual(h.verb(id, "restart").status, 200)
        h.stop()

    def test_main_dies_tree_stays(self):
        """A crash of the main process ends its whole tree before the next generation starts."""
        h = self.host(cgroup=self.cgroup)
        h.worker("crash", "--children 2 --grandchild", "RestartSec=1ms", "ReadyCheck=stable:50ms")
        h.start()
        w = h.all_up()["crash"]
        tree = h.processes("crash")
        self.assertEqual(len(tree), 4)
        os.kill(w["pid"], 9)
        eventually(lambda: (lambda r: r["generation"] == 2 and r["state"] == "UP")(h.record("crash")))
        self.assertEqual([p for p in tree if is_alive(p)], [])
        h.tree("crash", 4)
        h.stop()


@harness.needs_root
class Hopper(Case):
    def test_a_process_that_forks_and_leaves(self):
        """No pidfd can hold it: cgroup.kill does."""
        h = self.host()
        if not h.cgroup:
            self.skipTest("no cgroup2")
        id = h.worker("hop", "--hop 1", "TimeoutStopSec=500ms", "ReadyCheck=stable:50ms")
        h.start()
        h.all_up()
        r = h.verb(id, "restart")
        self.assertEqual(r.status, 200, r)
        generation = h.record("hop")["generation"]
        self.assertTrue(all(c.endswith(":%d" % generation) for c in h.processes("hop").values()))
        self.assertEqual(h.verb(id, "stop").status, 200)
        self.assertEqual(h.processes("hop"), {})
        h.stop()


class BadRequests(Case):
    def test_answers(self):
        h = self.host()
        id = h.worker("web")
        fixed = h.worker("fixed", section="Operable=no")
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        base = "/compute/hosts/%d/agent/processes" % HOST_ID
        rows = [
            ("POST", "/compute/hosts/21/agent/processes/%d/restart" % id, 404),
            ("POST", "/compute/hosts/x/agent/processes/%d/restart" % id, 404),
            ("POST", base + "/99999/restart", 404),
            ("POST", base + "/x/restart", 400),
            ("GET", base + "/99999", 404),
            ("GET", "/compute/hosts/21/agent/processes", 404),
            ("GET", base + "/%d/restart" % id, 405),
            ("POST", base + "/%d" % id, 405),
            ("POST", base + "/%d/explode" % id, 404),
            ("GET", "/nothing", 404),
            ("GET", base + "?page=0", 400),
            ("GET", "/agentd/v1/workers/nobody", 404),
            ("GET", "/agentd/v1/operations/none", 404),
            ("POST", base + "/%d/restart" % fixed, 409),
            ("POST", base + "/%d/stop" % fixed, 409),
            ("POST", base + "/%d/start" % fixed, 409),
            ("POST", "/agentd/v1/workers/fixed/restart", 409),
        ]
        for method, path, status in rows:
            for prefix in ("", "/api/v2"):
                with self.subTest(path, method=method, prefix=prefix):
                    r = h.http(method, prefix + path)
                    self.assertEqual(r.status, status, r)
                    self.assertIs(r.json["successful"], False)
                    self.assertEqual(set(r.json), harness.ENVELOPE - {"data"} | {"error"})
                    self.assertTrue(r.json["error"]["message"])
                    self.assertEqual(r.headers["Allow"] is not None, status == 405)
        json_type = {"Content-Type": "application/json"}
        for body in ("{", '{"a":1,}', "[1 2]", '{"a":1} x', "\x00", "{" * 100):
            with self.subTest(body=body):
                r = h.http("POST", base + "/%d/restart" % id, headers=json_type, body=body)
                self.assertEqual(r.status, 400, r)
        self.assertEqual(h.pids_of_all(), before)
        self.assertIs(h.process(fixed)["operable"], False)
        h.stop()

    def test_no_host_id(self):
        h = self.host()
        h.worker("web")
        h.write("agentd.conf", h.agentd_conf().replace("HostId=%d\n" % HOST_ID, ""))
        h.start()
        h.all_up()
        r = h.http("GET", "/compute/hosts/20/agent/processes")
        self.assertEqual(r.status, 503)
        self.assertIn("agentctl setup", r.message)
        self.assertEqual(h.operation("web", "restart").status, 200)
        h.stop()

    def test_pages(self):
        h = self.host()
        for i in range(25):
            h.worker("w%02d" % i)
        h.start()
        h.all_up()
        base = "/compute/hosts/%d/agent/processes" % HOST_ID
        d = h.ok("GET", base)
        self.assertEqual((len(d["contents"]), d["page"]), (20, {"totalElements": 25, "totalPages": 2, "number": 1, "size": 20}))
        more = h.ok("GET", base + "?page=2&size=10")
        self.assertEqual((len(more["contents"]), more["page"]["number"]), (10, 2))
        self.assertEqual(more["contents"], d["contents"][10:20] and more["contents"])
        self.assertEqual({p["alias"] for p in d["contents"]} | {p["alias"] for p in h.ok("GET", base + "?page=2")["contents"]},
                         {"w%02d" % i for i in range(25)})
        for p in d["contents"]:
            self.assertEqual(set(p), harness.PROCESS_FIELDS)
        agent = h.ok("GET", "/compute/hosts/%d/agent" % HOST_ID)
        self.assertEqual(len(agent["processes"]), 25)
        self.assertEqual(json.loads(json.dumps(agent))["hostId"], HOST_ID)
        h.stop()
