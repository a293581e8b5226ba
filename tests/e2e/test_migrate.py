# SPDX-License-Identifier: Apache-2.0
"""agentctl migrate: what another supervisor runs becomes agentd's, and back, without an end of any of it."""
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
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


# Says as many lines as it is asked for, numbered; ends at the end of its standard input, if that is a pipe.
SPEAKER = """import os, signal, socket, stat, sys, threading
if len(sys.argv) > 3:  # its own file
    for n in (1, 2):
        os.dup2(os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND), n)
if stat.S_ISFIFO(os.fstat(0).st_mode):
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(3)), daemon=True).start()
signal.signal(signal.SIGTERM, lambda sig, frame: (print("bye", flush=True), sys.exit(0)))
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
n = 0
while True:
    c = s.accept()[0]
    asked = c.makefile().readline()
    if not asked:
        continue
    for _ in range(int(asked)):
        n += 1
        print("line", n)
    sys.stdout.flush()
    print("error", n, file=sys.stderr, flush=True)
    c.sendall(b"ok")
    c.close()
"""


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def killed_by(call, n):
    """Before a command: it is killed at its n-th of these system calls."""
    return ("strace", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=%s:signal=KILL:when=%d" % (call, n))


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
                    "[supervisorctl]\nserverurl=unix://{0}/s.sock\n[program:off]\ncommand=/bin/sleep infinity\nautostart=false\nstartsecs=0\n".format(h.dir))
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

    def on_record(self, h):
        """What is under way; "": nothing."""
        path = h.state + "/migration"
        return read(path) if os.path.exists(path) else ""

    def edit_record(self, h, old, new):
        text = self.on_record(h)
        self.assertIn(old, text)
        with open(h.state + "/migration", "w", encoding="ascii") as f:
            f.write(text.replace(old, new))

    def is_ours(self, h, pids):
        """All of it is agentd's, the same processes, and the peer has ended."""
        now = h.all()
        self.assertEqual({a: now[a]["pid"] for a in pids}, pids)
        self.assertEqual({now[a]["ownership"] for a in pids if pids[a]}, {"adopted"})
        self.assertEqual({a: (now[a]["state"], now[a]["goal"]) for a in pids}, {a: ("UP", "UP") if p else ("DOWN", "DOWN") for a, p in pids.items()})
        eventually(lambda: not stat_of(self.peer) or stat_of(self.peer)[0] == "Z")
        self.assertEqual([f for f in os.listdir(h.workers) if f.endswith(".d")], [])
        self.assertEqual(self.on_record(h), "")
        for alias, pid in pids.items():
            if pid:
                self.assertIn("/w-" + alias, open("/proc/%d/cgroup" % pid, encoding="ascii").read())

    def is_the_peers(self, h, pids):
        """All of it is as it was."""
        self.assertEqual(set(h.all()), {"own"})
        self.assertEqual(sorted(os.listdir(h.workers)), ["own.conf"])
        self.assertEqual(self.on_record(h), "")
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
            self.assertNotIn("another supervisor", h.ctl("doctor").stdout)
            self.assertIn("is halted", self.good(h, "supervisord", self.conf, "--hold"))
            self.assertIn("workers of another supervisor are being taken over", h.ctl("doctor").stdout)
            self.assertEqual(stat_of(self.peer)[0], "T")
            self.assertEqual({a: w["pid"] for a, w in h.all().items() if a != "own"}, pids)
            self.assertIn("the peer's again", self.good(h, "--undo"))
            self.is_the_peers(h, pids)
        began = time.monotonic()
        self.assertIn("is taken over", self.good(h, "supervisord", self.conf))
        took = time.monotonic() - began
        over.set()
        for t in askers:
            t.join()
        sampler.stop()
        self.is_ours(h, pids)
        self.assertEqual((sampler.double, failed), ([], []))
        self.assertEqual(sampler.seen, {self.mark(i): {pids["w%d" % i]} for i in range(WORKERS)})
        self.assertGreater(sampler.looks, 10)
        print("# %d workers migrated under load in %.2f s: %d connections, %d looks" % (WORKERS, took, asked[0], sampler.looks))
        for alias in ("w0", "w4"):  # and they are as any other worker
            os.kill(pids[alias], signal.SIGKILL)
            eventually(lambda a=alias: h.record(a)["state"] == "UP" and h.record(a)["pid"] != pids[a])
        h.stop()

    def test_one_that_ends_meanwhile(self):
        """Nobody starts it while the peer is halted; who has it at the end does."""
        h = self.up()
        text = read(self.conf)
        h.write("supervisord.conf", text.replace("%s\nstartsecs=0\nautorestart=true" % self.mark(4), "%s\nstartsecs=0\nautorestart=false" % self.mark(4)))
        self.assertNotEqual(read(self.conf), text)
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        os.kill(pids["w1"], signal.SIGKILL)
        h.until("w1", "DOWN")
        self.good(h, "--undo")
        now = eventually(lambda: (lambda s: s["w1"] not in (0, pids["w1"]) and s)(self.supervised()))
        self.assertEqual({**now, "w1": 0}, {**pids, "w1": 0})
        self.good(h, "supervisord", self.conf, "--hold")
        for alias in ("w2", "w4"):
            os.kill(now[alias], signal.SIGKILL)
            h.until(alias, "DOWN")
        h.ok("POST", "/agentd/v1/workers/w3/stop")
        self.good(h, "supervisord", self.conf)
        w2 = h.until("w2", "UP")
        self.assertEqual((w2["ownership"], w2["pid"] != now["w2"]), ("child", True))
        for alias in ("w3", "w4"):  # stopped by an operator; once and no more, by its file
            self.assertEqual((h.record(alias)["state"], h.record(alias)["pid"]), ("DOWN", 0), alias)
        for alias in ("w2", "w3", "w4"):
            del now[alias]
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
        for words in (("supervisord",), ("monit", self.conf), ("supervisord", self.conf, "x"), ("--undo", "x")):
            self.assertEqual(self.migrate(h, *words).returncode, 2, words)
        refused("nothing is under way", "--undo")
        refused("nothing is under way")
        refused("No such file", "supervisord", h.dir + "/none.conf")
        for change, why in ((("[program:w1]", "[program:v1]"), "which"), (("command=%s --children 1" % harness.WORKER, "command=/bin/sleep infinity"), "another program"),
                            (("[supervisord]", "[supervisord]\npidfile=/nowhere\n[x]"), "does not name a running"), (("[program:w2]", "[program:w2"), ":")):
            with open(other, "w", encoding="ascii") as f:
                f.write(text.replace(*change, 1))
            refused(why, "supervisord", other)
        another = subprocess.Popen(["supervisord", "infinity"], executable="/bin/sleep")
        self.addCleanup(another.wait)
        self.addCleanup(another.kill)
        h.write("another.pid", "%d\n" % another.pid)
        with open(other, "w", encoding="ascii") as f:
            f.write(text.replace("pidfile=%s/s.pid" % h.dir, "pidfile=%s/another.pid" % h.dir))
        refused("is no child of supervisord, process %d" % another.pid, "supervisord", other)
        h.worker("w3")
        r = self.migrate(h, "supervisord", self.conf)
        self.assertEqual((r.returncode, "w3.conf is there already" in r.stderr), (1, True), r)
        h.write("workers.d/w3.conf", "no worker")
        os.rename(h.workers + "/w3.conf", h.workers + "/x3.conf")
        r = self.migrate(h, "supervisord", self.conf)
        self.assertEqual((r.returncode, "reload" in r.stderr, stat_of(self.peer)[0] != "T"), (1, True, True), r)
        self.assertEqual((sorted(os.listdir(h.workers)), os.path.exists(h.state + "/migration")), (["own.conf", "x3.conf"], False))
        h.remove("x3")
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

    def is_held(self, h):
        """As long as there is a way back no worker's file is there that agentd would start by itself."""
        if "\nstate held\n" in self.on_record(h):
            for name in os.listdir(h.workers):
                if name.endswith(".conf") and name != "own.conf" and not name.startswith("."):
                    self.assertTrue(os.path.exists("%s/%s.d/zz-agentctl-migrate.conf" % (h.workers, name)), name)

    def test_undo_is_killed(self):
        """The peer goes on when nothing of it is agentd's any more, not before."""
        h = self.up()
        pids = self.begin(h)
        for call, most in (("unlink", 7), ("rmdir", 6), ("connect", 6), ("pidfd_send_signal", 1)):
            for n in range(1, most + 1) if harness.ALL else (1, most):
                self.good(h, "supervisord", self.conf, "--hold")
                r = self.migrate(h, "--undo", front=killed_by(call, n))
                with self.subTest("%s %d" % (call, n)):
                    if r.returncode:
                        self.assertTrue(call == "pidfd_send_signal" or not self.on_record(h) or stat_of(self.peer)[0] == "T")
                        if self.on_record(h):
                            self.good(h, "--undo")
                    self.is_the_peers(h, pids)
        h.stop()

    def test_another_process_of_its_number(self):
        """What is on record is known by its start, too: neither signalled nor given anything."""
        h = self.up()
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        was, other = ("\npeer %d %d\n" % (self.peer, stat_of(self.peer)[2] + more) for more in (0, 1))
        self.edit_record(h, was, other)
        os.rename(h.dir + "/s.pid", h.dir + "/away.pid")
        r = self.migrate(h, "--undo")
        self.assertEqual((r.returncode, "the peer has ended" in r.stderr, stat_of(self.peer)[0]), (1, True, "T"), r)
        self.edit_record(h, other, was)
        os.rename(h.dir + "/away.pid", h.dir + "/s.pid")
        self.good(h, "--undo")
        self.is_the_peers(h, pids)
        h.stop()

    def test_undo_waits_for_readers(self):
        """The peer reads again when nobody else does; but a worker's user who holds his reader up does not hold up all others for ever."""
        h = self.up()
        pids = self.speakers(h)
        self.good(h, "supervisord", self.conf, "--hold")
        slow = self.drain_of("w0")
        os.kill(slow, signal.SIGSTOP)
        r = self.migrate(h, "--undo")
        self.assertEqual((r.returncode, "process %d reads still beside the peer" % slow in r.stderr), (0, True), r)
        self.is_the_peers(h, pids)
        os.kill(slow, signal.SIGCONT)
        eventually(lambda: not harness.is_alive(slow))
        self.assertEqual(self.supervised(), pids)
        h.stop()

    def test_file_of_an_administrator(self):
        """Written while the peer is halted: not written over, not removed."""
        h = self.up()
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        theirs = "[Service]\nExecStart=/bin/sleep infinity\n"
        h.write("workers.d/w1.conf", theirs)
        r = self.migrate(h)
        self.assertEqual((r.returncode, "w1.conf is there already" in r.stderr, stat_of(self.peer)[0]), (1, True, "T"), r)
        self.good(h, "--undo")
        self.assertEqual((read(h.workers + "/w1.conf"), sorted(os.listdir(h.workers))), (theirs, ["own.conf", "w1.conf"]))
        h.remove("w1")
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"own"})
        self.is_the_peers(h, pids)
        h.stop()

    def killed_at(self, call, points):
        """Each process has one owner, and the next call finishes it, or undoes it."""
        h = self.up()
        pids = self.begin(h)
        reached = 0
        for i, n in enumerate(points):
            r = self.migrate(h, "supervisord", self.conf, front=killed_by(call, n))
            killed = r.returncode != 0
            reached += killed
            with self.subTest("%s %d" % (call, n)):
                self.assertTrue(all(stat_of(p) and stat_of(p)[0] != "Z" for p in pids.values() if p), "one has ended")
                ended = not stat_of(self.peer) or stat_of(self.peer)[0] == "Z"
                self.is_held(h)
                record = self.on_record(h)
                if record and not ended and i % 2 and "\nstate held\n" in record:
                    self.good(h, "--undo")
                    self.is_the_peers(h, pids)
                    continue
                if killed and record:
                    self.good(h)
                elif killed and not ended:
                    self.is_the_peers(h, pids)
                    continue
                self.is_ours(h, pids)
                pids = self.anew(h, pids)
        self.assertGreater(reached, 0)
        print("# killed at %s: %d points, %d of them reached" % (call, len(points), reached))
        h.stop()

    def anew(self, h, pids):
        for alias in pids:
            h.remove(alias)
        h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(h.all()) == {"own"})
        os.unlink(h.dir + "/s.pid")
        return self.begin(h)

    def test_peer_starts_another(self):
        """Between its list and the halt: what it runs is not what would be taken over, and so nothing is."""
        h = self.up()
        pids = self.begin(h)
        # it hangs behind the list, before the record is written: "supervisorctl" by another name
        os.mkdir(h.dir + "/bin")
        with open(h.dir + "/bin/supervisorctl", "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n/usr/bin/supervisorctl \"$@\"\ncode=$?\n/usr/bin/supervisorctl -c %s start off >&2\nexit $code\n" % self.conf)
        os.chmod(h.dir + "/bin/supervisorctl", 0o755)
        h.env["PATH"] = h.dir + "/bin:" + os.environ["PATH"]
        r = self.migrate(h, "supervisord", self.conf)
        self.assertEqual((r.returncode, r.stdout), (1, ""), r)
        self.assertRegex(r.stderr, "has started process [0-9]+ meanwhile: call again\n.*it is undone\n")
        del h.env["PATH"]
        now = eventually(lambda: (lambda s: s["off"] and s)(self.supervised()))
        self.assertEqual({**now, "off": 0}, pids)
        self.is_the_peers(h, now)
        self.good(h, "supervisord", self.conf)
        self.is_ours(h, now)
        h.stop()

    def test_peer_dies(self):
        """While it is halted, by somebody else's hand: its processes are nobody's then, and the next call finishes it."""
        h = self.up()
        pids = self.begin(h)
        self.good(h, "supervisord", self.conf, "--hold")
        os.kill(self.peer, signal.SIGKILL)
        eventually(lambda: not stat_of(self.peer) or stat_of(self.peer)[0] == "Z")
        r = self.migrate(h, "--undo")
        self.assertEqual((r.returncode, "the peer has ended" in r.stderr), (1, True), r)
        self.good(h, "supervisord", self.conf)
        self.is_ours(h, pids)
        h.stop()

    def speakers(self, h):
        """supervisord with w0 to w4 that speak: w1 with both outputs as one, w2's error output to a file that is named, w3 into a file
        that it has opened itself."""
        ports = self.ports = [harness.free_port() for _ in range(WORKERS)]
        speaker = h.write("speaker", SPEAKER)
        text = read(self.conf)
        for i in range(WORKERS):
            old = "command=%s --children 1 --env %s\n" % (harness.WORKER, self.mark(i))
            new = "command=/usr/bin/python3 %s %d %s%s\n" % (speaker, ports[i], self.mark(i), " %s/w3.own" % h.dir if i == 3 else "")
            self.assertIn(old, text)
            text = text.replace(old, new + {1: "redirect_stderr=true\n", 2: "stderr_logfile=%s/w2.err\n" % h.dir}.get(i, ""))
        h.write("supervisord.conf", text)
        pids = self.begin(h)
        for port in ports:
            eventually(lambda p=port: socket.socket().connect_ex(("127.0.0.1", p)) == 0)
        return pids

    def speak(self, lines, i=None):
        """They have said so many more by the end of it."""
        for k in range(WORKERS) if i is None else (i,):
            with socket.create_connection(("127.0.0.1", self.ports[k]), timeout=harness.DEADLINE) as c:
                c.sendall(b"%d\n" % lines)
                self.assertEqual(c.recv(2), b"ok", k)

    def said(self, path):
        """The numbers of the lines in it."""
        return [int(line.split()[1]) for line in read(path).splitlines(True) if line.startswith("line ") and line.endswith("\n")] if os.path.exists(path) else []

    def peers_file(self, h, i):
        return [h.dir + "/" + n for n in os.listdir(h.dir) if n.startswith("w%d-stdout---" % i)][0]

    def drains(self):
        return [p for p in harness.pids() if harness.name_of(p) == "agentd-drain" and harness.is_alive(p)]

    def drain_of(self, alias):
        return next(p for p in self.drains() if "/w-%s" % alias in read("/proc/%d/cgroup" % p))

    def test_output(self):
        """Each line once, in the order in which they were said: by the peer, by agentd-drain, by the peer, by agentd-drain over agentd's
        death; and the worker's end ends that."""
        h = self.up()
        pids = self.speakers(h)
        before = set(self.drains())
        mine = lambda: [p for p in self.drains() if p not in before]
        own = [3]  # its lines are never the peer's or agentd's
        others = [i for i in range(WORKERS) if i not in own]
        self.speak(3)
        for i in others:
            eventually(lambda k=i: self.said(self.peers_file(h, k)) == [1, 2, 3])
        self.good(h, "supervisord", self.conf, "--hold")
        self.assertEqual(len(mine()), WORKERS)
        self.speak(20000)  # more than the pipe holds
        for i in others:
            eventually(lambda k=i: self.said("%s/w%d.log" % (h.logs, k)) == list(range(4, 20004)))
        self.good(h, "--undo")
        eventually(lambda: not mine())
        self.speak(2)
        for i in others:
            eventually(lambda k=i: self.said(self.peers_file(h, k)) == [1, 2, 3, 20004, 20005])
        self.good(h, "supervisord", self.conf)
        self.is_ours(h, pids)
        self.speak(5)
        h.kill()
        self.speak(5)
        h.start()
        eventually(lambda: all(w["state"] == "UP" for a, w in h.all().items() if a != "off"))
        self.speak(5)
        expected = list(range(4, 20004)) + list(range(20006, 20021))
        for i in others:
            eventually(lambda k=i: self.said("%s/w%d.log" % (h.logs, k)) == expected)
        eventually(lambda: self.said(h.dir + "/w3.own") == list(range(1, 20021)))
        for i, path in ((0, h.logs + "/w0.log"), (1, h.logs + "/w1.log"), (2, h.dir + "/w2.err")):
            eventually(lambda p=path: "error 20020\n" in read(p), what="%d's error output" % i)
        self.assertNotIn("error", read(h.logs + "/w2.log"))
        self.assertEqual({a: w["pid"] for a, w in h.all().items() if a in pids}, pids)
        self.assertEqual(len(mine()), WORKERS)
        h.ok("POST", "/agentd/v1/workers/w0/restart")
        eventually(lambda: "bye\n" in read(h.logs + "/w0.log"))
        eventually(lambda: len(mine()) == WORKERS - 1)
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", self.ports[0])) == 0)
        h.stop()

    def a_drain_dies(self, alias):
        """What nobody has the other end of when the peer is to be ended gets one; without it nothing is ended."""
        h = self.up()
        pids = self.speakers(h)
        self.good(h, "supervisord", self.conf, "--hold")
        dead = self.drain_of(alias)
        os.kill(dead, signal.SIGKILL)
        eventually(lambda: not harness.is_alive(dead))
        self.good(h)
        self.is_ours(h, pids)
        self.speak(1000)
        for i in range(WORKERS):
            eventually(lambda k=i: self.said(h.dir + "/w3.own" if k == 3 else "%s/w%d.log" % (h.logs, k)) == list(range(1, 1001)))
        h.stop()

    def test_a_reader_dies(self):
        self.a_drain_dies("w0")

    def test_a_writer_dies(self):
        """w3 has nothing of the peer's but its standard input."""
        self.a_drain_dies("w3")

    def test_two_at_once(self):
        h = self.up()
        pids = self.begin(h)
        with open(h.state + "/migration.lock", "w", encoding="ascii") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            for words in (("supervisord", self.conf), ("--undo",), ("supervisord", self.conf, "--check")):
                r = self.migrate(h, *words)
                self.assertEqual((r.returncode, r.stdout, "another agentctl migrate is at work" in r.stderr), (1, "", True), r)
        self.is_the_peers(h, pids)
        self.good(h, "supervisord", self.conf)
        self.is_ours(h, pids)
        h.stop()

    def end(self, pids):
        """The peer and what it runs, at once: it would take its time."""
        for p in [self.peer, *filter(None, pids.values())]:
            os.kill(p, signal.SIGKILL)
        eventually(lambda: not any(harness.is_alive(p) for p in [self.peer, *pids.values()] if p))

    def reboot(self, h, pids, state):
        """As if the host had been started anew while it was held, or just being ended."""
        self.good(h, "supervisord", self.conf, "--hold")
        h.kill()
        self.end(pids)
        boot = read("/proc/sys/kernel/random/boot_id").strip()
        self.edit_record(h, boot, boot[::-1])
        self.edit_record(h, "\nstate held\n", "\nstate %s\n" % state)
        h.start()
        eventually(lambda: {a: w["state"] for a, w in h.all().items()} == {"own": "UP", **{a: "DOWN" for a in pids}})

    def test_reboot(self):
        """The peer, which is started at boot, has all of it; agentd has started none."""
        h = self.up()
        for words in (("--undo",), ()):
            pids = self.begin(h)
            self.reboot(h, pids, "held")
            os.unlink(h.dir + "/s.pid")
            pids = self.begin(h)
            r = self.migrate(h, *words)
            self.assertEqual((r.returncode, "what was begun is undone" in r.stderr), (0, True), r)
            eventually(lambda: set(h.all()) == {"own"})
            self.is_the_peers(h, pids)
            self.end(pids)
        h.stop()

    def test_reboot_at_its_end(self):
        """Not started at boot any more is the peer: agentd has all of it."""
        h = self.up()
        pids = self.begin(h)
        self.reboot(h, pids, "ending")
        r = self.migrate(h)
        self.assertEqual((r.returncode, "it is finished" in r.stderr), (0, True), r)
        now = eventually(lambda: (lambda s: all(s[a]["state"] == "UP" for a, p in pids.items() if p) and s)(h.all()))
        self.assertEqual({now[a]["ownership"] for a, p in pids.items() if p}, {"child"})
        self.assertEqual(self.on_record(h), "")
        h.stop()

    def test_peer_started_anew(self):
        """Another peer than that of the record has all of it: nobody else starts anything."""
        h = self.up()
        for words in ((), ("--undo",)):
            old = self.begin(h)
            self.good(h, "supervisord", self.conf, "--hold")
            os.kill(self.peer, signal.SIGKILL)
            eventually(lambda: not stat_of(self.peer) or stat_of(self.peer)[0] == "Z")
            os.unlink(h.dir + "/s.pid")
            pids = self.begin(h)
            r = self.migrate(h, *words)
            self.assertEqual((r.returncode, "was started anew meanwhile: what was begun is undone" in r.stderr), (0, True), r)
            eventually(lambda: set(h.all()) == {"own"})
            self.is_the_peers(h, pids)
            self.assertFalse([p for p in old.values() if p and harness.is_alive(p)])
            self.end(pids)
        h.stop()

    def test_peer_of_another(self):
        """Who has started the peer may do so again."""
        h = self.up()
        p = subprocess.Popen(["supervisord", "-n", "-c", self.conf], stdout=subprocess.DEVNULL)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        eventually(lambda: sum(map(bool, self.supervised().values())) == WORKERS)
        r = self.migrate(h, "supervisord", self.conf)
        self.assertEqual((r.returncode, "is a child of process %d, which may start it anew" % os.getpid() in r.stderr), (1, True), r)
        self.assertNotEqual(stat_of(p.pid)[0], "T")
        h.stop()

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
        subprocess.run(["setsid", "-f", program, home + "/run", json.dumps(services)], check=True, timeout=harness.DEADLINE)
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
        self.is_ours(h, pids)
        h.stop()


# What a migration does, by its system calls; killed at the first, second ... of each.
def add_points():
    def at(call, points):
        return lambda self: self.killed_at(call, points)
    for i, (call, most) in enumerate((("connect", 6), ("fsync", 18), ("rename", 2), ("renameat2", 7), ("mkdir", 6), ("pidfd_send_signal", 2), ("unlink", 7), ("rmdir", 6))):
        points = range(1, most + 1) if harness.ALL else [1 + (harness.SEED + 7 * i) % most]
        setattr(Migrate, "test_killed_at_" + call, at(call, points))


add_points()


if __name__ == "__main__":
    unittest.main()
