# SPDX-License-Identifier: Apache-2.0
"""What the machine can run out of, or do to agentd: nothing is lost, it is said, and it passes when its cause does."""
import contextlib
import datetime
import errno
import http.client
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time

import harness
from harness import Case, both, eventually, is_alive, needs_root, stat_of

PATIENT = "StartLimitIntervalSec=0\nRestartSec=10ms\nRestartMaxDelaySec=50ms"
BOUND = 2.0  # seconds in which a request is answered while there is much to do


class Protected(Case):
    def up(self, h, *aliases, service=PATIENT):
        for alias in aliases:
            h.worker(alias, service=service)
        h.start()
        return {a: w["pid"] for a, w in h.all_up().items()}

    def limit(self, pid, what, value):
        """The soft limit; what it was."""
        was = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (value, was[1]))
        return was

    def limit_as(self, uid, pid, text):
        """The same by a process of its user: a container's root may not."""
        subprocess.run(["prlimit", "--pid", str(pid), text], user=uid, group=uid, extra_groups=None if uid is None else [], check=True)

    def check_whole(self, h, pid, before, *touched):
        """The same agentd; all are UP, whoever was not touched is the same process, and there is one of each."""
        self.assertEqual((h.proc.poll(), h.pid), (None, pid))
        now = {a: w["pid"] for a, w in h.all_up().items()}
        self.assertEqual({a: p for a, p in now.items() if a not in touched}, {a: p for a, p in before.items() if a not in touched})
        eventually(lambda: all(list(h.processes(a)) == [p] for a, p in now.items()), 10, "one process of each")
        for alias in now:
            r = h.operation(alias, "restart")
            self.assertEqual((r.status, r.data["result"]), (200, "done"), r)

    def ask(self, h, alias, box):
        with contextlib.suppress(OSError, http.client.HTTPException):
            box.append(h.http("POST", "/agentd/v1/workers/%s/restart" % alias, headers={"Idempotency-Key": "late"}))

    def begin(self, h, alias):
        """A restart that is answered, or waits."""
        box = []
        t = threading.Thread(target=self.ask, args=(h, alias, box), daemon=True)
        t.start()
        return t, box

    def hear(self, h, alias, begun):
        """Its listener may have died over it; it was not lost, and is known by its key."""
        begun[0].join(harness.DEADLINE)
        self.ask(h, alias, begun[1])
        for r in begun[1]:
            self.assertIn(r.status, (200, 500), r)
        self.assertEqual(len({r.headers["Agentd-Operation"] for r in begun[1]}), 1, begun[1])


@both
class Exhausted(Protected):
    cgroup = True

    def test_descriptors(self):
        h = self.host(cgroup=self.cgroup)
        before = self.up(h, "a", "b", "c")
        rpc, agentd = h.rpc_pid(), h.pid
        highest = max(int(n) for n in os.listdir("/proc/%d/fd" % agentd))
        was = self.limit(agentd, resource.RLIMIT_NOFILE, highest + 3)
        replies = [h.operation("a", "restart") for _ in range(3)]
        for r in replies:
            self.assertIn(r.status, (200, 500, 503), r)
        os.kill(h.record("b")["pid"], signal.SIGKILL)
        eventually(lambda: h.record("b")["pid"] != before["b"])
        self.limit(agentd, resource.RLIMIT_NOFILE, 3)  # not one more
        b = h.record("b")["pid"]
        if b:
            os.kill(b, signal.SIGKILL)
        late = self.begin(h, "a")
        self.assertEqual(h.http("GET", "/agentd/v1/workers").status, 200)
        os.kill(rpc, signal.SIGKILL)  # its successor waits too
        harness.wait_gone(rpc)
        self.assertEqual(h.proc.poll(), None)
        self.assertEqual(stat_of(before["c"]) is not None, True)
        resource.prlimit(agentd, resource.RLIMIT_NOFILE, was)
        self.hear(h, "a", late)
        self.check_whole(h, agentd, before, "a", "b")
        h.stop()

    def test_disk_of_state_fails(self):
        """Every fsync ends with EIO: what is wanted is done, not durable, and doctor says so."""
        h = self.host(cgroup=self.cgroup)
        h.wrap = [harness.NOSYS, "fsync=%d" % errno.EIO, "--"]
        before = self.up(h, "a", "b")
        agentd = h.pid
        r = h.operation("a", "stop")
        self.assertEqual((r.status, r.data["result"], r.data["durable"]), (200, "done", False), r)
        self.assertIn("the state can't be written", h.ctl("doctor").stdout)
        self.assertEqual(h.operation("a", "start").status, 200)
        self.check_whole(h, agentd, before, "a")
        pids = h.pids_of_all()
        h.kill()
        h.wrap = []
        h.start()
        h.all_up()
        self.assertEqual(h.pids_of_all(), pids)
        r = h.operation("a", "stop")
        self.assertEqual((r.status, r.data["durable"]), (200, True), r)
        self.assertNotIn("the state can't be written", h.ctl("doctor").stdout)
        h.stop()

    def test_runtime_disk_fails(self):
        """Every write of facts and operations ends with EIO."""
        h = self.host(cgroup=self.cgroup)
        h.wrap = [harness.NOSYS, "pwrite64=%d" % errno.EIO, "--"]
        before = self.up(h, "a", "b")
        agentd = h.pid
        r = h.operation("a", "restart")
        self.assertEqual((r.status, r.data["result"], r.data["durable"]), (200, "done", False), r)
        said = h.ctl("doctor").stdout
        self.assertIn("the journal of operations can't be written", said)
        self.assertIn("the facts of workers can't be written", said)
        self.check_whole(h, agentd, before, "a")
        h.kill()
        h.wrap = []
        h.start()
        self.check_whole(h, h.pid, {}, "a", "b")
        self.assertNotIn("can't be written", h.ctl("doctor").stdout)
        h.stop()


