# SPDX-License-Identifier: Apache-2.0
"""Another image of agentd takes the place of this one: nobody notices; and one that can't is left again."""
import base64
import collections
import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import harness
from harness import (ALL, SANITIZED, STAGED, Case, Host, both, children, eventually, is_alive, name_of, needs_root,
                     pids, private_kb, stat_of, wait_gone)
from test_logs import Stream
from test_rpc import sha512

MEMORY_KB = 256  # what fifty upgrades may add to agentd's private memory
OPERATION_KB = 1  # and one operation more that is remembered: there are so many, and then the oldest goes
ROUNDS = 50 if ALL else 10


class Installed(Host):
    """An agentd in a folder of its own, where another program can be installed in its place."""

    def __init__(self, **how):
        super().__init__(**how)
        self.bin = self.dir + "/bin"
        os.mkdir(self.bin)
        for name in ("agentd", "agentd-rpc"):
            self.install(STAGED + "/" + name, name)

    def install(self, path=STAGED + "/agentd", name="agentd", mode=0o755):
        """As a package manager does: under another name, then renamed."""
        new = "%s/%s.new" % (self.bin, name)
        shutil.copy(path, new)
        os.chmod(new, mode)
        os.rename(new, self.bin + "/" + name)
        return self.bin + "/" + name

    def patch(self, *pairs, name="patched"):
        """A copy of agentd with other words in it."""
        with open(STAGED + "/agentd", "rb") as f:
            text = f.read()
        for old, new in pairs:
            assert old in text and len(old) == len(new), old
            text = text.replace(old, new)
        path = self.dir + "/" + name
        with open(path, "wb") as f:
            f.write(text)
        os.chmod(path, 0o755)
        return path

    def fake(self, *does):
        """Installs the program that is none."""
        self.write("bin/agentd.does", "\n".join(does) + "\n")
        self.install(STAGED + "/fake_upgrade")

    def real(self):
        """Another whole installation, that the fake can become."""
        os.makedirs(self.dir + "/real", exist_ok=True)
        for name in ("agentd", "agentd-rpc"):
            shutil.copy(STAGED + "/" + name, self.dir + "/real")
        return self.dir + "/real/agentd"

    @property
    def pid(self):
        """As the lock has it: after a return to the earlier program it may be another."""
        with contextlib.suppress(OSError, ValueError), open(self.run + "/lock", encoding="ascii") as f:
            return int(f.read())
        return self.proc.pid

    def mine(self):
        """All processes that run on this configuration: agentd, its helpers, a guardian."""
        found = []
        for p in pids():
            with contextlib.suppress(OSError), open("/proc/%d/cmdline" % p, "rb") as f:
                if (self.dir + "/agentd.conf").encode() in f.read().split(b"\0") and is_alive(p):
                    found.append(p)
        return found

    def upgrade(self, *words, timeout=60):
        return self.ctl("--private", self.run + "/private", *words, "upgrade", timeout=timeout)

    def upgrades(self):
        """The operations, the newest first, whole."""
        found, n = {}, 0
        while True:  # under load they stand behind many others
            page = self.ok("GET", "/agentd/v1/operations?from=%d" % n)["contents"]
            if not page:
                return [self.ok("GET", "/agentd/v1/operations/" + i) for i in found]
            found.update({o["id"]: None for o in page if o["verb"] == "upgrade"})
            n += len(page)

    def upgraded(self):
        r = self.upgrade()
        if r.returncode != 0:
            raise AssertionError("%r\n%s" % (r, self.log()[-4000:]))
        return self.upgrades()[0]

    def identities(self):
        """{alias: (pid, start ticks, generation)}."""
        return {a: (w["pid"], (stat_of(w["pid"]) or (0, 0, 0))[2] if w["pid"] else 0, w["generation"]) for a, w in self.all().items()}

    def settled(self):
        """Until earlier listeners have gone, and with them all that an upgrade needs; nothing is left of it."""
        eventually(lambda: sum(name_of(p) == "agentd-rpc" for p in children(self.pid)) == 1 and self.mine() == [self.pid] and
                   not any((stat_of(p) or " ")[0] == "Z" for p in children(self.pid)), what="one agentd, one agentd-rpc")
        if os.path.exists(self.run + "/upgrade"):
            raise AssertionError("the marker is left")
        # (a helper that writes the state comes and goes)
        eventually(lambda: {name_of(p) for p in children(self.pid)} <= {"agentd-rpc", "worker", "sh", "cat"}, what="nobody else")

    def stop(self, code=0):
        if self.proc.poll() is None and self.pid == self.proc.pid:
            super().stop(code)
            return
        left = [self.pid] + [p for p in children(self.pid) if name_of(p) == "agentd-rpc"]
        os.kill(self.pid, signal.SIGTERM)
        for p in left:
            wait_gone(p)
        self.assert_nothing_left()

    def close(self):
        for p in self.mine():
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGKILL)
        super().close()


