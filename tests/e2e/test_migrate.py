# SPDX-License-Identifier: Apache-2.0
"""agentctl migrate: what another supervisor runs becomes agentd's, and back, without an end of any of it."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import unittest

import harness
from harness import Case, eventually, needs_root, stat_of

WORKERS = 5

# Behaves as obagent's does: pid files in runDir, and a child that ends is started again at once.
OB_AGENTD = """#!/usr/bin/python3
import json, os, signal, sys
run, services = sys.argv[1], json.loads(sys.argv[2])
pids = {}
def put(name, pid):
    with open(run + "/" + name + ".new", "w") as f:
        f.write(str(pid))
    os.rename(run + "/" + name + ".new", run + "/" + name + ".pid")
def start(name):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.execv(services[name][0], services[name])
    pids[pid] = name
    put(name, pid)
for name in services:
    start(name)
put("ob_agentd", os.getpid())
while True:
    pid, status = os.wait()
    start(pids.pop(pid))
"""


# Answers whoever connects.
SERVER = """import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c = s.accept()[0]
    c.sendall(b"ok")
    c.close()
"""


class Sampler(threading.Thread):
    """Which processes carry a mark in their arguments, again and again: never two of one."""

    def __init__(self, marks):
        super().__init__(daemon=True)
        self.marks, self.seen, self.double, self.looks, self.end = marks, {m: set() for m in marks}, [], 0, False

    def look(self):
        now = {m: set() for m in self.marks}
        for p in harness.pids():
            with contextlib.suppress(OSError), open("/proc/%d/cmdline" % p, "rb") as f:
                words = f.read().split(b"\0")
                for m in self.marks:
                    if m.encode() in words:
                        now[m].add(p)
        parents = {p: (stat_of(p) or (0, 0))[1] for all in now.values() for p in all}
        return {m: {p for p in all if parents[p] not in all} for m, all in now.items()}  # a child has its parent's arguments

    def run(self):
        while not self.end:
            for m, p in self.look().items():
                self.seen[m] |= p
                if len(p) > 1:
                    self.double.append((m, p))
            self.looks += 1

    def stop(self):
        self.end = True
        self.join()


@needs_root
@unittest.skipUnless(harness.cgroup2(), "needs cgroup2: without it a process of another session can't be taken over")
class Migrate(Case):
    def setUp(self):
        super().setUp()
        self.peers = []

    def tearDown(self):
        for p in self.peers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGCONT)
                os.kill(p, signal.SIGKILL)
        for p in harness.pids():
            with contextlib.suppress(OSError), open("/proc/%d/cmdline" % p, "rb") as f:
                if b"mark-of-migrate" in f.read():
                    os.kill(p, signal.SIGKILL)
        super().tearDown()

    def mark(self, i):
        return "mark-of-migrate-%d" % i

    def up(self, ports=()):
        """agentd with a worker of its own, and supervisord with WORKERS; pids of those."""
        h = self.host()
        h.worker("own")
        h.start()
        h.all_up()
        self.conf = h.dir + "/supervisord.conf"
        server = h.write("server", SERVER)
        with open(self.conf, "w", encoding="ascii") as f:
            f.write("[unix_http_server]\nfile={0}/s.sock\n[supervisord]\npidfile={0}/s.pid\nlogfile={0}/s.log\nchildlogdir={0}\n"
                    "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
                    "[supervisorctl]\nserverurl=unix://{0}/s.sock\n[program:off]\ncommand=/bin/sleep 1\nautostart=false\n".format(h.dir))
            for i in range(WORKERS):
                command = "/usr/bin/python3 %s %d" % (server, ports[i]) if ports else harness.WORKER + " --children 1 --env"
                f.write("[program:w%d]\ncommand=%s %s\nstartsecs=0\nautorestart=true\n" % (i, command, self.mark(i)))
        return h

    def begin(self, h):
        subprocess.run(["supervisord", "-c", self.conf], check=True, timeout=harness.DEADLINE, stdout=subprocess.DEVNULL)
        self.peer = eventually(lambda: self.read_pid(h.dir + "/s.pid"))
        self.peers.append(self.peer)
        return eventually(lambda: (lambda s: all(p for a, p in s.items() if a != "off") and len(s) == WORKERS + 1 and s)(self.supervised()))

    def read_pid(self, path):
        with contextlib.suppress(FileNotFoundError, ValueError), open(path, encoding="ascii") as f:
            return int(f.read())
        return 0

    def supervised(self):
        """{alias: pid, 0 if it is stopped} as supervisord has it."""
        r = subprocess.run(["supervisorctl", "-c", self.conf, "status"], capture_output=True, text=True, timeout=harness.DEADLINE, check=False)
        rows = [line.split() for line in r.stdout.splitlines()]
        return {w[0]: int(w[3].rstrip(",")) if w[1] == "RUNNING" else 0 for w in rows if len(w) > 2}

    def migrate(self, h, *words, front=()):
        return subprocess.run([*front, harness.STAGED + "/agentctl", "--socket", h.socket, "--private", h.run + "/private", "migrate", *words,
                               "--config", h.dir + "/agentd.conf"], capture_output=True, text=True, timeout=60, check=False, env=h.environment())

    def good(self, h, *words):
        r = self.migrate(h, *words)
        self.assertEqual(r.returncode, 0, r)
        return r.stdout

    def is_ours(self, h, pids):
        """All of it is agentd's, the same processes, and the peer has ended."""
        now = h.all()
        self.assertEqual({a: now[a]["pid"] for a in pids}, pids)
        self.assertEqual({now[a]["ownership"] for a in pids if pids[a]}, {"adopted"})
        self.assertEqual({a: (now[a]["state"], now[a]["goal"]) for a in pids}, {a: ("UP", "UP") if p else ("DOWN", "DOWN") for a, p in pids.items()})
        eventually(lambda: not stat_of(self.peer) or stat_of(self.peer)[0] == "Z")
        self.assertEqual([f for f in os.listdir(h.workers) if f.endswith(".d")], [])
        self.assertFalse(os.path.exists(h.state + "/migration"))
        for alias, pid in pids.items():
            if pid:
                self.assertIn("/w-" + alias, open("/proc/%d/cgroup" % pid, encoding="ascii").read())

    def is_the_peers(self, h, pids):
        """All of it is as it was."""
        self.assertEqual(set(h.all()), {"own"})
        self.assertEqual(sorted(os.listdir(h.workers)), ["own.conf"])
        self.assertFalse(os.path.exists(h.state + "/migration"))
        self.assertEqual(self.supervised(), pids)

    def test_under_load(self):
        """Five servers that are asked all the time: no request fails, no process ends, none is there twice."""
        ports = [harness.free_port() for _ in range(WORKERS)]
        h = self.up(ports)
        pids = self.begin(h)
        for port in ports:
            eventually(lambda p=port: socket.socket().connect_ex(("127.0.0.1", p)) == 0)
        sampler = Sampler([self.mark(i) for i in range(WORKERS)])
        failed, asked, over = [], [0], threading.Event()

        def ask(port):
            while not over.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=harness.DEADLINE) as c:
                        if c.recv(2) != b"ok":
                            failed.append((port, "no answer"))
                    asked[0] += 1
                except OSError as e:
                    failed.append((port, e))
        askers = [threading.Thread(target=ask, args=(p,), daemon=True) for p in ports]
        for t in [sampler, *askers]:
            t.start()
        for _ in range(2):
            self.assertIn("is halted", self.good(h, "supervisord", self.conf, "--hold"))
            self.assertEqual(stat_of(self.peer)[0], "T")
            self.assertEqual({a: w["pid"] for a, w in h.all().items() if a != "own"}, pids)
            self.assertIn("the peer's again", self.good(h, "--undo"))
            self.is_the_peers(h, pids)
        self.assertIn("is taken over", self.good(h, "supervisord", self.conf))
        over.set()
        for t in askers:
            t.join()
        sampler.stop()
        self.is_ours(h, pids)
        self.assertEqual((sampler.double, failed), ([], []))
        self.assertEqual(sampler.seen, {self.mark(i): {pids["w%d" % i]} for i in range(WORKERS)})
        self.assertGreater(sampler.looks, 10)
        print("# %d workers migrated under load: %d connections, %d looks" % (WORKERS, asked[0], sampler.looks))
        for alias in ("w0", "w4"):  # and they are as any other worker
            os.kill(pids[alias], signal.SIGKILL)
            eventually(lambda a=alias: h.record(a)["state"] == "UP" and h.record(a)["pid"] != pids[a])
        h.stop()

    def test_one_that_ends_meanwhile(self):
        """Nobody starts it while the peer is halted; who has it at the end does."""
        h = self.up()
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        os.kill(pids["w1"], signal.SIGKILL)
        h.until("w1", "DOWN")
        self.good(h, "--undo")
        now = eventually(lambda: (lambda s: s["w1"] not in (0, pids["w1"]) and s)(self.supervised()))
        self.assertEqual({**now, "w1": 0}, {**pids, "w1": 0})
        self.good(h, "supervisord", self.conf, "--hold")
        os.kill(now["w2"], signal.SIGKILL)
        h.until("w2", "DOWN")
        self.good(h, "supervisord", self.conf)
        w2 = h.until("w2", "UP")
        self.assertEqual((w2["ownership"], w2["pid"] != now["w2"]), ("child", True))
        del now["w2"]
        self.is_ours(h, now)
        h.stop()

    def test_refused(self):
        """Nothing has changed then."""
        h = self.up()
        pids = self.begin(h)
        other = h.dir + "/other.conf"
        with open(self.conf, encoding="ascii") as f:
            text = f.read()

        def refused(why, *words, code=1):
            r = self.migrate(h, *words)
            self.assertEqual((r.returncode, r.stdout), (code, ""), r)
            self.assertIn(why, r.stderr)
            self.is_the_peers(h, pids)
        for words in ((), ("supervisord",), ("monit", self.conf), ("supervisord", self.conf, "x"), ("--undo", "x")):
            self.assertEqual(self.migrate(h, *words).returncode, 2, words)
        refused("nothing is under way", "--undo")
        refused("No such file", "supervisord", h.dir + "/none.conf")
        for change, why in ((("[program:w1]", "[program:v1]"), "which"), (("command=%s --children 1" % harness.WORKER, "command=/bin/sleep 1"), "another program"),
                            (("[supervisord]", "[supervisord]\npidfile=/nowhere\n[x]"), "does not name a running"), (("[program:w2]", "[program:w2"), ":")):
            with open(other, "w", encoding="ascii") as f:
                f.write(text.replace(*change, 1))
            refused(why, "supervisord", other)
        h.worker("w3")
        h.ok("POST", "/agentd/v1/reload")
        r = self.migrate(h, "supervisord", self.conf)
        self.assertEqual((r.returncode, "agentd has a worker w3 already" in r.stderr), (1, True), r)
        h.remove("w3")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"own"})
        shown = self.good(h, "supervisord", self.conf, "--check")
        self.assertEqual(sorted(shown.splitlines()), sorted(["%s: process %d would be taken over" % (a, p) if p else a + ": it is stopped, and stays so" for a, p in pids.items()]))
        self.is_the_peers(h, pids)
        told = json.loads(self.good(h, "supervisord", self.conf, "--check", "-o", "json"))
        self.assertEqual((told["peer"], {w["alias"]: w["pid"] for w in told["workers"]}), (self.peer, pids))
        h.stop()

    # What a migration does, by its system calls; killed at the first, second ... of each.
    POINTS = [(call, n) for call, most in (("connect", 26), ("fsync", 22), ("rename", 1), ("renameat2", 7), ("mkdir", 6), ("pidfd_send_signal", 2), ("unlink", 7), ("rmdir", 6))
              for n in range(1, most + 1)]

    def test_killed(self):
        """Killed at each step: each process has one owner, and the next call finishes it, or undoes it."""
        h = self.up()
        pids = self.begin(h)
        points = self.POINTS if harness.ALL else [p for i, p in enumerate(self.POINTS) if (i + harness.SEED) % 6 == 0]
        reached = 0
        for i, (call, n) in enumerate(points):
            r = self.migrate(h, "supervisord", self.conf, front=("strace", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:signal=KILL:when=%d" % (call, n)))
            killed = r.returncode != 0
            reached += killed
            with self.subTest("%s %d" % (call, n)):
                self.assertTrue(all(stat_of(p) and stat_of(p)[0] != "Z" for p in pids.values() if p), "one has ended")
                ended = not stat_of(self.peer) or stat_of(self.peer)[0] == "Z"
                record = os.path.exists(h.state + "/migration")
                if record and not ended and i % 2:
                    self.good(h, "--undo")
                    self.is_the_peers(h, pids)
                    continue
                if killed and record:
                    self.good(h, "supervisord", self.conf)
                elif killed and not ended:
                    self.is_the_peers(h, pids)
                    continue
                self.is_ours(h, pids)
                pids = self.anew(h, pids)
        self.assertGreater(reached, len(points) // 2)
        print("# %d points, %d of them reached" % (len(points), reached))
        h.stop()

    def anew(self, h, pids):
        for alias in pids:
            h.remove(alias)
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"own"})
        os.unlink(h.dir + "/s.pid")
        return self.begin(h)

    def test_agentd_dies(self):
        """Before the migration is finished; its successor has what it had."""
        h = self.up()
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        h.kill()
        h.start()
        eventually(lambda: all(w["state"] == ("UP" if pids.get(a, 1) else "DOWN") for a, w in h.all().items()))
        self.good(h, "supervisord", self.conf)
        self.is_ours(h, pids)
        h.stop()

    def test_obagent(self):
        h = self.host()
        h.worker("own")
        h.start()
        h.all_up()
        home = h.dir + "/obagent"
        for folder in ("bin", "conf", "run"):
            os.makedirs(home + "/" + folder)
        program = home + "/bin/ob_agentd"
        with open(program, "w", encoding="ascii") as f:
            f.write(OB_AGENTD)
        os.chmod(program, 0o755)
        services = {n: [harness.WORKER, "--children", "1", "--env", self.mark(0)] for n in ("ob_mgragent", "ob_monagent")}
        with open(home + "/conf/agentd.yaml", "w", encoding="ascii") as f:
            f.write("runDir: ${obagent.home.path}/run\nservices:\n")
            for name, argv in services.items():
                f.write("  %s:\n    program: %s\n    args: %s\n    minLiveTime: 3s\n" % (name, argv[0], json.dumps(argv[1:])))
        p = subprocess.Popen([program, home + "/run", json.dumps(services)])
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.peer = eventually(lambda: self.read_pid(home + "/run/ob_agentd.pid"))
        self.peers.append(self.peer)
        pids = {n: self.read_pid(home + "/run/%s.pid" % n) for n in services}
        self.good(h, "obagent", home + "/conf/agentd.yaml", "--hold")
        os.kill(pids["ob_monagent"], signal.SIGKILL)
        eventually(lambda: h.record("ob_monagent")["pid"] == 0)
        self.good(h, "--undo")
        again = eventually(lambda: (lambda n: n != pids["ob_monagent"] and n)(self.read_pid(home + "/run/ob_monagent.pid")))
        pids["ob_monagent"] = again
        self.good(h, "obagent", home + "/conf/agentd.yaml")
        p.wait(harness.DEADLINE)
        self.is_ours(h, pids)
        h.stop()


if __name__ == "__main__":
    unittest.main()
