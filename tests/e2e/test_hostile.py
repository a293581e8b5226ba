# SPDX-License-Identifier: Apache-2.0
"""agentd-rpc in an attacker's hands: agentd drops it, a clean one takes over, and no worker notices. tests/lib/hostile_rpc.c has
what it does."""
import collections
import contextlib
import os
import shutil
import signal
import statistics
import time

import harness
import test_audit
from harness import Case, eventually, is_alive, name_of, needs_root, private_kb
from test_upgrade import OK, VERBS, Installed, Wire

HOSTILE = os.path.join(harness.BUILD, "tests/lib/hostile_rpc")
# dropped for what it sent
BROKEN = ("noise", "one-byte", "half-frame", "frame-behind", "wrong-length", "empty-call", "unknown-frame", "reply-to-nothing", "hello",
          "records", "foreign-number", "too-large", "nul-inside", "long-actor", "long-reason", "long-key", "line-in-actor", "unknown-verb", "verb-of-root")
FLOODS = ("flood-of-looks", "flood-of-samples", "flood-of-logs", "flood-of-reloads", "flood-of-what-is-not-there", "flood-of-refusals")
BOUND = 1.0  # seconds within which root is answered on the private socket, whatever the listener does
MEMORY_KB = 2048 if not harness.SANITIZED else 1 << 20


class Hostile(Installed):
    def __init__(self, **how):
        super().__init__(**how)
        shutil.copy(harness.STAGED + "/agentd-rpc", self.bin + "/agentd-rpc.real")
        os.chmod(self.bin + "/agentd-rpc.real", 0o755)
        self.install(HOSTILE, "agentd-rpc")
        self.write("bin/spawns", "", 0o666)
        self.turn("noise", 0)

    def turn(self, kind, times, worker=0):
        """So many listeners that are started from now on are hostile."""
        self.write("bin/hostile", "%d %s %d\n" % (self.spawns() + times, kind, worker))

    def spawns(self):
        return os.path.getsize(self.bin + "/spawns")

    def listener(self):
        """Its process, once there is one."""
        names = ("agentd-rpc", "agentd-rpc.real")
        return eventually(lambda: next((p for p in harness.children(self.pid) if name_of(p) in names and is_alive(p)), None), what="a listener")


class Taken(Case):
    def up(self, cgroup=True, workers=3):
        h = self.h = Hostile(cgroup=cgroup)
        self.addCleanup(self.finish, h)
        self.first = h.worker("w", "--stdout hello")
        for i in range(1, workers):
            h.worker("w%d" % i, "--children 1")
        h.start()
        self.before = self.identities(h.all_up())
        self.pid, self.fds = h.pid, self.descriptors()
        return h

    def identities(self, records):
        return {a: (w["pid"], w["generation"], w["state"]) for a, w in records.items()}

    def descriptors(self):
        """How many of each kind agentd has."""
        found = collections.Counter()
        for n in os.listdir("/proc/%d/fd" % self.h.pid):
            with contextlib.suppress(FileNotFoundError):
                found[os.readlink("/proc/%d/fd/%s" % (self.h.pid, n)).split(":")[0]] += 1
        return found

    def attack(self, kind, times=1):
        """The next listener is hostile; its process."""
        old = self.h.listener()
        spawns = self.h.spawns()
        self.h.turn(kind, times, self.first)
        os.kill(old, signal.SIGKILL)
        eventually(lambda: self.h.spawns() > spawns, what="the hostile one")

    def assert_nobody_noticed(self, what):
        """A clean one serves, and all is as it was."""
        self.assertEqual(self.h.http("GET", "/readyz").status, 200, what)
        self.assertEqual(self.identities(self.h.all()), self.before, what)
        self.assertEqual((self.h.pid, self.h.proc.poll()), (self.pid, None), what)
        eventually(lambda: not self.descriptors() - self.fds, 5, what="no more descriptors after " + what)


@needs_root
class Drops(Taken):
    def test_broken(self):
        h = self.up()
        for kind in BROKEN:
            with self.subTest(kind):
                dropped = h.log().count("it sent a broken frame")
                self.attack(kind)
                self.assert_nobody_noticed(kind)
                self.assertEqual(h.log().count("it sent a broken frame"), dropped + 1, "%s\n%s" % (kind, h.log()[-2000:]))
        self.assertEqual(h.ok("GET", "/agentd/v1/operations")["contents"], [], "nothing of it was done")
        h.stop()

    def test_goes_on(self):
        """As many as are dropped at once are replaced at once, then with time between; and the clean one serves."""
        h = self.up()
        began = time.monotonic()
        self.attack("noise", 8)
        self.assert_nobody_noticed("many")
        self.assertGreater(time.monotonic() - began, 0.45, "not all of them at once")
        h.stop()


