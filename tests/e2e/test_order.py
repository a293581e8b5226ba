# SPDX-License-Identifier: Apache-2.0
"""After=, Requires=, BindsTo= and Wants=: who waits for whom, on the way up and down, through restarts, crashes, agentd's death and
an upgrade. The budget of starts. The order is told by one file that every worker's commands append to."""
import os
import re
import signal

import harness
from harness import Case, both, eventually


class Base(Case):
    cgroup = True

    def prepare(self, **how):
        return self.host(cgroup=self.cgroup, **how)

    def add(self, h, alias, unit="", args="", service="", section="", id=None):
        say = lambda word: '/bin/sh -c "echo %s %s >>%s/lines"' % (word, alias, h.dir)
        hooks = "ExecStartPre=%s\nExecStartPost=%s\nExecStop=%s\nExecStopPost=%s\n" % tuple(say(w) for w in ("begin", "up", "stop", "down"))
        h.worker(alias, args, "%s%s\n[Unit]\n%s\n" % (hooks, service, unit), section, id=id)

    def lines(self, h):
        with open(h.dir + "/lines", "a+", encoding="ascii") as f:
            f.seek(0)
            return [tuple(line.split()) for line in f]

    def forget(self, h):
        open(h.dir + "/lines", "w", encoding="ascii").close()

    def assert_order(self, h, *events):
        """Each is there once, and in this order."""
        lines = self.lines(h)
        at = [[i for i, l in enumerate(lines) if l == tuple(e.split())] for e in events]
        self.assertTrue(all(len(a) == 1 for a in at), (events, lines))
        self.assertEqual(sorted(at), at, lines)


SLOW = "--delay 20 --notify READY=1"


