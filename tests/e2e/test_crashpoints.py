# SPDX-License-Identifier: Apache-2.0
"""agentd may die at any instruction, and any of its system calls may fail.

Each scenario is run once to count the system calls that agentd makes in it (tests/lib/crashat). Then, for each call,
agentd is brought to the same state again, and killed right before or right after that call; an agentd that nobody
traces is started in its place, and must find or make the world that was asked for: see World.check. Failures: the
call is not made but returns an error, once; agentd lives on.

Without AGENTD_TEST_ALL a share is run, for BUDGET seconds in all (or AGENTD_TEST_BUDGET); AGENTD_TEST_SEED says
which. A failure names its point; AGENTD_TEST_POINT=SCENARIO:CALL:WHAT:MODE runs that one only. Calls are
counted in the order in which agentd makes them, which differs a little from run to run: a point that is not reached is
counted as such.
"""
import collections
import contextlib
import errno
import fcntl
import http.client
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import time

import harness
from harness import Case, both, eventually

LONG = CAMPAIGN = True
CRASHAT = os.path.join(harness.BUILD, "tests/lib/crashat")
POINT = os.environ.get("AGENTD_TEST_POINT", "")
BUDGET = {"kill": 90, "fail": 60}  # seconds, all scenarios and modes together
if os.environ.get("AGENTD_TEST_BUDGET"):  # of each kind
    BUDGET = dict.fromkeys(BUDGET, int(os.environ["AGENTD_TEST_BUDGET"]))
POINT_SEC = 30  # one point that takes longer hangs
SETTLE = 10
BAD_MAX = 5  # violations shown of one scenario

# What may be returned by a call that can fail for reasons outside of agentd. Not here: close and munmap (not made, they
# would leak by our hand), brk (it returns no errno), prlimit64 (reading can't fail), waitid and epoll_wait (they only fail for what agentd passes).
ERRNOS = {
    "openat": ["EMFILE", "ENOMEM", "EACCES", "EIO"], "read": ["EIO"], "pread64": ["EIO"], "getdents64": ["ENOMEM"],
    "write": ["ENOSPC", "EIO"], "pwrite64": ["ENOSPC", "EIO"], "ftruncate": ["EIO"], "mkdir": ["ENOSPC"],
    "mkdirat": ["ENOSPC"], "unlinkat": ["EBUSY"], "unlink": ["EBUSY"], "renameat": ["ENOSPC"], "newfstatat": ["ENOMEM"],
    "fsync": ["ENOSPC", "EIO"], "chmod": ["EPERM"], "readlink": ["ENOMEM"], "readlinkat": ["EACCES"], "flock": ["EINTR"],
    "clone3": ["EAGAIN", "ENOMEM"], "clone": ["EAGAIN", "ENOMEM"], "fork": ["EAGAIN", "ENOMEM"], "mmap": ["ENOMEM"],
    "mremap": ["ENOMEM"], "socket": ["EMFILE", "ENOBUFS"], "socketpair": ["EMFILE"], "bind": ["ENOMEM"], "listen": ["EADDRINUSE"],
    "connect": ["EAGAIN"], "accept4": ["EMFILE"], "sendto": ["ENOBUFS"],
    "sendmsg": ["EAGAIN", "ENOBUFS"], "recvfrom": ["ENOMEM", "EIO"],
    "recvmsg": ["ENOMEM"], "setsockopt": ["ENOMEM"], "getsockopt": ["ENOBUFS"],
    "epoll_create1": ["EMFILE"], "epoll_ctl": ["ENOMEM"], "timerfd_create": ["EMFILE"], "timerfd_settime": ["EINVAL"],
    "signalfd4": ["EMFILE"], "eventfd2": ["EMFILE"], "pipe2": ["EMFILE"], "pidfd_open": ["EMFILE"],
    "pidfd_send_signal": ["EPERM"], "kill": ["EPERM"], "capset": ["EPERM"], "getrandom": ["EAGAIN"],
    "getxattr": ["EIO"], "memfd_create": ["EMFILE"], "execveat": ["ENOMEM"], "rename": ["ENOSPC"],
}
# What may lie there between two starts; the half-written ones are overwritten by the next writer.
RUN_FILES = {"facts", "lock", "notify", "private", "operations", "keys", "tasks", "steps", "definitions", "upgrade.new"}
STATE_FILES = {n + tail for n in ("state", "operations", "keys", "tasks", "steps", "agentd.previous") for tail in ("", ".new")} | {"state.lock", "audit", "audit.head", "history"}
GONE = (OSError, http.client.HTTPException)  # what a caller sees of an agentd that dies
totals = collections.Counter()


def say_totals():
    if totals["points"]:
        print("# crash points: %d, ran %d, seed %d, not reached %d, violations %d"
              % (totals["points"], totals["ran"], harness.SEED, totals["missed"], totals["bad"]))