class Listeners(Case):
    """An agentd-rpc that runs and does nothing is not waited for for ever."""

    def replaced(self, script, says):
        h = Installed()
        self.addCleanup(self.finish, h)
        h.worker("a")
        h.start()
        h.all_up()
        path = h.dir + "/script"
        with open(path, "w", encoding="ascii") as f:
            f.write(script)
        h.install(path, "agentd-rpc")
        os.kill(h.rpc_pid(), signal.SIGKILL)
        eventually(lambda: any(name_of(p) == "sleep" for p in children(h.pid)))
        h.install(STAGED + "/agentd-rpc", "agentd-rpc")
        eventually(lambda: says in h.log())
        h.all_up()
        h.stop()

    def test_deaf(self):
        self.replaced("#!/bin/sh\nexec sleep infinity\n", "does not read what it is to serve by")

    def test_closed(self):
        self.replaced("#!/bin/sh\nexec sleep infinity 3<&-\n", "has closed its wire")


class Load:
    """Clients that ask without pause over connections that they keep. A connection that ends without having said so, one that
    is refused and an answer that is not 200 are failures."""

    def __init__(self, h, port=None, auth=None):
        self.h, self.port, self.auth = h, port, auth
        self.end = threading.Event()
        self.made, self.failures, self.closed = 0, [], 0
        self.threads = []

    def connection(self, tcp):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60) if tcp else self.h.connect(60)

    def ask(self, c, tcp, method, path):
        headers = {"Authorization": self.auth} if tcp else {}
        if method == "POST":
            headers["Content-Length"] = "0"
        c.request(method, path, headers=headers)
        r = c.getresponse()
        body = r.read()
        self.closed += r.will_close
        if r.status != 200:
            raise AssertionError("%d %r" % (r.status, body[:500]))

    def client(self, tcp, requests):
        c = self.connection(tcp)
        while not self.end.is_set():
            for method, path in requests:
                try:
                    self.ask(c, tcp, method, path)
                except (OSError, http.client.HTTPException, AssertionError) as e:
                    self.failures.append((method, path, "tcp" if tcp else "unix", repr(e)))
                    c.close()
                    c = self.connection(tcp)
                self.made += 1
        c.close()

    def start(self, *clients):
        for tcp, requests in clients:
            t = threading.Thread(target=self.client, args=(tcp, requests), daemon=True)
            t.start()
            self.threads.append(t)
        eventually(lambda: self.made > 0)
        return self

    def stop(self):
        self.end.set()
        for t in self.threads:
            t.join(harness.DEADLINE)


class Looker:
    """New connections without pause; what came of each: a status, "closed", or "refused"."""

    def __init__(self, h):
        self.h, self.end, self.got = h, threading.Event(), []
        self.thread = threading.Thread(target=self.look, daemon=True)

    def one(self):
        try:
            return self.h.http("GET", "/agentd/v1/workers", timeout=60).status
        except (ConnectionRefusedError, FileNotFoundError):
            return "refused"
        except (http.client.HTTPException, ConnectionError):
            return "closed"
        except OSError as e:
            return repr(e)

    def look(self):
        while not self.end.is_set():
            self.got.append(self.one())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *how):
        self.end.set()
        self.thread.join(60)