class Processes(Protected):
    """No more processes for this user: clone says EAGAIN."""

    def test_nproc(self):
        # agentd as an ordinary user of its own, whose processes nobody else counts
        uid = harness.ORDINARY - 7 if harness.ROOT else None
        h = self.host(uid=uid, cgroup=False)
        before = self.up(h, "a", "b", "c")
        agentd = h.pid
        was = resource.getrlimit(resource.RLIMIT_NPROC)[0]  # it has ours
        self.limit_as(uid, agentd, "--nproc=1:")
        os.kill(before["a"], signal.SIGKILL)
        eventually(lambda: h.record("a")["state"] != "UP")
        late = self.begin(h, "b")
        eventually(lambda: h.record("b")["state"] != "UP")
        self.assertEqual(h.record("c")["state"], "UP")
        rpc = h.rpc_pid()
        os.kill(rpc, signal.SIGKILL)
        harness.wait_gone(rpc)
        self.limit_as(uid, agentd, "--nproc=%s:" % ("unlimited" if was == resource.RLIM_INFINITY else was))
        self.hear(h, "b", late)
        self.check_whole(h, agentd, before, "a", "b")
        h.stop()


@needs_root
class FullDisks(Protected):
    def mounted(self, where):
        os.makedirs(where, mode=0o755, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "small", where], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", where], check=False)

    def fill(self, where):
        with open(where + "/ballast", "wb", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 4096)

    def run_full(self, where, words):
        h = self.host()
        self.mounted(getattr(h, where))
        before = self.up(h, "a", "b")
        agentd = h.pid
        self.fill(getattr(h, where))
        for n in range(3):
            h.worker("more%d" % n, service=PATIENT)
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        h.all_up()
        for verb in ("stop", "start", "restart"):
            r = h.operation("a", verb)
            self.assertEqual((r.status, r.data["result"]), (200, "done"), r)
        self.assertIn(words, h.ctl("doctor").stdout)
        os.unlink(getattr(h, where) + "/ballast")
        before.update((a, p) for a, p in h.pids_of_all().items() if a != "b")
        self.check_whole(h, agentd, before)
        eventually(lambda: words not in h.ctl("doctor").stdout, what="doctor's silence")
        pids = h.pids_of_all()
        h.kill()
        h.start()
        h.all_up()
        self.assertEqual(h.pids_of_all(), pids)
        h.stop()

    def test_state(self):
        self.run_full("state", "free space in StateDirectory")

    def test_runtime(self):
        self.run_full("run", "free space in RuntimeDirectory")


