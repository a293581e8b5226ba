# SPDX-License-Identifier: Apache-2.0
"""The call that all is for: POST .../processes/{id}/restart tells the truth, each time, for each kind of worker."""
import concurrent.futures
import os
import socket
import sys

import harness
from harness import Case, both, eventually, is_alive


class Mixed(Case):
    """A host with a worker of each kind."""
    cgroup = True
    wrap = ()

    def setUp(self):
        super().setUp()
        self.h = h = self.host(cgroup=self.cgroup, wrap=self.wrap)
        self.tcp, self.udp = harness.free_port(), harness.free_port(socket.SOCK_DGRAM)
        self.other = harness.free_port()
        self.kinds = {
            "simple": h.worker("simple"),
            "tree": h.worker("tree", "--udp %d --children 3 --grandchild --listen %d" % (self.udp, self.other),
                             section="ReadyCheck=tcp:%d" % self.other),
            "tcp": h.worker("tcp", "--delay 30 --listen %d" % self.tcp, section="ReadyCheck=tcp:%d" % self.tcp),
            "notify": h.worker("notify", "--delay 30 --notify READY=1", "Type=notify"),
            "unix": h.worker("unix", "--delay 30 --unix %s/u.sock" % h.dir, section="ReadyCheck=unix:%s/u.sock" % h.dir),
            "stable": h.worker("stable", "--children 1", section="ReadyCheck=stable:100ms"),
        }
        h.start()
        h.all_up()

    def check_record(self, r, id, alias, old):
        self.assertEqual(set(r), harness.PROCESS_FIELDS)
        self.assertEqual((r["id"], r["hostId"], r["alias"], r["status"]), (id, harness.HOST_ID, alias, "STARTED"))
        self.assertNotEqual(r["pid"], old)
        self.assertTrue(is_alive(r["pid"]))
        self.assertLessEqual(r["elapsedTime"], 1)
        self.assertIn(harness.WORKER, r["startCommand"])
        self.assertEqual(r["ports"], harness.ss_ports(self.h.processes(alias)))

    def restart_one(self, alias, prefix):
        h, id = self.h, self.kinds[alias]
        before = h.pids_of_all()
        old = h.processes(alias)
        self.assertIn(before[alias], old)
        r = h.verb(id, "restart", prefix)
        left = [p for p in old if is_alive(p)]
        self.assertEqual(left, [], "of the old tree of " + alias)
        self.assertEqual(r.status, 200, r)
        self.assertEqual(set(r.json), harness.ENVELOPE)
        self.assertIs(r.json["successful"], True)
        self.check_record(r.data, id, alias, before[alias])
        after = h.pids_of_all()
        self.assertEqual(after.pop(alias), r.data["pid"])
        before.pop(alias)
        self.assertEqual(after, before)
        return r.data