@both
class Order(Base):
    def test_chain_of_five(self):
        """e requires d ... requires a: up one by one, each once the one before is ready; down the other way."""
        h = self.prepare()
        for alias, before in zip("edcba", "dcba "):
            self.add(h, alias, "Requires=%s.service" % before if before != " " else "", SLOW, "Type=notify")
        h.start()
        h.all_up()
        up = [w + " " + a for a in "abcde" for w in ("begin", "up")]
        self.assert_order(h, *up)
        self.forget(h)
        h.proc.send_signal(signal.SIGTERM)
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        self.assert_order(h, *[w + " " + a for a in "edcba" for w in ("stop", "down")])
        h.assert_nothing_left()

    def test_after_is_only_order(self):
        """A failed one is not waited for, one that is restarting is; a stop of it stops nobody."""
        h = self.prepare()
        self.add(h, "fails", args="--exit 3", service="Restart=no", section="ReadyCheck=stable:1s")
        self.add(h, "slow", args=SLOW, service="Type=notify")
        self.add(h, "b", "After=fails slow nowhere.target unknown")
        h.start()
        h.until("b", "UP")
        self.assert_order(h, "begin fails", "begin b")
        self.assert_order(h, "up slow", "begin b")
        pid = h.record("b")["pid"]
        self.assertEqual(h.operation("slow", "stop").status, 200)
        self.assertEqual(h.record("b")["pid"], pid)
        self.assertEqual(h.operation("b", "restart").status, 200)
        self.assertEqual(h.record("slow")["state"], "DOWN")
        h.stop()

    def test_requires(self):
        """Restart of what is required leaves them running; its stop takes them along, its start brings them back."""
        h = self.prepare()
        self.add(h, "a", args=SLOW, service="Type=notify")
        self.add(h, "b", "Requires=a")
        self.add(h, "c", "Requires=b")
        h.start()
        before = {n: w["pid"] for n, w in h.all_up().items()}
        self.assertEqual(h.operation("a", "restart").status, 200)
        self.assertEqual({n: h.record(n)["pid"] for n in "bc"}, {n: before[n] for n in "bc"})
        self.forget(h)
        r = h.operation("a", "stop")
        self.assertEqual((r.status, sorted(r.data["affected"])), (200, ["b", "c"]), r)
        self.assert_order(h, "stop c", "down c", "stop b", "down b", "stop a", "down a")
        w = h.meets("c", phase="waiting", pid=0, goal="UP", message="waits for b to be ready")
        self.assertEqual(h.meets("b", phase="waiting")["message"], "waits for a which is stopped")
        self.forget(h)
        self.assertEqual(h.operation("a", "start").status, 200)
        h.all_up()
        self.assert_order(h, "begin a", "up a", "begin b", "up b", "begin c", "up c")
        # and a crash of it leaves them running, too
        before = h.record("b")["pid"]
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        h.meets("a", generation=4, state="UP")
        self.assertEqual(h.record("b")["pid"], before)
        self.assertEqual(w["goal"], "UP")
        h.stop()

    def test_wants_is_no_order(self):
        """Neither waits for the other, not on the way up and not on the way down."""
        h = self.prepare()
        up, down = h.gate("up"), h.gate("down")
        self.add(h, "w", service='ExecStartPre=/bin/sh -c "%s"' % up.wait)
        self.add(h, "b", "Wants=w", service='ExecStop=/bin/sh -c "%s"' % down.wait)
        h.start()
        h.until("b", "UP")
        self.assertEqual(h.record("w")["state"], "STARTING")
        up.open()
        h.all_up()
        h.proc.send_signal(signal.SIGTERM)
        eventually(lambda: ("down", "w") in self.lines(h), what="the end of what is only wanted")
        self.assertNotIn(("down", "b"), self.lines(h))
        down.open()
        self.assertEqual(h.proc.wait(harness.DEADLINE), 0)
        h.assert_nothing_left()

    def test_start_pulls(self):
        """An operator who starts one starts what it needs and wants; who waits for what is stopped says so, and can be stopped."""
        h = self.prepare()
        self.add(h, "a", args=SLOW, service="Type=notify")
        self.add(h, "w")
        self.add(h, "b", "Requires=a\nWants=w")
        h.start()
        h.all_up()
        for alias in "baw":
            self.assertEqual(h.operation(alias, "stop").status, 200)
        self.forget(h)
        r = h.operation("b", "start")
        self.assertEqual(r.status, 200, r)
        self.assert_order(h, "begin a", "up a", "begin b", "up b")
        self.assertEqual(h.record("a")["goalBy"], "needed by b")
        h.until("w", "UP")
        self.assertEqual(h.operation("a", "stop").status, 200)
        h.meets("b", phase="waiting", state="STARTING")
        self.forget(h)
        self.assertEqual(h.operation("b", "stop").status, 200)
        self.assertEqual(h.record("b")["state"], "DOWN")
        self.assertEqual(self.lines(h), [], "nothing of it was started, so nothing is to be cleaned up")
        h.stop()

    def test_binds_to(self):
        """It goes whenever the other goes, and comes back after it."""
        h = self.prepare()
        self.add(h, "a", args=SLOW, service="Type=notify")
        self.add(h, "b", "BindsTo=a")
        h.start()
        h.all_up()
        self.forget(h)
        r = h.operation("a", "restart")
        self.assertEqual((r.status, r.data["affected"]), (200, ["b"]))
        h.all_up()
        self.assert_order(h, "stop b", "down b", "stop a", "down a", "begin a", "up a", "begin b", "up b")
        self.forget(h)
        os.kill(h.record("a")["pid"], signal.SIGKILL)
        h.meets("b", generation=3, state="UP")
        self.assert_order(h, "begin a", "up a", "begin b", "up b")
        self.assertEqual(h.record("b")["attempts"], 0, "it did not fail")
        h.stop()

    def test_death_of_agentd(self):
        """What was waiting waits again, what was adopted is not disturbed."""
        h = self.prepare()
        self.add(h, "a")
        self.add(h, "b", "Requires=a")
        self.add(h, "c", "BindsTo=b")
        h.start()
        before = h.all_up()
        h.kill()
        h.start()
        self.assertEqual({n: w["pid"] for n, w in h.all_up().items()}, {n: w["pid"] for n, w in before.items()})
        self.assertEqual(h.operation("a", "stop").status, 200)
        h.kill()
        h.start()
        for n in "bc":
            h.meets(n, phase="waiting", state="STARTING", pid=0)
        h.kill()
        h.start()
        self.assertEqual(h.operation("c", "start").status, 200)
        self.assertEqual({w["state"] for w in h.all().values()}, {"UP"})
        h.kill()
        h.start()
        h.all_up()
        h.stop()

    def test_upgrade_while_waiting(self):
        h = self.prepare()
        self.add(h, "a")
        self.add(h, "b", "Requires=a")
        h.start()
        h.all_up()
        self.assertEqual(h.operation("a", "stop").status, 200)
        h.meets("b", phase="waiting")
        pid = h.pid
        os.kill(h.pid, signal.SIGUSR2)
        eventually(lambda: any(o["verb"] == "upgrade" and o["result"] == "done" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        self.assertEqual(h.pid, pid)
        h.meets("b", phase="waiting", state="STARTING", pid=0)
        self.assertEqual(h.operation("a", "start").status, 200)
        h.all_up()
        h.stop()

    def test_reload(self):
        """New edges are in force at once; a cycle that a reload would close is refused, and all stay as they are."""
        h = self.prepare()
        self.add(h, "a")
        self.add(h, "b", "After=a")
        h.start()
        before = {n: w["pid"] for n, w in h.all_up().items()}
        self.add(h, "a", "Requires=b", id=101)
        r = h.http("POST", "/agentd/v1/reload")
        self.assertEqual(r.status, 500)
        for alias, row in zip("ab", r.json["error"]["subErrors"]):
            self.assertRegex(row, "^%s keep .*makes a cycle: a waits for b waits for a" % alias)
        self.add(h, "a", id=101)
        self.add(h, "b", "BindsTo=a", id=102)
        h.ok("POST", "/agentd/v1/reload")
        self.assertEqual({n: w["pid"] for n, w in h.all().items()}, before)
        self.forget(h)
        self.assertEqual(h.operation("a", "stop").status, 200)
        self.assert_order(h, "stop b", "down b", "stop a", "down a")
        h.remove("a")
        self.assertIn("BindsTo=a: there is no such worker", h.http("POST", "/agentd/v1/reload").message)
        w = h.until("b", "UP")
        self.assertEqual(w["state"], "UP", "its file is refused, since it names a worker that is not there; it holds nobody")
        h.stop()

    def test_no_edge_any_more(self):
        """One that waits with its stop for who is not there for it any more, by a reload, goes at once."""
        for what in ("--ignore-term", ""):  # in b's program, in its command
            h = self.prepare()
            gate = h.gate()
            service = "TimeoutStopSec=infinity\n" + ("" if what else 'ExecStop=/bin/sh -c "%s"' % gate.wait)
            self.add(h, "a", id=101)
            self.add(h, "b", "Requires=a", args=what, service=service, id=102)
            h.start()
            pid = h.all_up()["b"]["pid"]
            c = h.connect()
            c.request("POST", "/agentd/v1/workers/a/stop")
            h.meets("a", phase="waiting", state="STOPPING")
            h.meets("b", phase="" if what else "stop", state="STOPPING")
            self.add(h, "b", args=what, service=service, id=102)
            h.ok("POST", "/agentd/v1/reload")
            if what:
                self.assertEqual(c.getresponse().status, 200)
                self.assertEqual((h.record("a")["state"], h.record("b")["state"]), ("DOWN", "STOPPING"))
                os.kill(pid, signal.SIGKILL)
                h.until("b", "UP")
                os.kill(h.record("b")["pid"], signal.SIGKILL)
            else:  # it is in force once its command has ended
                gate.open()
                self.assertEqual(c.getresponse().status, 200)
            h.until("b", "UP")
            self.assertEqual(h.record("a")["state"], "DOWN")
            self.add(h, "b", args=what, service="TimeoutStopSec=100ms", id=102)
            h.ok("POST", "/agentd/v1/reload")
            h.stop()

    def test_cycle_of_three(self):
        h = self.prepare()
        for alias, other in ("ab", "bc", "ca"):
            self.add(h, alias, "After=" + other)
        self.add(h, "d")
        r = h.run_agentd("--check-config")
        self.assertEqual(r.returncode, 2)
        self.assertRegex(r.stderr, r"workers\.d/c\.conf:\d+:\d+: After=a makes a cycle: a waits for b waits for c waits for a\n")
        h.start()
        self.assertEqual(h.until("d", "UP")["alias"], "d")
        self.assertEqual(set(h.all()), {"d"})
        h.stop()


def most_at_once(h):
    """The most starts that were under way at once, by what the starts themselves say."""
    now = most = 0
    for word, _ in Base.lines(None, h):
        now += {"begin": 1, "up": -1}.get(word, 0)
        most = max(most, now)
    return most


class Budget(Base):
    def test_concurrency(self):
        h = self.prepare(agent="StartConcurrency=3\nStartPressure=0")
        for i in range(20):
            self.add(h, "w%02d" % i, args=SLOW, service="Type=notify\nRestartSec=0")
        h.start()
        h.all_up()
        self.assertEqual(most_at_once(h), 3)
        self.forget(h)  # all crash at once
        for pid in h.pids_of_all().values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all((w["generation"], w["state"]) == (2, "UP") for w in h.all().values()))
        self.assertLessEqual(most_at_once(h), 3)
        self.forget(h)  # all are restarted at once
        asked = [h.connect() for _ in range(20)]
        for i, c in enumerate(asked):
            c.request("POST", "/agentd/v1/workers/w%02d/restart" % i)
        self.assertEqual({c.getresponse().status for c in asked}, {200})
        self.assertEqual((len(self.lines(h)), most_at_once(h) <= 3), (80, True), self.lines(h))
        h.stop()

    def test_request_goes_ahead(self):
        h = self.prepare(agent="StartConcurrency=1\nStartPressure=0")
        gate = h.gate()
        for i in range(10):
            self.add(h, "w%02d" % i, service='Type=notify\nNotifyAccess=all\nExecStartPre=/bin/sh -c "%s"' % gate.wait, args="--notify READY=1")
        h.start()
        eventually(lambda: len(self.lines(h)) == 1)
        c = h.connect()
        c.request("POST", "/agentd/v1/workers/w09/restart")
        eventually(lambda: any(o["alias"] == "w09" for o in h.ok("GET", "/agentd/v1/operations")["contents"]))
        gate.open()
        self.assertEqual(c.getresponse().status, 200)
        h.all_up()
        begun = [alias for word, alias in self.lines(h) if word == "begin"]
        self.assertEqual(begun[1], "w09", begun)
        h.stop()

    def test_rate(self):
        """Twenty a second: ten starts take nine gaps at least."""
        h = self.prepare(agent="StartRate=20\nStartPressure=0")
        for i in range(10):
            h.worker("w%02d" % i)
        h.start()
        all = h.all_up()
        ticks = sorted(w["identity"]["startTicks"] for w in all.values())
        self.assertGreaterEqual(ticks[-1] - ticks[0], 9 * 5 - 2)
        h.stop()

    def test_pressure(self):
        """A host on which everybody waits for memory: starts are spaced."""
        if not harness.ROOT or not os.path.exists("/proc/pressure/memory"):
            self.skipTest("needs root, and a kernel with pressure stall information")
        h = self.prepare(agent="StartPressure=50",
                         wrap=[*harness.own_root(), "unshare", "--mount", "sh", "-c", 'mount --bind "$0/memory" /proc/pressure/memory && exec "$@"', ""])
        h.wrap[-1] = h.dir
        h.write("memory", "some avg10=50.00 avg60=50.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
        for i in range(10):
            h.worker("w%02d" % i)
        h.start()
        all = h.all_up()
        ticks = sorted(w["identity"]["startTicks"] for w in all.values())
        self.assertGreaterEqual(ticks[-1] - ticks[0], 8 * 5 - 2)
        h.stop()

    def test_a_thousand(self):
        """Started with never more under way than the budget, all listed, and stopped by their order."""
        n = 200 if harness.SANITIZED else 1000
        h = self.prepare(agent="StartConcurrency=8\nStartPressure=0")
        for i in range(n):
            h.worker("w%04d" % i, '--log {0}/lines "begin {1}" --delay 1 --log {0}/lines "up {1}" --notify READY=1'.format(h.dir, i),
                     "Type=notify\nStandardOutput=null\n" + ("[Unit]\nAfter=w%04d\n" % (i - 1) if i % 10 else ""))
        h.start()
        h.all_up(120)
        self.assertLessEqual(most_at_once(h), 8)
        self.assertGreater(most_at_once(h), 1)
        out = h.ctl("status").stdout
        self.assertEqual(sum(" UP " in line for line in out.splitlines()), n)
        started = {a: w["identity"]["startTicks"] for a, w in h.all().items()}
        for i in range(n):
            if i % 10:
                self.assertLessEqual(started["w%04d" % (i - 1)], started["w%04d" % i])
        h.proc.send_signal(signal.SIGTERM)
        self.assertEqual(h.proc.wait(120), 0)
        at = {m.group(1): m.start() for m in re.finditer(r"worker=(w\d{4})\b[^\n]*-> DOWN", h.log())}
        self.assertEqual(len(at), n)
        for i in range(n):
            if i % 10:
                self.assertLess(at["w%04d" % i], at["w%04d" % (i - 1)])
        h.assert_nothing_left()