@needs_root
class VanishedCgroups(Protected):
    """Somebody moves the processes out and takes the folders away."""

    def move_out(self, h, leaf):
        d = os.path.join(h.cgroup_dir(), leaf)

        def removed():
            with contextlib.suppress(OSError), open(d + "/cgroup.procs", encoding="ascii") as f:
                for pid in f.read().split():
                    with contextlib.suppress(OSError), open(harness.cgroup2() + "/cgroup.procs", "w", encoding="ascii") as to:
                        to.write(pid)
            with contextlib.suppress(OSError):
                os.rmdir(d)
            return not os.path.exists(d)
        eventually(removed)

    def run_without(self, whole, dead):
        h = self.host()
        before = self.up(h, "a", "b", "c")
        self.move_out(h, "w-a")
        touched = ["a"]
        if whole:
            for alias in ("b", "c"):
                self.move_out(h, "w-" + alias)
            os.rmdir(h.cgroup_dir())
        for alias, pid in before.items():
            self.assertTrue(is_alive(pid), alias)
        if dead:
            os.kill(before["a"], signal.SIGKILL)
            eventually(lambda: (lambda w: w["state"] == "UP" and w["pid"] != before["a"])(h.record("a")), 10, "a again")
        else:
            r = h.operation("a", "restart")
            self.assertEqual((r.status, r.data["result"]), (200, "done"), (r, h.log()))
            eventually(lambda: not is_alive(before["a"]), 5)
        self.check_whole(h, h.pid, before, *touched)
        self.assertEqual({n.split("~")[0] for n in h.leaves()}, {"w-a", "w-b", "w-c"}, "as before")
        h.kill()
        pids = {a: list(h.processes(a)) for a in before}
        h.start()
        self.assertEqual({a: [p] for a, p in {a: w["pid"] for a, w in h.all_up().items()}.items()}, pids)
        h.stop()

    def test_leaf(self):
        self.run_without(False, False)

    def test_leaf_and_end(self):
        self.run_without(False, True)

    def test_all(self):
        self.run_without(True, False)

    def test_all_and_end(self):
        self.run_without(True, True)


@both
class Stopped(Protected):
    """agentd does not run for a while: signals of many deaths come as one."""
    cgroup = True

    def test_many_deaths(self):
        h = self.host(cgroup=self.cgroup)
        n = 20
        before = self.up(h, *("w%d" % i for i in range(n)))
        h.worker("rest", service="Restart=no")
        h.ok("POST", "/agentd/v1/reload")
        before["rest"] = h.until("rest", "UP")["pid"]
        victims = ["w%d" % i for i in range(0, n, 2)] + ["rest"]
        os.kill(h.pid, signal.SIGSTOP)
        for alias in victims:
            os.kill(before[alias], signal.SIGKILL)
        eventually(lambda: all(stat_of(before[a])[0] == "Z" for a in victims))
        os.kill(h.pid, signal.SIGCONT)
        for alias in victims[:-1]:
            w = eventually(lambda a=alias: (lambda w: w["generation"] == 2 and w["state"] == "UP" and w)(h.record(a)))
            self.assertEqual((w["lastExit"]["kind"], w["lastExit"]["signal"], w["lastExit"]["pid"]), ("killed", 9, before[alias]))
        w = h.until("rest", "DOWN")
        self.assertEqual((w["generation"], w["goal"], w["lastExit"]["signal"]), (1, "UP", 9))
        now = h.pids_of_all()
        self.assertEqual({a: now[a] for a in before if a not in victims}, {a: before[a] for a in before if a not in victims})
        eventually(lambda: [p for p in harness.children(h.pid) if stat_of(p)[0] == "Z"] == [], 5, "no zombie")
        self.assertEqual(len(h.processes()), n)
        h.stop()

    def test_adopted_one(self):
        """No child of this agentd: it is reaped by somebody else, and agentd runs only later."""
        h = self.host(cgroup=self.cgroup)
        self.up(h, "a", "b")
        h.kill()
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        os.kill(h.pid, signal.SIGSTOP)
        os.kill(before["a"], signal.SIGKILL)
        eventually(lambda: not is_alive(before["a"]))
        os.kill(h.pid, signal.SIGCONT)
        w = eventually(lambda: (lambda w: w["generation"] == 2 and w["state"] == "UP" and w)(h.record("a")))
        self.assertIn(w["lastExit"]["kind"], ("killed", "unknown"))
        self.check_whole(h, h.pid, before, "a")
        h.stop()


INIT = "import signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint(1, flush=True)\nwhile True: signal.pause()"
# forks until it has the pid that is asked for
STRANGER = """import os, signal, sys
want = int(sys.argv[1])
for _ in range(200):
    with open("/proc/sys/kernel/ns_last_pid", "w") as f:
        f.write(str(want - 1))
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.read(0, 1)
        os._exit(0)
    if pid == want:
        print(pid, flush=True)
        os.read(0, 1)
        os._exit(0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
os._exit(1)"""