class Tracer:
    """crashat on one process, from now on."""

    def __init__(self, pid, *plan, at_exec=False):
        self.p = subprocess.Popen([CRASHAT, *(["exec"] if at_exec else []), str(pid), *map(str, plan)], text=True,
                                  stdout=subprocess.PIPE)
        first = self.p.stdout.readline()
        if first != "ready\n":
            raise AssertionError("crashat: %r" % first)

    def end(self):
        """(how it ended, the call, all calls when they were only counted)"""
        self.p.send_signal(signal.SIGUSR1)
        lines = self.p.communicate()[0].splitlines()
        word, _, call = (lines[-1].split() + [""])[:3] if lines else ("lost", 0, "")
        return word, call, lines[0].split()[1:] if lines and lines[0].startswith("calls") else []


class Foreign:
    """An agentd that the guardian of an upgrade has started: no child of ours. What Host needs of a Popen."""

    def __init__(self, pid):
        self.pid, self.fd = pid, os.pidfd_open(pid)

    def __del__(self):
        os.close(self.fd)

    def poll(self):
        return 0 if select.select([self.fd], [], [], 0)[0] else None  # its status is not told to us

    def wait(self, timeout=None):
        if not select.select([self.fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("agentd", timeout)
        return 0

    def send_signal(self, sig):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, sig)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def tell(ask):
    """What the caller of a request hears, or None if nobody answered."""
    try:
        return ask()
    except GONE:
        return None


def peek(look):
    """The same for one that only looks: the listener of an agentd that has just died may still say so."""
    try:
        return tell(look)
    except AssertionError:
        return None


class Life:
    """Whoever runs agentd on a host, h: what it takes to go on with the one that is there."""
    log_at = 0  # where in its log the present matter begins

    def runs(self):
        return self.h.proc is not None and self.h.proc.poll() is None

    def heard_all(self):
        """What a dead agentd said is heard before another one speaks."""
        word = "SYNC %d" % time.monotonic_ns()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(word.encode(), self.h.dir + "/notify")
        while word not in self.h.said:
            if select.select([self.h.wake[0]], [], [], harness.DEADLINE)[0]:
                os.read(self.h.wake[0], 4096)

    def start(self):
        """Somebody runs agentd: we, unless the guardian of an upgrade was quicker."""
        if self.runs():
            return
        self.heard_all()
        self.h.start(wait=False)
        eventually(lambda: self.h.proc.poll() is not None or self.holder() == self.h.pid, SETTLE, "an agentd with the lock")
        if self.h.proc.poll() is None:
            self.h.wait_notify("READY=1")
            return
        said = self.h.log()[self.log_at:]
        if self.h.proc.poll() != 1 or "another agentd (pid " not in said:
            raise AssertionError("agentd ended with %d and said %r" % (self.h.proc.poll(), said))
        self.meet()

    def holder(self):
        """The pid of who has the lock of the runtime directory; 0: nobody."""
        with contextlib.suppress(FileNotFoundError), open(self.h.run + "/lock", "rb") as f:
            layout = "hhqqi4x"
            got = struct.unpack(layout, fcntl.fcntl(f, fcntl.F_GETLK, struct.pack(layout, fcntl.F_RDLCK, 0, 0, 0, 0)))
            return 0 if got[0] == fcntl.F_UNLCK else got[4]
        return 0

    def agentds(self):
        """All processes of agentd's program on this directory: helpers and guardians too."""
        found, conf = set(), (self.h.dir + "/agentd.conf").encode()
        for pid in harness.pids():
            with contextlib.suppress(OSError), open("/proc/%d/cmdline" % pid, "rb") as f:
                words = f.read().split(b"\0")
                if conf in words and os.path.basename(words[0]) == b"agentd" and harness.is_alive(pid):
                    found.add(pid)
        return found

    def meet(self):
        """Goes on with the agentd that runs, once there is no other and no guardian; it answers."""
        last = {}

        def alone():
            last["all"], pid = self.agentds(), self.holder()
            return last["all"] == {pid} and pid
        try:
            pid = eventually(alone, SETTLE)
        except AssertionError:
            raise AssertionError("agentds %r, and the lock is of %d" % (last["all"], self.holder())) from None
        if pid != self.h.pid:
            self.h.proc.wait(harness.DEADLINE)
            self.h.proc = Foreign(pid)
        eventually(lambda: peek(self.h.all), SETTLE, "the API")


class World(Life):
    """A host with its workers, and what must hold of it at all times."""
    TREES = {"plain": 2, "told": 1, "tree": 3, "gone": 1, "fresh": 1}  # processes of each
    SPEAK = {"told"}  # those with a NOTIFY_SOCKET
    RUN_FILES = RUN_FILES
    LOOKS = 0

    def __init__(self, case):
        self.case, self.cgroup = case, case.cgroup
        self.h = case.host(cgroup=case.cgroup)
        self.turn = 0
        self.injected = False  # a call fails in this round, nobody is killed
        self.fixed = None  # descriptors that agentd has without any worker
        self.defined = set()
        self.lent = {}  # processes without a cookie that were handed to a worker: {alias: {pid: generation}}
        self.define_all()

    def define_all(self):
        for alias in ("plain", "told", "tree"):
            self.define(alias)

    def define(self, alias, more=""):
        # a lost TERM costs the timeout
        args, service, id = {"plain": ("--children 1", "TimeoutStopSec=500ms", 1),
                             "told": ("--notify READY=1", "Type=notify\nTimeoutStopSec=500ms", 2),
                             "tree": ("--ignore-term --children 2", "TimeoutStopSec=15ms", 3),
                             "gone": ("", "TimeoutStopSec=500ms", 4), "fresh": ("", "TimeoutStopSec=500ms", 5)}[alias]
        self.h.worker(alias, args, service + "\n" + more, id=id)
        self.defined.add(alias)

    def undefine(self, alias):
        self.h.remove(alias)
        self.defined.discard(alias)

    # --- agentd's life

    def kill(self):
        if self.runs():
            self.h.kill()

    def start_stopped(self):
        """agentd before its first instruction."""
        self.heard_all()
        self.h.wrap = [CRASHAT, "stopped"]
        try:
            self.h.start(wait=False)
        finally:
            self.h.wrap = []
        os.waitid(os.P_PID, self.h.pid, os.WSTOPPED | os.WNOWAIT)

    def ready_or_dead(self):
        """Until agentd says that it is ready, its API answers (the word may be lost by our hand), or it is no more."""
        fd = os.pidfd_open(self.h.pid)
        try:
            for _ in range(SETTLE * 20):
                if any("READY=1" in t.split("\n") for t in self.h.said):
                    return True
                ready = select.select([self.h.wake[0], fd], [], [], 0.05)[0]
                if fd in ready:
                    return False
                if self.h.wake[0] in ready:
                    os.read(self.h.wake[0], 4096)
                elif peek(self.h.all):
                    return True
            raise AssertionError("agentd does not become ready")
        finally:
            os.close(fd)

    # --- looking

    def records(self):
        return {a: {"pid": w["pid"], "start": (harness.stat_of(w["pid"]) or (0, 0, 0))[2], "goal": w["goal"], "state": w["state"],
                    "generation": w["generation"], "phase": w["phase"]} for a, w in self.h.all().items()}

    def is_settled(self, records):
        return all(w["state"] == w["goal"] for w in records.values())

    def settle(self):
        """Until each worker is what its goal says; the records."""
        last = {}

        def look():
            last["r"] = self.records()
            return self.is_settled(last["r"])
        try:
            eventually(look, SETTLE)
        except AssertionError:
            raise AssertionError("workers do not become what they should be: %r" % last.get("r")) from None
        return last["r"]

    def scan(self):
        """{alias: {pid: generation}} of all processes with a cookie of ours; zombies that agentd does not reap."""
        found, zombies = collections.defaultdict(dict), []
        for pid in harness.pids():
            stat = harness.stat_of(pid)
            if stat and stat[0] == "Z" and stat[1] == self.h.pid:
                zombies.append(pid)
            cookie = harness.environ_of(pid).get(b"AGENTD_COOKIE", b"").decode().split(":")
            if stat and stat[0] not in "ZX" and cookie[0] == self.h.hash and harness.is_alive(pid):
                found[cookie[1]][pid] = int(cookie[2])
        for alias, tree in self.lent.items():
            found[alias].update({p: n for p, n in tree.items() if harness.is_alive(p)})
        return found, zombies

    def members(self):
        """{leaf: pids in it}"""
        found = {}
        for leaf in self.h.leaves():
            pids = found[leaf] = set()
            for top, _, _ in os.walk(os.path.join(self.h.cgroup_dir(), leaf)):
                with contextlib.suppress(OSError), open(top + "/cgroup.procs", encoding="ascii") as f:
                    pids |= set(map(int, f.read().split()))
        return found

    def descriptors(self):
        """How many of each kind agentd has."""
        where, found = "/proc/%d/fd/" % self.h.pid, collections.Counter()
        for n in os.listdir(where):
            with contextlib.suppress(OSError):
                found[re.sub(r":?\[?\d+\]?$", "", os.readlink(where + n).replace(self.h.dir, ""))] += 1
        return found

    # --- what must hold

    def expected_descriptors(self, records):
        want = collections.Counter(self.fixed)
        for alias, w in records.items():
            if w["state"] == "UP":
                want["anon_inode:[pidfd]"] += 1
                want[self.leaf_path(alias)] += self.h.cgroup
                want["socket"] += alias in self.SPEAK
        return want

    def alias_of(self, leaf):
        return leaf[2:]

    def leaf_path(self, alias):
        return "%s/w-%s" % (self.h.cgroup_dir(), alias)

    def learn(self):
        """What a fresh agentd holds, when nothing ever went wrong."""
        self.start()
        records = self.settle()
        self.fixed = collections.Counter()
        eventually(lambda: self.helpers() == 0)
        self.fixed = self.descriptors()
        for _ in range(self.LOOKS):
            self.h.all()  # once it has answered, it is elsewhere
            eventually(lambda: self.helpers() == 0)
            self.fixed &= self.descriptors()  # what is held all the time
        self.fixed.subtract(self.expected_descriptors(records) - self.fixed_copy())
        self.fixed = +self.fixed

    def fixed_copy(self):
        return collections.Counter(self.fixed)

    def helpers(self):
        return sum(harness.name_of(p) == "agentd" for p in harness.children(self.h.pid))

    def check_processes(self, records, left_alone):
        def look():
            found, zombies = self.scan()
            for alias, w in records.items():
                if len(set(found[alias].values())) > 1:
                    raise AssertionError("%s runs twice: %r, %r" % (alias, found[alias], w))
            whole = all(len(found[a]) == (self.TREES[a] if w["state"] == "UP" else 0) for a, w in records.items())
            return (found if whole and not zombies else None), (dict(found), zombies)
        last = {}

        def whole():
            good, last["seen"] = look()
            return good
        try:
            found = eventually(whole, SETTLE)
        except AssertionError as e:
            raise AssertionError("%s: processes and zombies %r, records %r" % (e, last.get("seen"), records)) from None
        for alias, w in records.items():
            if w["state"] == "UP" and self.TREES[alias] and found[alias].get(w["pid"]) != w["generation"]:
                raise AssertionError("%s is not what its record says: %r, %r" % (alias, found[alias], w))
        foreign = {a for a in found if found[a]} - set(records) - set(left_alone)
        if foreign:
            raise AssertionError("processes of no worker: %r" % {a: found[a] for a in foreign})
        return found

    def check_leaves(self, records, found, left_alone):
        members = self.members()
        for leaf, pids in members.items():
            alias = self.alias_of(leaf)
            if alias not in records and alias not in left_alone:
                raise AssertionError("a leaf of no worker: %s with %r" % (leaf, pids))
            if pids != set(found[alias]) and not self.degraded():
                raise AssertionError("%s holds %r, and the worker is %r" % (leaf, pids, found[alias]))
        missing = {a for a, w in records.items() if w["state"] == "UP"} - {self.alias_of(n) for n in members}
        if self.h.cgroup and missing and not self.degraded():
            raise AssertionError("without a leaf: %r" % missing)

    def degraded(self):
        """It has said that it goes without cgroups, since a call failed."""
        return self.injected and "workers are tracked without cgroups" in self.h.log()[self.log_at:]

    def check_descriptors(self, records, exactly):
        want, last = self.expected_descriptors(records), {}
        kept = {self.leaf_path(a) for a, w in records.items() if w["state"] == "DOWN"}  # of the last incarnation

        def same():
            have = last["have"] = collections.Counter({k: n for k, n in self.descriptors().items() if k not in kept})
            return have == want if exactly else not have - want
        try:
            eventually(same, SETTLE)
        except AssertionError:
            have = last["have"]
            raise AssertionError("descriptors: too many %r, missing %r" % (dict(have - want), dict(want - have))) from None

    def check_folders(self, records):
        speak = sum(a in self.SPEAK and w["state"] == "UP" for a, w in records.items())

        def clean():
            run = set(os.listdir(self.h.run))
            notify = os.listdir(self.h.run + "/notify") if "notify" in run else []
            kept = set(os.listdir(self.h.run + "/definitions")) if "definitions" in run else set()
            return (len(notify) == speak or self.injected) and run <= self.RUN_FILES and set(os.listdir(self.h.state)) <= STATE_FILES and \
                (kept <= {a + ".conf" for a in self.defined} | {".new"} or self.injected)
        try:
            eventually(clean, SETTLE)
        except AssertionError:
            raise AssertionError("files are left: %r" % [list(os.walk(d)) for d in (self.h.run, self.h.state)]) from None

    def check_listeners(self, old):
        """One, ours; what an agentd that is dead had goes by itself."""
        rpc = [p for p in harness.children(self.h.pid) if harness.name_of(p) == "agentd-rpc" and harness.is_alive(p)]
        if len(rpc) != 1:
            raise AssertionError("listeners: %r" % rpc)
        for p in old:
            if p not in rpc and harness.name_of(p) == "agentd-rpc":
                harness.wait_gone(p, 5)

    def check_trail(self):
        """What was torn is said by now; nothing else may be wrong with the audit trail."""
        r = subprocess.run([harness.STAGED + "/agentctl", "audit", "verify", self.h.state], capture_output=True, text=True, check=False)
        if r.returncode != 0:
            raise AssertionError("the audit trail: %r" % r)

    def check_history(self):
        """No incarnation is there twice, and all but the one that runs have ended."""
        for alias, w in self.settle().items():
            past = [e for e in self.h.ok("GET", "/agentd/v1/workers/%s/history" % alias)["contents"] if not e["earlierBoot"]]
            # a second instance that did not become ready has taken over nothing: the next attempt bears the same number
            generations = [e["generation"] for e in past if e["readyAt"]]
            going_on = [e["generation"] for e in past if not e["exit"]]
            # what could not be written is put right by the next agentd
            lost = self.injected and "the history of workers can't be written" in self.h.log()
            extra = set() if lost else set(going_on) - ({w["generation"]} if w["state"] == "UP" else set())
            if len(set(generations)) < len(generations) or extra:
                raise AssertionError("%s: its history is %r, and its record %r" % (alias, past, w))
            if w["state"] == "UP" and not self.injected and going_on != [w["generation"]]:
                raise AssertionError("%s: it runs, and its history is %r, its record %r" % (alias, past, w))

    def check_control(self, records):
        """One worker, each time another, is restarted; before all one whose leaf agentd does not hold, by our hand."""
        self.turn += 1
        held = self.descriptors()
        lost = [a for a in sorted(records) if self.h.cgroup and self.injected and self.leaf_path(a) not in held and not self.degraded()]
        alias = lost[0] if lost else sorted(records)[self.turn % len(records)]
        r = self.h.operation(alias, "restart")
        now = self.records()[alias]
        if r.status != 200 or now["state"] != "UP" or now["pid"] in (0, records[alias]["pid"]):
            raise AssertionError("%s can't be restarted: %r, %r" % (alias, r, now))
        if lost:
            all_now = self.settle()
            self.check_leaves(all_now, self.check_processes(all_now, ()), ())

    def anything(self):
        """A scenario that may have changed all."""
        return Start()

    def check(self, before, scenario, answer, exactly=True):
        """Everything, once agentd stands again."""
        self.meet()
        now = self.settle()
        if not self.defined - (scenario.left_alone if self.injected else set()) <= set(now) <= self.defined:
            raise AssertionError("workers: %r" % sorted(now))
        for alias, w in now.items():
            old = before.get(alias)
            # who can't be proven to be the one on record is replaced: then a failed call may cost a process
            if old and alias not in scenario.touched and not (scenario.first and self.injected) and (old["pid"], old["start"]) != (w["pid"], w["start"]):
                raise AssertionError("%s was not touched, and is another: %r, %r" % (alias, old, w))
        scenario.check(before, now, answer)
        found = self.check_processes(now, scenario.left_alone)
        for alias in scenario.left_alone & set(before):
            if before[alias]["pid"] not in found[alias] or harness.stat_of(before[alias]["pid"])[2] != before[alias]["start"]:
                raise AssertionError("%s has a broken file and does not run on: %r, %r" % (alias, before[alias], found[alias]))
        self.check_leaves(now, found, scenario.left_alone)
        self.check_descriptors(now, exactly)
        self.check_folders(now)
        self.check_control(now)
        self.check_trail()
        self.check_history()


# --- the scenarios: how agentd is brought there, what is asked of it, and what may come of that ---------------------------


class Scenario:
    world = World
    touched = frozenset()     # workers whose process may be another one afterwards
    left_alone = frozenset()  # workers whose file is broken: if their stored definition can't be read either, nothing of them is ended
    first = False             # agentd is traced from its exec on
    empty = False             # and nothing was there before
    rereads = False           # files change: the checks are to meet an agentd that has read them as they are
    ends = False              # agentd is told to end
    by_itself = False         # agentd is there afterwards without our help

    def prepare(self, w):
        """agentd runs, all workers are UP."""
        w.start()
        for alias, r in w.records().items():
            if r["goal"] != "UP":
                w.h.operation(alias, "start")
        w.settle()

    def trace(self, w, plan):
        return Tracer(w.h.pid, *plan)

    def act(self, w):
        """Asks for it; the reply, or None."""
        raise NotImplementedError

    def answer(self, w, answer):
        """What its caller hears in the end, when agentd stands again."""
        return answer

    def check(self, before, now, answer):
        """What was answered is true; what was not, is as before or as asked."""
        for alias, r in now.items():
            if r["goal"] != "UP":
                raise AssertionError("%s: nobody asked for %r" % (alias, r))

    def restore(self, w):
        """After the checks: what prepare can't undo."""


class Verb(Scenario):
    def __init__(self, verb, alias):
        self.name, self.verb, self.alias = "%s-%s" % (verb, alias), verb, alias
        self.touched = frozenset([alias])

    def prepare(self, w):
        super().prepare(w)
        if self.verb == "start":
            w.h.operation(self.alias, "stop")
            w.settle()

    def act(self, w):
        r = tell(lambda: w.h.operation(self.alias, self.verb))
        peek(lambda: w.h.record(self.alias))  # so that what follows the reply is counted too
        return r

    def check(self, before, now, answer):
        old, new = before[self.alias], now[self.alias]
        asked = "DOWN" if self.verb == "stop" else "UP"
        done = answer is not None and answer.status == 200
        if new["goal"] not in ({asked} if done else {asked, old["goal"]}):
            raise AssertionError("%r, and the goal is %r" % (answer, new))
        if done and self.verb == "restart" and (old["pid"], old["start"]) == (new["pid"], new["start"]):
            raise AssertionError("%r, and it is the same process: %r" % (answer, new))
        super().check(before, {a: r for a, r in now.items() if a != self.alias}, answer)


class Start(Scenario):
    """From exec until READY, where nothing is."""
    name, first, empty, touched = "boot", True, True, frozenset(World.TREES)

    def prepare(self, w):
        if w.runs():
            super().prepare(w)
            w.h.stop()
        else:
            w.start()
            w.h.stop()

    def trace(self, w, plan):
        w.start_stopped()
        return Tracer(w.h.pid, *plan, at_exec=True)

    def act(self, w):
        if w.ready_or_dead():
            peek(w.settle)


class Recover(Start):
    """The same where an agentd was killed; of one tree the main process is dead too, and the rest of it ignores TERM."""
    name, empty, touched = "recover", False, frozenset(["tree"])

    def prepare(self, w):
        Scenario.prepare(self, w)
        self.main = w.records()["tree"]["pid"]

    def trace(self, w, plan):
        w.kill()
        os.kill(self.main, signal.SIGKILL)
        harness.wait_gone(self.main)
        return super().trace(w, plan)


class Reload(Scenario):
    """One worker changed, one removed, one added, and one file broken."""
    name, touched, left_alone = "reload", frozenset(["plain", "gone", "fresh"]), frozenset(["told"])
    rereads = True

    def prepare(self, w):
        self.restore(w)
        super().prepare(w)

    def trace(self, w, plan):
        self.old = w.h.record("plain")["generation"]
        w.define("plain", "Environment=CHANGED=1")
        w.undefine("gone")
        w.define("fresh")
        w.define("told", "NoSuchKey=1\nUMask=never")
        return super().trace(w, plan)

    def act(self, w):
        r = tell(lambda: w.h.http("POST", "/agentd/v1/reload"))

        def applied():
            if not w.runs():
                return True
            a = peek(w.h.all)
            return a and set(a) == {"plain", "told", "tree", "fresh"} and a["plain"]["generation"] != self.old and \
                all(x["state"] == "UP" for x in a.values())
        if r is not None and r.status == 503 or not w.runs():
            return r
        if w.injected:  # what failed may be the reading
            peek(w.settle)
        else:
            eventually(applied, SETTLE)
        return r

    def restore(self, w):
        if not w.runs():
            w.start()
        for alias in ("plain", "gone", "told"):
            w.define(alias)
        if "fresh" in w.defined:
            w.undefine("fresh")
        w.h.ok("POST", "/agentd/v1/reload")
        eventually(lambda: set(w.h.all()) == w.defined, SETTLE, "the files as they were")
        w.settle()


class Term(Scenario):
    """agentd stops, and all workers with it."""
    name, ends, touched = "term", True, frozenset(World.TREES)

    def act(self, w):
        w.h.proc.send_signal(signal.SIGTERM)
        harness.wait_gone(w.h.pid)


class Adopt(Scenario):
    """A process that agentd did not start is handed to it: with all of its tree, or it is left alone."""
    name, touched, alias = "adopt", frozenset(["plain"]), "plain"
    stranger = ctl = None

    def prepare(self, w):
        self.restore(w)
        super().prepare(w)
        w.h.operation(self.alias, "stop")
        w.settle()
        self.w, self.stranger = w, subprocess.Popen([harness.WORKER, "--children", "1"], start_new_session=True)
        w.case.addCleanup(self.restore, w)
        eventually(lambda: len(harness.children(self.stranger.pid)) == 1)
        self.tree = {self.stranger.pid, *harness.children(self.stranger.pid)}
        self.cgroups = {p: self.cgroup_of(p) for p in self.tree}

    def cgroup_of(self, pid):
        with open("/proc/%d/cgroup" % pid, encoding="ascii") as f:
            return f.read()

    def asked(self):
        return self.name, self.alias, str(self.stranger.pid)

    def act(self, w):
        """agentctl asks again, with the same key, until an agentd answers."""
        self.ctl = subprocess.Popen([harness.STAGED + "/agentctl", "--socket", w.h.socket, "--private", w.h.run + "/private", *self.asked()],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        eventually(lambda: self.ctl.poll() is not None or not w.runs(), what="agentctl's end")

    def answer(self, w, answer):
        said = self.ctl.communicate(timeout=SETTLE)[0]
        if self.ctl.returncode not in (0, 1, 3):  # 3: nobody took its connection, it was never asked
            raise AssertionError("agentctl ended with %d: %s" % (self.ctl.returncode, said))
        return self.ctl.returncode, said

    def check(self, before, now, answer):
        r = now[self.alias]
        taken = r["pid"] == self.stranger.pid
        if taken != (answer[0] == 0):
            raise AssertionError("%r, and the worker is %r" % (answer, r))
        if not all(harness.is_alive(p) for p in self.tree):
            raise AssertionError("it was ended: %r" % {p: harness.stat_of(p) for p in self.tree})
        if taken:
            self.w.lent[self.alias] = dict.fromkeys(self.tree, r["generation"])
        elif r["goal"] != "DOWN" or {p: self.cgroup_of(p) for p in self.tree} != self.cgroups:
            raise AssertionError("%r, it is not taken, and not left alone: %r, %r" % (answer, r, {p: self.cgroup_of(p) for p in self.tree}))
        super().check(before, {a: x for a, x in now.items() if a != self.alias}, answer)

    def restore(self, w):
        if self.ctl:
            self.ctl.kill()
            self.ctl.communicate()
            self.ctl = None
        if self.stranger:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.stranger.pid, signal.SIGKILL)
            self.stranger.wait()
        self.stranger = None
        w.lent.clear()


class Release(Adopt):
    """It is given back: with all of its tree, or it is the worker's still, with all of it."""
    name = "release"

    def prepare(self, w):
        super().prepare(w)
        w.h.ctl("--private", w.h.run + "/private", "adopt", self.alias, str(self.stranger.pid), check=True)
        w.settle()

    def asked(self):
        return self.name, self.alias, str(os.getpid())

    def check(self, before, now, answer):
        r = now[self.alias]
        if not all(harness.is_alive(p) for p in self.tree):
            raise AssertionError("it was ended: %r" % {p: harness.stat_of(p) for p in self.tree})
        cgroups = {p: self.cgroup_of(p) for p in self.tree}
        if r["pid"] == self.stranger.pid:
            self.w.lent[self.alias] = dict.fromkeys(self.tree, r["generation"])
            if answer[0] == 0 or (self.w.case.cgroup and {p for p in self.tree if "/w-" + self.alias not in cgroups[p]}):
                raise AssertionError("%r, and the worker is %r in %r" % (answer, r, cgroups))
        elif (r["pid"], r["goal"]) != (0, "DOWN") or cgroups != self.cgroups:
            raise AssertionError("%r, it is given, and not as it was: %r, %r" % (answer, r, cgroups))
        Scenario.check(self, before, {a: x for a, x in now.items() if a != self.alias}, answer)


class Upgrade(Scenario):
    """Another image, of the same program here, takes the place of the one that runs: no worker feels it, and whatever
    happens one agentd is there, and no guardian."""
    name, by_itself, touched = "upgrade", True, frozenset()

    def operations(self):
        return [o for o in self.w.h.ok("GET", "/agentd/v1/operations")["contents"] if o["verb"] == "upgrade"]

    def prepare(self, w):
        super().prepare(w)
        self.w = w
        self.old = {o["id"] for o in self.operations()}

    def act(self, w):
        w.h.proc.send_signal(signal.SIGUSR2)

        def ended():
            fresh = [o for o in peek(self.operations) or () if o["id"] not in self.old]
            return not w.runs() or (fresh and fresh[0]["result"] != "running")
        eventually(ended, 25, "the end of the upgrade")

    def check(self, before, now, answer):
        fresh = [o for o in self.operations() if o["id"] not in self.old]
        if len(fresh) > 1 or (fresh and fresh[0]["result"] not in ("done", "failed")):
            raise AssertionError("operations: %r" % fresh)
        super().check(before, now, answer)


# A row for each thing that can be asked of agentd; its name is the first part of AGENTD_TEST_POINT. crashat follows over
# execve, so that an upgrade is counted through both programs.
SCENARIOS = [Start, Recover, Reload, Term, Adopt, Release, Upgrade,
             lambda: Verb("stop", "plain"), lambda: Verb("stop", "tree"),
             lambda: Verb("start", "plain"), lambda: Verb("start", "told"),
             lambda: Verb("restart", "plain"), lambda: Verb("restart", "told"), lambda: Verb("restart", "tree")]


# --- the campaigns ----------------------------------------------------------------------------------------------------------


def is_repeat(calls, i):
    """One more round of a loop over /proc, say: worth less than what stands alone."""
    return any(i >= 3 * n and calls[i - 2 * n:i + 1] == calls[i - 3 * n:i - n + 1] for n in (3, 4))


class Campaign(Case):
    """All points of one scenario, or a share."""
    cgroup = True
    kind = None

    def mode(self):
        return "cgroup" if self.cgroup else "none"

    def points(self, calls):
        """(text, plan, repeat) of each"""
        raise NotImplementedError

    def share(self):
        """Seconds for one scenario, unless all of it is run."""
        return BUDGET[self.kind] / (2 * len(SCENARIOS))

    def count(self, w, scenario):
        scenario.prepare(w)
        tracer = scenario.trace(w, ["count"])
        scenario.act(w)
        calls = tracer.end()[2]
        self.assertGreater(len(calls), 20)
        return calls

    def chosen(self, scenario, points):
        """In which order; with POINT only that."""
        # Each point has its place by its name: a run with a few calls more takes the same ones first.
        def place(p):
            return p[2], random.Random("%d %s %s" % (harness.SEED, scenario.name, p[0])).random()
        if POINT:
            return [p for p in points if POINT == "%s:%s:%s" % (scenario.name, p[0], self.mode())]
        return sorted(points, key=place)

    def campaign(self, make):
        scenario = make()
        if POINT and (POINT.split(":")[0], POINT.split(":")[-1]) != (scenario.name, self.mode()):
            self.skipTest("not the point that is asked for")
        w = self.world(scenario)
        points = self.points(self.count(w, scenario))
        ran = missed = bad = 0
        began = time.monotonic()
        todo = self.chosen(scenario, points)
        share = self.share()
        for text, plan, _ in todo:
            if bad >= BAD_MAX or (not harness.ALL and not POINT and time.monotonic() - began > share):
                break
            if signal.getsignal(signal.SIGALRM) not in (signal.SIG_DFL, None):
                signal.alarm(POINT_SEC)  # the runner's limit is meant for a test: here each point has its own
            ran += 1
            good = False
            with self.subTest(AGENTD_TEST_POINT="%s:%s:%s" % (scenario.name, text, self.mode()), seed=harness.SEED):
                reached = self.point(w, scenario, plan)
                missed += reached is False
                good = reached is not None
            if not good:
                bad += 1
                w.kill()
                scenario = make()
                w = self.world(scenario)
        took = time.monotonic() - began
        for k, n in (("points", len(points)), ("ran", ran), ("missed", missed), ("bad", bad)):
            totals[k] += n
        print("# %s %s %s: points %d, ran %d, seed %d, not reached %d, violations %d, %.0f a second"
              % (self.kind, scenario.name, self.mode(), len(points), ran, harness.SEED, missed, bad, ran / took if took else 0))

    def world(self, scenario):
        w = scenario.world(self)
        w.learn()
        return w

    def back_to_cgroups(self, w):
        """What was made outside of any leaf is met by an agentd that has leaves again."""
        w.kill()
        w.log_at, w.injected = len(w.h.log()), False
        w.start()
        w.check({}, w.anything(), None)

    def point(self, w, scenario, plan):
        """One; False if it was not reached."""
        scenario.prepare(w)
        w.injected = self.kind == "fail"
        before = {} if scenario.empty else w.records()
        old = [p for p in harness.children(w.h.pid) if harness.name_of(p) == "agentd-rpc"] if w.runs() else []
        call = "?"
        try:
            w.log_at = log = len(w.h.log())
            tracer = scenario.trace(w, plan)
            try:
                answer = scenario.act(w)
            finally:
                word, call, _ = tracer.end()
            self.judge(w, scenario, log, word)
            answer = scenario.answer(w, answer)
            w.check(before, scenario, answer, exactly=self.kind == "kill")
            w.check_listeners(old)
            if w.degraded():
                self.back_to_cgroups(w)
        except AssertionError as e:
            text = "%s at %s: %s\n--- agentd's log of it:\n%s" % (plan, call, e, w.h.log()[w.log_at:][-5000:])
            raise AssertionError(text) from None
        return word in ("killed", "failed")


class Killing(Campaign):
    kind = "kill"

    def points(self, calls):
        return [("%d:%s" % (i + 1, when), [when, i + 1], is_repeat(calls, i))
                for i in range(len(calls)) for when in ("before", "after")]

    def judge(self, w, scenario, log, word):
        if word == "killed":
            w.h.proc.wait(harness.DEADLINE)
        elif word == "ended":
            self.assertEqual(w.h.proc.wait(harness.DEADLINE), 0)
            w.h.assert_nothing_left()
        if scenario.rereads and word != "killed":
            w.kill()  # so that the checks meet what a fresh agentd knows
        w.start()


class Erring(Campaign):
    kind = "fail"

    def points(self, calls):
        seen, out = collections.Counter(), []
        # main's first own call; what is mapped before it is the loader's, which may answer with a SIGSEGV
        main = calls.index("close_range") if "close_range" in calls else 0
        for i, call in enumerate(calls):
            seen[call] += 1
            if call == "mmap" and i < main:
                continue
            for e in ERRNOS.get(call, ()):
                out.append(("%s.%d:%s" % (call, seen[call], e), ["fail", call, seen[call], getattr(errno, e)], is_repeat(calls, i)))
        return out

    def judge(self, w, scenario, log, word):
        if scenario.first or scenario.ends:
            if not w.runs():
                self.ended(w, scenario, log)
        elif scenario.by_itself:
            w.meet()  # without our help
        elif not w.runs():
            raise AssertionError("agentd ended with %r" % w.h.proc.wait())
        if scenario.rereads or "are left out: see" in w.h.log()[log:]:
            w.kill()  # so that the checks meet an agentd that has read the files as they are
        w.start()

    def ended(self, w, scenario, log):
        status = w.h.proc.wait()
        said = w.h.log()[log:]
        if status < 0 or (scenario.first and (status == 0 or not said)):
            raise AssertionError("agentd ended with %d and said %r" % (status, said))


@both
class Killed(Killing):
    """Each call, before and after it."""


@both
class Failing(Erring):
    """Each call that can fail, with each error."""


def add_tests(cls, scenarios):
    for make in scenarios:
        def test(self, make=make):
            self.campaign(make)
        setattr(cls, "test_" + make().name.replace("-", "_"), test)


for _cls in [c for n, c in list(globals().items()) if n.startswith(("Killed", "Failing")) and c]:
    add_tests(_cls, SCENARIOS)