def fds_of(pid):
    """What its descriptors are, while none leads to a helper."""
    def look():
        found = []
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                found.append(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        return not any(f.startswith("pipe:") and found.count(f) == 1 for f in found) and sorted(f.split("[")[0] for f in found)  # libevent has both ends of one
    return eventually(look, 10, "no helper at work")


def same_fds(h, want):
    """Until agentd has these again: it hears of the end of connections and helpers when its turn comes."""
    try:
        eventually(lambda: fds_of(h.pid) == want, 5)
    except AssertionError:
        got = collections.Counter(fds_of(h.pid))
        raise AssertionError("more: %r, fewer: %r" % (got - collections.Counter(want), collections.Counter(want) - got)) from None


def numbers(path):
    with open(path, "rb") as f:
        text = f.read()
    return [int(line) for line in text[:text.rindex(b"\n")].split(b"\n")]


def retry_of(record):
    return {k: record[k] for k in ("state", "reason", "message", "generation", "restarts", "attempts", "since", "nextRetryAt", "lastExit", "goal")}


@both
@needs_root
class Nobody(Case):
    """Nobody notices."""
    ALONE = True
    cgroup = True

    def installed(self, **how):
        h = Installed(cgroup=self.cgroup, **how)
        self.addCleanup(self.finish, h)
        return h

    def test_under_load(self):
        port = harness.free_port()
        h = self.installed(rpc="ListenStream=127.0.0.1:%d" % port)
        h.write("credentials", "basic ann HOST_MANAGER %s\n" % sha512("topsecret"), 0o600)
        h.worker("counter", "--count 5")
        h.worker("busy")
        h.worker("tree", "--children 2")
        h.start()
        h.all_up()
        numbers_of = h.record("counter")["output"]
        first, began = h.pid, stat_of(h.pid)[2]
        before = {a: i for a, i in h.identities().items() if a != "busy"}
        h.upgraded()
        h.settled()
        self.use_all(h)
        fds, memory, remembered = fds_of(h.pid), private_kb(h.pid), self.remembered(h)
        load = Load(h, port, "Basic " + base64.b64encode(b"ann:topsecret").decode())
        look = [("GET", "/agentd/v1/workers"), ("GET", "/compute/hosts/%d/agent/processes" % harness.HOST_ID), ("GET", "/healthz")]
        work = [("POST", "/agentd/v1/workers/busy/restart")]
        load.start((False, look), (False, work), (True, look), (True, work + look))
        times = []
        for n in range(3 if SANITIZED else ROUNDS):
            made = load.made
            h.install()
            began_at = time.monotonic()
            op = h.upgraded()
            times.append(time.monotonic() - began_at)
            self.assertEqual((op["result"], op["verb"]), ("done", "upgrade"), op)
            self.assertEqual((h.pid, stat_of(h.pid)[2]), (first, began))
            eventually(lambda before=made: load.made > before + 8, what="requests between upgrades")
            self.assertEqual(load.failures, [], "in round %d" % n)
        load.stop()
        self.assertEqual(load.failures, [])
        h.settled()
        self.assertEqual({a: i for a, i in h.identities().items() if a != "busy"}, before)
        h.tree("tree", 3)
        got = numbers(numbers_of)
        self.assertEqual(got, list(range(1, len(got) + 1)))
        self.use_all(h)
        same_fds(h, fds)
        after = private_kb(h.pid)
        if not SANITIZED:
            self.assertLess(after, memory + MEMORY_KB + OPERATION_KB * (self.remembered(h) - remembered))
        print("# %d upgrades, %.0f ms each (at most %.0f), %d requests, %d connections ended by the server, private memory %d -> %d kB, %d operations more"
              % (len(times), 1000 * sum(times) / len(times), 1000 * max(times), load.made, load.closed, memory, after,
                 self.remembered(h) - remembered))
        h.stop()

    def remembered(self, h):
        """How many operations agentd knows of: its journal has a slot of 4 KB for each."""
        return os.path.getsize(h.run + "/operations") // 4096

    def use_all(self, h):
        """Opens what agentd opens when it needs it first."""
        self.assertEqual(h.operation("busy", "restart").status, 200)
        h.ok("GET", "/compute/hosts/%d/agent/processes" % harness.HOST_ID)

    def test_kept_connection(self):
        """The earlier listener answers on what it holds, and says that it closes; while it lives it hears no new connections."""
        h = self.installed()
        h.worker("a")
        h.start()
        h.all_up()
        old = h.rpc_pid()
        c = h.connect()
        c.request("GET", "/healthz")
        c.getresponse().read()
        sock = c.sock
        h.upgraded()
        self.assertTrue(is_alive(old))
        stale = eventually(lambda: self.epoll_of(old))
        self.assertEqual([fd for fd in stale if not os.path.exists("/proc/%d/fd/%d" % (old, fd))], [], "it watches what it has closed")
        self.assertNotEqual(h.rpc_pid(), 0)
        c.request("GET", "/agentd/v1/workers/a")
        self.assertIs(c.sock, sock)
        r = c.getresponse()
        self.assertEqual((r.status, r.headers["Connection"]), (200, "close"))
        r.read()
        wait_gone(old)
        h.settled()
        h.stop()

    def epoll_of(self, pid):
        found = []
        for fd in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                if "eventpoll" in os.readlink("/proc/%d/fd/%s" % (pid, fd)):
                    with open("/proc/%d/fdinfo/%s" % (pid, fd), encoding="ascii") as f:
                        found += [int(line.split()[1]) for line in f if line.startswith("tfd:")]
        return found

    def test_follow(self):
        h = self.installed()
        h.worker("counter", "--count 20")
        h.start()
        h.all_up()
        s = Stream(h, "/agentd/v1/workers/counter/logs/counter.log?follow=1&from=0")
        s.until(b"5\n")
        began = time.monotonic()
        h.upgraded()
        self.assertLess(time.monotonic() - began, 1.8, "a stream is nothing to wait for")
        with open(h.logs + "/counter.log", "rb") as f:
            last = f.read().split(b"\n")[-2]
        s.until(b"\n%d\n" % (int(last) + 10))
        lines = s.got.decode().split("\n")[:-1]
        self.assertEqual(lines, [str(n + 1) for n in range(len(lines))])
        s.close()
        h.settled()
        h.stop()

    def spans(self, verb, until, worker, after=None):
        """One verb from before an upgrade to behind it, on one connection."""
        h = self.installed()
        gate = h.gate()
        h.worker("it", gate.args + worker[0], *worker[1:])
        h.worker("other")
        gate.open()
        h.start()
        h.all_up()
        if after:
            self.assertEqual(h.operation("it", after).status, 200)
        gate.shut()
        old = h.record("it")
        other = h.identities()["other"]
        t, box = harness.background(h.operation, "it", verb)
        during = h.until("it", until)
        up = h.upgraded()
        gate.open()
        t.join(harness.DEADLINE)
        r = box[0]
        self.assertEqual((r.status, r.data["result"], r.data["verb"], r.data["alias"]), (200, "done", verb, "it"), r)
        self.assertLess(up["ended"], r.data["ended"], "it was over before the upgrade: nothing was shown")
        self.assertEqual(h.identities()["other"], other)
        return h, old, during, r.data

    def test_restart_spans(self):
        h, old, _, op = self.spans("restart", "STOPPING", ("--ignore-term", "TimeoutStopSec=2500ms"))
        now = h.record("it")
        self.assertEqual((op["before"]["pid"], op["after"]["pid"]), (old["pid"], now["pid"]))
        self.assertEqual(now["generation"], old["generation"] + 1)
        self.assertIn(old["pid"], op["killed"])
        h.stop()

    def test_stop_spans(self):
        h, old, _, op = self.spans("stop", "STOPPING", ("--ignore-term --children 2", "TimeoutStopSec=2500ms"))
        self.assertEqual(h.processes("it"), {})
        self.assertEqual(h.record("it")["state"], "DOWN")
        self.assertEqual(op["before"]["pid"], old["pid"])
        h.stop()

    def test_mixed_stop_spans(self):
        """KillMode=mixed: the rest is killed when main ends, whoever has looked at it before."""
        h = self.installed()
        gate = h.gate()
        h.worker("it", service="KillMode=mixed\nTimeoutStopSec=infinity",
                 command="/bin/sh -c '(trap \"\" TERM; sleep infinity; sleep infinity) & trap \"%s; exit 0\" TERM; while :; do wait; done'" % gate.wait)
        h.start()
        h.all_up()
        caller, got = harness.background(h.operation, "it", "stop")
        h.until("it", "STOPPING")
        h.upgraded()
        gate.open()
        caller.join(harness.DEADLINE)
        self.assertFalse(caller.is_alive())
        self.assertEqual((got[0].status, h.record("it")["state"]), (200, "DOWN"), got)
        self.assertEqual(h.processes("it"), {})
        h.stop()

    def start_spans(self, worker):
        h, _, during, op = self.spans("start", "STARTING", worker, "stop")
        now = h.record("it")
        self.assertEqual((now["state"], now["generation"], now["pid"]), ("UP", during["generation"], op["after"]["pid"]))
        self.assertEqual(now["restarts"], during["restarts"])
        h.stop()

    def test_stable_spans(self):
        self.start_spans(("", "", "ReadyCheck=stable:2s"))

    def test_notify_spans(self):
        self.start_spans(("--delay 30000 --notify READY=1", "Type=notify"))

    def test_tcp_spans(self):
        port = harness.free_port()
        self.start_spans(("--delay 30000 --listen %d" % port, "", "ReadyCheck=tcp:%d" % port))

    def test_unix_spans(self):
        path = "/tmp/%s.sock" % harness.NAME
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        self.start_spans(("--delay 30000 --unix " + path, "", "ReadyCheck=unix:" + path))

    def test_states_stay(self):
        h = self.installed()
        h.worker("backoff", "--exit 3", "RestartSec=60s")
        h.worker("cool", "--exit 4", "RestartSec=1ms\nStartLimitBurst=2\nStartLimitIntervalSec=60s")
        h.worker("stopped")
        h.worker("rested", "--exit 0", "Restart=no")
        h.worker("broken")
        h.worker("gone")
        h.worker("gone-stopped")
        h.worker("tree", "--children 3")
        h.start()
        h.until("tree", "UP")
        h.until("gone", "UP")
        for alias in ("stopped", "gone-stopped"):
            self.assertEqual(h.operation(alias, "stop").status, 200)
        for alias, state in (("backoff", "BACKOFF"), ("cool", "COOLDOWN"), ("rested", "DOWN"), ("broken", "UP")):
            h.until(alias, state)
        eventually(lambda: h.record("backoff")["nextRetryAt"] and h.record("backoff")["attempts"] > 1)
        h.write("workers.d/broken.conf", "[Service]\nNoSuchKey=1\n")
        h.remove("gone")
        h.remove("gone-stopped")
        before, was = h.identities(), h.all()
        before_ids = {a: w["id"] for a, w in was.items()}
        for _ in range(2):
            h.upgraded()
            now = h.all()
            for alias in ("backoff", "cool", "rested", "stopped"):
                self.assertEqual(retry_of(h.record(alias)), retry_of({**was[alias], **h.record(alias)}), alias)
                self.assertEqual({k: v for k, v in retry_of(h.record(alias)).items() if k in was[alias]},
                                 {k: v for k, v in was[alias].items() if k in retry_of(h.record(alias))}, alias)
            for alias in ("tree", "broken", "gone"):
                self.assertEqual(h.identities()[alias], before[alias])
            h.tree("tree", 4)
            self.assertNotIn("NoSuchKey", str(now["tree"]))
        h.worker("broken", id=before_ids["broken"])
        self.assertEqual(h.http("POST", "/agentd/v1/reload").status, 200)
        eventually(lambda: "gone" not in h.all())
        self.assertEqual(h.identities()["tree"], before["tree"])
        self.assertEqual(h.operation("stopped", "start").status, 200)
        h.stop()

    def test_dies_in_exec(self):
        h = self.installed()
        h.worker("dies", "", "RestartSec=60s")
        h.worker("exits", "--slow-stop 0", "Restart=always\nRestartSec=60s")
        h.start()
        a = h.all_up()
        h.fake("check exec " + h.real(), "run kill %d %d" % (a["dies"]["pid"], signal.SIGKILL), "run kill %d %d" % (a["exits"]["pid"], signal.SIGTERM),
               "run exec " + h.real())
        h.upgraded()
        for alias, kind, status in (("dies", "killed", 9), ("exits", "exited", 0)):
            now = eventually(lambda alias=alias: (lambda r: r["lastExit"] and r["lastExit"]["pid"] == a[alias]["pid"] and r)(h.record(alias)))
            self.assertEqual((now["lastExit"]["kind"], now["lastExit"]["status"]), (kind, status), now)
            self.assertIsNone(stat_of(a[alias]["pid"]), "it is reaped")
        h.settled()
        h.stop()

    def test_term_in_exec(self):
        h = self.installed(agent="StopWorkersOnExit=yes")
        h.worker("a")
        h.start()
        h.all_up()
        rpc = h.rpc_pid()
        h.fake("check exec " + h.real(), "run raise %d" % signal.SIGTERM, "run exec " + h.real())
        h.proc.send_signal(signal.SIGUSR2)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        wait_gone(rpc)
        eventually(lambda: not h.mine(), what="no guardian, and nothing that it started")
        h.assert_nothing_left()
        self.assertFalse(os.path.exists(h.run + "/upgrade"))

    def test_usr2_in_exec(self):
        """A second wish that comes while the first is carried out is the same wish."""
        h = self.installed()
        h.worker("a")
        h.start()
        h.all_up()
        h.fake("check exec " + h.real(), "run raise %d" % signal.SIGUSR2, "run exec " + h.real())
        h.upgraded()
        h.settled()
        self.assertEqual(len(h.upgrades()), 1)
        h.stop()

    def test_moved(self):
        """A link to the installation is led elsewhere; the program of before lies under another name: what counts is the name that it
        was started by."""
        h = self.installed()
        os.symlink("bin", h.dir + "/current")
        real, h.bin = h.bin, h.dir + "/current"
        h.worker("a")
        h.start()
        before = h.all_up()["a"]["pid"]
        os.rename(real + "/agentd", real + "/agentd.old")
        h.fake("run exec " + h.patch((b"agentd-state %u %u", b"agentd-stat3 %u %u")))
        self.assertEqual(h.upgrade().returncode, 1)
        h.real()
        os.symlink("real", h.dir + "/next")
        os.rename(h.dir + "/next", h.dir + "/current")
        h.upgraded()
        self.assertEqual(os.readlink("/proc/%d/exe" % h.pid), h.dir + "/real/agentd")
        # the earlier listener finishes what it holds, beside the new one
        eventually(lambda: os.readlink("/proc/%d/exe" % h.rpc_pid()) == h.dir + "/real/agentd-rpc", what="the moved listener")
        self.assertEqual(h.record("a")["pid"], before)
        h.stop()

    def test_two_at_once(self):
        h = self.installed()
        h.worker("a")
        h.start()
        before = h.all_up()["a"]["pid"]
        os.mkfifo(h.dir + "/gate")
        h.fake("check gate " + h.dir + "/gate", "check exec " + h.real(), "run exec " + h.real())
        both_of_them = [harness.background(h.upgrade, "-o", "json") for _ in range(2)]
        eventually(lambda: len(self.connections(h)) >= 2, what="both have asked")
        h.proc.send_signal(signal.SIGUSR2)
        with open(h.dir + "/gate", "w", encoding="ascii") as f:
            f.write("x")
        for t, box in both_of_them:
            t.join(60)
            self.assertEqual(box[0].returncode, 0, box)
        self.assertEqual(len(h.upgrades()), 1, h.upgrades())
        self.assertEqual(h.record("a")["pid"], before)
        h.settled()
        h.stop()

    def connections(self, h):
        with open("/proc/net/unix", encoding="ascii") as f:
            return [line for line in f if line.rstrip().endswith(h.run + "/private") and line.split()[5] == "03"]


# name: (how it comes about, a word of the reason, after the exec)
FAILURES = {
    "not_executable": (lambda h: h.install(mode=0o644), "can't be executed", False),
    "not_elf": (lambda h: h.install(h.write("rubbish", "this is no program\n")), "can't be executed", False),
    "missing": (lambda h: os.unlink(h.bin + "/agentd"), "cannot open", False),
    "group_writable": (lambda h: h.install(mode=0o775), "writable by its group", False),
    "others_folder": (lambda h: os.chown(h.bin, harness.ORDINARY, -1), "belongs to uid", False),
    "check_fails": (lambda h: h.fake("check exit 1 no such luck"), "no such luck", False),
    "check_crashes": (lambda h: h.fake("check abort"), "did not end by itself", False),
    "check_hangs": (lambda h: h.fake("check hang"), "did not end by itself", False),
    "check_refuses": (lambda h: h.install(h.patch((b"agentd-state %u %u", b"agentd-stat3 %u %u"))), "no state", False),
    "exits": (lambda h: h.fake("run exit 1 x"), "ended before it confirmed", True),
    "crashes": (lambda h: h.fake("run abort"), "ended before it confirmed", True),
    "hangs": (lambda h: h.fake("run hang"), "did not confirm in time", True),
    "state": (lambda h: h.fake("run exec " + h.patch((b"agentd-state %u %u", b"agentd-stat3 %u %u"))), "no state of agentd", True),
    "config": (lambda h: h.fake("run exec " + h.patch((b"UpgradeTimeoutSec", b"UpgradeTimeoutSex"))), "refuses the configuration", True),
    "no_listener": (lambda h: (h.write("bin/agentd-rpX", "no program\n", 0o755),
                               h.install(h.patch((b"%.550s/agentd-rpc", b"%.550s/agentd-rpX")))), "did not confirm in time", True),
    "dead_listener": (lambda h: (h.write("bin/agentd-rpX", "#!/bin/sh\nexit 1\n", 0o755),
                                 h.install(h.patch((b"%.550s/agentd-rpc", b"%.550s/agentd-rpX")))), "did not confirm in time", True),
}


@both
@needs_root
class Fails(Case):
    """The new program is no good: all goes on as before, and somebody says why."""
    cgroup = True

    def look(self, name):
        how, why, after_exec = FAILURES[name]
        h = Installed(cgroup=self.cgroup, agent="UpgradeTimeoutSec=%s" % ("6s" if SANITIZED and "hang" not in name else "1500ms"))
        self.addCleanup(self.finish, h)
        h.worker("a", "--children 1")
        h.worker("counter", "--count 10")
        h.worker("stopped")
        h.start()
        h.all_up()
        self.assertEqual(h.operation("stopped", "stop").status, 200)
        h.upgraded()
        h.settled()
        before, fds, pid = h.identities(), fds_of(h.pid), h.pid
        how(h)
        with Looker(h) as looker:
            r = h.upgrade()
        self.assertEqual(r.returncode, 1, (r, h.log()[-3000:]))
        self.assertIn(why, r.stderr)
        op = h.upgrades()[0]
        self.assertEqual((op["result"], op["verb"]), ("failed", "upgrade"), op)
        self.assertIn(why, op["message"])
        self.assertEqual(h.identities(), before)
        allowed = {200, 503, "closed"} if after_exec else {200}
        self.assertLessEqual(set(looker.got), allowed, looker.got)
        self.assertEqual(h.operation("a", "restart").status, 200)
        h.settled()
        same_fds(h, fds)
        if name in ("state", "config") or not after_exec:
            self.assertEqual(h.pid, pid)
        os.chown(h.bin, 0, 0)
        h.install()
        before = h.identities()
        self.assertEqual(h.upgraded()["result"], "done")
        self.assertEqual(h.identities(), before)
        got = numbers(h.record("counter")["output"])
        self.assertEqual(got, list(range(1, len(got) + 1)))
        h.settled()
        h.stop()


def add_failures():
    for cls in [c for n, c in globals().items() if n.startswith("Fails") and c]:
        for name in FAILURES:
            setattr(cls, "test_" + name, lambda self, name=name: self.look(name))


add_failures()


class Manager:
    """What a service manager does: it starts the installed program again when its main process has ended."""

    def __init__(self, h):
        self.h, self.ends, self.starts = h, False, 0
        h.env["INVOCATION_ID"] = "0123456789abcdef0123456789abcdef"
        h.wrap = ["/bin/sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$0" "$@"']
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while True:
            self.h.proc.wait()
            if self.ends:
                return
            self.starts += 1
            self.h.start(wait=False)

    def __enter__(self):
        self.h.start()
        self.thread.start()
        return self

    def __exit__(self, *how):
        self.ends = True
        if self.h.proc.poll() is None:
            self.h.proc.terminate()
        self.thread.join(harness.DEADLINE)


@both
@needs_root
class Managed(Case):
    """Under a service manager agentd is only ended; the manager's restart finds what to run."""
    cgroup = True

    def rolled_back(self, why, then):
        h = Installed(cgroup=self.cgroup, agent="UpgradeTimeoutSec=%s" % ("6s" if SANITIZED else "1500ms"))
        self.addCleanup(self.finish, h)
        h.worker("a", "--children 1")
        with Manager(h) as m:
            h.all_up()
            before, first = h.identities(), h.proc.pid
            FAILURES["no_listener"][0](h)
            t, box = harness.background(h.upgrade)
            eventually(lambda: os.path.exists(h.run + "/upgrade"), what="the exec")
            then(h)
            t.join(60)
            self.assertEqual(box[0].returncode, 1, (box, h.log()[-4000:]))
            self.assertIn(why, box[0].stderr)
            self.assertEqual(m.starts, 1)
            self.assertNotEqual(h.proc.pid, first)
            self.assertEqual(h.pid, h.proc.pid, "the manager's own child")
            self.assertEqual(os.readlink("/proc/%d/exe" % h.pid), h.state + "/agentd.previous")
            op = h.upgrades()[0]
            self.assertEqual(op["result"], "failed", op)
            self.assertIn(why, op["message"])
            self.assertEqual(h.identities(), before)
            h.settled()
            fds = fds_of(h.pid)
            h.install()
            self.assertEqual(h.upgraded()["result"], "done")
            h.settled()
            self.assertEqual(os.readlink("/proc/%d/exe" % h.pid), h.bin + "/agentd")
            self.assertEqual(h.identities(), before)
            same_fds(h, fds)
            os.kill(h.pid, signal.SIGKILL)
            eventually(lambda: m.starts == 2 and h.proc.poll() is None and h.rpc_pid())
            self.assertEqual(eventually(lambda: self.exe(h)), h.bin + "/agentd", "no marker, no return")

    def exe(self, h):
        with contextlib.suppress(OSError):
            return os.readlink("/proc/%d/exe" % h.proc.pid)

    def test_hangs(self):
        self.rolled_back("did not confirm in time", lambda h: None)

    def test_ends(self):
        def kill(h):
            eventually(lambda: self.exe(h) == h.bin + "/agentd" and b"rpX" in open(self.exe(h), "rb").read(), what="the new program")
            os.kill(h.proc.pid, signal.SIGKILL)
        self.rolled_back("ended before it confirmed", kill)


CALL, REPLY = 7, 8
VERBS = {"start": 1, "stop": 2, "restart": 3, "sample": 4, "log-list": 5, "reload": 7, "operation": 8, "operations": 10, "doctor": 11,
         "upgrade": 13}
OK, ACCEPTED = 0, 1


class Wire:
    """One connection to the private socket."""

    def __init__(self, h):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.connect(h.run + "/private")  # waits while agentd is not quick enough with the others
        self.s.settimeout(harness.DEADLINE)

    def text(self, s):
        return struct.pack("<H", len(s)) + s.encode() + b"\0"

    def call(self, verb, worker=0, name="", key="", call=1, pid=0):
        body = struct.pack("<QBq", call, verb, worker) + self.text("uid:4711") + self.text("nowhere") + self.text("") + self.text(name) + \
            struct.pack("<QQB", 0, 0, 0) + self.text(key) + self.text("x") + struct.pack("<I", pid)
        self.s.send(struct.pack("<HHI", CALL, 0, len(body)) + body)

    def reply(self):
        """(call, error, message, items); ACCEPTED is passed over."""
        while True:
            packet = self.s.recv(1 << 20)
            if not packet:
                return None
            at = 0
            while at < len(packet):
                kind, _, n = struct.unpack_from("<HHI", packet, at)
                body = packet[at + 8:at + 8 + n]
                at += 8 + n
                if kind != REPLY or body[8] == ACCEPTED:
                    continue
                call, error = struct.unpack_from("<QB", body)
                texts, rest = [], body[9:]
                for _ in range(2):
                    n = struct.unpack_from("<H", rest)[0]
                    texts.append(rest[2:2 + n].decode())
                    rest = rest[3 + n:]
                return (call, error, *texts)

    def close(self):
        self.s.close()


@needs_root
class Private(Case):
    def setUp(self):
        super().setUp()
        self.h = h = Installed(cgroup=False)
        self.addCleanup(self.finish, h)
        self.number = h.worker("a")
        h.start()
        h.all_up()

    def wire(self):
        w = Wire(self.h)
        self.addCleanup(w.close)
        return w

    def test_another_uid(self):
        self.assertEqual(os.stat(self.h.run + "/private").st_mode & 0o777, 0o600)

        def become():
            os.setgroups([])
            os.setgid(harness.ORDINARY)
            os.setuid(harness.ORDINARY)
        args = [STAGED + "/agentctl", "--private", self.h.run + "/private", "upgrade"]
        r = subprocess.run(args, capture_output=True, text=True, preexec_fn=become, timeout=harness.DEADLINE, check=False)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("are you root", r.stderr)
        os.chmod(self.h.run + "/private", 0o666)  # the kernel's word counts, not the file's mode
        child = subprocess.run(["/usr/bin/env", "python3", "-c", "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
                                "s.connect(sys.argv[1])\ntry:\n  sys.exit(len(s.recv(9)))\nexcept ConnectionError:\n  sys.exit(0)", self.h.run + "/private"],
                               preexec_fn=become, timeout=harness.DEADLINE, check=False)
        self.assertEqual(child.returncode, 0, "closed without a word")
        self.assertIn("of uid %d is refused" % harness.ORDINARY, self.h.log())
        self.assertEqual(self.h.upgrades(), [])
        self.h.stop()

    def test_rubbish(self):
        fds = fds_of(self.h.pid)
        r = random.Random(7)
        whole = struct.pack("<HHI", CALL, 0, 30) + bytes(30)
        for packet in [b"x", whole[:20], whole, struct.pack("<HHI", REPLY, 0, 0), struct.pack("<HHI", 99, 0, 0), struct.pack("<HHI", CALL, 0, 0xffffffff)] + \
                [bytes(r.randrange(256) for _ in range(r.randrange(1, 3000))) for _ in range(40)] + [b"y" * 70000]:
            w = self.wire()
            w.s.send(packet)
            with contextlib.suppress(ConnectionError):
                self.assertEqual(w.s.recv(9), b"", packet[:40])
            w.close()
        w = self.wire()  # a descriptor that comes along is nobody's
        socket.send_fds(w.s, [b"z"], [0])
        with contextlib.suppress(ConnectionError):
            self.assertEqual(w.s.recv(9), b"")
        same_fds(self.h, fds)
        self.assertEqual(self.h.http("GET", "/healthz").status, 200)
        self.h.stop()

    def test_many(self):
        """Some are served, the others are told to go; those that stay are served still, and go over an upgrade."""
        fds = fds_of(self.h.pid)
        all_of_them = [self.wire() for _ in range(20)]
        served = []
        for n, w in enumerate(all_of_them):
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                w.call(VERBS["doctor"], call=100 + n)
                r = w.reply()
                if r:
                    self.assertEqual(r[:2], (100 + n, OK))
                    served.append(w)
        self.assertEqual(len(served), 8)
        for w in served[:2]:
            w.close()
        self.assertEqual(eventually(lambda: self.h.upgrade()).returncode, 0)
        for n, w in enumerate(served[2:]):
            w.call(VERBS["restart"], self.number, call=200 + n)
        for n, w in enumerate(served[2:]):
            self.assertEqual(w.reply()[:2], (200 + n, OK), "on a connection of before")
        for w in all_of_them:
            w.close()
        same_fds(self.h, fds)
        self.h.settled()
        self.h.stop()

    def test_verbs(self):
        w = self.wire()
        pid = self.h.record("a")["pid"]
        for verb in ("sample", "log-list", "doctor", "operations", "reload", "stop", "start", "restart"):
            w.call(VERBS[verb], self.number if verb in ("log-list", "stop", "start", "restart") else 0, call=VERBS[verb])
            self.assertEqual(w.reply()[:2], (VERBS[verb], OK), verb)
        self.assertNotEqual(self.h.record("a")["pid"], pid)
        op = self.h.ok("GET", "/agentd/v1/operations")["contents"][0]
        self.assertEqual(self.h.ok("GET", "/agentd/v1/operations/" + op["id"])["actor"], "uid:0", "as the kernel says it")
        w.call(VERBS["stop"], 999)
        self.assertNotEqual(w.reply()[1], OK)
        w.call(250)
        self.assertNotEqual(w.reply()[1], OK)
        self.assertEqual(self.h.http("POST", "/agentd/v1/upgrade").status, 404)
        self.h.stop()

    def test_repair(self):
        """Removed, it comes back by itself, as by SIGUSR1."""
        os.unlink(self.h.run + "/private")
        self.h.proc.send_signal(signal.SIGUSR1)
        eventually(lambda: os.path.exists(self.h.run + "/private"))
        self.assertEqual(self.h.upgrade().returncode, 0)
        self.h.stop()

    def test_agentd_dies(self):
        """agentctl waits, agentd is killed: it asks the next one, and tells what became of it."""
        h = self.h
        os.mkfifo(h.dir + "/gate")
        h.fake("check gate " + h.dir + "/gate")
        t, box = harness.background(h.upgrade)
        eventually(lambda: h.upgrades(), what="the operation")
        running = [p for p in h.mine() if p != h.pid]
        h.kill()
        h.install()
        h.start()
        t.join(60)
        self.assertEqual(box[0].returncode, 1, box)
        self.assertIn("ended", box[0].stderr)
        self.assertEqual([(o["result"]) for o in h.upgrades()], ["failed"])
        for p in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGKILL)
        self.assertEqual(h.upgraded()["result"], "done")
        h.stop()

    def test_stop_in_check(self):
        h = self.h
        os.mkfifo(h.dir + "/gate")
        h.fake("check gate " + h.dir + "/gate")
        t, box = harness.background(h.upgrade)
        eventually(lambda: h.upgrades(), what="the operation")
        h.proc.send_signal(signal.SIGTERM)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        eventually(lambda: not h.mine(), what="no check is left")
        h.install()
        h.start()
        t.join(60)
        self.assertEqual(box[0].returncode, 1, box)
        self.assertEqual([o["result"] for o in h.upgrades()], ["failed"])
        h.stop()


if __name__ == "__main__":
    unittest.main()