@both
@needs_root
class ReusedPids(Protected):
    """In a small pid namespace the next process gets the pid that a worker had: it is never signalled."""
    cgroup = True

    def space(self):
        h = self.host(cgroup=self.cgroup)
        p = subprocess.Popen([*harness.own_root(), "unshare", "-fp", "--mount-proc", "--kill-child", sys.executable, "-c", INIT], stdout=subprocess.PIPE)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdout.close()))
        p.stdout.readline()
        self.init = eventually(lambda: next(iter(harness.children(p.pid)), None))
        self.enter = ["nsenter", "-t", str(self.init), "-p", "-m", "-r", "--"]
        h.wrap = self.enter
        return h

    def agentd(self, h):
        return next(p for p in harness.children(h.pid) if harness.name_of(p) == "agentd")

    def kill_agentd(self, h):
        os.kill(self.agentd(h), signal.SIGKILL)
        h.proc.wait(harness.DEADLINE)

    def outside(self, pid):
        """The pid here of the one that has it there."""
        for p in harness.pids():
            with contextlib.suppress(OSError), open("/proc/%d/status" % p, encoding="ascii", errors="replace") as f:
                for line in f:
                    if line.startswith("NSpid:") and line.split()[-1] == str(pid) and len(line.split()) == 3 and self.is_inside(p):
                        return p
        return 0

    def is_inside(self, p):
        with contextlib.suppress(OSError):
            return os.readlink("/proc/%d/ns/pid" % p) == os.readlink("/proc/%d/ns/pid" % self.init)
        return False

    def stranger(self, pid):
        """A process with that pid, there; its pid here."""
        p = subprocess.Popen([*self.enter, sys.executable, "-c", STRANGER, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(lambda: (p.stdin.close(), p.kill(), p.wait(), p.stdout.close()))
        self.assertEqual(p.stdout.readline().strip(), str(pid).encode())
        found = self.outside(pid)
        self.assertTrue(found)
        return found, stat_of(found)

    def check_untouched(self, found):
        pid, was = found
        now = stat_of(pid)
        self.assertTrue(now[0] in "SR" and now[2] == was[2], "the stranger runs: %r, %r" % (was, now))

    def stop(self, h):
        os.kill(self.agentd(h), signal.SIGTERM)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        h.assert_nothing_left()

    def end_worker(self, pid):
        p = self.outside(pid)
        os.kill(p, signal.SIGKILL)
        return p

    def test_after_agentds_death(self):
        h = self.space()
        before = self.up(h, "a", "b")
        self.kill_agentd(h)
        harness.wait_gone(self.end_worker(before["a"]))
        eventually(lambda: not self.outside(before["a"]))
        stranger = self.stranger(before["a"])
        h.start()
        w = h.all_up()
        self.assertEqual((w["a"]["generation"], w["b"]["pid"], w["b"]["ownership"]), (2, before["b"], "adopted"))
        self.assertNotEqual(w["a"]["pid"], before["a"])
        self.check_untouched(stranger)
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.stop(h)
        self.check_untouched(stranger)

    def test_adopted_one(self):
        """It ends, and its pid is somebody else's, before agentd has looked."""
        h = self.space()
        self.up(h, "a", "b")
        self.kill_agentd(h)
        h.start()
        before = {a: w["pid"] for a, w in h.all_up().items()}
        agentd = self.agentd(h)
        os.kill(agentd, signal.SIGSTOP)
        self.end_worker(before["a"])
        eventually(lambda: not self.outside(before["a"]))
        stranger = self.stranger(before["a"])
        os.kill(agentd, signal.SIGCONT)
        os.kill(h.pid, signal.SIGCONT)  # nsenter stops with its child
        w = eventually(lambda: (lambda w: w["generation"] == 2 and w["state"] == "UP" and w)(h.record("a")))
        self.assertNotEqual(w["pid"], before["a"])
        self.check_untouched(stranger)
        self.stop(h)
        self.check_untouched(stranger)

    def test_one_at_rest(self):
        h = self.space()
        before = self.up(h, "a", "b", service="Restart=no")
        self.end_worker(before["a"])
        h.until("a", "DOWN")
        stranger = self.stranger(before["a"])
        for verb in ("stop", "start", "restart"):
            self.assertEqual(h.operation("a", verb).status, 200)
            self.check_untouched(stranger)
        self.assertEqual(h.operation("a", "stop").status, 200)
        self.kill_agentd(h)
        h.start()
        h.until("b", "UP")
        self.check_untouched(stranger)
        self.stop(h)
        self.check_untouched(stranger)


@both
class WallClock(Protected):
    """Stepped by a year, and back: what was promised in seconds is kept, nobody is replaced, and no operation is lost."""
    cgroup = True
    YEAR = 365 * 86400

    def step(self, h, seconds):
        with open(h.dir + "/skew", "r+b", buffering=0) as f:
            f.write(struct.pack("q", seconds))

    def check(self, h, before, off):
        agentd = h.pid
        r = h.operation("deaf", "restart")  # takes its stop's timeout, which is of another clock
        self.assertEqual((r.status, r.data["result"]), (200, "done"), r)
        ended = datetime.datetime.fromisoformat(r.data["ended"]).timestamp()
        self.assertLess(abs(time.time() + off - ended), 60, "the step was seen")
        self.assertIn(r.data["id"], [o["id"] for o in h.ok("GET", "/agentd/v1/operations")["contents"]])
        old = h.record("busy")
        began = time.monotonic()
        os.kill(old["pid"], signal.SIGKILL)
        w = eventually(lambda: (lambda w: w["state"] == "UP" and w["pid"] != old["pid"] and w)(h.record("busy")))
        self.assertLess(time.monotonic() - began, harness.DEADLINE, "its retry waits for no clock on the wall")
        self.assertEqual(w["generation"], old["generation"] + 1)
        calm = h.record("calm")
        self.assertEqual(calm["pid"], before["calm"])
        self.assertLess(calm["elapsedTime"], 3600)
        self.assertEqual((h.proc.poll(), h.pid), (None, agentd))
        self.assertLess(len(h.log().splitlines()), 2000, "it does not spin")

    def test_by_a_year(self):
        h = self.host(cgroup=self.cgroup)
        with open(h.dir + "/skew", "wb") as f:
            f.write(bytes(8))
        h.env = {"LD_PRELOAD": os.path.join(harness.BUILD, "tests/lib/skew.so"), "SKEW_FILE": h.dir + "/skew",
                 "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        h.worker("deaf", "--ignore-term", "TimeoutStopSec=50ms")
        before = self.up(h, "calm", "busy")
        for off in (self.YEAR, 0, -self.YEAR, self.YEAR):
            with self.subTest(off=off):
                self.step(h, off)
                self.check(h, before, off)
        for off in (-self.YEAR, 0):
            with self.subTest("while agentd is dead", off=off):
                pids = h.pids_of_all()
                h.kill()
                self.step(h, off)
                h.start()
                h.all_up()
                self.assertEqual(h.pids_of_all(), pids)
                self.check(h, before, off)
        h.stop()


class Zombies(Protected):
    ALONE = True
    N = 10000 if harness.ALL or not harness.SANITIZED else 1000

    def zombies(self, pid):
        return sum(1 for p in harness.children(pid) if stat_of(p)[0] == "Z")

    def test_ten_thousand(self):
        """They end while agentd does not run; then all are there at once."""
        h = self.host()
        h.worker("calm")
        gate = h.gate()
        h.worker("busy", gate.args + "--delay 600000 --orphans %d --pid-file %s/done" % (self.N, h.dir))
        h.start()
        calm = h.until("calm", "UP")["pid"]
        gate.open()
        eventually(lambda: os.path.exists(h.dir + "/done"), 60, "the first %d" % self.N)
        eventually(lambda: not self.zombies(h.pid))
        memory = harness.private_kb(h.pid)
        os.unlink(h.dir + "/done")
        gate.shut()
        self.assertEqual(h.operation("busy", "restart").status, 200)
        os.kill(h.pid, signal.SIGSTOP)
        gate.open()
        eventually(lambda: os.path.exists(h.dir + "/done"), 60, "the second %d" % self.N)
        had = self.zombies(h.pid)
        began, slowest, answered = time.monotonic(), 0, 0
        os.kill(h.pid, signal.SIGCONT)
        while answered < 3 or self.zombies(h.pid):
            at = time.monotonic()
            self.assertEqual(h.record("calm")["pid"], calm)
            slowest, answered = max(slowest, time.monotonic() - at), answered + 1
            self.assertLess(at - began, harness.DEADLINE, "all are reaped")
        took = time.monotonic() - began
        print("# %d zombies at once, gone after at most %.2f s; slowest of %d requests meanwhile %.0f ms; memory %d kB, then %d kB"
              % (had, took, answered, slowest * 1000, memory, harness.private_kb(h.pid)))
        self.assertGreaterEqual(had, self.N)
        if not harness.SANITIZED:
            self.assertLess(slowest, BOUND)
            self.assertLess(harness.private_kb(h.pid) - memory, 200)
        h.stop()