@both
class EachKind(Mixed):
    def test_restart(self):
        for alias in self.kinds:
            for prefix in ("", "/api/v2"):
                with self.subTest(alias, prefix=prefix):
                    self.restart_one(alias, prefix)
        self.h.tree("tree", 5)
        for alias, ports in (("tree", {self.udp, self.other}), ("tcp", {self.tcp})):
            got = self.h.process(self.kinds[alias])["ports"]
            self.assertEqual(got, ",".join(str(p) for p in sorted(ports)))
            self.assertEqual(got, harness.ss_ports(self.h.processes(alias)))
        self.h.stop()

    def test_start_and_stop(self):
        h = self.h
        for alias, id in self.kinds.items():
            with self.subTest(alias):
                others = h.pids_of_all()
                one = others.pop(alias)
                r = h.verb(id, "start")
                self.assertEqual((r.status, r.data["pid"]), (200, one), r)
                tree = h.processes(alias)
                r = h.verb(id, "stop")
                self.assertEqual([p for p in tree if is_alive(p)], [])
                self.assertEqual(r.status, 200, r)
                self.assertEqual({k: r.data[k] for k in ("status", "pid", "elapsedTime", "ports")},
                                 {"status": "STOPPED", "pid": 0, "elapsedTime": 0, "ports": ""})
                self.assertEqual(set(r.data), harness.PROCESS_FIELDS)
                r = h.verb(id, "stop")
                self.assertEqual((r.status, r.data["pid"]), (200, 0), r)
                r = h.verb(id, "restart" if alias in ("tree", "tcp") else "start")
                self.assertEqual(r.status, 200, r)
                self.check_record(r.data, id, alias, one)
                self.assertEqual({a: p for a, p in h.pids_of_all().items() if a != alias}, others)
        h.stop()

    def test_operation_tells(self):
        r = self.h.operation("tree", "restart")
        self.assertEqual(r.status, 200)
        op = r.data
        self.assertEqual((op["verb"], op["result"], op["alias"]), ("restart", "done", "tree"))
        self.assertEqual(op["after"]["pid"], self.h.record("tree")["pid"])
        self.assertEqual(op["after"]["generation"], op["before"]["generation"] + 1)
        self.assertEqual([p["name"] for p in op["phases"]], ["stop", "spawn", "ready"])
        self.assertEqual(r.headers["Agentd-Operation"], op["id"])
        again = self.h.ok("GET", "/agentd/v1/operations/" + op["id"])
        self.assertEqual(again["result"], "done")
        self.assertEqual(again["before"], op["before"])

    def test_ports_of_one_that_is_ready_at_exec(self):
        port = harness.free_port()
        id = self.h.worker("early", "--delay 20 --listen %d" % port)
        self.h.ok("POST", "/agentd/v1/reload")
        self.h.all_up()
        self.h.verb(id, "restart")
        # what a client sees of it may be as old as SampleMaxAgeMs= says
        eventually(lambda: self.h.process(id)["ports"] == str(port), 3)

    def test_user_fields(self):
        r = self.h.process(self.kinds["simple"])
        self.assertEqual(r["user"], "root" if harness.ROOT else r["user"])
        self.assertRegex(r["createTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$")
        self.assertRegex(r["lastActiveTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$")
        again = self.h.verb(self.kinds["simple"], "restart").data
        for k in ("createTime", "updateTime", "startCommand", "user"):
            self.assertEqual(again[k], r[k], k)


class Measure:
    """Descriptors and private memory of agentd and its listener, cgroups; growth between two looks."""

    def __init__(self, h):
        self.h, self.rpc = h, h.rpc_pid()
        self.before = self.look()

    def look(self):
        memory = harness.private_kb(self.h.pid) + harness.private_kb(self.rpc)
        return harness.descriptors(self.h.pid), harness.descriptors(self.rpc), memory, self.h.leaves()

    def check(self, case):
        case.assertEqual(self.h.rpc_pid(), self.rpc, "agentd-rpc died on the way")
        # a closing connection or helper may be a moment behind its reply
        eventually(lambda: self.look()[:2] <= self.before[:2], 10, "descriptors back to %r, not %r" % (self.before, self.look()))
        now = self.look()
        case.assertEqual(now[3], self.before[3])
        if not harness.SANITIZED:
            case.assertLess(now[2], self.before[2] + 600)


@both
class Many(Case):
    cgroup = True

    def test_in_a_row(self):
        h = self.host(cgroup=self.cgroup)
        ids = {"simple": h.worker("simple"), "tree": h.worker("tree", "--children 2 --grandchild")}
        h.start()
        h.all_up()
        for id in ids.values():
            for _ in range(10):
                h.verb(id, "restart")
        m = Measure(h)
        times = 20 if harness.SANITIZED else 200
        for i in range(times):
            alias = ("simple", "tree")[i % 10 == 9]
            r = h.verb(ids[alias], "restart")
            self.assertEqual(r.status, 200, r)
        self.assertEqual(sum(w["generation"] for w in h.all().values()), times + 22)
        m.check(self)
        h.stop()

    def test_at_once_on_different_workers(self):
        h = self.host(cgroup=self.cgroup)
        ids = [h.worker("w%d" % i, "--children 1" if i % 3 == 0 else "") for i in range(20)]
        h.start()
        h.all_up()
        m = None
        for _ in range(4):
            if m is None:
                m = Measure(h)
            before = h.pids_of_all()
            with concurrent.futures.ThreadPoolExecutor(20) as pool:
                replies = list(pool.map(lambda id: h.verb(id, "restart"), ids))
            self.assertEqual([r.status for r in replies], [200] * 20, replies)
            after = h.pids_of_all()
            self.assertEqual(after, {r.data["alias"]: r.data["pid"] for r in replies})
            self.assertEqual([a for a in after if after[a] == before[a]], [])
        m.check(self)
        h.stop()

    def test_at_once_on_one_worker(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        id = h.worker("one", gate.args + "--slow-stop 30000 --notify READY=1", "Type=notify")
        h.start()
        h.all_up()
        before = h.record("one")["generation"]
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(h.verb, id, "restart") for _ in range(20)]
            eventually(lambda: b"\nagentd_calls 20\n" in h.http("GET", "/metrics").body, what="all twenty of them at agentd")
            gate.open()
            replies = [a.result(harness.DEADLINE) for a in asked]
        self.assertEqual([r.status for r in replies], [200] * 20, replies)
        now = h.record("one")
        self.assertIn(now["generation"] - before, (1, 2))
        self.assertIn(now["pid"], [r.data["pid"] for r in replies])
        h.stop()

    def test_opposite_supersedes(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        id = h.worker("slow", gate.args + "--slow-stop 30000 --notify READY=1", "Type=notify")
        h.start()
        h.all_up()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            restart = pool.submit(h.verb, id, "restart")
            h.until("slow", "STOPPING")
            stop = pool.submit(h.verb, id, "stop")
            r = restart.result(harness.DEADLINE)
            gate.open()
            stop = stop.result(harness.DEADLINE)
        self.assertEqual((stop.status, stop.data["pid"]), (200, 0), stop)
        self.assertEqual(r.status, 409, r)
        self.assertIn("superseded", r.message)
        self.assertEqual(h.record("slow")["state"], "DOWN")
        gate.shut()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            h.verb(id, "start")
            stopping = pool.submit(h.verb, id, "stop")
            h.until("slow", "STOPPING")
            start = pool.submit(h.verb, id, "start")
            self.assertEqual(stopping.result(harness.DEADLINE).status, 409)
            gate.open()
            start = start.result(harness.DEADLINE)
        self.assertEqual((start.status, start.data["status"]), (200, "STARTED"), start)
        h.stop()

    def test_start_joins_a_start(self):
        h = self.host(cgroup=self.cgroup)
        gate = h.gate()
        id = h.worker("slow", gate.args + "--delay 30000 --notify READY=1", "Type=notify")
        gate.open()
        h.start()
        h.all_up()
        h.verb(id, "stop")
        gate.shut()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(h.verb, id, "start") for _ in range(8)]
            eventually(lambda: b"\nagentd_calls 8\n" in h.http("GET", "/metrics").body, what="all eight of them at agentd")
            gate.open()
            replies = [a.result(harness.DEADLINE) for a in asked]
        self.assertEqual({(r.status, r.data["pid"]) for r in replies}, {(200, h.record("slow")["pid"])})
        h.stop()


@both
class Environment(Case):
    cgroup = True
    wrap = ()

    def test_what_a_worker_sees(self):
        h = self.host(cgroup=self.cgroup)
        h.env["SECRET_OF_AGENTD"] = "x"
        h.worker("see", "--fds", "Environment=OWN=1")
        h.start()
        w = h.all_up()["see"]
        env = {k.decode(): v.decode() for k, v in harness.environ_of(w["pid"]).items()}
        self.assertEqual((env["AGENTD_ALIAS"], env["AGENTD_GENERATION"], env["OWN"]), ("see", "1", "1"))
        self.assertLessEqual(set(env), {"PATH", "LANG", "USER", "LOGNAME", "HOME", "SHELL", "AGENTD_ALIAS", "AGENTD_ID",
                                        "AGENTD_GENERATION", "AGENTD_COOKIE", "OWN"})
        text = eventually(lambda: open(h.logs + "/see.log", encoding="utf-8").read())
        self.assertEqual([line.split()[1] for line in text.splitlines() if line.startswith("fd ")], ["0", "1", "2"], text)
        with open("/proc/%d/status" % w["pid"], encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        self.assertEqual((status["SigBlk"], status["SigIgn"]), ("0" * 16, "0" * 12 + "1000"), "only SIGPIPE is ignored")
        self.assertEqual(status["NoNewPrivs"], "0")
        with open("/proc/self/status", encoding="ascii") as f:
            mine = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        for k in ("CapBnd", "CapEff", "CapAmb", *(() if self.wrap else ("Seccomp",))) if harness.ROOT else ():
            self.assertEqual(status[k], mine[k], k)
        h.stop()

    @harness.needs_root
    def test_as_another_user(self):
        h = self.host(cgroup=self.cgroup)
        id = h.worker("nobody", "--children 1", "User=nobody\nGroup=nogroup\nWorkingDirectory=/tmp\nNice=5\nLimitNOFILE=77\nUMask=0027")
        h.start()
        h.all_up()
        r = h.verb(id, "restart").data
        self.assertEqual(r["user"], "nobody")
        with open("/proc/%d/status" % r["pid"], encoding="ascii") as f:
            text = f.read()
        self.assertRegex(text, r"Uid:\t65534\t65534\t65534\t65534")
        self.assertRegex(text, r"Groups:\t(65534 )?\n")
        self.assertRegex(text, r"Umask:\t0027")
        self.assertRegex(text, r"CapEff:\t0{16}")
        self.assertEqual(os.readlink("/proc/%d/cwd" % r["pid"]), "/tmp")
        with open("/proc/%d/limits" % r["pid"], encoding="ascii") as f:
            self.assertRegex(f.read(), r"Max open files +77 +77 ")
        h.stop()


@both
class Ports(Case):
    cgroup = True

    def test_udp_is_not_tcp(self):
        """A check for a TCP port is not satisfied by a UDP socket of the same number."""
        h = self.host(cgroup=self.cgroup)
        port = harness.free_port()
        id = h.worker("udp", "--udp %d" % port, "Restart=no\nTimeoutStartSec=1", "ReadyCheck=tcp:%d" % port)
        h.start()
        r = h.verb(id, "restart")
        self.assertNotEqual(r.status, 200, r)
        self.assertNotEqual(h.record("udp")["state"], "UP")
        h.stop()

    def test_hundreds(self):
        """Each port of a worker with hundreds is told, and the last of them satisfies its check."""
        h = self.host(cgroup=self.cgroup)
        script = h.write("many.py", "import signal, socket, sys\n"
                         "all = [socket.create_server(('127.0.0.1', int(p))) for p in sys.argv[1:]]\n"
                         "more = [socket.create_server(('127.0.0.1', 0)) for _ in range(299)]\n"
                         "print('up', flush=True)\nsignal.pause()\n")
        port = harness.free_port()
        id = h.worker("many", command="%s %s %d" % (os.path.realpath(sys.executable), script, port),
                      section="ReadyCheck=tcp:%d" % port)
        h.start()
        h.all_up()

        def all_told():
            got = h.process(id)["ports"].split(",")
            return got if len(got) == 300 else None
        got = eventually(all_told, 5, "300 ports")
        self.assertEqual(",".join(got), harness.ss_ports(h.processes("many")))
        h.stop()