@needs_root
class Ends(Taken):
    KINDS = {"empty-packet": "it has closed its wire and goes on", "closes": "it has closed its wire and goes on", "exits": "exited with 3",
             "reads-nothing": "it does not read what it is to serve by"}

    def test_otherwise(self):
        """All at once, each under an agentd of its own: some are waited for for seconds."""
        begun = {}
        for kind in self.KINDS:
            h = self.up()
            self.attack(kind)
            begun[kind] = h, self.before, self.pid, self.fds
        for kind, words in self.KINDS.items():
            self.h, self.before, self.pid, self.fds = begun[kind]
            self.assert_nobody_noticed(kind)
            self.assertIn(words, self.h.log())
            self.h.stop()


@needs_root
class Floods(Taken):
    ALONE = True
    def ask_root(self, w, n):
        began = time.monotonic()
        w.call(VERBS["doctor"], call=n)
        self.assertEqual(w.reply()[:2], (n, OK))
        return time.monotonic() - began

    def memory(self):
        """Of agentd alone: beside a helper most of it is not private."""
        eventually(lambda: "agentd" not in {name_of(p) for p in harness.children(self.h.pid)}, what="no helper")
        return private_kb(self.h.pid)

    def through(self, kind):
        """Until it has done what it does, or goes on with."""
        def said():
            with open(self.h.bin + "/spawns", "rb") as f:
                return f.read()[-1:] == b"."
        eventually(said, what=kind)

    def test_all_helpers(self):
        """It holds as many as it gets: there are some for agentd itself."""
        h = self.up()
        self.attack("hold-logs")
        self.through("hold-logs")
        w = Wire(h)
        self.addCleanup(w.close)
        for n, verb in ((1, "stop"), (2, "start")):
            w.call(VERBS[verb], self.first, call=n)
            self.assertEqual(w.reply(), (n, OK, "", ""), "done, and on disk")
        w.close()
        os.kill(h.listener(), signal.SIGKILL)
        now = h.meets("w", state="UP")
        self.before["w"] = (now["pid"], now["generation"], "UP")
        self.assert_nobody_noticed("all helpers")
        h.stop()

    def test_flood(self):
        h = self.up(workers=50)
        for kind in FLOODS:
            with self.subTest(kind):
                memory = self.memory()
                self.attack(kind)
                self.through(kind)
                w = Wire(h)
                self.addCleanup(w.close)
                took = [self.ask_root(w, n) for n in range(1, 11)]
                print("# %s: root was answered in %.1f ms, at most %.1f ms" % (kind, 1000 * statistics.median(took), 1000 * max(took)))
                self.assertLess(max(took), BOUND, kind)
                w.call(VERBS["stop"], self.first, call=11)
                self.assertEqual(w.reply()[:2], (11, OK), "and done what it says, on disk")
                w.call(VERBS["start"], self.first, call=12)
                self.assertEqual(w.reply()[:2], (12, OK))
                w.close()
                self.assertLess(self.memory() - memory, MEMORY_KB)
                os.kill(h.listener(), signal.SIGKILL)
                now = h.meets("w", state="UP")
                self.before["w"] = (now["pid"], now["generation"], "UP")
                self.assert_nobody_noticed(kind)
        h.stop()
        self.trail_holds(h)

    def trail_holds(self, h):
        """What was refused in floods is a few records and sums, and the chain is whole."""
        trail = test_audit.Trail(h.state)
        records = trail.records()
        self.assertLess(sum(r.get("result") == "refused" for r in records), 100)
        self.assertGreater(sum(r["count"] for r in records if r["event"] == "refusals"), 1000)
        self.assertIsNone(trail.broken())

    def test_too_many(self):
        """More than a listener can have to ask: it is replaced."""
        h = self.up()
        self.attack("flood-of-what-is-not-there")
        self.assert_nobody_noticed("too many")
        self.assertIn("it asks for too much", h.log())
        h.stop()
    test_too_many.LONG = True  # so many calls are not taken in a second there

    def test_changes(self):
        """It can ask for much, but not for so much that the trail has nothing else; a clean one is heard again soon, and root at once."""
        h = self.up()
        trail = test_audit.Trail(h.state)
        first = trail.records()[0]
        self.attack("flood-of-changes")
        eventually(lambda: any(r["event"] == "refusals" for r in trail.records()[-100:]), what="more than there may be")
        os.kill(h.listener(), signal.SIGKILL)
        self.assert_nobody_noticed("changes")
        r = eventually(lambda: (lambda r: r.status == 429 and r)(h.operation("w", "start")), what="the bound")
        self.assertIn("more changes are asked for", r.message)
        self.assertEqual(r.headers["Retry-After"], "1")
        w = Wire(h)
        self.addCleanup(w.close)
        w.call(VERBS["start"], self.first, call=1)
        self.assertEqual(w.reply()[:2], (1, OK))
        h.stop()
        self.assertEqual(trail.records()[0], first)
        self.assertGreater(sum(r.get("result") == "accepted" for r in trail.records()), 9000)
        self.assertIsNone(trail.broken())
    test_changes.LONG = True  # so many take too long there

    def test_unread(self):
        h = self.up()
        memory = self.memory()
        self.attack("flood-unread")
        self.assert_nobody_noticed("unread")
        self.assertIn("it does not read", h.log())
        self.assertLess(self.memory() - memory, MEMORY_KB)
        h.stop()
